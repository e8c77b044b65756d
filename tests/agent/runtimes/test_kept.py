"""What was compiled is kept up to a limit, files and folders alike."""

from __future__ import annotations

import os
from pathlib import Path

from rtfleet_agent.runtimes import kept


def compiled(folder: Path, name: str, used_s: int) -> Path:
    """A compiled model of 1000 bytes, a folder as Core ML's are, last used at that time."""
    model = folder / f"{name}.mlmodelc"
    (model / "weights").mkdir(parents=True)
    (model / "weights" / "weight.bin").write_bytes(bytes(900))
    (model / "model.mil").write_bytes(bytes(100))
    os.utime(model, (used_s, used_s))
    return model


def test_what_was_not_used_for_longest_goes_first_and_never_what_is_needed_now(tmp_path: Path) -> None:
    a, b, c = (compiled(tmp_path, name, used_s) for name, used_s in (("a", 100), ("b", 200), ("c", 300)))
    kept.used(a)
    gone: list[Path] = []

    kept.make_room([a, b, c], keep=b, forget=gone.append, kept_bytes=2000)
    assert gone == [c]
    kept.make_room([a, b, c], keep=b, forget=gone.append, kept_bytes=10)
    assert gone == [c, c, a]
    kept.make_room([a, b, c], keep=b, forget=gone.append, kept_bytes=3000)
    assert gone == [c, c, a]
