"""The cache holds whole entries or none, and its keys follow from contents alone."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from rtfleet import cache
from rtfleet.artifact import InputFacts


@dataclass(frozen=True)
class Made:
    """What a test writes down about an entry."""

    text: str
    sizes: tuple[int, ...] = ()


FACTS = Made("whole", (1, 2))


def kept(folder: Path, content: bytes = b"weights", facts: Made = FACTS) -> cache.Entry[Made]:
    with cache.making(folder.parent) as making:
        (making / "inner").mkdir()
        (making / "inner" / "model.onnx").write_bytes(content)
        return cache.keep(making, folder, facts)


def test_an_entry_is_read_as_it_was_kept(tmp_path: Path) -> None:
    made = kept(tmp_path / "cache" / "key")

    found = cache.load(tmp_path / "cache" / "key", Made)

    assert found == made
    assert found is not None and found.facts == FACTS
    assert found.files["inner/model.onnx"].location == tmp_path / "cache" / "key" / "inner" / "model.onnx"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["key"]


def test_what_was_never_kept_is_not_there(tmp_path: Path) -> None:
    assert cache.load(tmp_path / "key", Made) is None


def test_an_entry_that_could_not_be_finished_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="converter"), cache.making(tmp_path / "cache") as making:
        (making / "model.onnx").write_bytes(b"half")
        raise RuntimeError("the converter failed")

    assert list((tmp_path / "cache").iterdir()) == []


def test_an_entry_being_made_is_none_yet(tmp_path: Path) -> None:
    with cache.making(tmp_path) as making:
        (making / "model.onnx").write_bytes(b"half")

        assert cache.load(making, Made) is None


def change_a_byte(folder: Path) -> None:
    (folder / "inner" / "model.onnx").write_bytes(b"Weights")


def cut_short(folder: Path) -> None:
    (folder / "inner" / "model.onnx").write_bytes(b"wei")


def remove_the_file(folder: Path) -> None:
    (folder / "inner" / "model.onnx").unlink()


def remove_the_manifest(folder: Path) -> None:
    (folder / cache.MANIFEST).unlink()


def cut_the_manifest(folder: Path) -> None:
    text = (folder / cache.MANIFEST).read_text()
    (folder / cache.MANIFEST).write_text(text[: len(text) // 2])


@pytest.mark.parametrize("damage", [change_a_byte, cut_short, remove_the_file, remove_the_manifest, cut_the_manifest])
def test_a_damaged_entry_counts_as_missing_and_is_made_anew(tmp_path: Path, damage: object) -> None:
    folder = tmp_path / "cache" / "key"
    kept(folder)
    assert callable(damage)
    damage(folder)

    assert cache.load(folder, Made) is None
    kept(folder)

    found = cache.load(folder, Made)
    assert found is not None and found.facts == FACTS
    assert (folder / "inner" / "model.onnx").read_bytes() == b"weights"
    assert [path.name for path in folder.parent.iterdir()] == ["key"]


@pytest.mark.parametrize(
    "manifest",
    [
        [],
        "text",
        None,
        {},
        {"format": cache.FORMAT},
        {"format": cache.FORMAT, "files": {}},
        {"format": cache.FORMAT, "files": ["inner/model.onnx"], "facts": {"text": "a"}},
        {"format": cache.FORMAT, "files": {}, "facts": "text"},
        {"format": cache.FORMAT, "files": {}, "facts": {"text": "a", "newer": 1}},
        {"format": cache.FORMAT, "files": {}, "facts": {"sizes": "a"}},
        {"format": cache.FORMAT + 1, "files": {}, "facts": {"text": "a"}},
    ],
)
def test_a_manifest_of_another_version_or_kind_counts_as_missing(tmp_path: Path, manifest: object) -> None:
    folder = tmp_path / "key"
    kept(folder)
    (folder / cache.MANIFEST).write_text(json.dumps(manifest))

    assert cache.load(folder, Made) is None


def test_the_slower_of_two_runs_takes_what_the_faster_one_kept(tmp_path: Path) -> None:
    with cache.making(tmp_path) as slower:
        (slower / "model.onnx").write_bytes(b"slower")
        faster = kept(tmp_path / "key")

        assert cache.keep(slower, tmp_path / "key", FACTS) == faster

    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_key_is_the_same_for_the_same_parts_in_any_order_of_names() -> None:
    facts = InputFacts("audio", "float32", (1, 320), (1, 320))

    assert cache.key_of({"a": 1, "b": (2, 3)}, facts) == cache.key_of({"b": [2, 3], "a": 1}, replace(facts))
    assert cache.key_of("a", "b") != cache.key_of("ab")
    assert cache.key_of(facts) != cache.key_of(replace(facts, dims=(1, 321)))


def test_neither_the_name_of_an_entry_nor_its_time_is_in_its_manifest(tmp_path: Path) -> None:
    one, two = kept(tmp_path / "one" / "key"), kept(tmp_path / "two" / "another")
    os.utime(two.folder / "inner" / "model.onnx", (1, 1))

    assert (one.folder / cache.MANIFEST).read_bytes() == (two.folder / cache.MANIFEST).read_bytes()
    assert cache.load(two.folder, Made) is not None


def test_a_note_is_replaced_whole(tmp_path: Path) -> None:
    note = tmp_path / "notes" / "note.json"

    assert cache.read_note(note, Made) is None
    cache.write_note(note, FACTS)
    cache.write_note(note, Made("newer"))

    assert cache.read_note(note, Made) == Made("newer")
    assert [path.name for path in note.parent.iterdir()] == ["note.json"]


def test_entries_and_notes_keep_the_order_in_which_they_were_told(tmp_path: Path) -> None:
    """The graphs of a chain are stored as a dict, and run in its order."""

    @dataclass(frozen=True)
    class Ordered:
        graphs: dict[str, int]

    facts = Ordered({"mel": 1, "embedding": 2, "alexa": 3})
    cache.write_note(tmp_path / "note.json", facts)
    with cache.making(tmp_path) as making:
        cache.keep(making, tmp_path / "key", facts)

    note, entry = cache.read_note(tmp_path / "note.json", Ordered), cache.load(tmp_path / "key", Ordered)
    assert note is not None and entry is not None
    assert [*note.graphs] == [*entry.facts.graphs] == ["mel", "embedding", "alexa"]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 0, "note": {"text": "a"}}', '{"format": 1, "note": "a"}'])
def test_a_damaged_note_counts_as_missing(tmp_path: Path, text: str) -> None:
    (tmp_path / "note.json").write_text(text)

    assert cache.read_note(tmp_path / "note.json", Made) is None
