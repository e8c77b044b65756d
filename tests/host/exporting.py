"""`Exports` driven from plain test functions, with tiny models, short clips and a cache of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from rtfleet import feeds
from rtfleet.artifact import Artifact, PreparedModel, Tensor
from rtfleet.export import making, streaming
from rtfleet.export.job import Exports
from rtfleet.export.toolchain import Limits
from rtfleet.model import Array
from rtfleet.suite import ModelEntry

RATE_HZ = 16_000
HOP = 320


def users_folder(folder: Path) -> Path:
    """A user's folder: `tiny.py`, and two clips of 1.5 s whose loudness moves."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(__file__).with_name("tiny_models.py"), folder / "tiny.py")
    (folder / "clips").mkdir(exist_ok=True)
    at_s = np.arange(3 * RATE_HZ // 2) / RATE_HZ
    for seed, pitch_hz in ((1, 180), (2, 310)):
        noise = np.random.default_rng(seed).standard_normal(at_s.size)
        voice = np.sin(2 * np.pi * pitch_hz * at_s) + np.sin(2 * np.pi * 5 * pitch_hz * at_s) + 0.3 * noise
        loudness = 0.2 * (1.05 + np.sin(2 * np.pi * (seed + 0.5) * at_s))
        soundfile.write(folder / "clips" / f"{seed}.wav", (loudness * voice).astype(np.float32), RATE_HZ, "FLOAT")
    return folder


def entry_of(folder: Path, source: str, name: str = "m") -> ModelEntry:
    """A model of `tiny.py`, or the source as it is written where it names its file."""
    text = source if ":" in source else f"tiny.py:{source}"
    return ModelEntry(name, text, folder, clips=("clips",))


async def no_agent(runtime: str, path: Path) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """For models that are Python: they need no agent to be told about."""
    raise AssertionError(f"{runtime} was asked about {path}")


@dataclass(frozen=True)
class Bench:
    """One `Exports` with its subprocesses, and the user's folder that it exports from."""

    runner: asyncio.Runner
    exports: Exports
    folder: Path
    logs: Path

    def prepare(self, source: str, name: str = "m") -> PreparedModel:
        """Build the model, or recall it."""
        return self.runner.run(self.exports.prepare(entry_of(self.folder, source, name), no_agent))

    def prepare_zoo(self, name: str) -> PreparedModel:
        """A model of the zoo, on the shipped clips."""
        return self.runner.run(self.exports.prepare(ModelEntry(name, name, self.folder), no_agent))

    def export(self, prepared: PreparedModel, variant: str) -> Artifact:
        """Make the variant, or take it from the cache."""
        return self.runner.run(self.exports.export(prepared, variant, no_agent))

    def export_ready(self, prepared: PreparedModel, variant: str) -> Artifact:
        """The files as they came, all of one tensor `x` -> `y`."""

        async def told(runtime: str, path: Path) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
            return (Tensor("x", "float32", (1, HOP)),), (Tensor("y", "float32", (1, HOP)),)

        return self.runner.run(self.exports.export(prepared, variant, told))

    def export_together(self, prepared: PreparedModel, variants: tuple[str, ...]) -> dict[str, Artifact]:
        """Make several variants, those of different converters at the same time."""

        async def made() -> list[Artifact]:
            return await asyncio.gather(*(self.exports.export(prepared, variant, no_agent) for variant in variants))

        return dict(zip(variants, self.runner.run(made()), strict=True))

    @property
    def started_something(self) -> bool:
        """Whether any subprocess was ever started: each begins with its log."""
        return self.logs.exists()


@contextlib.contextmanager
def bench(folder: Path, cache: Path, logs: Path, limits: Limits | None = None) -> Iterator[Bench]:
    """A bench over what lies in `folder`; no subprocess is left when it ends."""
    with asyncio.Runner() as runner:
        exports = Exports(cache, logs, limits)
        try:
            yield Bench(runner, exports, folder, logs)
        finally:
            runner.run(exports.__aexit__(None, None, None))


def outputs_of(prepared: PreparedModel, artifact: Artifact) -> dict[str, Array]:
    """What the file gives over all streams, frame by frame, its states carried."""
    location = artifact.graphs[0].files[0].location
    assert location is not None
    return streaming.reference(making.open_file(location)[0], streaming.streams_of(prepared), [*prepared.outputs])


def reference_of(prepared: PreparedModel) -> dict[str, Array]:
    """What the original gave over all streams."""
    assert prepared.reference is not None and prepared.reference.location is not None
    return feeds.load(prepared.reference.location)
