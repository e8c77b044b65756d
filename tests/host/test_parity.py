"""Outputs compared with the original model's, and the parity that an artifact owes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from invented import REFERENCE, artifact, budget
from invented import parity as result

from rtfleet import parity
from rtfleet.fidelity import ParityResult
from rtfleet.parity import compare

SCORE = np.linspace(0, 1, 100, dtype=np.float32)[:, None]


def compared(reference: dict[str, Any], outputs: dict[str, Any], **changes: Any) -> ParityResult:
    settings: dict[str, Any] = {"score": "score", "threshold": 0.5, "against": "the original", "optimized": True}
    return compare(reference, outputs, **(settings | changes))


def test_equal_outputs_have_unlimited_snr_and_full_agreement() -> None:
    same = compared({"score": SCORE}, {"score": SCORE.copy()})

    assert (same.max_abs_error, same.snr_db, same.decision_agreement, same.drift) == (0.0, None, 1.0, None)
    assert (same.frames, same.nan_frames, same.against) == (100, 0, "the original")


@given(st.floats(1e-6, 0.5))
def test_snr_is_ten_times_the_log_of_signal_over_error_power(relative: float) -> None:
    reference = np.ones((50, 3))

    found = compared({"score": reference}, {"score": reference * (1 + relative)})

    assert found.snr_db == pytest.approx(-20 * np.log10(relative), abs=1e-3)


def test_the_worst_output_counts() -> None:
    reference = {"score": SCORE, "embedding": np.ones((100, 4))}
    outputs = {"score": SCORE, "embedding": np.full((100, 4), 1.1), "state": np.zeros((100, 9))}

    found = compared(reference, outputs)

    assert found.snr_db == pytest.approx(20.0)
    assert found.max_abs_error == pytest.approx(0.1)


def test_quantized_outputs_become_real_numbers_first() -> None:
    scale, zero_point = 1 / 256, -128
    quantized = (np.round(SCORE / scale) + zero_point).clip(-128, 127).astype(np.int8)

    found = compared({"score": SCORE}, {"score": quantized}, scales={"score": (scale, zero_point)})

    assert found.max_abs_error == pytest.approx(scale, abs=1e-6)  # 1.0 clips to 255 / 256
    assert found.decision_agreement is not None and found.decision_agreement >= 0.99


def test_an_unsigned_output_does_not_wrap_around_when_it_is_subtracted() -> None:
    found = compared(
        {"score": np.full((4, 1), -1.0)}, {"score": np.zeros((4, 1), np.uint8)}, scales={"score": (0.5, 2)}
    )

    assert found.max_abs_error == 0


def test_decisions_are_those_of_the_score_at_the_threshold() -> None:
    moved = SCORE.copy()
    moved[10] = 0.5  # decided "yes", the original "no"

    assert compared({"score": SCORE}, {"score": moved}).decision_agreement == 0.99
    assert compared({"score": SCORE}, {"score": moved}, threshold=None).decision_agreement is None
    assert compared({"score": SCORE}, {"score": moved}, score=None).decision_agreement is None


def test_a_quiet_score_may_have_a_poor_ratio_and_yet_agree_in_every_decision() -> None:
    quiet = np.full((100, 1), 0.004)

    found = compared({"score": quiet}, {"score": np.zeros((100, 1))})

    assert (found.snr_db, found.decision_agreement) == (0.0, 1.0)


def test_nan_is_counted_by_frame_and_agrees_with_nothing() -> None:
    broken = np.ones((100, 2))
    broken[3, 0] = np.nan
    broken[7] = np.inf

    found = compared({"score": np.ones((100, 2))}, {"score": broken})

    assert (found.nan_frames, found.max_abs_error, found.snr_db, found.drift) == (2, None, None, None)
    assert found.decision_agreement == 0.98


def test_drift_is_the_error_at_the_end_of_a_stream_over_that_in_its_middle() -> None:
    growing = np.geomspace(1e-6, 0.1, 100)[:, None]
    steady = np.full((100, 1), 0.01)

    assert compared({"score": SCORE}, {"score": SCORE + steady}).drift == pytest.approx(1.0)
    drift = compared({"score": SCORE}, {"score": SCORE + growing}).drift
    assert drift is not None and drift > 10 * parity.DRIFT


def test_an_error_that_each_stream_resets_is_no_drift() -> None:
    """Two streams with the same error: louder speech in the second is not a state that drifts."""
    error = np.concatenate((np.full(50, 1e-4), np.full(50, 0.05)))[:, None]

    found = compared({"score": SCORE}, {"score": SCORE + error}, stream_starts=(0, 50))

    assert found.drift == pytest.approx(1.0)


def test_a_silent_original_has_no_ratio() -> None:
    found = compared({"score": np.zeros((10, 1))}, {"score": np.full((10, 1), 0.1)})

    assert (found.snr_db, found.max_abs_error) == (None, 0.1)


@pytest.mark.parametrize(
    ("reference", "outputs", "message"),
    [
        ({"score": SCORE}, {"other": SCORE}, "output 'score' is missing; there are other"),
        ({"score": SCORE}, {"score": SCORE[:50]}, r"output 'score' has shape \[50, 1\], the original's is \[100, 1\]"),
        ({"score": SCORE, "b": SCORE[:9]}, {"score": SCORE, "b": SCORE[:9]}, "different numbers of frames"),
        ({"score": SCORE * np.nan}, {"score": SCORE}, "of the original is not finite"),
        ({"score": SCORE[:0]}, {"score": SCORE[:0]}, "has no frames"),
        ({}, {"score": SCORE}, "no outputs to compare with"),
    ],
)
def test_what_cannot_be_compared_is_said(reference: dict[str, Any], outputs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compared(reference, outputs)


@pytest.mark.parametrize(
    ("variant", "snr_db", "agreement"),
    [
        ("onnx-fp32", 80, 0.99),
        ("tflite-fp16", 45, 0.99),
        ("onnx-int8-static", 15, 0.97),
        ("tflite-int8-dynamic", 15, 0.97),
        ("onnx-shipped", 15, 0.97),
    ],
)
def test_parity_is_owed_by_precision(variant: str, snr_db: float, agreement: float) -> None:
    owed = parity.default_budgets(artifact(variant=variant, threshold=0.5, reference=REFERENCE))

    assert [(one.metric, one.limit, one.floor) for one in owed] == [
        ("parity_snr_db", snr_db, True),
        ("parity_agreement", agreement, True),
    ]


def test_a_model_that_decides_nothing_owes_no_agreement() -> None:
    assert [one.metric for one in parity.default_budgets(artifact(threshold=None))] == ["parity_snr_db"]


SNR = budget("parity_snr_db", 80, floor=True)
AGREEMENT = budget("parity_agreement", 0.99, floor=True)


@pytest.mark.parametrize(
    ("owed", "device", "verdict", "value"),
    [
        (SNR, result(snr_db=80.0), "PASS", 80.0),
        (SNR, result(snr_db=79.9), "FAIL", 79.9),
        (SNR, result(snr_db=None, max_abs_error=0.0), "PASS", None),
        (SNR, result(snr_db=None, max_abs_error=0.1), "INCONCLUSIVE", None),
        (SNR, result(snr_db=None, max_abs_error=None, nan_frames=1), "FAIL", None),
        (AGREEMENT, result(decision_agreement=0.99), "PASS", 0.99),
        (AGREEMENT, result(decision_agreement=0.98), "FAIL", 0.98),
        (AGREEMENT, result(decision_agreement=None), "INCONCLUSIVE", None),
        (AGREEMENT, result(nan_frames=1), "FAIL", None),
        (SNR, None, "INCONCLUSIVE", None),
    ],
)
def test_parity_is_exact(owed: Any, device: ParityResult | None, verdict: str, value: float | None) -> None:
    check = parity.judge(owed, device, None)

    assert (check.verdict, check.value, check.confidence) == (verdict, value, None)


def test_the_device_is_judged_and_the_host_stands_beside_it() -> None:
    check = parity.judge(SNR, result(snr_db=20.0), result(snr_db=100.0))

    assert check.reason == ("20.0 dB against the original model, at least 80.0 dB is owed; on the host 100.0 dB")
