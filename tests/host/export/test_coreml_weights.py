"""Weights are found again however a converter lays them out, and what is wrong with them is told."""

from __future__ import annotations

import numpy as np
import pytest

from rtfleet.errors import ExportError
from rtfleet.export.coreml_weights import ReadBack, read_back, snr_db

RNG = np.random.default_rng(3)
WEIGHT = RNG.standard_normal((12, 32)).astype(np.float32)
OTHERS = {"other": RNG.standard_normal((12, 32)).astype(np.float32), "bias": np.ones(12, np.float32)}


@pytest.mark.parametrize(
    "held",
    [
        {"w": WEIGHT},
        {"w": WEIGHT[::-1].copy()},
        {"w": WEIGHT.T.copy()},
        {"w": WEIGHT.reshape(12, 8, 2, 2)},
        {"update": WEIGHT[:5], "reset": WEIGHT[5:]},
        {"w": np.concatenate((OTHERS["other"], WEIGHT))},
        {"w": WEIGHT.astype(np.float16)},
    ],
    ids=["as it is", "rows reordered", "transposed", "reshaped", "split", "joined to another", "float16"],
)
def test_a_weight_is_found_in_another_layout(held: dict[str, np.ndarray]) -> None:
    assert read_back({"w": WEIGHT}, held | OTHERS) == ReadBack(equal=1, scaled=0, of=1)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_folded_normalization_is_told_apart(dtype: type) -> None:
    folded = (WEIGHT * RNG.uniform(0.5, 2.0, (12, 1))).astype(dtype)

    assert read_back({"w": WEIGHT}, {"w": folded, **OTHERS}) == ReadBack(equal=0, scaled=1, of=1)


def test_what_is_not_there_is_counted_not_claimed() -> None:
    assert read_back({"w": WEIGHT, "v": WEIGHT + 1}, {"w": WEIGHT}) == ReadBack(equal=1, scaled=0, of=2)


@pytest.mark.parametrize(("noise", "heard_db"), [(0.003, "5[0-3]"), (0.1, "(19|2[0-2])")])
def test_rows_with_other_numbers_are_an_error_with_how_far_they_are(noise: float, heard_db: str) -> None:
    wrong = WEIGHT.copy()
    wrong[7] += noise * RNG.standard_normal(32).astype(np.float32)

    with pytest.raises(ExportError, match=rf"weight 'front\.w' came out wrong: a row of it is {heard_db} dB"):
        read_back({"front.w": WEIGHT}, {"w": wrong})


def test_short_rows_are_looked_for_in_one_piece() -> None:
    depthwise = RNG.standard_normal((24, 1, 1, 5)).astype(np.float32)

    assert read_back({"w": depthwise}, {"w": depthwise}) == ReadBack(equal=1, scaled=0, of=1)
    assert read_back({"w": depthwise}, {"w": 1.01 * depthwise}) == ReadBack(equal=0, scaled=0, of=1)


def test_the_noise_of_smaller_weights_is_that_of_those_that_changed() -> None:
    noisy = WEIGHT + 0.01 * RNG.standard_normal(WEIGHT.shape).astype(np.float32)

    assert snr_db({"w": WEIGHT, "same": OTHERS["bias"]}, {"w": noisy, "same": OTHERS["bias"]}) == pytest.approx(
        40, abs=1
    )
    assert snr_db({"w": WEIGHT}, {"w": WEIGHT}) == np.inf


@pytest.mark.parametrize("found", [{}, {"w": WEIGHT[:, :16]}])
def test_a_lost_weight_is_an_error(found: dict[str, np.ndarray]) -> None:
    with pytest.raises(ExportError, match="the weight 'w' is lost"):
        snr_db({"w": WEIGHT}, found)
