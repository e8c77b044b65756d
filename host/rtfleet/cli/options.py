"""What the flags of `rtfleet run` mean: text to values, and values laid over a suite. Reads no file but the suite."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rtfleet import cores, source
from rtfleet.cli.description import Description, entry_of, pairs
from rtfleet.errors import UsageError
from rtfleet.records import CoreSpec, Scenario
from rtfleet.suite import ACCELERATORS, Settings, Suite, check_variants

SCENARIOS: tuple[Scenario, ...] = ("paced", "burst")


def budgets(texts: Sequence[str]) -> dict[str, float]:
    """`response_p99_ms=30`, `parity_agreement_min=0.97`. Raises UsageError for an unknown metric or no number."""
    from rtfleet import metrics

    found: dict[str, float] = {}
    for name, value in pairs(texts, "--budget").items():
        try:
            found[name] = float(value)
        except ValueError:
            raise UsageError(f"--budget {name}={value}: expected a number") from None
        try:
            metrics.check_limit(name, found[name])
        except UsageError as error:
            raise UsageError(f"--budget {error.text}", error.hint) from None
    return found


def duration_s(text: str | None, flag: str) -> float | None:
    """`90`, `90s`, `10m`, `1h` in seconds. Raises UsageError."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)?", text)
    if not match or float(match[1]) == 0:
        raise UsageError(f"{flag} {text}: expected a time like 90s, 10m or 1h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2] or "s"]


def cpus(text: str | None) -> CoreSpec:
    """`big`, `little` or `0,2-3`. Raises UsageError."""
    return () if text is None else cores.parse(text)


def tolerance(text: str) -> float:
    """`10%`, `10 %` and `0.1` are 0.1. Raises UsageError for what is no share of at least 0 and below 1."""
    number, percent, rest = text.partition("%")
    try:
        value = float(number) / (100 if percent else 1)
    except ValueError:
        value = math.nan
    if rest.strip() or not 0 <= value < 1:
        raise UsageError(f"--tolerance {text}: expected a share like 10% or 0.1")
    return value


def accelerators(names: Sequence[str]) -> tuple[str, ...]:
    """Accelerators by name. Raises UsageError."""
    for name in names:
        if name not in ACCELERATORS:
            raise UsageError(f"--accelerator {name}: there are {', '.join(ACCELERATORS)}")
    return tuple(dict.fromkeys(names))


def scenario(text: str | None) -> Scenario | None:
    """Raises UsageError."""
    if text is not None and text not in SCENARIOS:
        raise UsageError(f"--scenario {text}: there are {', '.join(SCENARIOS)}")
    return next((known for known in SCENARIOS if known == text), None)


def confidence(value: float | None) -> float | None:
    """Raises UsageError."""
    if value is not None and not 0.5 <= value < 1:
        raise UsageError(f"--confidence {value}: expected at least 0.5 and below 1, like 0.99")
    return value


def suite_of(what: str, variants: Sequence[str], described: Description, found: Suite | None) -> Suite:
    """The suite that was found, or one of the model that `what` names. Raises UsageError."""
    if found is None:
        entry = entry_of(what, variants, described)
        return Suite(entry.name, (entry,))
    check_variants(variants, "--variant")
    if described.given:
        raise UsageError(
            f"--task, --hop-ms, --input, --state and --clips describe one model, and '{what}' is a suite",
            "write them into the suite's [[model]]",
        )
    return found


def check_resume(given: Sequence[str]) -> None:
    """Raises UsageError for a parameter beside --resume that would change what the run was asked for."""
    beside = {"resume", "launches", "json", "junit", "markdown", "files_only"}
    if refused := [name for name in given if name not in beside]:
        said = "WHAT" if refused[0] == "what" else "--" + refused[0].rstrip("_").replace("_", "-")
        raise UsageError(
            f"{said} beside --resume: the run in RUN says itself what is measured, and how",
            "only --launches and the reports (--json, --junit, --markdown) go with --resume",
        )


def baseline(what: str, candidate: Suite, described: Description, found: Suite | None) -> Suite:
    """The models that `--against` names. One model stands for the candidate's one, whatever it is called.

    Raises:
        UsageError: no model of it can be told to be the earlier form of one of the candidate's.
    """
    suite = found or suite_of(what, candidate.models[0].variants, described, None)
    is_file = bool(source.ready_format(what)) or source.is_tensorflow(Path(what))
    if not found and not described.given and len(candidate.models) == 1 and is_file:
        # An earlier form of a model that the suite describes is described by the same words.
        entry = replace(candidate.models[0], source=what, folder=Path.cwd(), where=f"--against {what}")
        suite = replace(suite, models=(entry,))
    if len(suite.models) == len(candidate.models) == 1:
        entry = replace(suite.models[0], name=candidate.models[0].name)
        return replace(suite, models=(entry if found else replace(entry, variants=candidate.models[0].variants),))
    names = {entry.name for entry in candidate.models}
    shared = tuple(entry for entry in suite.models if entry.name in names)
    if not shared:
        raise UsageError(
            f"--against {what}: has {', '.join(entry.name for entry in suite.models)}, and the candidate has "
            f"{', '.join(sorted(names))}",
            "models are compared by name: give them the same in both suites, or compare two single models",
        )
    return replace(suite, models=shared)


def filtered(suite: Suite, models: Sequence[str]) -> Suite:
    """Only the models named. Raises UsageError for one that the suite does not have."""
    known = [entry.name for entry in suite.models]
    for name in models:
        if name not in known:
            raise UsageError(f"--model {name}: suite '{suite.name}' has {', '.join(known)}")
    return replace(suite, models=tuple(entry for entry in suite.models if not models or entry.name in models))


def settings_over(
    settings: Settings,
    *,
    launches: int | None,
    confidence: float | None,
    duration_s: float | None,
    timeout_s: float | None,
    tolerance: float | None,
    scenario: Scenario | None,
    threads: Sequence[int],
    cpus: CoreSpec,
    accelerators: Sequence[str],
    plain: bool,
) -> Settings:
    """The suite's settings with those of the command line laid over them. Raises UsageError where they don't fit."""
    given: dict[str, Any] = {"launches": launches, "confidence": confidence, "min_duration_s": duration_s}
    given |= {"timeout_s": timeout_s, "tolerance": tolerance}
    try:
        run = replace(settings.run, **{name: value for name, value in given.items() if value is not None})
    except ValueError as error:
        raise UsageError(str(error)) from None
    return replace(
        settings,
        run=run,
        scenario=scenario or settings.scenario,
        threads=tuple(dict.fromkeys(threads)) or settings.threads,
        cpus=cpus or settings.cpus,
        accelerators=tuple(accelerators) or settings.accelerators,
        plain=plain or settings.plain,
    )
