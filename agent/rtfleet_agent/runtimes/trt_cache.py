"""Engines that were built, each beside a file that says what from: an engine runs only where all of that is still so.

cache/tensorrt/<key>.engine       as TensorRT wrote it
cache/tensorrt/<key>.json         its recipe, and the engine's own sha256
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rtfleet_agent.runtimes import kept
from rtfleet_agent.runtimes.base import file_sha256
from rtfleet_agent.runtimes.trt_build import Plan

FOLDER = "tensorrt"


@dataclass(frozen=True)
class Recipe:
    """All that an engine follows from.

    Attributes:
        onnx_sha256: Of the model file. Exported models are one file, weights included.
        library: TensorRT's flavour and version.
        gpu: Its name.
    """

    onnx_sha256: str
    library: str
    gpu: str
    plan: Plan

    @property
    def facts(self) -> dict[str, Any]:
        """As JSON has them, lists for tuples."""
        facts: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return facts

    @property
    def key(self) -> str:
        """Name of the engine's files."""
        return hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()[:32]


def engine(cache: Path, recipe: Recipe, build: Callable[[], bytes], kept_bytes: int = kept.KEPT_BYTES) -> Path:
    """The engine of that recipe: from the cache where it is there and whole, else built now."""
    folder = cache / FOLDER
    path, note = folder / f"{recipe.key}.engine", folder / f"{recipe.key}.json"
    if _holds(path, note, recipe):
        kept.used(path)
        return path
    serialized = build()
    folder.mkdir(parents=True, exist_ok=True)
    _write(path, serialized)
    told = {"recipe": recipe.facts, "engine_sha256": hashlib.sha256(serialized).hexdigest()}
    _write(note, json.dumps(told, indent=1, sort_keys=True).encode())
    kept.make_room(folder.glob("*.engine"), path, forget, kept_bytes)
    return path


def forget(path: Path) -> None:
    """Drop an engine that TensorRT does not load after all."""
    path.with_suffix(".json").unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _holds(path: Path, note: Path, recipe: Recipe) -> bool:
    """Whether both files are there and say the same: a power cut, or a hand, may have left anything."""
    try:
        told = json.loads(note.read_text())
        return bool(told["recipe"] == recipe.facts and told["engine_sha256"] == file_sha256(path))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_bytes(content)
    partial.replace(path)
