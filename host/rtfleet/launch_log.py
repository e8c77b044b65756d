"""What an agent tells of one launch, and the `Launch` that follows from it: a fold, also of half a launch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, TypeAlias, TypeVar

import numpy as np

from rtfleet.model import Array
from rtfleet.operators import Operators
from rtfleet.records import (
    Block,
    BusyProcess,
    CaseError,
    DeviceState,
    Kind,
    Launch,
    Nanoseconds,
    Phase,
    Placement,
    RuntimeFacts,
)


@dataclass(frozen=True)
class Started:
    """The worker process is up."""

    at_mono_ns: int
    at_unix_ns: int
    boot_id: str


@dataclass(frozen=True)
class Loaded:
    """The model is ready: one inference was done."""

    compile_ns: int
    load_ns: int
    first_inference_ns: int
    placement: Placement
    runtime: RuntimeFacts
    rss_before_load_bytes: int | None
    rss_after_load_bytes: int | None
    memory_reason: str


def _no_frames() -> Nanoseconds:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class Frames:
    """One block's frames: int64 nanoseconds; `lateness_ns` is empty in a burst.

    `first_token_ns` and `tokens` are of a model that gives tokens, else empty.
    """

    phase: Phase
    probe_before_ns: int
    probe_after_ns: int
    cpu: int | None
    started_mono_ns: int
    latency_ns: Nanoseconds
    lateness_ns: Nanoseconds
    marks: tuple[str, ...] = ()
    busy: tuple[BusyProcess, ...] = ()
    others_core_share: float | None = None
    first_token_ns: Nanoseconds = field(default_factory=_no_frames)
    tokens: Nanoseconds = field(default_factory=_no_frames)


@dataclass(frozen=True)
class Conditions:
    """The device's state before or after the launch, or in the midst of it, between two blocks."""

    when: Literal["before", "during", "after"]
    state: DeviceState


@dataclass(frozen=True, eq=False)
class Outputs:
    """Outputs of consecutive frames of a PARITY launch: name -> [frames, *dims]."""

    first_frame: int
    columns: Mapping[str, Array]


@dataclass(frozen=True)
class Finished:
    """The launch ran to its end."""

    peak_rss_bytes: int | None
    memory_reason: str
    overhead_ns: int | None


@dataclass(frozen=True)
class Failed:
    """The launch gave no result. `stderr` is the worker's last words."""

    kind: str
    message: str
    signal: str
    stderr: str


LaunchEvent: TypeAlias = Started | Loaded | Frames | Conditions | Outputs | Operators | Finished | Failed

# What measuring again may cure. A damaged model, an unknown operator or a NaN stays what it is.
RETRYABLE = frozenset({"KILLED", "TIMEOUT", "LEASE_LOST", "OUT_OF_MEMORY", "INTERNAL", "DEVICE"})
# Of a device, its line, lease or room: they say nothing of the model.
OF_THE_DEVICE = frozenset({"DEVICE", "LEASE", "LEASE_LOST", "NO_DISK"})

HINTS = {
    "BAD_MODEL": "check the file, and its inputs, shapes and states as described",
    "UNSUPPORTED_OP": "try another variant or runtime for this model",
    "BAD_OUTPUT": "check the model's numerics on its clips; an int8 or fp16 variant may overflow",
    "NO_ACCELERATOR": "ask for one that the device offers, or allow the fall-back in the suite",
    "OUT_OF_MEMORY": "free memory on the device, or take a smaller variant",
    "NO_DISK": "free space on the device, or give the agent a larger --store",
    "KILLED": "see the worker's last words with `rtfleet show RUN --log`",
    "TIMEOUT": "raise --timeout, or look for a hang in the runtime",
    "LEASE_LOST": "somebody released or took the device, or this host was away for too long; run again",
    "INTERNAL": "please report it with the worker's last words",
    "DEVICE": "check that the device and its agent are up, then run again",
}

E = TypeVar("E")


def _first(events: Sequence[LaunchEvent], kind: type[E]) -> E | None:
    return next((event for event in events if isinstance(event, kind)), None)


def _column(frames: Sequence[Frames], phase: Phase, name: str) -> Nanoseconds:
    columns = [getattr(block, name) for block in frames if block.phase == phase]
    return np.concatenate(columns).astype(np.int64) if columns else np.zeros(0, np.int64)


def _blocks(frames: Sequence[Frames]) -> tuple[Block, ...]:
    blocks: list[Block] = []
    first_of: dict[str, int] = {}
    for block in frames:
        first = first_of.get(block.phase, 0)
        first_of[block.phase] = first + len(block.latency_ns)
        blocks.append(
            Block(
                phase=block.phase,
                first_frame=first,
                frames=len(block.latency_ns),
                probe_before_ns=block.probe_before_ns,
                probe_after_ns=block.probe_after_ns,
                cpu=block.cpu,
                started_mono_ns=block.started_mono_ns,
                marks=block.marks,
                busy=block.busy,
                others_core_share=block.others_core_share,
            )
        )
    return tuple(blocks)


def error_of(failed: Failed) -> CaseError:
    """A failed launch in words, with what to do."""
    text = (
        f"{failed.message} ({failed.signal})"
        if failed.signal and failed.signal not in failed.message
        else failed.message
    )
    return CaseError(failed.kind, text, HINTS.get(failed.kind, ""), failed.kind in RETRYABLE)


def launch_of(
    events: Sequence[LaunchEvent], *, launch_id: str, kind: Kind, round_: int, paced: bool, feeds_sha256: str
) -> Launch:
    """The launch as far as its events tell. Without a `Finished` or `Failed` it is a launch in progress."""
    started, loaded = _first(events, Started), _first(events, Loaded)
    finished, failed = _first(events, Finished), _first(events, Failed)
    frames = [event for event in events if isinstance(event, Frames)]
    states = [event for event in events if isinstance(event, Conditions)]
    main: Phase = "PACED" if paced else "BURST"
    started_at = datetime.fromtimestamp(started.at_unix_ns / 1e9 if started else 0, UTC)
    return Launch(
        launch_id=launch_id,
        kind=kind,
        round=round_,
        started_at=started_at.isoformat(timespec="milliseconds"),
        started_mono_ns=started.at_mono_ns if started else 0,
        boot_id=started.boot_id if started else "",
        feeds_sha256=feeds_sha256,
        compile_ns=loaded.compile_ns if loaded else None,
        load_ns=loaded.load_ns if loaded else None,
        first_inference_ns=loaded.first_inference_ns if loaded else None,
        placement=loaded.placement if loaded else None,
        runtime=loaded.runtime if loaded else None,
        warmup_latency_ns=_column(frames, "WARMUP", "latency_ns"),
        latency_ns=_column(frames, main, "latency_ns"),
        lateness_ns=_column(frames, main, "lateness_ns"),
        burst_latency_ns=_column(frames, "BURST", "latency_ns") if paced else np.zeros(0, np.int64),
        first_token_ns=_column(frames, main, "first_token_ns"),
        tokens=_column(frames, main, "tokens"),
        blocks=_blocks(frames),
        overhead_ns=finished.overhead_ns if finished else None,
        rss_before_load_bytes=loaded.rss_before_load_bytes if loaded else None,
        rss_after_load_bytes=loaded.rss_after_load_bytes if loaded else None,
        peak_rss_bytes=finished.peak_rss_bytes if finished else None,
        memory_reason=(finished.memory_reason if finished else "") or (loaded.memory_reason if loaded else ""),
        device_before=next((one.state for one in states if one.when == "before"), None),
        device_during=tuple(one.state for one in states if one.when == "during"),
        device_after=next((one.state for one in states if one.when == "after"), None),
        error=error_of(failed) if failed else None,
        stderr_tail=failed.stderr if failed else "",
    )


def outputs_of(events: Sequence[LaunchEvent]) -> dict[str, Array]:
    """The outputs of a PARITY launch, joined: name -> [frames, *dims]."""
    parts = sorted((event for event in events if isinstance(event, Outputs)), key=lambda part: part.first_frame)
    names = parts[0].columns if parts else {}
    return {name: np.concatenate([part.columns[name] for part in parts]) for name in names}


def operators_of(events: Sequence[LaunchEvent]) -> Operators:
    """The operators of a PROFILE launch, or why there are none."""
    told, failed = _first(events, Operators), _first(events, Failed)
    if failed:
        return Operators(failed=error_of(failed).text)
    return told if told and told.times else Operators(failed="the runtime told no times per operator")
