"""What the bundle's checks need of an ELF file: what it loads, what it is called, and how its segments lie.

Only 64-bit little-endian files, which both architectures are.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

MAGIC = b"\x7fELF"
_LOAD, _DYNAMIC, _GNU_STACK = 1, 2, 0x6474E551
_EXECUTABLE, _WRITABLE = 1, 2
_DT_NEEDED, _DT_STRTAB, _DT_SONAME, _DT_TEXTREL, _DT_FLAGS = 1, 5, 14, 22, 30
_DF_TEXTREL = 4
_NAMES = (_DT_NEEDED, _DT_SONAME)


@dataclass(frozen=True)
class Segment:
    """A program header."""

    kind: int
    flags: int
    offset: int
    address: int
    file_bytes: int
    alignment: int


@dataclass(frozen=True)
class Elf:
    """A shared library, extension module or program.

    Attributes:
        needed: Sonames that its loader must find.
        soname: What others need it by; "" where it says nothing.
        text_relocations: Its code must be writable while it is loaded, which Android refuses.
    """

    segments: tuple[Segment, ...]
    needed: tuple[str, ...]
    soname: str
    text_relocations: bool


def is_elf(data: bytes) -> bool:
    """Whether the first bytes of a file are those of an ELF file."""
    return data.startswith(MAGIC)


def read(data: bytes) -> Elf:
    """The facts of an ELF file.

    Raises:
        ValueError: not a whole 64-bit little-endian ELF file.
    """
    try:
        if not is_elf(data) or data[4:6] != b"\x02\x01":
            raise ValueError("not a 64-bit little-endian ELF file")
        segments = tuple(_segments(data))
        entries = list(_dynamic(data, segments))
        strings = next((_offset(segments, value) for tag, value in entries if tag == _DT_STRTAB), 0)
        names = {tag: [_string(data, strings + at) for key, at in entries if key == tag] for tag in _NAMES}
    except struct.error as error:
        raise ValueError("the ELF file is cut off") from error
    return Elf(
        segments,
        needed=tuple(names[_DT_NEEDED]),
        soname=next(iter(names[_DT_SONAME]), ""),
        text_relocations=any(
            tag == _DT_TEXTREL or (tag == _DT_FLAGS and value & _DF_TEXTREL) for tag, value in entries
        ),
    )


def faults(elf: Elf, page_bytes: int) -> Iterator[str]:
    """Why a kernel with pages of that size, or Android, would not load the file."""
    for segment in elf.segments:
        if segment.kind == _GNU_STACK and segment.flags & _EXECUTABLE:
            yield "it asks for an executable stack"
        if segment.kind != _LOAD:
            continue
        if segment.alignment < page_bytes:
            yield f"a segment is aligned to {segment.alignment} bytes, less than a page of {page_bytes}"
        elif segment.offset % page_bytes != segment.address % page_bytes:
            yield f"a segment's place in the file and in memory differ within a page of {page_bytes} bytes"
        if segment.flags & _EXECUTABLE and segment.flags & _WRITABLE:
            yield "a segment is writable and executable"
    if elf.text_relocations:
        yield "its code has to be changed while it is loaded (TEXTREL)"


def _segments(data: bytes) -> Iterator[Segment]:
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    for index in range(count):
        kind, flags, offset, address, _, file_bytes, _, alignment = struct.unpack_from(
            "<IIQQQQQQ", data, table + index * size
        )
        yield Segment(kind, flags, offset, address, file_bytes, alignment)


def _dynamic(data: bytes, segments: tuple[Segment, ...]) -> Iterator[tuple[int, int]]:
    for segment in segments:
        if segment.kind == _DYNAMIC:
            for at in range(segment.offset, segment.offset + segment.file_bytes, 16):
                tag, value = struct.unpack_from("<qQ", data, at)
                if tag == 0:
                    return
                yield tag, value


def _offset(segments: tuple[Segment, ...], address: int) -> int:
    """Where in the file lies what is loaded at `address`."""
    for segment in segments:
        if segment.kind == _LOAD and segment.address <= address < segment.address + segment.file_bytes:
            return segment.offset + address - segment.address
    raise ValueError(f"nothing of the ELF file is loaded at {address:#x}")


def _string(data: bytes, start: int) -> str:
    return data[start : data.index(b"\0", start)].decode("ascii", "replace")
