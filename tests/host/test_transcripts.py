"""Transcripts beside clips, ids to text, words in error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtfleet import transcripts
from rtfleet.errors import UsageError

PIECES = [b"<unk>", b"<s>", b"</s>", "▁Hey".encode(), "▁lun".encode(), b"a", b"\xc3", b"\xa9"]


def test_ids_become_text_and_control_tokens_say_nothing() -> None:
    ids = np.array([1, 3, 4, 5, 2, transcripts.NO_TOKEN, transcripts.NO_TOKEN])

    assert transcripts.text_of(ids, PIECES) == "Hey luna"


def test_a_character_may_be_two_pieces_and_half_of_one_is_shown_as_lost() -> None:
    assert transcripts.text_of(np.array([3, 6, 7]), PIECES) == "Heyé"
    assert transcripts.text_of(np.array([3, 6]), PIECES) == "Hey\N{REPLACEMENT CHARACTER}"


def test_an_id_outside_the_vocabulary_says_nothing() -> None:
    assert transcripts.text_of(np.array([3, 99]), PIECES) == "Hey"


def test_a_vocabulary_comes_back_byte_by_byte(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.json"
    path.write_text(transcripts.vocabulary_text(PIECES), encoding="utf-8")

    assert transcripts.read_vocabulary(path) == PIECES


@pytest.mark.parametrize(
    ("said", "heard", "wrong"),
    [
        ("he was not ill", "He was, not ill!", 0),
        ("mister john said ill disposed", "Mr. John said ill-disposed", 0),
        ("don't stop", "Don’t stop.", 0),
        ("one two three", "one three", 1),
        ("one two three", "one two too three", 1),
        ("one two three", "one to three", 1),
        ("one two three", "", 3),
        ("one", "two three", 2),
    ],
)
def test_words_in_error_are_the_shortest_way_to_the_transcript(said: str, heard: str, wrong: int) -> None:
    errors = transcripts.errors_of([said], [heard])

    assert errors == transcripts.Errors(wrong, len(transcripts.words_of(said)))


def test_a_clip_without_a_transcript_counts_for_nothing() -> None:
    assert transcripts.errors_of(["", "one two"], ["whatever it said", "one"]) == transcripts.Errors(1, 2)


def test_a_transcript_lies_beside_its_clip(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hey\n luna ")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")

    assert transcripts.beside(tmp_path / "a.wav") == "hey luna"
    assert transcripts.beside(tmp_path / "c.wav") == ""
    with pytest.raises(UsageError, match=r"b\.txt: not readable as the transcript of b\.wav"):
        transcripts.beside(tmp_path / "b.wav")
