"""The timed loop: one loop for every runtime and every pace, and the only reader of the clock.

The timed region is: copy one frame into `bound.inputs`, then `bound.step()`. Everything else (memory views of each
frame, arrays for the times) is made before the first frame of a block. The clock is CLOCK_MONOTONIC, in integer
nanoseconds.
"""

from __future__ import annotations

import gc
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import TypeAlias, TypeVar

import numpy as np

from rtfleet_agent.launch import Block, Pace, Phase
from rtfleet_agent.probe import probe_ns
from rtfleet_agent.process import current_cpu
from rtfleet_agent.runtimes.base import Array, flat_bytes

T = TypeVar("T")

# One frame: (where it goes, what goes there) per input, as flat bytes: assigning one memoryview to another is the
# cheapest copy that Python has (55 ns for a small input, numpy's `copyto` 250 ns).
Frame: TypeAlias = tuple[tuple[memoryview, memoryview], ...]

LEAST_BLOCKS = 5
# A block that a backlog keeps open is closed at this many times its frames: then the model can't keep up at all.
BACKLOG_BLOCKS = 4
# The burst phase that ends a paced launch: its p50 settles well before, and it must not heat the device.
CLOSING_FRAMES = 1000
CLOSING_NS = 1_000_000_000
OVERHEAD_FRAMES = 1000

_NEVER = 2**63 - 1


def now_ns() -> int:
    """CLOCK_MONOTONIC."""
    return time.monotonic_ns()


def wall_ns() -> int:
    """Nanoseconds since 1970, for people; it can step, so nothing is computed from it."""
    return time.time_ns()


def timed(action: Callable[[], T]) -> tuple[T, int]:
    """What `action` returns, and the nanoseconds that it took."""
    start = time.monotonic_ns()
    result = action()
    return result, time.monotonic_ns() - start


def frames_of(targets: Mapping[str, Array], columns: Mapping[str, Array]) -> list[Frame]:
    """One `Frame` per row of `columns`, which hold [frames, *dims] per input and agree with `targets` in dtype and
    dims. Without columns there is one frame that copies nothing."""
    views = [(flat_bytes(targets[name]), values) for name, values in columns.items()]
    count = min((len(values) for values in columns.values()), default=1)
    return [tuple((target, flat_bytes(values[index])) for target, values in views) for index in range(count)]


@contextmanager
def quiet_collector() -> Iterator[None]:
    """No garbage collection, and nothing for a later one to walk through: one collection has cost 57 ms."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def measure(
    frames: Sequence[Frame], step: Callable[[], None], pace: Pace, finish: Callable[[], bool], *, closing: bool = True
) -> Iterator[Block]:
    """Warm-up, measured blocks and, when paced, a closing burst.

    Whatever the caller does between two blocks happens while no frame is due: the next block starts on the next
    point of the one grid. `finish` is asked after each block; once true, the paced or burst phase is over. The
    closing burst still runs (at most 1 s), or a launch that ended early would have no pacing penalty. Without `closing`
    there is none: what is profiled is the case's own pace.
    """
    source = cycle(frames)
    grid_ns = now_ns()
    phase: Phase = "PACED" if pace.hop_ns else "BURST"

    warmup_end_ns = grid_ns + pace.warmup_ns
    missing = pace.warmup_frames
    while missing > 0 or now_ns() < warmup_end_ns:
        wanted = min(pace.block_frames, missing) if missing > 0 else pace.block_frames
        block = _block(source, step, "WARMUP", pace.hop_ns, wanted, grid_ns, _NEVER if missing > 0 else warmup_end_ns)
        missing -= len(block.latency_ns)
        yield block
        if finish():
            return

    started_ns = now_ns()
    last_end_ns = started_ns + pace.max_duration_ns if pace.max_duration_ns else _NEVER
    measured = blocks = 0
    while True:
        room = pace.max_frames - measured if pace.max_frames else _NEVER
        block = _block(source, step, phase, pace.hop_ns, min(pace.block_frames, room), grid_ns, last_end_ns, room)
        measured += len(block.latency_ns)
        blocks += 1
        yield block
        now = now_ns()
        if measured >= (pace.max_frames or _NEVER) or now >= last_end_ns or finish():
            break
        if blocks >= LEAST_BLOCKS and measured >= pace.min_frames and now - started_ns >= pace.min_duration_ns:
            break

    if pace.hop_ns and closing:
        yield from _closing_burst(source, step, pace.block_frames)


def burst_p50_ns(frames: Sequence[Frame], step: Callable[[], None]) -> int:
    """Median of `OVERHEAD_FRAMES` frames back to back, after as many that warm up."""
    source = cycle(frames)
    with quiet_collector():
        for _ in range(2):
            block = _block(source, step, "BURST", 0, OVERHEAD_FRAMES, 0, now_ns() + CLOSING_NS)
    return int(np.median(block.latency_ns))


def _closing_burst(source: Iterator[Frame], step: Callable[[], None], block_frames: int) -> Iterator[Block]:
    end_ns = now_ns() + CLOSING_NS
    done = 0
    while done < CLOSING_FRAMES and now_ns() < end_ns:
        block = _block(source, step, "BURST", 0, block_frames, 0, end_ns)
        done += len(block.latency_ns)
        yield block


def _block(
    source: Iterator[Frame],
    step: Callable[[], None],
    phase: Phase,
    hop_ns: int,
    frames: int,
    grid_ns: int,
    last_end_ns: int = _NEVER,
    room: int = _NEVER,
) -> Block:
    """Frames between two readings of the speed probe.

    Args:
        grid_ns: A point of the grid on which frames are due, `hop_ns` apart; unused in a burst.
        last_end_ns: No frame starts after this.
        room: A backlog keeps the block open for at most this many frames, and `BACKLOG_BLOCKS` times `frames`.
    """
    limit = min(room, frames * BACKLOG_BLOCKS) if hop_ns else frames
    latency, lateness = array("q", bytes(8 * limit)), array("q", bytes(8 * limit))
    clock, sleep = time.monotonic_ns, time.sleep
    probe_before_ns = probe_ns()
    due = first_due = _next_due(grid_ns, hop_ns)
    count = 0
    while True:
        copies = next(source)
        if hop_ns:
            # Absolute deadline: what one frame is late never moves the next one's.
            while (left := due - clock()) > 0:
                sleep(left * 1e-9)
        start = clock()
        for target, values in copies:
            target[:] = values
        step()
        end = clock()
        latency[count] = end - start
        lateness[count] = start - due
        due += hop_ns
        count += 1
        if count >= limit or end >= last_end_ns or (count >= frames and (not hop_ns or end < due)):
            break
    cpu = current_cpu()
    return Block(
        phase=phase,
        probe_before_ns=probe_before_ns,
        probe_after_ns=probe_ns(),
        cpu=cpu,
        started_mono_ns=first_due,
        latency_ns=np.array(latency[:count], dtype=np.int64),
        lateness_ns=np.array(lateness[:count] if hop_ns else (), dtype=np.int64),
    )


def _next_due(grid_ns: int, hop_ns: int) -> int:
    """The first point of the grid that lies ahead; in a burst, now."""
    now = now_ns()
    return now if not hop_ns else grid_ns + -(-(now - grid_ns) // hop_ns) * hop_ns
