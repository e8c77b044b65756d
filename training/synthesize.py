"""Speak the training, validation and test sets: DATA/<split>/<kind>/<engine>-<voice>-<number>.wav, 16 kHz.

    python training/synthesize.py --data /tmp/wake-word --tiny-tts /tmp/tiny_tts-0.2.0

Kinds: `phrase` (it ends where the clip ends), `near`, `sentence`. Some minutes on two cores. What is there already is
not spoken again.
"""

from __future__ import annotations

import argparse
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from engines import DISGUISED, SAMPLE_RATE_HZ, disguised, speak
from scipy.io import wavfile
from texts import NEAR_MISSES, sentences, word_salad

from rtfleet.models.wake_word import PHRASE

ESPEAK_VARIANTS = Path("/usr/lib/x86_64-linux-gnu/espeak-ng-data/voices/!v")
NO_VOICE = ("whisper", "whisperf", "Demonic", "UniRobot", "anikaRobot", "Mr serious", "fast", "croak")
DISGUISES = {"phrase": 4, "near": 2, "sentence": 1}
"""How many more throats a clip of a natural voice gets, in training."""


@dataclass(frozen=True)
class Share:
    """How much of each kind one engine speaks, spread over its voices."""

    split: str
    engine: str
    voices: tuple[str, ...]
    phrase: int
    near: int
    sentence: int


@dataclass(frozen=True)
class Clip:
    """One clip to speak."""

    path: Path
    kind: str
    engine: str
    voice: str
    text: str
    disguises: int

    def speak(self) -> None:
        """Write it, and its disguises beside it. The path seeds all that is drawn but piper's own noise."""
        rng = np.random.default_rng(zlib.crc32("/".join(self.path.parts[-3:]).encode()))
        audio = speak(self.engine, self.voice, self.text, rng)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for i in range(self.disguises):
            _write(self.path.with_name(f"{self.path.stem}-as{i}.wav"), disguised(audio, rng))
        _write(self.path, audio)


def shares(tiny_folder: str) -> list[Share]:
    """Who speaks what. No test voice is heard in training; of `piper` not even the engine is."""
    variants = sorted(path.name for path in ESPEAK_VARIANTS.iterdir() if path.name not in NO_VOICE)
    validation, test, training = variants[0::8], variants[4::8], [v for i, v in enumerate(variants) if i % 4]
    return [
        Share("train", "espeak", tuple(training), 1400, 1100, 500),
        Share("train", "festival", ("kal", "ked"), 300, 250, 120),
        Share("train", "flite", ("rms",), 250, 200, 150),
        Share("train", "hibari", ("heart",), 400, 300, 300),
        Share("train", "tiny", (tiny_folder,), 300, 220, 150),
        Share("validation", "espeak", tuple(validation), 120, 120, 120),
        Share("validation", "flite", ("awb",), 120, 120, 120),
        Share("test", "espeak", tuple(test), 150, 200, 250),
        Share("test", "flite", ("slt",), 120, 160, 300),
        Share("test", "piper", ("joe",), 120, 160, 300),
    ]


def clips(data: Path, share: Share) -> Iterator[Clip]:
    """The clips of one share."""
    name = f"{share.split}/{share.engine}"
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    texts = sentences(share=int(share.split != "train"))
    for kind, count in (("phrase", share.phrase), ("near", share.near), ("sentence", share.sentence)):
        for number in range(count):
            voice = share.voices[number % len(share.voices)]
            text = {
                "phrase": PHRASE + str(rng.choice(["", ".", "!", "?", ","])),
                "near": NEAR_MISSES[number % len(NEAR_MISSES)],
                "sentence": word_salad(rng) if number % 5 == 4 else str(rng.choice(texts)),
            }[kind]
            label = "male" if share.engine == "tiny" else voice
            path = data / share.split / kind / f"{share.engine}-{label}-{number:04}.wav"
            disguises = DISGUISES[kind] if share.split == "train" and share.engine in DISGUISED else 0
            yield Clip(path, kind, share.engine, voice, text, disguises)


def _write(path: Path, audio: np.ndarray) -> None:
    wavfile.write(path, SAMPLE_RATE_HZ, (audio * 32767).astype(np.int16))


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tiny-tts", required=True, help="folder of the unpacked tiny-tts sdist")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    wanted = [clip for share in shares(arguments.tiny_tts) for clip in clips(arguments.data, share)]
    missing = [clip for clip in wanted if not clip.path.exists()]
    missing.sort(key=lambda clip: zlib.crc32(str(clip.path).encode()))  # the slow engines spread over the processes
    with Pool(arguments.processes, initializer=_one_thread) as pool:
        for i, _ in enumerate(pool.imap_unordered(Clip.speak, missing, chunksize=8), 1):
            if i % 500 == 0:
                print(f"{i} of {len(missing)} clips", flush=True)


if __name__ == "__main__":
    main()
