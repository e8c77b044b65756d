"""Debian packages, read without dpkg: a `.deb` is an `ar` archive whose member `data.tar.*` holds the files."""

from __future__ import annotations

import io
import lzma
import posixpath
import tarfile
from collections.abc import Iterator
from pathlib import Path

_MAGIC = b"!<arch>\n"
_HEADER_BYTES = 60


def contents(deb: Path) -> dict[str, bytes]:
    """Path without a leading `/` -> bytes, of all files. A link stands for the file of this package that it leads to;
    one that leads elsewhere is left out.

    Raises:
        ValueError: not a whole Debian package.
    """
    try:
        data = next(body for name, body in _members(deb.read_bytes()) if name.startswith("data.tar"))
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            return _files(archive)
    except (StopIteration, tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise ValueError(f"{deb.name} is not a whole Debian package ({error or 'no data.tar in it'})") from error


def _members(data: bytes) -> Iterator[tuple[str, bytes]]:
    at = len(_MAGIC) if data.startswith(_MAGIC) else len(data)
    while at + _HEADER_BYTES <= len(data):
        name = data[at : at + 16].decode("ascii", "replace").rstrip().rstrip("/")
        size_bytes = int(data[at + 48 : at + 58])
        at += _HEADER_BYTES
        yield name, data[at : at + size_bytes]
        at += size_bytes + size_bytes % 2


def _files(archive: tarfile.TarFile) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    links: dict[str, str] = {}
    for member in archive:
        path = posixpath.normpath(member.name).lstrip("/")
        if member.isfile():
            stream = archive.extractfile(member)
            assert stream is not None
            found[path] = stream.read()
        elif member.issym():
            links[path] = posixpath.normpath(posixpath.join(posixpath.dirname(path), member.linkname)).lstrip("/")
        elif member.islnk():
            links[path] = posixpath.normpath(member.linkname).lstrip("/")
    for path, target in links.items():
        while target in links:
            target = links[target]
        if target in found:
            found[path] = found[target]
    return found
