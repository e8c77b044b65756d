"""A run as JSON: its facts, with everything that was judged of them. No file is touched here (`run_file.py` does).

The JSON is strict: a number that is not finite is null, and `<key>_reason` beside it says what it was.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from rtfleet.artifact import Artifact, File
from rtfleet.errors import UsageError
from rtfleet.fidelity import ParityResult, Recognition
from rtfleet.judged import JudgedCase, JudgedRun
from rtfleet.loop import Chain, Loop, Seq2Seq
from rtfleet.operators import Operators
from rtfleet.profile import Budget
from rtfleet.records import (
    Case,
    CaseError,
    CaseResult,
    DeviceFacts,
    Json,
    Launch,
    Nanoseconds,
    Options,
    Run,
    RunSettings,
)

if TYPE_CHECKING:
    from cattrs.preconf.json import JsonConverter

# History of the format of journal.jsonl and run.json:
# 1 - first.
# 2 - launches have their preflight and the device's state while they ran, a run its comparisons with a baseline.
# 3 - an artifact says how its decisions are counted, its loop is parameters (null: one graph); launches have columns of
#     tokens; cases a recognition, their operators, and in their parity a wake word's detections and why it may be
#     unknown; placements counts of nodes, options whether the runtime's optimizer is on; a run recommends.
FORMAT_VERSION = 3

# A launch with more frames than this has its columns in a file of their own.
INLINE_FRAMES = 10_000

COLUMNS = ("warmup_latency_ns", "latency_ns", "lateness_ns", "burst_latency_ns", "first_token_ns", "tokens")

Columns = Mapping[str, Nanoseconds]
T = TypeVar("T")


def compose(judged: JudgedRun) -> dict[str, Json]:
    """`run.json` without its cases (`compose_case`): those of a large fleet at once take hundreds of megabytes."""
    run = judged.run
    return {
        "format_version": FORMAT_VERSION,
        "run_id": run.id,
        "started_at": run.started_at,
        "rtfleet_version": run.rtfleet_version,
        "host": plain(dict(run.host)),
        "settings": plain(run.settings),
        "finished": run.finished,
        "interrupted": run.interrupted,
        "devices": {facts.alias: _without(plain(facts), "alias") for facts in run.devices},
        "budgets": _budget_files([budget for case in judged.cases for budget in case.result.budgets]),
        "verdict": judged.verdict,
        "exit_code": judged.exit_code,
        "cases": [],
        "comparisons": [plain(one) for one in judged.comparisons],
        "recommendations": [plain(one) for one in judged.recommendations],
    }


def run_of(document: Mapping[str, Json], columns_of: Callable[[Json], Columns]) -> Run:
    """The facts of a `run.json`. `columns_of` maps the launch's `latency_ns` (`{file, sha256}`) to all its columns.

    Raises:
        KeyError, TypeError, ValueError, cattrs.BaseValidationError: it is no run.json.
    """
    check_version(document["format_version"])
    return Run(
        id=document["run_id"],
        started_at=document["started_at"],
        rtfleet_version=document["rtfleet_version"],
        host=dict(document["host"]),
        settings=record(document["settings"], RunSettings),
        devices=tuple(record({"alias": alias, **facts}, DeviceFacts) for alias, facts in document["devices"].items()),
        results=tuple(_result(case, columns_of) for case in document["cases"]),
        finished=document["finished"],
        interrupted=document["interrupted"],
    )


def check_version(version: Json) -> None:
    """Raises UsageError for a file of a newer rtfleet, ValueError for no version at all."""
    if type(version) is not int or version < 1:
        raise ValueError(f"format_version {version!r} is none")
    if version > FORMAT_VERSION:
        raise UsageError(
            f"written by a newer rtfleet (format {version}; this one reads up to {FORMAT_VERSION})",
            hint="upgrade: pip install --upgrade rtfleet",
        )


# ---- records -------------------------------------------------------------------------------------------------------


def plain(value: Any) -> Json:
    """A record as strict JSON. A launch is without its columns, a file without its place on this machine."""
    return _finite(_converter().unstructure(value))


def record(value: Json, kind: type[T]) -> T:
    """What `plain` made, as a record. Unknown keys are refused (cattrs.BaseValidationError)."""
    return _converter().structure(_without_reasons(value), kind)


@functools.cache
def _converter() -> JsonConverter:
    from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override
    from cattrs.preconf.json import make_converter

    converter = make_converter(forbid_extra_keys=True)
    converter.register_structure_hook_func(lambda kind: kind == (Loop | None), _loop)
    converter.register_structure_hook(float, lambda value, _: math.nan if value is None else float(value))
    left_out: dict[Any, tuple[str, ...]] = {File: ("location",), Launch: COLUMNS}
    for kind, names in left_out.items():
        omitted: dict[str, Any] = {name: override(omit=True) for name in names}
        converter.register_unstructure_hook(kind, make_dict_unstructure_fn(kind, converter, **omitted))
        converter.register_structure_hook(
            kind, make_dict_structure_fn(kind, converter, _cattrs_forbid_extra_keys=True, **omitted)
        )
    return converter


def _loop(value: Json, _: Any) -> Loop | None:
    if value is None or value == "frame":  # as it was written before version 3
        return None
    kind: type[Chain] | type[Seq2Seq] = Chain if "edges" in value else Seq2Seq
    return _converter().structure(value, kind)


def _finite(value: Json) -> Json:
    if isinstance(value, dict):
        found = {key: _finite(inner) for key, inner in value.items()}
        for key, inner in value.items():
            if isinstance(inner, float) and not math.isfinite(inner):
                reason = "not a number" if math.isnan(inner) else "infinite"
                # A reading has a place for its reason already.
                found["reason" if value.get("reason") == "" else f"{key}_reason"] = reason
        return found
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _without_reasons(value: Json) -> Json:
    if isinstance(value, dict):
        added = {f"{key}_reason" for key, inner in value.items() if inner is None}
        return {key: _without_reasons(inner) for key, inner in value.items() if key not in added}
    return [_without_reasons(inner) for inner in value] if isinstance(value, list) else value


def _without(value: dict[str, Json], *keys: str) -> dict[str, Json]:
    return {key: inner for key, inner in value.items() if key not in keys}


# ---- one case ------------------------------------------------------------------------------------------------------


def compose_case(judged: JudgedCase, stored: Callable[[str], Json]) -> dict[str, Json]:
    """One of its cases. `stored`: a launch id -> `{file, sha256}` of its columns, or None where no file has them."""
    result = judged.result
    case, artifact = result.case, result.artifact
    runtime = next((launch.runtime for launch in result.launches if launch.runtime), None)
    placement = next((launch.placement for launch in result.launches if launch.placement), None)
    return {
        "case_id": case.id,
        "model": case.model,
        "task": artifact.task if artifact else None,
        "covers": artifact.covers if artifact else None,
        "variant": case.variant,
        "device": case.device,
        "scenario": case.scenario,
        "hop_samples": artifact.hop_samples if artifact else None,
        "sample_rate_hz": artifact.sample_rate_hz if artifact else None,
        "options": plain(case.options),
        "runtime": _without(plain(runtime), "accelerators", "unavailable", "error") if runtime else None,
        "artifact": _artifact(artifact) if artifact else None,
        "placement": {**plain(placement), "accelerated_time_share": _time_share(result)} if placement else None,
        "parity": {
            "host": plain(result.parity_host) if result.parity_host else None,
            "device": plain(result.parity_device) if result.parity_device else None,
        },
        "recognition": plain(result.recognition) if result.recognition else None,
        "operators": plain(result.operators) if result.operators else None,
        "budgets": plain(list(result.budgets)),
        "launches": [_launch(launch, stored(launch.launch_id)) for launch in result.launches],
        "summary": plain(judged.summary) if judged.summary else None,
        "checks": plain(list(judged.checks)),
        "warnings": plain(list(judged.warnings)),
        "error": plain(result.error) if result.error else None,
        "verdict": judged.verdict,
        "reason": judged.reason,
    }


def _time_share(result: CaseResult) -> float | None:
    """Of the time on the accelerator; only a profiled launch tells."""
    return result.operators.accelerated_share if result.operators else None


# Facts of an artifact that stand in its case.
_OF_CASE = ("model", "task", "covers", "variant", "hop_samples", "sample_rate_hz")


def _artifact(artifact: Artifact) -> dict[str, Json]:
    files = [plain(file) for file in artifact.files]
    rest = _without(plain(artifact), "id", *_OF_CASE)
    return {"id": artifact.id, "size_bytes": artifact.size_bytes, "files": files, **rest}


def _launch(launch: Launch, stored: Json) -> dict[str, Json]:
    frames = launch.warmup_latency_ns.size + launch.latency_ns.size + launch.burst_latency_ns.size
    facts: dict[str, Json] = plain(launch)
    for name in COLUMNS:
        facts[name] = stored if stored and frames > INLINE_FRAMES else getattr(launch, name).tolist()
    return facts


def _result(document: Mapping[str, Json], columns_of: Callable[[Json], Columns]) -> CaseResult:
    stored = document["artifact"]
    artifact = None
    if stored:
        facts = {name: document[name] for name in _OF_CASE}
        artifact = record({**facts, **_without(stored, "size_bytes", "files")}, Artifact)
    parity = document["parity"]
    return CaseResult(
        case=Case(
            artifact_id=artifact.id if artifact else "",
            model=document["model"],
            variant=document["variant"],
            device=document["device"],
            scenario=document["scenario"],
            options=record(document["options"], Options),
        ),
        artifact=artifact,
        budgets=tuple(record(budget, Budget) for budget in document["budgets"]),
        launches=tuple(_launch_of(launch, columns_of) for launch in document["launches"]),
        parity_host=record(parity["host"], ParityResult) if parity["host"] else None,
        parity_device=record(parity["device"], ParityResult) if parity["device"] else None,
        recognition=record(told, Recognition) if (told := document.get("recognition")) else None,
        error=record(document["error"], CaseError) if document["error"] else None,
        operators=record(document["operators"], Operators) if document.get("operators") else None,
    )


def _launch_of(document: dict[str, Json], columns_of: Callable[[Json], Columns]) -> Launch:
    inline = isinstance(document["latency_ns"], list)
    columns = (
        {name: document[name] for name in COLUMNS if name in document} if inline else columns_of(document["latency_ns"])
    )
    return with_columns(record(_without(document, *COLUMNS), Launch), columns)


def with_columns(launch: Launch, columns: Mapping[str, Json]) -> Launch:
    """The launch with its raw columns: int64, one-dimensional. Raises ValueError, KeyError."""
    return replace(
        launch,
        warmup_latency_ns=_integers(columns, "warmup_latency_ns"),
        latency_ns=_integers(columns, "latency_ns"),
        lateness_ns=_integers(columns, "lateness_ns"),
        burst_latency_ns=_integers(columns, "burst_latency_ns"),
        first_token_ns=_integers(columns, "first_token_ns", needed=False),
        tokens=_integers(columns, "tokens", needed=False),
    )


def _integers(columns: Mapping[str, Json], name: str, *, needed: bool = True) -> Nanoseconds:
    array = np.asarray(columns[name] if needed else columns.get(name, ()))
    if array.ndim != 1 or (array.size and array.dtype.kind != "i"):
        raise ValueError(f"{name}: expected integers in one dimension")
    return array.astype(np.int64)


def _budget_files(budgets: list[Budget]) -> list[dict[str, Json]]:
    """The limits by the file that they come from; null is the command line."""
    files: dict[tuple[str, str], dict[str, float]] = {}
    for budget in budgets:
        file, _, key = budget.where.rpartition(": ")
        files.setdefault((file, budget.file_sha256), {})[key] = budget.limit
    return [
        {"file": file or None, "sha256": sha256 or None, "values": plain(values)}
        for (file, sha256), values in files.items()
    ]
