"""Hits and false alarms of the built-in wake word, on voices that it never heard.

    python training/evaluate.py --data /tmp/wake-word [--choose]

One row a voice, clean and with noise and reverberation; then recorded speech. A phrase is a hit when the score reaches
the threshold between 0.2 s before its end and 1.2 s after; a false alarm is a score at the threshold anywhere in speech
without the phrase, at most one a second. `--choose` prints validation figures for a grid of thresholds.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from augment import at_a_level, in_a_room, with_noise
from engines import SAMPLE_RATE_HZ, Audio
from scipy.io import wavfile

from rtfleet.model import SpeechModel, zeros_of
from rtfleet.models.wake_word import HOP_MS, HOP_SAMPLES, THRESHOLD, wake_word

REFRACTORY_HOPS = 1000 // HOP_MS
LEAD_S, REST_S = 2.0, 1.2
"""Quiet, or noise alone, before a clip and after it."""
GRID = tuple(round(0.3 + 0.05 * i, 2) for i in range(14))


@dataclass(frozen=True)
class Row:
    """The scores of one voice under one condition: the highest of each clip, and all of the sentences."""

    split: str
    voice: str
    condition: str
    phrases: npt.NDArray[np.float32]
    near: npt.NDArray[np.float32]
    sentences: Sequence[npt.NDArray[np.float32]]

    def text(self, threshold: float) -> str:
        hours = sum(map(len, self.sentences)) * HOP_MS / 3_600_000
        alarms = sum(detections(scores, threshold) for scores in self.sentences)
        hits, near = (self.phrases >= threshold).mean(), (self.near >= threshold).mean()
        return (
            f"{self.split:10} {self.voice:14} {self.condition:6} hits {hits:6.1%} of {len(self.phrases):3}, "
            f"near misses taken {near:6.1%} of {len(self.near):3}, "
            f"false alarms {alarms:2} in {hours:.2f} h of sentences ({alarms / hours:.1f}/h)"
        )


def scores_of(model: SpeechModel, audio: Audio) -> npt.NDArray[np.float32]:
    """The score of each hop. The whole clip at once; tests show that hop by hop gives the same."""
    whole = torch.from_numpy(audio[: len(audio) // HOP_SAMPLES * HOP_SAMPLES])[None]
    with torch.no_grad():
        score, *_ = model.source(whole, *(torch.from_numpy(zeros_of(state)) for state in model.states))
    return score[0].numpy()


def detections(scores: npt.NDArray[np.float32], threshold: float) -> int:
    """How often the score reaches the threshold, after each time waiting for a second."""
    count, next_hop = 0, 0
    for hop in np.flatnonzero(scores >= threshold):
        if hop >= next_hop:
            count, next_hop = count + 1, hop + REFRACTORY_HOPS
    return count


def rows(model: SpeechModel, data: Path, split: str) -> Iterator[Row]:
    """Each voice of a split, clean and noisy. All of espeak's variants count as one voice here."""
    babble = [_read(path) for path in sorted((data / "train" / "sentence").glob("*.wav"))[::40]]
    engines = sorted({path.name.split("-")[0] for path in (data / split / "phrase").glob("*.wav")})
    for engine in engines:
        for condition in ("clean", "noisy"):
            kinds: dict[str, list[npt.NDArray[np.float32]]] = {}
            for kind in ("phrase", "near", "sentence"):
                paths = sorted((data / split / kind).glob(f"{engine}-*.wav"))
                rng = np.random.default_rng(len(paths))
                audios = [_heard(_read(path), condition, babble, rng) for path in paths]
                kinds[kind] = [scores_of(model, audio) for audio in audios]
            first = next((data / split / "phrase").glob(f"{engine}-*.wav")).name.split("-")[1]
            voice = "espeak-ng" if engine == "espeak" else f"{engine} {first}"
            # A hit may come from 0.2 s before the phrase's end, which is REST_S before the clip's.
            late = int((REST_S + 0.2) * 1000 / HOP_MS)
            phrases = np.array([scores[-late:].max() for scores in kinds["phrase"]])
            near = np.array([scores.max() for scores in kinds["near"]])
            yield Row(split, voice, condition, phrases, near, kinds["sentence"])


def _heard(clip: Audio, condition: str, babble: Sequence[Audio], rng: np.random.Generator) -> Audio:
    """Clean: at a peak of -9 dB. Noisy: reverberated, 5-20 dB above noise, at any level."""
    lead, rest = (np.zeros(int(seconds * SAMPLE_RATE_HZ), np.float32) for seconds in (LEAD_S, REST_S))
    if condition == "clean":
        return np.concatenate((lead, clip * 0.5, rest))
    audio = in_a_room(np.concatenate((lead, clip, rest)), rng)
    speech_db = 10 * np.log10(len(clip) / len(audio))  # with_noise() measures the loud half of all, silence included
    return at_a_level(with_noise(audio, babble, rng.uniform(5, 20) + min(0.0, speech_db + 3), rng), rng)


def _read(path: Path) -> Audio:
    return wavfile.read(path)[1].astype(np.float32) / 32768


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--threshold", type=float, default=THRESHOLD)
    arguments = parser.parse_args()
    model = wake_word()
    if arguments.choose:
        validation = list(rows(model, arguments.data, "validation"))
        for threshold in GRID:
            print(f"threshold {threshold}", *(row.text(threshold) for row in validation), sep="\n")
        return
    print(f"threshold {arguments.threshold}")
    for split in ("validation", "test"):
        for row in rows(model, arguments.data, split):
            print(row.text(arguments.threshold))
    for path in sorted((arguments.data / "recorded").glob("*.wav")):
        scores = scores_of(model, _read(path))
        alarms, hours = detections(scores, arguments.threshold), len(scores) * HOP_MS / 3_600_000
        print(f"recorded   {path.stem:21} false alarms {alarms:2} in {hours:.2f} h, highest score {scores.max():.2f}")


if __name__ == "__main__":
    main()
