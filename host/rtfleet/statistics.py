"""What is shown of a case: percentiles and ratios of the raw frames of its good launches. Nanoseconds throughout."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rtfleet import clip_times
from rtfleet.judged import Percentiles, Summary
from rtfleet.records import CaseResult, Launch, Nanoseconds

# Frames of a stall that ends and goes on within this many frames are one event.
BRIDGED_GAP_FRAMES = 10

# The two clocks of a device that is awake are read microseconds apart; a suspend takes longer than this.
SUSPENDED_NS = 10_000_000

# Where a launch has no record of its blocks, its frames are cut into these.
USUAL_BLOCK_FRAMES = 100


def percentiles(values_ns: npt.NDArray[Any]) -> Percentiles:
    """Percentiles by linear interpolation between order statistics (Hyndman and Fan 1996, type 7); values in ns."""
    p50, p90, p95, p99, highest = (float(value) for value in np.percentile(values_ns, (50, 90, 95, 99, 100)))
    return Percentiles(p50, p90, p95, p99, highest)


def good_launches(result: CaseResult) -> tuple[Launch, ...]:
    """Latency launches that ended well and have frames: the only ones that numbers are made of."""
    return tuple(launch for launch in result.launches if launch.kind == "LATENCY" and not why_void(launch))


def why_void(launch: Launch) -> str:
    """Why a launch counts as none; "" for a good one."""
    if launch.error is not None:
        return f"{launch.error.kind}: {launch.error.text}"
    if any("suspend" in mark for block in launch.blocks for mark in block.marks):
        return "the device was suspended while it ran"
    if _suspended_ns(launch) > SUSPENDED_NS:
        return f"the device was suspended for {_suspended_ns(launch) / 1e9:.1f} s while it ran"
    return "" if launch.latency_ns.size else "no frame was measured"


def _suspended_ns(launch: Launch) -> float:
    """How far CLOCK_BOOTTIME, which counts suspend, ran away from CLOCK_MONOTONIC, which does not."""
    ends = [
        state.readings["boottime_minus_monotonic_ns"].value
        for state in (launch.device_before, launch.device_after)
        if state is not None and "boottime_minus_monotonic_ns" in state.readings
    ]
    numbers = [float(end) for end in ends if isinstance(end, (int, float))]
    return numbers[1] - numbers[0] if len(numbers) == 2 else 0.0


def hop_ns(result: CaseResult) -> int | None:
    """Audio that one frame consumes, in ns; None where the model does not stream."""
    return None if result.artifact is None else result.artifact.hop_ns


def pooled(columns: Iterable[Nanoseconds]) -> Nanoseconds:
    """All frames of several launches in one int64 column."""
    return np.concatenate([np.zeros(0, np.int64), *columns])


def summarize(result: CaseResult) -> Summary | None:
    """The good launches' frames pooled, and the worst launch where a launch has one figure; None without a launch."""
    launches = good_launches(result)
    if not launches:
        return None
    utterances = result.artifact.utterances if result.artifact else ()
    clips = clip_times.times(launches, utterances)
    hop, paced = hop_ns(result), result.case.scenario == "paced"
    slowest = max(clips, key=lambda one: one.end_of_speech_ns, default=None)
    shown = launches
    if slowest is not None:
        shown = tuple(clip_times.of_clip(launch, slowest.index, len(utterances)) for launch in launches)
    latency_ns = pooled(launch.latency_ns for launch in shown)
    response_ns = pooled(launch.response_ns for launch in shown)
    latency = percentiles(latency_ns)
    memory = [
        launch.peak_rss_bytes - launch.rss_before_load_bytes
        for launch in launches
        if launch.peak_rss_bytes is not None and launch.rss_before_load_bytes is not None
    ]
    overhead = [launch.overhead_ns for launch in launches if launch.overhead_ns is not None]
    return Summary(
        launches=len(launches),
        frames=sum(launch.latency_ns.size for launch in launches),
        latency=latency,
        response=percentiles(response_ns),
        rtf_p50=latency.p50_ns / hop if hop else slowest.rtf if slowest else None,
        rtf_p99=latency.p99_ns / hop if hop else None,
        deadline_misses=int(np.count_nonzero(response_ns > hop)) if hop and paced else None,
        duty_cycle=float(latency_ns.mean()) / hop if hop and paced else None,
        pacing_penalty=_pacing_penalty(launches) if paced else None,
        load_ns=worst(launch.load_ns for launch in launches),
        first_inference_ns=worst(launch.first_inference_ns for launch in launches),
        peak_memory_bytes=worst(memory),
        overhead_ns=int(np.median(overhead)) if overhead else None,
        clips=clips,
    )


def _pacing_penalty(launches: Sequence[Launch]) -> float | None:
    """Paced p50 / burst p50 of the launches that had both phases: the same processes, so nothing else differs."""
    both = [launch for launch in launches if launch.burst_latency_ns.size]
    if not both:
        return None
    burst_p50 = float(np.median(pooled(launch.burst_latency_ns for launch in both)))
    return float(np.median(pooled(launch.latency_ns for launch in both))) / burst_p50 if burst_p50 > 0 else None


def worst(values: Iterable[int | None]) -> int | None:
    """The largest of the values that are known."""
    return max((value for value in values if value is not None), default=None)


def runs(marked: npt.NDArray[np.bool_], bridge: int = BRIDGED_GAP_FRAMES) -> npt.NDArray[np.int64]:
    """Runs of marked frames as rows [first, past the last]; gaps of fewer than `bridge` frames belong to the run."""
    at = np.flatnonzero(marked)
    if not at.size:
        return np.zeros((0, 2), np.int64)
    breaks = np.flatnonzero(np.diff(at) > bridge)
    return np.stack((at[np.concatenate(([0], breaks + 1))], at[np.concatenate((breaks, [-1]))] + 1), axis=1)


def block_edges(launch: Launch) -> npt.NDArray[np.int64]:
    """The scenario's own blocks of a launch as rows [first frame, past the last], in the order measured."""
    frames = launch.latency_ns.size
    phase = "PACED" if launch.lateness_ns.size else "BURST"
    edges = [
        (block.first_frame, min(block.first_frame + block.frames, frames))
        for block in launch.blocks
        if block.phase == phase and block.first_frame < frames
    ]
    if not edges:
        edges = [(first, min(first + USUAL_BLOCK_FRAMES, frames)) for first in range(0, frames, USUAL_BLOCK_FRAMES)]
    return np.array(edges, np.int64).reshape(-1, 2)


def block_shares(launch: Launch, marked: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Fraction of marked frames in each block.

    A rest of less than half a block would weigh as much as a whole one in a test whose unit is the block: it is
    left out, whatever it holds.
    """
    edges = block_edges(launch)
    lengths = edges[:, 1] - edges[:, 0]
    edges = edges[2 * lengths >= np.median(lengths)] if edges.size else edges
    count = np.concatenate(([0], np.cumsum(marked)))
    shares: npt.NDArray[np.float64] = (count[edges[:, 1]] - count[edges[:, 0]]) / np.maximum(
        edges[:, 1] - edges[:, 0], 1
    )
    return shares


def undelayed_response_ns(launch: Launch, hop: int | None) -> Nanoseconds:
    """The responses that the model's latencies alone cause, on a scheduler that is never late.

    A frame waits only for the frames before it: w[i+1] = max(0, w[i] + latency[i] - hop), from 0 at each block's
    start, since a block stays open until its backlog is worked off (Lindley 1952). Equal to the latency in a burst.
    """
    if not launch.lateness_ns.size or not hop:
        return launch.latency_ns
    response = launch.latency_ns.copy()
    for first, end in block_edges(launch):
        grown = np.concatenate(([0], np.cumsum(launch.latency_ns[first : end - 1] - hop)))
        response[first:end] += grown - np.minimum.accumulate(grown)
    return response


@dataclass(frozen=True)
class Event:
    """Frames in a row that something happened to: a stall of the machine is one event, however many frames it hit.

    Attributes:
        at_s: Seconds since the launch's first frame of the scenario.
        length_ms: The longest response in it: how long the stall was, seen from the frame that it hit first.
    """

    at_s: float
    length_ms: float
    frames: int


def events(launch: Launch, marked: npt.NDArray[np.bool_], hop: int | None) -> list[Event]:
    """The events of a launch, in order."""
    response_ns = launch.response_ns
    return [
        Event(_at_s(launch, int(first), hop), float(response_ns[first:end].max()) / 1e6, int(marked[first:end].sum()))
        for first, end in runs(marked)
    ]


def _at_s(launch: Launch, frame: int, hop: int | None) -> float:
    """When a frame was handed in: by its block's clock where known, plus the frames before it."""
    phase = "PACED" if launch.lateness_ns.size else "BURST"
    own = [block for block in launch.blocks if block.phase == phase and block.started_mono_ns > 0]
    block = next((one for one in reversed(own) if one.first_frame <= frame), None)
    first = block.first_frame if block else 0
    gone_ns = float(launch.latency_ns[first:frame].sum()) if phase == "BURST" or not hop else (frame - first) * hop
    start_ns = block.started_mono_ns - own[0].started_mono_ns if block else 0
    return (start_ns + gone_ns) / 1e9
