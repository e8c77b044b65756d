"""Silero hears speech in the shipped clips and none in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from rtfleet import clips
from rtfleet.model import Array
from rtfleet.models.silero_vad import silero_vad

pytestmark = pytest.mark.slow


def probabilities(paths: list[Path]) -> Array:
    import onnxruntime

    model = silero_vad()
    session = onnxruntime.InferenceSession(str(model.source))
    arrays = clips.frames_of(model, paths).arrays
    scores, state = [], np.zeros(model.states[0].shape, np.float32)
    for index, frame in enumerate(arrays["input"]):
        if index in arrays["@stream_starts"]:
            state = np.zeros_like(state)
        score, state = session.run(["output", "stateN"], {"input": frame, "state": state, "sr": arrays["sr"]})
        scores.append(score.item())
    return np.array(scores)


def test_speech_is_heard_and_silence_is_not(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(32_000, np.float32), 16_000)

    spoken = probabilities([clip for clip in sorted(clips.SHIPPED.glob("speech*.wav"))])
    silent = probabilities([tmp_path / "silence.wav"])

    assert np.mean(spoken > 0.5) > 0.5
    assert silent.max() < 0.2
