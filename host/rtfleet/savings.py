"""A variant against fp32 of the same format, and PyTorch: "4x smaller, 2-4x faster" is a claim to check. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from rtfleet.judged import JudgedCase, JudgedRun
from rtfleet.records import Case

PYTORCH = "torch-fp32"


@dataclass(frozen=True)
class Saving:
    """Against fp32 of the same model, format, device, scenario and options.

    Attributes:
        size: This variant's bytes / fp32's.
        speed: fp32's latency p50 / this variant's, above 1 is faster; None where one of them was not measured.
    """

    size: float
    speed: float | None


def savings(judged: JudgedRun) -> Mapping[str, Saving]:
    """Case id -> saving, for the variants that have an fp32 beside them; fp32 itself has none."""
    whole = {_key(case.result.case): case for case in judged.cases if case.result.case.variant.endswith("-fp32")}
    found: dict[str, Saving] = {}
    for case in judged.cases:
        fp32 = whole.get(_key(case.result.case))
        saving = _saving(case, fp32) if fp32 and fp32 is not case else None
        if saving:
            found[case.result.case.id] = saving
    return found


def gains(judged: JudgedRun) -> Mapping[str, float]:
    """Case id -> PyTorch's latency p50 / this variant's, where both were measured with the same options."""
    plain = {
        replace(case.result.case, artifact_id="", variant=""): case.summary
        for case in judged.cases
        if case.result.case.variant == PYTORCH and case.summary
    }
    found: dict[str, float] = {}
    for case in judged.cases:
        torch = plain.get(replace(case.result.case, artifact_id="", variant=""))
        if torch and case.summary and case.summary.latency.p50_ns and case.result.case.variant != PYTORCH:
            found[case.result.case.id] = torch.latency.p50_ns / case.summary.latency.p50_ns
    return found


def _key(case: Case) -> Case:
    return replace(case, artifact_id="", variant=case.variant.partition("-")[0])


def _saving(case: JudgedCase, fp32: JudgedCase) -> Saving | None:
    mine, theirs = case.result.artifact, fp32.result.artifact
    if mine is None or theirs is None or not theirs.size_bytes:
        return None
    speed = None
    if case.summary and fp32.summary and case.summary.latency.p50_ns:
        speed = fp32.summary.latency.p50_ns / case.summary.latency.p50_ns
    return Saving(mine.size_bytes / theirs.size_bytes, speed)
