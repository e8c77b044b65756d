"""Engines are kept by all that they follow from; what is stale, foreign or damaged is built anew, never run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import tensorrt_here

tensorrt_here.needed()

from rtfleet_agent.runtimes.base import file_sha256  # noqa: E402  # TensorRT may be missing
from rtfleet_agent.runtimes.onnx_bytes import identity_model  # noqa: E402
from rtfleet_agent.runtimes.trt_build import Plan, build, ranges_of  # noqa: E402
from rtfleet_agent.runtimes.trt_cache import Recipe, engine, forget  # noqa: E402

PLAN = Plan({"x": ((1, 4), (1, 8), (1, 16))}, (8, 6))
RECIPE = Recipe("ab" * 32, "TensorRT 10.3.0", "Orin", PLAN)


def never() -> bytes:
    raise AssertionError("built although it was in the cache")


def giving(content: bytes) -> Callable[[], bytes]:
    return lambda: content


def test_a_second_launch_takes_the_engine_that_the_first_one_built(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(identity_model(1, 1))
    plan = Plan(ranges_of(model.read_bytes(), {"x0": (1,)}), (8, 6))
    recipe = Recipe(file_sha256(model), "TensorRT-RTX", "RTX 3060", plan)

    first = engine(tmp_path / "cache", recipe, lambda: build(model, plan))
    content = first.read_bytes()

    assert engine(tmp_path / "cache", recipe, never) == first
    assert first.read_bytes() == content and len(content) > 10_000
    told = json.loads(first.with_suffix(".json").read_text())
    assert told["recipe"]["gpu"] == "RTX 3060" and told["recipe"]["onnx_sha256"] == file_sha256(model)
    assert sorted(path.suffix for path in first.parent.iterdir()) == [".engine", ".json"]


@pytest.mark.parametrize(
    "other",
    [
        replace(RECIPE, onnx_sha256="cd" * 32),
        replace(RECIPE, library="TensorRT 10.7.0"),
        replace(RECIPE, library="TensorRT-RTX 10.3.0"),
        replace(RECIPE, gpu="NVIDIA GeForce RTX 3060"),
        replace(RECIPE, plan=replace(PLAN, optimize=False)),
        replace(RECIPE, plan=replace(PLAN, capability=(8, 7))),
        replace(RECIPE, plan=replace(PLAN, ranges={"x": ((1, 4), (1, 9), (1, 16))})),
    ],
)
def test_whatever_changes_another_engine_is_built(tmp_path: Path, other: Recipe) -> None:
    first = engine(tmp_path, RECIPE, giving(b"first"))

    second = engine(tmp_path, other, giving(b"second"))

    assert second != first
    assert (first.read_bytes(), second.read_bytes()) == (b"first", b"second")
    assert engine(tmp_path, RECIPE, never) == first


def _foreign(path: Path) -> None:
    note = path.with_suffix(".json")
    told = json.loads(note.read_text())
    told["recipe"]["gpu"] = "another"
    note.write_text(json.dumps(told))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:3]),
    "gone": lambda path: path.unlink(),
    "no note": lambda path: path.with_suffix(".json").unlink(),
    "no JSON": lambda path: path.with_suffix(".json").write_text('{"recipe": '),
    "another JSON": lambda path: path.with_suffix(".json").write_text("[1, 2]"),
    "a foreign note": _foreign,
    "dropped": forget,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_what_is_damaged_or_foreign_is_built_anew(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    path = engine(tmp_path, RECIPE, giving(b"first"))
    damage(path)

    assert engine(tmp_path, RECIPE, giving(b"anew")) == path
    assert path.read_bytes() == b"anew"
    assert engine(tmp_path, RECIPE, never) == path


def test_engines_that_were_not_used_for_longest_make_room(tmp_path: Path) -> None:
    recipes = [replace(RECIPE, gpu=f"gpu {number}") for number in range(4)]
    paths = [engine(tmp_path, recipe, giving(bytes(100))) for recipe in recipes[:3]]
    for age_s, path in zip((300, 200, 100), paths, strict=True):
        os.utime(path, (1e9 - age_s, 1e9 - age_s))
    engine(tmp_path, recipes[0], never)  # used again

    last = engine(tmp_path, recipes[3], giving(bytes(100)), kept_bytes=250)

    assert [path.exists() for path in paths] == [True, False, False]
    assert last.exists()
    assert not paths[1].with_suffix(".json").exists()


def test_an_engine_larger_than_all_room_is_kept_for_its_own_launch(tmp_path: Path) -> None:
    assert engine(tmp_path, RECIPE, giving(bytes(100)), kept_bytes=10).exists()
