"""Which files a model consists of: those of a Core ML package, and those that an ONNX file needs beside it, read from
its bytes: a host without the onnx package takes ready files.

A protobuf message is a row of fields, each a tag (number << 3 | wire type) and a value. Only the way from the model
down to its tensors is walked.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rtfleet.artifact import File, file_of
from rtfleet.errors import UsageError

MANIFEST = "Manifest.json"
SAVED_MODEL = "saved_model.pb"
_WAYS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {},
}
"""Message -> field number -> message inside (onnx.proto)."""


def files_of(path: Path) -> tuple[File, ...]:
    """The model file and the external data files that it names, each with its path beside the model; of a folder all.

    Of a Core ML package its Manifest.json comes first, and their paths begin with the package's name.

    Raises:
        UsageError: damaged bytes, external data outside the model's folder, or a file that is missing.
    """
    if (path / SAVED_MODEL).is_file():
        return tuple(file_of(file, file.relative_to(path).as_posix()) for file in _inside(path))
    if path.is_dir():
        return _files_of_package(path)
    files = [file_of(path)]
    if path.suffix.lower() == ".onnx":
        folder = path.parent.resolve()
        for location in sorted(set(_locations(path))):
            beside = folder / location
            if not location or Path(location).is_absolute() or not beside.resolve().is_relative_to(folder):
                raise UsageError(
                    f"{path.name}: its external data '{location}' lies outside the model's folder",
                    "put the data file beside the model and save it with a relative location",
                )
            if not beside.is_file():
                raise UsageError(f"{path.name}: its external data '{location}' is not there", f"expected {beside}")
            files.append(file_of(beside, Path(location).as_posix()))
    return tuple(files)


def _files_of_package(package: Path) -> tuple[File, ...]:
    manifest = package / MANIFEST
    if not manifest.is_file():
        raise UsageError(f"{package.name}: not a Core ML package: it has no {MANIFEST}", "give the .mlpackage folder")
    ordered = (manifest, *(path for path in _inside(package) if path != manifest))
    return tuple(file_of(path, f"{package.name}/{path.relative_to(package).as_posix()}") for path in ordered)


def _inside(folder: Path) -> list[Path]:
    """All files of a model that is a folder. Raises UsageError for a link that leads out of it."""
    # What a Mac's Finder leaves behind is no part of the model.
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".DS_Store")
    for path in found:
        if not path.resolve().is_relative_to(folder.resolve()):
            said = f"{folder.name}: {path.relative_to(folder)} is a link that leads out of it"
            raise UsageError(said, "put the file itself there")
    return found


def _locations(path: Path) -> Iterator[str]:
    data = memoryview(path.read_bytes())
    try:
        for entry in _messages("model", data):
            pair = dict(_strings(entry))
            if bytes(pair.get(1, b"")) == b"location":
                yield bytes(pair.get(2, b"")).decode()
    except (ValueError, RecursionError):
        raise UsageError(
            f"{path.name}: not a whole ONNX file", "it is truncated, damaged or of another format: get it again"
        ) from None


def _messages(kind: str, data: memoryview) -> Iterator[memoryview]:
    """All `entry` messages inside, depth first."""
    if kind == "entry":
        yield data
        return
    ways = _WAYS[kind]
    for number, value in _strings(data):
        if number in ways:
            yield from _messages(ways[number], value)


def _strings(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The length-delimited fields of a message. Raises ValueError where the bytes are none."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == 0:
            _, at = _varint(data, at)
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        elif wire == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError("truncated")
            yield tag >> 3, data[at : at + size]
            at += size
        else:
            raise ValueError(f"wire type {wire}")
    if at > len(data):
        raise ValueError("truncated")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("truncated")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
