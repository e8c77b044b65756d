"""Paced against burst for the same models, beside MLPerf's Server scenario at the same rate.

    python benchmarks/paced.py [--hop-ms 10] [--frames 300] [--rounds 5] > paced.md

A stream calls its model once a hop; in between its caches, its branch predictors and the core itself go elsewhere. In
each round the same process runs a paced block, a burst and the load generator, in turned order; every figure is the
median over rounds of what was seen in one round.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from conditions import conditions
from loadgen import server
from loop import ROWS, bound_model, inference
from models import SIZES, Size

from rtfleet_agent.launch import Pace
from rtfleet_agent.measure import frames_of, measure, quiet_collector
from rtfleet_agent.process import pin

PAIRS = 3


@dataclass(frozen=True)
class Row:
    """p50 in nanoseconds, medians over rounds; `beside_server` is paced p50 / the Server scenario's inner p50."""

    size: Size
    burst_ns: float
    paced_ns: float
    penalty: float
    server_inner_ns: float
    beside_server: float


def main() -> None:
    """Measure every model and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hop-ms", type=float, default=10)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    pin((min(os.sched_getaffinity(0)),))
    how = f"a frame every {asked.hop_ms:g} ms, {asked.rounds} rounds of {asked.frames} frames, {PAIRS} I/O pairs"
    print(conditions("paced: what a tight loop hides", how))
    print(
        "| model | burst p50 µs | paced p50 µs | paced / burst | LoadGen Server inner p50 µs | paced / Server inner |\n"
        "|---|---|---|---|---|---|"
    )
    for size in SIZES:
        row = _measured(size, round(asked.hop_ms * 1e6), asked.frames, asked.rounds)
        print(
            f"| {size.about} | {row.burst_ns / 1e3:.1f} | {row.paced_ns / 1e3:.1f} | {row.penalty:.2f} "
            f"| {row.server_inner_ns / 1e3:.1f} | {row.beside_server:.2f} |",
            flush=True,
        )


def _measured(size: Size, hop_ns: int, count: int, rounds: int) -> Row:
    rows = np.random.default_rng(0).normal(size=(ROWS, 1, size.width)).astype(np.float32)
    seen = []
    with tempfile.TemporaryDirectory() as name, quiet_collector():
        bound, _ = bound_model(size, PAIRS, Path(name))
        frames, infer = frames_of(bound.inputs, {"x": rows}), inference(bound, rows)
        for turn in range(rounds):
            found = {}
            for what in ("ours", "server") if turn % 2 else ("server", "ours"):
                if what == "server":
                    found["server"] = server(infer, ROWS, count, 1e9 / hop_ns, Path(name)).inner_ns
                    continue
                pace = Pace(hop_ns=hop_ns, warmup_frames=20, warmup_ns=0, max_frames=count, block_frames=100)
                blocks = list(measure(frames, bound.step, pace, lambda: False))
                for phase in ("PACED", "BURST"):
                    found[phase] = np.median(np.concatenate([one.latency_ns for one in blocks if one.phase == phase]))
            seen.append((found["BURST"], found["PACED"], found["server"]))
    burst, paced, inner = np.array(seen).T
    return Row(
        size,
        burst_ns=float(np.median(burst)),
        paced_ns=float(np.median(paced)),
        penalty=float(np.median(paced / burst)),
        server_inner_ns=float(np.median(inner)),
        beside_server=float(np.median(paced / inner)),
    )


if __name__ == "__main__":
    sys.exit(main())
