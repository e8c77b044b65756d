"""Which cases of two runs belong together, and under what unlike conditions they were measured. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from rtfleet import statistics
from rtfleet.errors import UsageError
from rtfleet.judged import Difference
from rtfleet.order import BASELINE
from rtfleet.records import CaseResult, DeviceFacts, Launch, Run, RunSettings

UNKNOWN = "unknown"
# Ids that an error names by themselves.
_NAMED = 8


@dataclass(frozen=True)
class Pair:
    """A case measured twice: what it is compared with, and what is new.

    Attributes:
        settings: Of the candidate's run; what counts as a sustained run follows from it.
    """

    baseline: CaseResult
    candidate: CaseResult
    baseline_device: DeviceFacts | None = None
    candidate_device: DeviceFacts | None = None
    settings: RunSettings = field(default_factory=RunSettings)


def pairs_of(baseline: Run, candidate: Run) -> tuple[Pair, ...]:
    """The cases that both runs have, by case id, in the candidate's order.

    Raises:
        UsageError: they have none in common; both runs' cases are named. Or both are the same run, whose launches
            can't stand on both sides.
    """
    if baseline.id == candidate.id:
        raise UsageError(f"both are run {baseline.id}", "measure it once more to see what noise alone does")
    before = {result.case.id: result for result in baseline.results}
    facts = [{device.alias: device for device in run.devices} for run in (baseline, candidate)]
    pairs = tuple(
        Pair(
            before[result.case.id],
            result,
            facts[0].get(result.case.device),
            facts[1].get(result.case.device),
            candidate.settings,
        )
        for result in candidate.results
        if result.case.id in before
    )
    if not pairs:
        there = [f"{run.id} has {_named(result.case.id for result in run.results)}" for run in (baseline, candidate)]
        raise UsageError(
            f"the two runs have no case in common: {'; '.join(there)}",
            "cases are matched by model/variant@device/scenario: measure the same ones",
        )
    return pairs


def sides_of(run: Run) -> tuple[Run, Run]:
    """Baseline and candidate of a run that was measured against a baseline, the same cases under the same ids."""
    before = tuple(
        replace(result, case=replace(result.case, model=result.case.model.removeprefix(BASELINE)))
        for result in run.results
        if result.case.model.startswith(BASELINE)
    )
    after = tuple(result for result in run.results if not result.case.model.startswith(BASELINE))
    return replace(run, id=f"{run.id} baseline", results=before), replace(run, results=after)


def unmatched(baseline: Run, candidate: Run) -> tuple[str, ...]:
    """Cases that only one of the runs has, as "ID: only in RUN": they are not compared."""
    ids = [{result.case.id: None for result in run.results} for run in (baseline, candidate)]
    return tuple(
        f"{id_}: only in {run.id}"
        for run, own, other in ((baseline, ids[0], ids[1]), (candidate, ids[1], ids[0]))
        for id_ in own
        if id_ not in other
    )


def _named(ids: Iterable[str]) -> str:
    known = list(ids)
    more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
    return (", ".join(known[:_NAMED]) or "none") + more


def differences(pair: Pair) -> tuple[Difference, ...]:
    """Conditions that were not the same. The artifact is none of them: it is what is compared.

    What only a launch tells is not asked of a side that has no good one: nothing can be concluded there anyway.
    """
    before = _conditions(pair.baseline, pair.baseline_device)
    after = _conditions(pair.candidate, pair.candidate_device)
    if pair.baseline_device is None or pair.candidate_device is None:
        before["device"], after["device"] = pair.baseline.case.device, pair.candidate.case.device
    return tuple(
        Difference(name, before[name], after[name]) for name in before if name in after and before[name] != after[name]
    )


def _conditions(result: CaseResult, device: DeviceFacts | None) -> dict[str, str]:
    """Condition -> its value. Several values on one side are all named: such a side is unlike the other too."""
    launches, options = statistics.good_launches(result), result.case.options
    hop_ns = statistics.hop_ns(result)
    asked = {
        "device": device.identity if device else UNKNOWN,
        "threads": str(options.threads),
        "cpus": ",".join(map(str, options.cpus)) or "the scheduler's choice",
        "scenario": result.case.scenario,
    }
    asked |= {"hop": f"{hop_ns / 1e6:g} ms" if hop_ns else "none"} if result.artifact else {}
    return asked | (_told_by(launches, options.accelerator) if launches else {})


def _told_by(launches: Sequence[Launch], accelerator: str) -> dict[str, str]:
    runtimes = [launch.runtime for launch in launches if launch.runtime]
    return {
        "runtime": _values(runtime.name for runtime in runtimes),
        "runtime version": _values(runtime.version for runtime in runtimes),
        "runtime library": _values(runtime.library_sha256 for runtime in runtimes),
        "accelerator": _accelerator(accelerator, launches),
        "feeds": _values(launch.feeds_sha256 for launch in launches),
    }


def _accelerator(asked: str, launches: Sequence[Launch]) -> str:
    """The one asked for, and what ran instead where something else did."""
    ran = {launch.placement.ran for launch in launches if launch.placement} - {asked, ""}
    return f"{asked} (ran on {', '.join(sorted(ran))})" if ran else asked


def _values(values: Iterable[str]) -> str:
    return " and ".join(sorted(set(values))) or UNKNOWN
