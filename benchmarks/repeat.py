"""Do verdicts repeat, and does --against find what is there? Real runs of `rtfleet run`, one after the other.

    python benchmarks/repeat.py verdicts [--runs 20] [--busy] > repeat.md
    python benchmarks/repeat.py against [--runs 7] > against.md

verdicts: one model under two limits, four times its p99 and 0.4 times, measured again and again; with --busy a loop is
switched on and off on the last core all the while. against: three models with themselves, and with forms of themselves
that have a fifth more to do.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from conditions import conditions
from models import SIZES, Size, build

# A launch of 662 frames may have one honest hiccup.
VERDICTS = "run = { launches = 3, frames = 662, min_duration_s = 1 }\n"
AGAINST = "run = { launches = 8, frames = 459, min_duration_s = 0.5 }\n"
HOP_MS = 10
MORE = 1.2
BUSY_S = (2.0, 6.0)
SEED = 20261125


def main() -> None:
    """Run and print one of the two tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("verdicts", "against"))
    parser.add_argument("--runs", type=int, default=None)
    parser.add_argument("--busy", action="store_true", help="a loop on the last core, on and off")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if asked.what == "verdicts":
            _verdicts(folder, asked.runs or 20, asked.busy)
        else:
            _against(folder, asked.runs or 7)


def _rtfleet(folder: Path, *arguments: str) -> Any:
    """The JSON of a run. Its exit code is part of it."""
    command = [sys.executable, "-m", "rtfleet.cli.main", "run", *arguments, "--json", "-"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if not ended.stdout:
        sys.exit(f"{' '.join(command)} gave nothing:\n{ended.stderr}")
    return json.loads(ended.stdout)


# ---- verdicts ------------------------------------------------------------------------------------------------------


def _verdicts(folder: Path, runs: int, busy: bool) -> None:
    build(SIZES[-1], 1, folder / "stack.onnx")
    _write_verdicts(folder, 1000.0, 1000.0)
    first = _rtfleet(folder, "suite.toml")
    p99_ms = first["cases"][0]["summary"]["response"]["p99_ns"] / 1e6
    holds_ms, breaks_ms = 4 * p99_ms, 0.4 * p99_ms
    _write_verdicts(folder, holds_ms, breaks_ms)
    seen: dict[str, list[Any]] = {"holds": [], "breaks": []}
    with _loop() if busy else contextlib.nullcontext():
        for number in range(runs):
            for case in _rtfleet(folder, "suite.toml")["cases"]:
                seen[case["model"]].append(case)
            told = ", ".join(f"{name} {found[-1]['verdict']}" for name, found in seen.items())
            print(f"run {number + 1} of {runs}: {told}", file=sys.stderr, flush=True)
    how = f"{runs} runs, 3 launches of 662 frames, one every {HOP_MS} ms" + (", a loop on and off" if busy else "")
    print(conditions("repeat: the same verdict again", how))
    print(
        "| p99 limit | verdicts | named the neighbour | p50 ms, least to most | p99 ms, least to most "
        "| p50 spread | p99 spread |\n|---|---|---|---|---|---|---|"
    )
    for name, limit_ms in (("holds", holds_ms), ("breaks", breaks_ms)):
        _print_case(seen[name], f"{limit_ms:.3g} ms, {'4x' if name == 'holds' else '0.4x'} the first p99")


def _write_verdicts(folder: Path, holds_ms: float, breaks_ms: float) -> None:
    entry = '[[model]]\nsource = "stack.onnx"\nname = "{name}"\ntask = "vad"\nhop_ms = {hop}\n'
    entry += "budgets = {{ response_p99_ms = {limit} }}\n"
    texts = [
        entry.format(name=name, hop=HOP_MS, limit=limit) for name, limit in (("holds", holds_ms), ("breaks", breaks_ms))
    ]
    (folder / "suite.toml").write_text(VERDICTS + "".join(texts))


def _print_case(cases: Sequence[Any], limit: str) -> None:
    counts = Counter(case["verdict"] for case in cases)
    named = sum("`python" in json.dumps([case["warnings"], case["checks"]]) for case in cases)
    columns = [
        np.array([case["summary"]["response"][key] for case in cases if case["summary"]]) / 1e6
        for key in ("p50_ns", "p99_ns")
    ]
    ranges = " | ".join(f"{column.min():.3g} to {column.max():.3g}" for column in columns)
    spreads = " | ".join(f"{100 * np.std(np.log(column)):.2g} %" for column in columns)
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    print(f"| {limit} | {told} | {named} of {len(cases)} | {ranges} | {spreads} |")


@contextlib.contextmanager
def _loop() -> Iterator[None]:
    """A busy process on the last core, on for 2 to 6 seconds and off for as long."""
    over = threading.Event()
    core = max(os.sched_getaffinity(0))

    def switch() -> None:
        times = random.Random(SEED)
        while not over.is_set():
            with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as loop:
                os.sched_setaffinity(loop.pid, {core})
                over.wait(times.uniform(*BUSY_S))
                loop.kill()
            over.wait(times.uniform(*BUSY_S))

    switching = threading.Thread(target=switch)
    switching.start()
    try:
        yield
    finally:
        over.set()
        switching.join()


# ---- against -------------------------------------------------------------------------------------------------------


def _against(folder: Path, runs: int) -> None:
    models = _write_against(folder)
    print(
        conditions("against: equal and a fifth slower", f"{runs} runs of equals, one of slower ones, 8 launches a side")
    )
    print("| candidate | metric | verdicts | ratio, least to most | smallest effect that could be shown, median |")
    print("|---|---|---|---|---|")
    for suite, times in (("slower.toml", 1), ("same.toml", runs)):
        found = []
        for number in range(times):
            found += _rtfleet(folder, suite, "--against", "same.toml", "--tolerance", "10%")["comparisons"]
            print(f"{suite}: run {number + 1} of {times}", file=sys.stderr, flush=True)
        for model in models:
            for metric in ("latency_p50", "latency_p99"):
                _print_comparisons(f"{model}, {suite.removesuffix('.toml')}", metric, model, found)


def _write_against(folder: Path) -> tuple[str, ...]:
    """Two suites with the same names: as they are, and with a fifth more work."""
    described = 'task = "speaker"\nscenario = "burst"\n'
    texts = {"same": AGAINST, "slower": AGAINST}
    for size in SIZES[1:]:
        name = f"stack-{size.about.replace(' ', '').replace('µ', 'u')}"
        for which, layers in (("same", size.layers), ("slower", round(MORE * size.layers))):
            build(Size(size.about, size.width, layers), 1, folder / f"{name}-{which}.onnx")
            texts[which] += f'[[model]]\nsource = "{name}-{which}.onnx"\nname = "{name}"\n{described}'
    facts = {
        "inputs": [{"name": "x", "dtype": "float32", "shape": [1, 4]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": [1], "rule": "sum"}],
    }
    for which, latency_us in (("same", 1000), ("slower", 1000 * MORE)):
        (folder / f"fake-{which}.fake.json").write_text(json.dumps(facts | {"latency_us": latency_us}))
        texts[which] += f'[[model]]\nsource = "fake-{which}.fake.json"\nname = "fake-1ms"\n{described}'
    for which, text in texts.items():
        (folder / f"{which}.toml").write_text(text)
    return ("stack-150us", "stack-2ms", "fake-1ms")


def _print_comparisons(row: str, metric: str, model: str, comparisons: Sequence[Any]) -> None:
    mine = [one for one in comparisons if one["case_id"].startswith(f"{model}/") and one["metric"] == metric]
    counts = Counter(one["verdict"] for one in mine)
    ratios = [one["ratio"] for one in mine if one["ratio"]]
    effects = [one["smallest_effect"] for one in mine if one["smallest_effect"]]
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    least = f"{100 * (float(np.median(effects)) - 1):.2g} %" if effects else "-"
    print(f"| {row} | {metric} | {told} | {min(ratios):.3f} to {max(ratios):.3f} | {least} |", flush=True)


if __name__ == "__main__":
    main()
