"""Invented facts for tests of judging: artifacts, launches and cases as short sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from rtfleet.artifact import Artifact, File, Graph
from rtfleet.fidelity import ParityResult
from rtfleet.profile import Budget
from rtfleet.records import (
    Block,
    Case,
    CaseResult,
    DeviceFacts,
    DeviceState,
    Launch,
    Options,
    Reading,
    RunSettings,
    Scenario,
)

MS = 1_000_000
P99_50_MS = Budget("wake-word", "response_p99_ms", 50, False, "generic.toml: budgets.wake-word.response_p99_ms")
THREE_LAUNCHES = RunSettings(frames=459)


def budget(metric: str, limit: float, *, floor: bool = False, task: str = "all") -> Budget:
    return Budget(task, metric, limit, floor, f"suite.toml: {metric}")


def artifact(**changes: Any) -> Artifact:
    """A wake word of an 80 ms hop whose original is itself, unless told otherwise."""
    file = File("model.onnx", "a" * 64, 2_000_000)
    facts: dict[str, Any] = {
        "id": file.sha256,
        "model": "luna",
        "task": "wake-word",
        "covers": "whole",
        "variant": "onnx-fp32",
        "sample_rate_hz": 16_000,
        "hop_samples": 1280,
        "graphs": (Graph("main", (file,), (), ()),),
        "feeds": File("feeds.npz", "b" * 64, 1),
        "reference": None,
        "exporters": {},
    }
    return Artifact(**(facts | changes))


REFERENCE = File("reference.npz", "c" * 64, 1)


def launch(latency_ms: Any, lateness_ms: Any = 0.1, *, burst: bool = False, block: int = 100, **changes: Any) -> Launch:
    """A paced launch with one record a block, or a burst. A number stands for 459 frames of it."""
    latency = np.broadcast_to(latency_ms, (459,)) if np.isscalar(latency_ms) else np.asarray(latency_ms)
    lateness = np.zeros(0) if burst else np.broadcast_to(lateness_ms, latency.shape)
    facts: dict[str, Any] = {
        "launch_id": "launch",
        "kind": "LATENCY",
        "round": 1,
        "started_at": "2026-11-24T00:00:00Z",
        "started_mono_ns": 1,
        "boot_id": "boot",
        "feeds_sha256": "b" * 64,
        "latency_ns": (latency * MS).astype(np.int64),
        "lateness_ns": (lateness * MS).astype(np.int64),
        "blocks": tuple(
            Block("BURST" if burst else "PACED", first, min(block, latency.size - first), 20_000, 20_000, 0)
            for first in range(0, latency.size, block)
        ),
        "load_ns": 5 * MS,
        "first_inference_ns": 2 * MS,
        "overhead_ns": 1_000,
        "rss_before_load_bytes": 40_000_000,
        "rss_after_load_bytes": 50_000_000,
        "peak_rss_bytes": 52_000_000,
    }
    return Launch(**(facts | changes))


def case(
    *launches: Launch,
    budgets: tuple[Budget, ...] = (P99_50_MS,),
    of: Artifact | None = None,
    scenario: Scenario = "paced",
    options: Options | None = None,
    **changes: Any,
) -> CaseResult:
    made = of or artifact()
    identity = Case(made.id, made.model, made.variant, "board", scenario, options or Options())
    in_rounds = tuple(replace(one, round=number) for number, one in enumerate(launches, start=1))
    return CaseResult(**({"case": identity, "artifact": made, "budgets": budgets, "launches": in_rounds} | changes))


def with_frames(frames: int, over: Mapping[int, float], *, usual: float = 1.0) -> np.ndarray[Any, np.dtype[np.float64]]:
    """`frames` frames of `usual`, and those of `over` (index -> ms) as told."""
    values = np.full(frames, usual)
    values[list(over)] = list(over.values())
    return values


def state(at_s: float = 0.0, **readings: float | str) -> DeviceState:
    """A device's state. A dot in a reading's name is written as two underscores."""
    named = {name.replace("__", "."): Reading(value) for name, value in readings.items()}
    return DeviceState(int(at_s * 1e9), named)


def device(**changes: Any) -> DeviceFacts:
    facts: dict[str, Any] = {
        "alias": "board",
        "identity": "serial",
        "os": "linux",
        "os_version": "6",
        "model": "a board",
        "soc": "",
        "arch": "x86_64",
        "cores": 4,
        "memory_bytes": 8 << 30,
        "boot_id": "boot",
        "agent_version": "0",
        "protocol_version": 1,
    }
    return DeviceFacts(**(facts | changes))


def parity(**changes: Any) -> ParityResult:
    facts: dict[str, Any] = {
        "against": "the original model",
        "frames": 1000,
        "max_abs_error": 1e-6,
        "snr_db": 110.0,
        "decision_agreement": 1.0,
    }
    return ParityResult(**(facts | changes))
