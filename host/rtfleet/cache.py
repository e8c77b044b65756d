"""The cache of what is dear to make: one folder an entry, named by a key that follows from its content's origins.

An entry is whole or not there: it is made in a temporary folder and renamed. What is read is hashed again, so a damaged
entry counts as missing and is made anew. Nothing is ever changed in place.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from cattrs.errors import BaseValidationError
from cattrs.preconf.json import make_converter

from rtfleet.artifact import File, file_of

FORMAT = 1
"""History: 1 first. A manifest of another format is made anew, never converted."""
MANIFEST = "manifest.json"
RECORDS = make_converter(forbid_extra_keys=True)
"""Frozen records to JSON and back; unknown keys are refused. The order of a mapping is part of it, and kept."""

Facts = TypeVar("Facts")
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, BaseValidationError)
"""What reading damaged JSON into records raises; AttributeError comes of text where cattrs expects a mapping."""


def cache_folder() -> Path:
    """Where artifacts, fetched packages and the local agent's files live: $RTFLEET_CACHE, else ~/.cache/rtfleet."""
    return Path(os.environ.get("RTFLEET_CACHE") or Path.home() / ".cache" / "rtfleet")


@dataclass(frozen=True)
class Entry(Generic[Facts]):
    """A cache entry: its files by hash, each with its `location`, and what was written down about them."""

    folder: Path
    files: dict[str, File]
    facts: Facts


def key_of(*parts: Any) -> str:
    """sha256 of the parts as canonical JSON; records are fine."""
    text = json.dumps([RECORDS.unstructure(part) for part in parts], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def load(folder: Path, facts: type[Facts]) -> Entry[Facts] | None:
    """The entry in `folder`; None where there is none, where it is damaged, or where another version wrote it."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        if manifest["format"] != FORMAT:
            return None
        files = {path: file_of(folder / path, path) for path in manifest["files"]}
        if any(file.sha256 != manifest["files"][path] for path, file in files.items()):
            return None
        return Entry(folder, files, RECORDS.structure(manifest["facts"], facts))
    except _UNREADABLE:
        return None


@contextlib.contextmanager
def making(cache: Path) -> Iterator[Path]:
    """A temporary folder beside the entries; whatever `keep` did not take is gone afterwards."""
    cache.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".making-", dir=cache))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def keep(made: Path, folder: Path, facts: Facts) -> Entry[Facts]:
    """Make the temporary folder `made` the entry `folder`. A damaged entry there gives way."""
    paths = sorted(path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file())
    hashes = {path: file_of(made / path).sha256 for path in paths}
    manifest = {"format": FORMAT, "files": hashes, "facts": RECORDS.unstructure(facts)}
    (made / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        made.rename(folder)
    except OSError:  # something is there: another run was faster, or it is damaged
        if (there := load(folder, type(facts))) is not None:
            return there
        with making(folder.parent) as grave:
            folder.rename(grave / "damaged")
            made.rename(folder)
    return Entry(folder, {path: file_of(folder / path, path) for path in paths}, facts)


def write_note(path: Path, note: Any) -> None:
    """Write a small record that points at entries, replacing the one before whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False) as file:
        json.dump({"format": FORMAT, "note": RECORDS.unstructure(note)}, file)
    os.replace(file.name, path)


def read_note(path: Path, note: type[Facts]) -> Facts | None:
    """The record at `path`; None where there is none, or none that can be read."""
    try:
        stored = json.loads(path.read_text())
        return RECORDS.structure(stored["note"], note) if stored["format"] == FORMAT else None
    except _UNREADABLE:
        return None
