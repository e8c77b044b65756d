"""Speak the default clips: host/rtfleet/audio/*.wav. No voice in them was heard in training but that of speech-1.

python training/make_clips.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from augment import in_a_room, with_noise
from engines import SAMPLE_RATE_HZ, Audio, speak
from scipy.io import wavfile

import rtfleet

CLIPS = Path(rtfleet.__file__).parent / "audio"
PAUSE = np.zeros(SAMPLE_RATE_HZ // 4, np.float32)


def said(engine: str, voice: str, *texts: str) -> Audio:
    """The texts one after the other, with pauses of a quarter of a second around them."""
    rng = np.random.default_rng(7)
    return np.concatenate([PAUSE, *(part for text in texts for part in (speak(engine, voice, text, rng), PAUSE))])


def main() -> None:
    rng = np.random.default_rng(11)
    joe = said("piper", "joe", "Let me see.", "Hey computer.", "What is the time in London?")
    slt = said("flite", "slt", "It is getting dark outside.", "Hey computer!", "Turn on the lights in the kitchen.")
    heart = said("hibari", "heart", "The weather is nice today, so we will walk along the river to the old bridge.")
    train = said("piper", "joe", "The train to the coast leaves at nine, and it takes about two hours.")
    clips = {
        "hey-computer-1": joe,
        "hey-computer-2": with_noise(slt, [heart], 30, rng),
        "speech-1": heart,
        "speech-2": with_noise(in_a_room(train, rng), [heart], 18, rng),
    }
    for name, audio in clips.items():
        samples = (0.6 * audio / np.abs(audio).max() * 32767).astype(np.int16)
        wavfile.write(CLIPS / f"{name}.wav", SAMPLE_RATE_HZ, samples)
        print(f"{name}.wav: {len(samples) / SAMPLE_RATE_HZ:.1f} s")


if __name__ == "__main__":
    main()
