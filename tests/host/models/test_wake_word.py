"""The built-in wake word streams, is small, and hears its phrase in the shipped clips."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

torch = pytest.importorskip("torch")

import rtfleet  # noqa: E402  # torch may be missing
from rtfleet import clips  # noqa: E402
from rtfleet.model import SpeechModel, zeros_of  # noqa: E402
from rtfleet.models.wake_word import WEIGHTS, wake_word  # noqa: E402
from rtfleet.suite import ModelEntry  # noqa: E402

CLIPS = Path(rtfleet.__file__).parent / "audio"
PHRASE_CLIPS = ("hey-computer-1.wav", "hey-computer-2.wav")
OTHER_CLIPS = ("speech-1.wav", "speech-2.wav")

Scores = npt.NDArray[np.float32]


@pytest.fixture(name="model", scope="module")
def _model() -> SpeechModel:
    return wake_word()


def clip(name: str) -> torch.Tensor:
    """A shipped clip as [1, samples], cut to whole hops."""
    with wave.open(str(CLIPS / name)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
    return torch.from_numpy(samples[: len(samples) // 320 * 320])[None]


def scores(model: SpeechModel, audio: torch.Tensor, hops_a_call: int) -> Scores:
    """The score of each hop, heard `hops_a_call` at a time with the states carried over."""
    carried = [torch.from_numpy(zeros_of(state)) for state in model.states]
    parts = []
    with torch.no_grad():
        for piece in audio.split(320 * hops_a_call, dim=1):
            score, *carried = model.source(piece, *carried)
            parts.append(score)
    found: Scores = torch.cat(parts, dim=1)[0].numpy()
    return found


@pytest.mark.parametrize("hops_a_call", [1, 3])
def test_hop_by_hop_equals_the_whole_clip(model: SpeechModel, hops_a_call: int) -> None:
    """All memory is in the states: how a clip is cut changes nothing."""
    audio = clip(PHRASE_CLIPS[0])

    whole = scores(model, audio, audio.shape[1])

    np.testing.assert_allclose(scores(model, audio, hops_a_call), whole, atol=1e-5)


@pytest.mark.parametrize("name", PHRASE_CLIPS)
def test_the_phrase_is_heard_once(model: SpeechModel, name: str) -> None:
    """The score reaches the threshold in one stretch of less than a second."""
    assert model.threshold is not None

    hits = np.flatnonzero(scores(model, clip(name), 10_000) >= model.threshold)

    assert len(hits) > 0
    assert hits[-1] - hits[0] < 50


def test_it_knows_its_phrase_among_the_shipped_clips_by_their_names(model: SpeechModel) -> None:
    frames = clips.frames_of(model, clips.find(ModelEntry("m", "wake-word", Path())))

    assert frames.positives == tuple(range(len(PHRASE_CLIPS)))
    assert len(frames.arrays[clips.STREAM_STARTS]) == len(PHRASE_CLIPS) + len(OTHER_CLIPS)


@pytest.mark.parametrize("name", OTHER_CLIPS)
def test_other_speech_is_not_the_phrase(model: SpeechModel, name: str) -> None:
    """Sentences without the phrase stay below the threshold."""
    assert model.threshold is not None
    assert scores(model, clip(name), 10_000).max() < model.threshold


def test_one_hop_keeps_the_shapes_of_the_states(model: SpeechModel) -> None:
    """Each state comes back in the shape in which it went in, after the score [1, 1]."""
    states = [torch.from_numpy(zeros_of(state)) for state in model.states]

    with torch.no_grad():
        score, *after = model.source(torch.zeros(model.inputs["audio"].shape), *states)

    assert tuple(score.shape) == (1, 1)
    assert [tuple(state.shape) for state in after] == [state.shape for state in model.states]


def test_it_is_small_and_its_hop_is_20_ms(model: SpeechModel) -> None:
    """The committed weights stay under 500 kB and the hop within 20 ms."""
    assert WEIGHTS.stat().st_size <= 500_000
    assert (model.hop_ms, model.hop_samples) == (20, 320)


def test_no_convolution_is_one_dimensional(model: SpeechModel) -> None:
    """TensorRT refuses one-dimensional convolutions."""
    assert not [module for module in model.source.modules() if isinstance(module, torch.nn.Conv1d)]


def test_the_front_end_is_a_module_named_front(model: SpeechModel) -> None:
    """`keep_float` names it, so that exporters can leave its activations alone."""
    names = [name for name, _ in model.source.named_modules()]

    assert [name for name in names if name.startswith(tuple(model.keep_float))] == ["front", "front.stft", "front.mel"]


def test_the_default_clips_are_small() -> None:
    """All default clips together stay under 600 kB."""
    assert sum(path.stat().st_size for path in CLIPS.glob("*.wav")) <= 600_000
