"""How far a model's outputs on a device are from the original's on the same clips, over whole streams."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rtfleet.artifact import Artifact
from rtfleet.fidelity import ParityResult
from rtfleet.judged import Check, Verdict
from rtfleet.model import Array
from rtfleet.profile import Budget

Scales = Mapping[str, tuple[float, int]]

# By how much the end of the streams must be worse than their middle for the state to be said to drift. An error that
# grows with time, from nothing, is 1.7 times as large in the last third as in the middle one.
DRIFT = 3.0
# Shorter streams have no beginning, middle and end.
LEAST_STREAM_FRAMES = 30

LEAST_SNR_DB = {"fp32": 80.0, "fp16": 45.0, "int8": 15.0}
LEAST_AGREEMENT = {"fp32": 0.99, "fp16": 0.99, "int8": 0.97}


@dataclass(frozen=True)
class _Output:
    """One output's error, in the original's unit. `snr_db` None: the original is all zero, or NaN was seen."""

    max_abs_error: float
    snr_db: float | None
    nan: npt.NDArray[np.bool_]
    error_of_frame: npt.NDArray[np.float64]


def compare(
    reference: Mapping[str, Array],
    outputs: Mapping[str, Array],
    *,
    score: str | None,
    threshold: float | None,
    scales: Scales | None = None,
    against: str,
    optimized: bool,
    stream_starts: Sequence[int] = (0,),
) -> ParityResult:
    """Compare every output that the original has; each array is [frames, *dims].

    Args:
        score: The output that decisions are made on; None, or one that the original does not have: no decision.
        threshold: Score at or above which the model decides "yes"; None: no decision.
        scales: Output -> (scale, zero point); quantized integers become real numbers by them first.
        stream_starts: Frames at which the state was reset.

    Raises:
        ValueError: An output is missing, or its frames or dims are not the original's.
    """
    if not reference:
        raise ValueError("the original has no outputs to compare with")
    compared = {}
    for name, wanted in reference.items():
        if name not in outputs:
            raise ValueError(f"output {name!r} is missing; there are {', '.join(sorted(outputs)) or 'none'}")
        compared[name] = _compare_output(
            name, real(name, wanted, scales or {}), real(name, outputs[name], scales or {})
        )
    frames = {output.nan.size for output in compared.values()}
    if len(frames) > 1:
        raise ValueError(f"the outputs have different numbers of frames: {sorted(frames)}")
    nan = np.logical_or.reduce([output.nan for output in compared.values()])
    clean = not nan.any()
    return ParityResult(
        against=against,
        frames=frames.pop(),
        max_abs_error=max(output.max_abs_error for output in compared.values()) if clean else None,
        snr_db=_worst_snr_db(list(compared.values())) if clean else None,
        decision_agreement=_agreement(reference, outputs, scales or {}, score, threshold),
        nan_frames=int(nan.sum()),
        drift=_drift([output.error_of_frame for output in compared.values()], stream_starts) if clean else None,
        optimized=optimized,
    )


def real(name: str, values: Array, scales: Scales) -> npt.NDArray[np.float64]:
    """Real numbers: (q - zero point) x scale for integers that have a scale."""
    real = np.asarray(values).astype(np.float64)
    if np.issubdtype(np.asarray(values).dtype, np.integer) and name in scales:
        scale, zero_point = scales[name]
        real = (real - zero_point) * scale
    return real


def _compare_output(name: str, wanted: npt.NDArray[np.float64], got: npt.NDArray[np.float64]) -> _Output:
    if wanted.shape != got.shape:
        raise ValueError(f"output {name!r} has shape {list(got.shape)}, the original's is {list(wanted.shape)}")
    if not wanted.ndim or not wanted.size:
        raise ValueError(f"output {name!r} has no frames")
    if not np.isfinite(wanted).all():
        raise ValueError(f"output {name!r} of the original is not finite: there is nothing to compare with")
    wanted, got = wanted.reshape(len(wanted), -1), got.reshape(len(got), -1)
    nan: npt.NDArray[np.bool_] = np.any(~np.isfinite(got), axis=1, keepdims=True)[:, 0]
    error = np.abs(np.where(np.isfinite(got), got, wanted) - wanted)
    signal, noise = float(np.sum(wanted**2)), float(np.sum(error**2))
    # With no signal there is no ratio; with no noise it is unlimited.
    snr_db = 10 * math.log10(signal / noise) if signal > 0 and noise > 0 else math.inf if noise == 0 else None
    return _Output(float(error.max()), snr_db, nan, error.max(axis=1))


def _worst_snr_db(outputs: Sequence[_Output]) -> float | None:
    """The least SNR; None where it is unlimited for all, or unknown for one."""
    known = [output.snr_db for output in outputs if output.snr_db is not None]
    if len(known) < len(outputs):
        return None
    return None if min(known) == math.inf else min(known)


def _agreement(
    reference: Mapping[str, Array],
    outputs: Mapping[str, Array],
    scales: Scales,
    score: str | None,
    threshold: float | None,
) -> float | None:
    """Fraction of frames that are decided as the original decides them; a NaN agrees with nothing.

    A frame decides once per value: a score of several values agrees where all of them do.
    """
    if score is None or threshold is None or score not in reference:
        return None
    wanted, got = real(score, reference[score], scales), real(score, outputs[score], scales)
    same = ((wanted >= threshold) == (got >= threshold)) & np.isfinite(got)
    return float(same.reshape(len(same), -1).all(axis=1).mean())


def _drift(errors: Sequence[npt.NDArray[np.float64]], stream_starts: Sequence[int]) -> float | None:
    """RMS error in the last third of each stream over that in its middle third, all streams together.

    The first third is left out: a clip often begins with silence, where everything agrees.
    """
    middle = last = 0.0
    for error_of_frame in errors:
        for stream in np.split(error_of_frame, [start for start in stream_starts if start > 0]):
            if stream.size >= LEAST_STREAM_FRAMES:
                third = stream.size // 3
                middle += float(np.sum(stream[third : 2 * third] ** 2))
                last += float(np.sum(stream[-third:] ** 2))
    return math.sqrt(last / middle) if middle > 0 and last > 0 else None


# ---- judging -------------------------------------------------------------------------------------------------------


def precision(artifact: Artifact) -> str:
    """fp32, fp16 or int8. A shipped file does not say how it was quantized, so it owes what int8 owes."""
    name = artifact.variant.split("-", 1)[-1]
    return next((known for known in LEAST_SNR_DB if name.startswith(known)), "int8")


def default_budgets(artifact: Artifact) -> tuple[Budget, ...]:
    """What every artifact owes whose profile says nothing else. Agreement is owed where the model decides."""
    kind = precision(artifact)
    said = "a shipped file, as for int8" if artifact.variant.endswith("-shipped") else kind
    where = f"rtfleet's default for {said}"
    snr = Budget("all", "parity_snr_db", LEAST_SNR_DB[kind], True, where)
    agreement = Budget("all", "parity_agreement", LEAST_AGREEMENT[kind], True, where)
    return (snr,) if artifact.threshold is None else (snr, agreement)


def judge(budget: Budget, device: ParityResult | None, host: ParityResult | None) -> Check:
    """Hold a parity budget against what the device's outputs were; the host's stand beside it in words."""

    def check(value: float | None, verdict: Verdict, reason: str) -> Check:
        return Check(budget.metric, budget.limit, value, verdict, reason, budget.where)

    beside = f"; on the host {_said(budget.metric, host)}" if host is not None else ""
    if device is None:
        return check(None, "INCONCLUSIVE", f"parity was not measured on the device{beside}: measure again")
    if device.unknown:
        return check(None, "INCONCLUSIVE", f"parity stays open: {device.unknown}")
    if device.nan_frames:
        text = f"{device.nan_frames} of {device.frames} frames have outputs that are not finite{beside}"
        return check(None, "FAIL", text)
    if budget.metric == "parity_snr_db":
        if device.max_abs_error == 0:
            return check(None, "PASS", f"bit-equal to {device.against}")
        if device.snr_db is None:
            return check(None, "INCONCLUSIVE", "the original's output is zero throughout: use clips that it answers to")
        value = device.snr_db
    else:
        if device.decision_agreement is None:
            return check(None, "INCONCLUSIVE", "the model decides nothing: give it a threshold")
        value = device.decision_agreement
    said = f"{_said(budget.metric, device)} against {device.against}"
    if value >= budget.limit:
        return check(value, "PASS", said)
    return check(value, "FAIL", f"{said}, at least {_in_unit(budget.metric, budget.limit)} is owed{beside}")


def _in_unit(metric: str, value: float) -> str:
    return f"{value:.1f} dB" if metric == "parity_snr_db" else f"{value:.1%} of the decisions"


def _said(metric: str, result: ParityResult) -> str:
    value = result.snr_db if metric == "parity_snr_db" else result.decision_agreement
    if result.nan_frames:
        return f"{result.nan_frames} frames are not finite"
    if value is None:
        return "bit-equal" if result.max_abs_error == 0 else "unknown"
    return _in_unit(metric, value)
