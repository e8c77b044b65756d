"""What rtfleet's loop costs above a C loop on the same runtime, beside MLPerf's load generator.

    python benchmarks/loop.py [--rounds N] > loop.md

One process, one thread, one core; blocks of the variants take turns, and every figure is the median over rounds of
what was seen in one round, so that a machine that changes its speed changes all of them together.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from conditions import conditions
from loadgen import single_stream
from models import PAIRS, SIZES, Size, build
from native import NativeLoop

from rtfleet_agent.launch import Pace
from rtfleet_agent.measure import frames_of, measure, quiet_collector
from rtfleet_agent.process import pin
from rtfleet_agent.runtimes import ort
from rtfleet_agent.runtimes.base import Bound, Graph, Options, State, flat_bytes

ROWS = 64
BLOCK_NS = 8_000_000  # a block is about this long, at least 50 frames
LOADGEN_EVERY = 10  # rounds; one of its runs takes as long as several blocks


@dataclass(frozen=True)
class Row:
    """Medians over rounds, in nanoseconds."""

    size: Size
    pairs: int
    native_ns: float
    ours_ns: float
    above_ns: float
    ratio: float
    best_above_ns: float
    loadgen_inner_ns: float
    loadgen_reported_ns: float
    ours_beside_loadgen: float
    ours_beside_loadgen_p90: float


def main() -> None:
    """Measure every model and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    pin((min(os.sched_getaffinity(0)),))
    print(conditions("loop: rtfleet's burst p50 above a C loop", f"{rounds} rounds, blocks of >= 50 frames"))
    print(
        "| model | I/O pairs | C p50 µs | rtfleet p50 µs | above C µs (best block) | aim µs | ratio "
        "| LoadGen inner / reported p50 µs | rtfleet / LoadGen inner, p50 | p90 |\n" + "|---" * 10 + "|"
    )
    for size in SIZES:
        for pairs in PAIRS:
            print(_cells(_measured(size, pairs, rounds)), flush=True)


def bound_model(size: Size, pairs: int, folder: Path) -> tuple[Bound, Path]:
    """The model on disk and bound as a worker does it, with one inference done."""
    path = build(size, pairs, folder / f"{size.width}-{pairs}.onnx")
    states = tuple(State(f"h{pair}", f"g{pair}") for pair in range(1, pairs))
    graph = Graph("stack", path, states=states)
    bound = ort.load(path, graph, Options()).bind({}, states)
    bound.step()
    bound.reset()
    return bound, path


def _measured(size: Size, pairs: int, rounds: int) -> Row:
    rows = np.random.default_rng(0).normal(size=(ROWS, 1, size.width)).astype(np.float32)
    with tempfile.TemporaryDirectory() as name, quiet_collector():
        folder = Path(name)
        bound, path = bound_model(size, pairs, folder)
        native = NativeLoop(folder, path, pairs, size.width)
        frames = frames_of(bound.inputs, {"x": rows})
        native.block(rows, ROWS)
        _ours(frames, bound.step, ROWS)
        same = np.abs(native.score() - bound.outputs["y"]).max()
        if same > 1e-5:
            raise SystemExit(f"the two loops disagree by {same}: they do not run the same thing")

        count = max(50, int(BLOCK_NS / np.median(native.block(rows, 50))))
        infer = inference(bound, rows)
        seen, beside = [], []
        for turn in range(rounds):
            if turn % 2:
                ours, c = _ours(frames, bound.step, count), np.median(native.block(rows, count))
            else:
                c, ours = np.median(native.block(rows, count)), _ours(frames, bound.step, count)
            seen.append((c, ours))
            if turn % LOADGEN_EVERY == 0:
                run = single_stream(infer, ROWS, count, folder)
                p50_ns, p90_ns = np.percentile(_block(frames, bound.step, count), (50, 90))
                beside.append((run.inner_ns, run.reported_ns, p50_ns / run.inner_ns, p90_ns / run.inner_p90_ns))
    c_ns, ours_ns = np.array(seen).T
    inner, reported, ratio, ratio_p90 = np.median(np.array(beside), axis=0)
    return Row(
        size,
        pairs,
        native_ns=float(np.median(c_ns)),
        ours_ns=float(np.median(ours_ns)),
        above_ns=float(np.median(ours_ns - c_ns)),
        ratio=float(np.median(ours_ns / c_ns)),
        best_above_ns=float(ours_ns.min() - c_ns.min()),
        loadgen_inner_ns=inner,
        loadgen_reported_ns=reported,
        ours_beside_loadgen=ratio,
        ours_beside_loadgen_p90=ratio_p90,
    )


def _ours(frames: list, step: Callable[[], None], count: int) -> float:
    """p50 of one block of the worker's own loop."""
    return float(np.median(_block(frames, step, count)))


def _block(frames: list, step: Callable[[], None], count: int) -> np.ndarray:
    pace = Pace(warmup_frames=0, warmup_ns=0, max_frames=count, block_frames=count)
    (block,) = measure(frames, step, pace, lambda: False)
    return block.latency_ns


def inference(bound: Bound, rows: np.ndarray) -> Callable[[int], None]:
    """The same inference on the same buffers, for the load generator's timer."""
    target, step = flat_bytes(bound.inputs["x"]), bound.step
    sources = [flat_bytes(row) for row in rows]

    def infer(index: int) -> None:
        target[:] = sources[index]
        step()

    return infer


def _cells(row: Row) -> str:
    def us(value_ns: float) -> str:
        return f"{value_ns / 1000:.2f}" if value_ns < 100_000 else f"{value_ns / 1000:.0f}"

    aim_us = 3 + row.pairs
    return (
        f"| {row.size.about} | {row.pairs} | {us(row.native_ns)} | {us(row.ours_ns)} "
        f"| {us(row.above_ns)} ({us(row.best_above_ns)}) | {aim_us} | {row.ratio:.3f} "
        f"| {us(row.loadgen_inner_ns)} / {us(row.loadgen_reported_ns)} "
        f"| {row.ours_beside_loadgen:.2f} | {row.ours_beside_loadgen_p90:.2f} |"
    )


if __name__ == "__main__":
    sys.exit(main())
