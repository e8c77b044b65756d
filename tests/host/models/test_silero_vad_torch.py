"""Silero rebuilt from its weights is Silero: the shipped file's numbers, over whole streams of speech."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from rtfleet import clips
from rtfleet.export import streaming
from rtfleet.fetch import fetch
from rtfleet.model import Array, SpeechModel, zeros_of
from rtfleet.models.silero_vad import SILERO, silero_vad

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")]

torch = pytest.importorskip("torch")
onnxruntime = pytest.importorskip("onnxruntime")

from rtfleet.export import onnx, original  # noqa: E402  # torch may be missing
from rtfleet.models.silero_vad_torch import silero_vad_torch  # noqa: E402

SHIPPED, OWN = ("state", "stateN"), ("memory", "memory_out")


@pytest.fixture(name="rebuilt", scope="module")
def _rebuilt() -> SpeechModel:
    return silero_vad_torch()


def scores(step: streaming.Step, rebuilt: SpeechModel, names: tuple[str, str], more: dict[str, Array]) -> Array:
    """Over the shipped clips, the state carried and reset where a clip begins; `names` are those of its two ends."""
    arrays = clips.frames_of(rebuilt, sorted(clips.SHIPPED.glob("*.wav"))).arrays
    starts = frozenset(map(int, arrays["@stream_starts"]))
    frames = {"input": arrays["input"]}
    streams = streaming.Streams(frames, more, starts, {names[0]: (names[1], zeros_of(rebuilt.states[0]))})
    return streaming.reference(step, streams, ["output"])["output"]


def test_it_gives_the_numbers_of_the_file_that_its_weights_are_from(rebuilt: SpeechModel) -> None:
    whole = torch.jit.load(fetch(SILERO) / "silero_vad/data/silero_vad.jit")._model

    def step(feeds: Mapping[str, Array]) -> dict[str, Array]:
        with torch.no_grad():
            score, state = whole(torch.from_numpy(feeds["input"]), torch.from_numpy(feeds["state"]))
        return {"output": score.numpy(), "stateN": state.numpy()}

    expected = scores(step, rebuilt, SHIPPED, {})
    found = scores(original.step_of(rebuilt), rebuilt, OWN, {})

    assert len(found) > 300 and expected.max() > 0.9 and expected.min() < 0.1
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_it_gives_the_shipped_onnx_files_numbers(rebuilt: SpeechModel) -> None:
    shipped = onnx.step_of(onnx.open_session(silero_vad().source))

    expected = scores(shipped, rebuilt, SHIPPED, {"sr": np.array(16_000, np.int64)})
    found = scores(original.step_of(rebuilt), rebuilt, OWN, {})

    # In float32 the two shipped files are 1.2e-5 apart themselves, and this one is 8e-6 from itself in float64.
    np.testing.assert_allclose(found, expected, atol=3e-5)


def test_no_convolution_is_one_dimensional(rebuilt: SpeechModel) -> None:
    """TensorRT refuses one-dimensional convolutions."""
    assert not [module for module in rebuilt.source.modules() if isinstance(module, torch.nn.Conv1d)]
