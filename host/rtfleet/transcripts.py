"""What was said and what was recognized: transcripts beside clips, ids to text, words in error."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rtfleet.errors import UsageError
from rtfleet.model import Array

NO_TOKEN = -1
_SPACE = "\u2581"
_SPOKEN = {"mr": "mister", "mrs": "missus", "dr": "doctor", "st": "saint", "&": "and"}


@dataclass(frozen=True)
class Errors:
    """Word errors of some clips. The word error rate is `wrong / words`.

    Attributes:
        wrong: Substitutions, deletions and insertions of the shortest way from the transcripts to the texts.
        words: In the transcripts.
    """

    wrong: int
    words: int


def beside(clip: Path) -> str:
    """The transcript of a clip: the text file of its name with `.txt`; "" where there is none.

    Raises:
        UsageError: a file that is no text.
    """
    path = clip.with_suffix(".txt")
    if not path.is_file():
        return ""
    try:
        return " ".join(path.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not readable as the transcript of {clip.name}: {error}") from error


def vocabulary_text(pieces: Sequence[bytes]) -> str:
    """A vocabulary as it is stored: JSON, bytes as Latin-1, because a piece may be half a character."""
    return json.dumps([piece.decode("latin-1") for piece in pieces])


def read_vocabulary(path: Path) -> list[bytes]:
    """What `vocabulary_text` wrote."""
    return [piece.encode("latin-1") for piece in json.loads(path.read_text(encoding="utf-8"))]


def text_of(ids: Array, pieces: Sequence[bytes]) -> str:
    """Token ids [n], `NO_TOKEN` behind the last, as text. Control tokens (`<s>`, `</s>`) say nothing."""
    known = [pieces[index] for index in ids.tolist() if 0 <= index < len(pieces)]
    said = b"".join(piece for piece in known if not re.fullmatch(rb"<[^<>\s]+>", piece))
    return " ".join(said.decode("utf-8", "replace").replace(_SPACE, " ").split())


def words_of(text: str) -> list[str]:
    """Words as they are compared: lower case, without punctuation, hyphens part words, titles as they are spoken."""
    plain = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    found = re.findall(r"[\w']+|&", plain)
    words = (_SPOKEN.get(word, word.strip("'")) for word in found)
    return [word for word in words if word]


def errors_of(transcripts: Sequence[str], texts: Sequence[str]) -> Errors:
    """Word errors over all clips that have a transcript; `texts` has a text for each."""
    wrong = words = 0
    for transcript, text in zip(transcripts, texts, strict=True):
        if transcript:
            said = words_of(transcript)
            wrong += _distance(said, words_of(text))
            words += len(said)
    return Errors(wrong, words)


def _distance(said: Sequence[str], heard: Sequence[str]) -> int:
    """The edit distance of Levenshtein (1966), words as letters."""
    row = list(range(len(heard) + 1))
    for at, word in enumerate(said, start=1):
        above, row[0] = row[0], at
        for column, other in enumerate(heard, start=1):
            above, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, above + (word != other))
    return row[-1]
