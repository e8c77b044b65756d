"""How often `rtfleet compare` cries wolf, and what it finds: seeded simulations of launches with known differences.

    python benchmarks/compare.py [--runs DIR ...] [--calls 4000] > compare.md

A call compares one case: n launches of the baseline and n of the candidate, two metrics, 99 % confidence. What is
simulated is the log of each launch's p50 and p99; tests, intervals and Holm's correction are the product's own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import rival_tests
from launch_spreads import FAMILIES, Draw, abba, of_runs

from rtfleet import rank_test
from rtfleet.compare import Pair, compare
from rtfleet.records import Case, CaseResult, Launch

SEED = 20261125
SIDES = (5, 8, 12)
SLOWDOWNS = (0.05, 0.1, 0.2, 0.3)
CONFIDENCE, TOLERANCE = 0.99, 0.1
Logs = rank_test.Floats
Verdicts = tuple[str, ...]


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", nargs="*", type=Path, default=[], help="stored runs whose launches are resampled")
    parser.add_argument("--calls", type=int, default=4000)
    asked = parser.parse_args()
    families: dict[str, Draw] = dict(FAMILIES)
    if asked.runs:
        name, drawn = of_runs(asked.runs)
        families[name] = drawn
    sizes = f"{asked.calls:,} A-against-A calls a row, {asked.calls // 8:,} of each slowdown"
    print(f"{sizes}, seed {SEED}, {100 * CONFIDENCE:g} % confidence, two tests a call.\n")
    _print_rates(families, asked.calls)
    _print_one_after_the_other(asked.calls)
    _print_rivals(asked.calls)
    _print_whole(asked.calls)


def _verdicts(baseline: Logs, candidate: Logs) -> Verdicts:
    """Of one call, of p50 and of p99: float64 [launches, 2] of each side. As `compare` judges them."""
    shifts = [rank_test.shift(baseline[:, metric], candidate[:, metric]) for metric in (0, 1)]
    found = [one for one in shifts if one is not None]
    verdicts = []
    for shift, held in zip(found, rank_test.holm([one.p_value for one in found], 1 - CONFIDENCE), strict=True):
        low, high = shift.interval(held.level) or (-np.inf, np.inf)
        if low > 0 or high < 0:
            verdicts.append("SLOWER" if low > 0 else "FASTER")
        else:
            within = max(-low, high) <= np.log1p(TOLERANCE)
            verdicts.append("SAME" if within else "INCONCLUSIVE")
    return tuple(verdicts)


def _calls(draw: Draw, is_candidate: np.ndarray, slowdown: float, calls: int, seed: int) -> list[Verdicts]:
    launches = draw(np.random.default_rng(seed), calls, is_candidate.size)
    launches[:, is_candidate] += np.log1p(slowdown)
    return [_verdicts(one[~is_candidate], one[is_candidate]) for one in launches]


def _share(verdicts: Sequence[Verdicts], test: Callable[[Verdicts], bool]) -> str:
    return f"{100 * sum(map(test, verdicts)) / len(verdicts):.1f}"


def _alarmed(verdicts: Verdicts) -> bool:
    return "SLOWER" in verdicts or "FASTER" in verdicts


def _both_same(verdicts: Verdicts) -> bool:
    return set(verdicts) == {"SAME"}


def _print_rates(families: Mapping[str, Draw], calls: int) -> None:
    print("### Interleaved (ABBA): false alarms of A against A, and how often a slowdown is found, % of calls\n")
    found = " | ".join(f"{100 * slowdown:g} % slower" for slowdown in SLOWDOWNS)
    print(
        f"| launches spread by | a side | false alarms | p50 SAME | both SAME | {found} |\n|---|---|---|---|---|---|"
        + "---|" * 4
    )
    for at, (name, draw) in enumerate(families.items()):
        for side in SIDES:
            seed = SEED + 100 * at + side
            same = _calls(draw, abba(side), 0.0, calls, seed)
            cells = [_share(same, test) for test in (_alarmed, lambda one: one[0] == "SAME", _both_same)]
            for slowdown in SLOWDOWNS:
                slowed = _calls(draw, abba(side), slowdown, calls // 8, seed)
                cells.append(_share(slowed, lambda one: "SLOWER" in one))
            print(f"| {name} | {side} | {' | '.join(cells)} |")
        sys.stdout.flush()


def _print_one_after_the_other(calls: int) -> None:
    print("\n### The same, 8 a side, one run after the other instead of in turns: false alarms of A against A, %\n")
    print("| launches spread by | in turns | one after the other |\n|---|---|---|")
    for at, (name, draw) in enumerate(FAMILIES.items()):
        in_turns = _calls(draw, abba(8), 0.0, calls, SEED + 100 * at)
        after = _calls(draw, np.arange(16) >= 8, 0.0, calls, SEED + 100 * at)
        print(f"| {name} | {_share(in_turns, _alarmed)} | {_share(after, _alarmed)} |")


def _print_rivals(calls: int) -> None:
    print("\n### Which test: p99 of launches at 99.5 %, false alarms of A against A / 20 % slowdowns found, %\n")
    print(
        f"| launches spread by | a side | {' | '.join(rival_tests.TESTS)} |\n|---|---|"
        + "---|" * len(rival_tests.TESTS)
    )
    for at, (name, draw) in enumerate(FAMILIES.items()):
        for side in (8, 12):
            is_candidate = abba(side)
            logs = draw(np.random.default_rng(SEED + 100 * at + side), calls, 2 * side)[..., 1]
            cells = []
            for test in rival_tests.TESTS.values():
                alarms = test(logs, is_candidate, 0.005)
                found = test(logs + np.log1p(0.2) * is_candidate, is_candidate, 0.005)
                cells.append(f"{100 * alarms.mean():.1f} / {100 * found.mean():.0f}")
            print(f"| {name} | {side} | {' | '.join(cells)} |")
        sys.stdout.flush()


def _print_whole(calls: int) -> None:
    """Frames and all, by `compare` itself."""
    rng, verdicts = np.random.default_rng(SEED + 4), []
    for _ in range(calls):
        pair = Pair(_case([_launch(rng, at) for at in range(8)]), _case([_launch(rng, at) for at in range(8)]))
        verdicts.append(tuple(one.verdict for one in compare([pair])))
    alarms = _share(verdicts, _alarmed)
    print(f"\nBy `compare` itself, 8 launches a side of 200 frames, offsets of 10 %: {alarms} % false alarms.")


def _case(launches: Sequence[Launch]) -> CaseResult:
    return CaseResult(Case("a", "model", "onnx-fp32", "board", "burst"), None, launches=tuple(launches))


def _launch(rng: np.random.Generator, number: int) -> Launch:
    latency_ns = 1e6 * np.exp(0.1 * rng.standard_normal() + 0.2 * rng.gamma(1.0, 1.0, 200))
    return Launch(f"l{number}", "LATENCY", number, "", number, "boot", "f", latency_ns=latency_ns.astype(np.int64))


if __name__ == "__main__":
    main()
