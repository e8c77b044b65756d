"""What was compiled on this device is kept, up to a limit; what was not used for longest goes first."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

KEPT_BYTES = 2 * 10**9
"""Of one runtime."""


def used(path: Path) -> None:
    """It is used now."""
    os.utime(path)


def make_room(
    compiled: Iterable[Path], keep: Path, forget: Callable[[Path], None], kept_bytes: int = KEPT_BYTES
) -> None:
    """Forget of these files and folders as many as lie beyond the limit, but never `keep`."""
    by_age = sorted(compiled, key=lambda path: path.stat().st_mtime)
    size_bytes = {path: _size_bytes(path) for path in by_age}
    left_bytes = sum(size_bytes.values())
    for path in by_age:
        if left_bytes > kept_bytes and path != keep:
            left_bytes -= size_bytes[path]
            forget(path)


def _size_bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
