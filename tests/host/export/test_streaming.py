"""A model is run as a device runs it: states carried, reset where a stream starts, calibrated over all of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rtfleet import feeds
from rtfleet.artifact import InputFacts, PreparedModel, StateFacts, file_of
from rtfleet.export import streaming
from rtfleet.export.streaming import Streams
from rtfleet.model import Array

FRAMES = np.arange(10, dtype=np.float32)[:, None]


def streams(*starts: int, frames: Array = FRAMES) -> Streams:
    initial = np.array([100], np.float32)
    return Streams({"x": frames}, {"gain": np.array(2.0)}, frozenset(starts), {"sum": ("sum_out", initial)})


def adding(given: Mapping[str, Array]) -> Mapping[str, Array]:
    """A running sum, and twice the frame."""
    return {"y": given["x"] * given["gain"], "sum_out": given["sum"] + given["x"]}


def test_a_state_is_carried_from_frame_to_frame() -> None:
    sums = [outputs["sum_out"].item() for _, outputs in streaming.run(adding, streams(0))]

    assert sums == [100 + sum(range(i + 1)) for i in range(10)]


def test_a_state_begins_anew_where_a_stream_starts() -> None:
    fed = [given["sum"].item() for given, _ in streaming.run(adding, streams(0, 4, 9))]

    assert fed == [100, 100, 101, 103, 100, 104, 109, 115, 122, 100]


def test_the_reference_is_every_output_but_the_states_over_all_frames() -> None:
    found = streaming.reference(adding, streams(0, 5), ["y"])

    assert list(found) == ["y"]
    np.testing.assert_array_equal(found["y"], 2 * FRAMES)


def test_the_first_inference_has_frame_zero_the_constants_and_the_initial_states() -> None:
    assert {name: value.tolist() for name, value in streams(0).first().items()} == {"gain": 2, "x": [0], "sum": [100]}


@pytest.mark.parametrize(("most", "chosen"), [(3, [0, 4, 9]), (10, list(range(10))), (100, list(range(10))), (1, [0])])
def test_calibration_is_spread_over_all_streams(most: int, chosen: list[int]) -> None:
    samples = streaming.calibration(adding, streams(0, 5), most)

    assert [sample["x"].item() for sample in samples] == chosen


def test_calibration_sees_states_as_they_are_in_the_middle_of_speech() -> None:
    samples = streaming.calibration(adding, streams(0, 5), 3)

    assert [sample["sum"].item() for sample in samples] == [100, 100 + 0 + 1 + 2 + 3, 100 + 5 + 6 + 7 + 8]


def test_calibration_keeps_copies_though_a_runtime_reuses_its_buffers() -> None:
    buffer = np.zeros(1, np.float32)

    def reusing(given: Mapping[str, Array]) -> Mapping[str, Array]:
        buffer[...] = given["sum"] + given["x"]
        return {"sum_out": buffer}

    samples = streaming.calibration(reusing, streams(0), 10)

    assert [sample["sum"].item() for sample in samples] == [100 + sum(range(i)) for i in range(10)]


def test_the_reference_keeps_copies_though_a_runtime_reuses_its_buffers() -> None:
    buffer = np.zeros(1, np.float32)

    def reusing(given: Mapping[str, Array]) -> Mapping[str, Array]:
        buffer[...] = given["x"]
        return {"y": buffer, "sum_out": given["sum"]}

    np.testing.assert_array_equal(streaming.reference(reusing, streams(0), ["y"])["y"], FRAMES)


def test_streams_are_read_from_a_prepared_models_files(tmp_path: Path) -> None:
    arrays = {"x": FRAMES, "gain": np.array(2.0), feeds.STREAM_STARTS: np.array([0, 5])}
    feeds.save(arrays, tmp_path / "frames.npz")
    np.save(tmp_path / "0.npy", np.array([100], np.float32))
    given = PreparedModel(
        name="m",
        key="",
        task="vad",
        covers="whole",
        sample_rate_hz=16_000,
        hop_samples=1,
        inputs=(InputFacts("x", "float32", (1,), (1,)), InputFacts("gain", "float64", (), (), 2.0)),
        outputs=("y",),
        states=(StateFacts("sum", "sum_out", (1,), initial=file_of(tmp_path / "0.npy")),),
        frames=file_of(tmp_path / "frames.npz"),
    )

    found = streaming.streams_of(given)
    without = streaming.streams_of(replace(given, states=(StateFacts("sum", "sum_out", (1, 2), "float16"),)))

    assert [outputs["sum_out"].item() for _, outputs in streaming.run(adding, found)][4:6] == [110, 105]
    assert found.constants["gain"] == 2
    assert (without.initial()["sum"].shape, without.initial()["sum"].dtype) == ((1, 2), np.float16)
