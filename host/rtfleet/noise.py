"""A against A: one model measured in turns with itself tells the least difference that a device can show now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rtfleet import plan, run, source
from rtfleet import suite as suites
from rtfleet.fleet import Device
from rtfleet.judged import Comparison
from rtfleet.order import Order
from rtfleet.records import RunSettings, Scenario
from rtfleet.suite import ModelEntry, Settings, Suite, name_of

# A launch of ten seconds at a hop of 20 ms. The spread between launches is what counts, and frames don't cure it.
FRAMES = 459
MIN_DURATION_S = 5.0


def order_of(
    model: str, devices: Sequence[Device], launches: int, scenario: Scenario | None, cache: Path, profiles: Path | None
) -> Order:
    """The run that measures it: a model, or each of a suite's by the suite's settings, in the first of its variants."""
    alone = ModelEntry(name_of(model), model, Path.cwd(), where="the command line")
    found = suites.find(model)
    entries = tuple(replace(entry, variants=_first(entry)) for entry in (found.models if found else (alone,)))
    settings = found.settings if found else Settings(RunSettings(frames=FRAMES, min_duration_s=MIN_DURATION_S))
    measured = replace(settings.run, launches=launches)
    suite = Suite("noise", entries, replace(settings, run=measured, scenario=scenario or settings.scenario))
    return Order(
        run_id=run.new_run_id(),
        suite=suite,
        devices=tuple(devices),
        cache=cache,
        baseline=suite,
        profiles=profiles,
    )


def _first(entry: ModelEntry) -> tuple[str, ...]:
    """() of a file, which is measured as it comes."""
    return () if source.ready_format(entry.source) else plan.variants_of(entry, source.origin_of(entry), ())[:1]


def told(one: Comparison) -> str:
    """What one metric of one device showed, in a sentence."""
    if one.smallest_effect is None:
        return f"{one.case_id}, {one.metric}: {one.reason}"
    least = f"{one.launches[0]} launches a side can tell {100 * (one.smallest_effect - 1):.2g} % apart"
    if one.verdict in ("SLOWER", "FASTER"):
        return f"{one.case_id}, {one.metric}: {least}, but it is {one.verdict} than itself: it is not steady now"
    return f"{one.case_id}, {one.metric}: {least}"
