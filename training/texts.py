"""What is spoken: the phrase, what sounds like it, and sentences that are neither."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rtfleet.models.wake_word import PHRASE

FORTUNES = Path("/usr/share/games/fortunes")
WORDS = Path("/usr/share/dict/words")

NEAR_MISSES = (
    "hey commuter", "hey computing", "hey compute", "hey commuters play", "hey compost", "hey compared to",
    "hey competitor", "hey composer", "hey complete it", "hey committee", "hey community", "hey company",
    "hey compass", "hey combine", "hey conductor", "hey connector", "hey consumer", "hey contributor",
    "hey calculator", "hey cucumber", "hey peter", "hey pewter", "hey tutor", "hey polluter", "hey recruiter",
    "hey scooter", "hey shooter", "hey suitor", "hey jupiter", "hey hooter", "hey there", "hey siri", "hey", "hay",
    "computer", "a computer", "the computer", "my computer", "okay computer", "play computer games",
    "commuter", "computing", "computation", "impute her", "he compute her", "stay commuter", "pay the commuter",
    "hey can you put her", "hey come put her", "hi competitor", "high commuter", "hey come here", "hey do you",
)  # fmt: skip


def sentences(*, share: int) -> Sequence[str]:
    """Sentences of 4 to 18 words without the phrase. `share` 0 is for training, 1 for the rest: no text is in both."""
    found = set()
    for path in sorted(FORTUNES.glob("*")):
        if path.suffix:
            continue
        for sentence in re.split(r"(?<=[.!?])\s+|\n%\n", path.read_text(encoding="utf-8", errors="ignore")):
            text = " ".join(sentence.split())
            plain = re.fullmatch(r"[A-Za-z][A-Za-z,' -]+[.!?]", text)
            if plain and 4 <= len(text.split()) <= 18 and PHRASE not in text.lower():
                found.add(text)
    return [text for i, text in enumerate(sorted(found)) if (i % 4 == 3) == bool(share)]


def word_salad(rng: np.random.Generator) -> str:
    """Some dictionary words in a row, so that every sound meets every other."""
    return " ".join(rng.choice(_words(), size=int(rng.integers(3, 9))))


@lru_cache
def _words() -> npt.NDArray[np.str_]:
    return np.array([word for word in WORDS.read_text(encoding="utf-8").split() if re.fullmatch(r"[a-z]{2,12}", word)])
