"""Debian packages, wheels and ELF files, small and made here."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

PAGE = 0x10000


def shared_library(
    *needed: str, soname: str = "", alignment: int = PAGE, offset: int = 0, stack: int = 6, textrel: bool = False
) -> bytes:
    """An ELF file of one loaded segment, its dynamic section and a stack header, which is all that is read of one."""
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in (*needed, soname))
    at, starts = 1, []
    for name in (*needed, soname):
        starts.append(at)
        at += len(name) + 1
    headers, table = 3, 64 + 3 * 56
    entries = [(5, table)] + [(1, start) for start in starts[:-1]] + ([(14, starts[-1])] if soname else [])
    entries += [(22, 0)] * textrel + [(0, 0)]
    dynamic = b"".join(struct.pack("<qQ", *entry) for entry in entries)
    size = table + len(strings) + len(dynamic)

    def header(kind: int, flags: int, start: int, address: int, length: int, align: int) -> bytes:
        return struct.pack("<IIQQQQQQ", kind, flags, start, address, address, length, length, align)

    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 3, 183, 1, 0, 64, 0, 0, 64, 56, headers, 0, 0, 0)
    head += header(1, 5, 0, offset, size, alignment)
    head += header(2, 6, table + len(strings), offset + table + len(strings), len(dynamic), 8)
    head += header(0x6474E551, stack, 0, 0, 0, 16)
    if offset:  # where the strings are is an address
        dynamic = dynamic.replace(struct.pack("<qQ", 5, table), struct.pack("<qQ", 5, offset + table))
    return head + strings + dynamic


def deb(path: Path, files: Mapping[str, bytes], links: Mapping[str, str] | None = None, form: str = "xz") -> Path:
    """A Debian package of these files and symbolic links."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=f"w:{form}") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(f"./{name}")
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    members = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", f"data.tar.{form}": data.getvalue()}
    path.write_bytes(b"!<arch>\n" + b"".join(_ar(name, content) for name, content in members.items()))
    return path


def wheel(path: Path, files: Mapping[str, bytes]) -> Path:
    """A wheel of these files."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def _ar(name: str, content: bytes) -> bytes:
    fields: Sequence[str] = (f"{name:<16}", f"{0:<12}", f"{0:<6}", f"{0:<6}", f"{100644:<8}", f"{len(content):<10}")
    return "".join(fields).encode() + b"`\n" + content + b"\n" * (len(content) % 2)
