"""Two files of the same content share what was made of them, and nothing else."""

from __future__ import annotations

import asyncio
from pathlib import Path

from rtfleet.artifact import Tensor
from rtfleet.export.job import Exports
from rtfleet.suite import ModelEntry


async def _inspect(runtime: str, path: Path) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """A runtime that tells of one input whose batch is open."""
    return (Tensor("audio", "float32", (-1, 320)),), (Tensor("score", "float32", (1,)),)


def test_each_is_named_in_its_own_guesses(tmp_path: Path) -> None:
    entries = [
        ModelEntry(name, f"{name}.fake.json", tmp_path, task="vad", hop_ms=20, where=name) for name in ("luna", "nova")
    ]
    for entry in entries:
        (tmp_path / entry.source).write_text("{}")

    async def guesses() -> list[tuple[str, ...]]:
        async with Exports(tmp_path / "cache", tmp_path) as exports:
            return [(await exports.prepare(entry, _inspect)).guesses for entry in (*entries, *entries)]

    told = asyncio.run(guesses())

    assert len(list((tmp_path / "cache" / "prepared").iterdir())) == 1
    assert told[:2] == told[2:], "a second run tells the same"
    for entry, said in zip(entries, told[:2], strict=True):
        assert any("the unknown batch of input 'audio' is 1" in guess for guess in said)
        assert all(guess.startswith(f"{entry.source}: ") for guess in said)
