"""Proof by simulation: how often rtfleet's verdicts are wrong, on streams whose truth is known.

    python benchmarks/verdicts.py            the whole table, minutes on two cores; --quick takes half a minute
    python benchmarks/verdicts.py --power    the chance of a PASS against the true share, exact, at once

A case is measured as the campaign does it: its launches run block by block, `budget.decide` is asked after each and
may end a launch, and `percentile_check.judge` gives the verdict. The budget is a p99 at half a hop (5 ms in a burst),
so 1 % of the frames may be over. Everything is seeded: the same command prints the same rates.

Truth of a case: the long-run share of frames over the limit of each *measured* launch, under the conditions which that
launch had.
- A PASS is false where some measured launch has a true share above the allowed one.
- A FAIL is false where no measured launch has: a case exactly at 1x may not FAIL, and a stall is not the model's.
- At exactly 1x no PASS is false by these words, but a case a hair above it gets as many: the aim of at most 1 % is held
  against the PASSes at 1x too.
"One more contradicts": after a PASS, a further launch of the case is truly over; after a FAIL it is not.

Beside it, the same families judged by LoadGen's rule for the Server scenario (early stopping, c = 0.99, d = 0:
loadgen/early_stopping.cc and results.cc of mlcommons/inference) on one launch of 600 s, its default (mlperf.conf); and
the same launches judged by their point p99 and by their mean.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from simulated_cases import ALLOWED, CONFIDENCE, Cell, Results, simulate
from streams import FAMILIES

from rtfleet.power import largest_share_likely_to_pass, pass_probability

PROCESSES = 2
MULTIPLES = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
HOPS_MS = (10, 32, 80, 0)
# Every family is tried at a hop of 10 ms, these at the others and in a burst too.
EVERYWHERE = (
    "independent slow frames",
    "clusters of 3",
    "clusters of 10",
    "log-normal, lag-1 0.9",
    "two speeds, stays of 200",
    "one stall of 160 ms a launch",
)
DIFFERING = tuple(family.name for family in FAMILIES if family.name.startswith("launches differ"))
CLUSTERS = tuple(family for family in FAMILIES if family.cluster)
CURVE_FRAMES = (459, 662, 1301)
LIMIT_FRAMES = (459, 5000)
LONGER = (5000, 20_000)


# ---- what is simulated ---------------------------------------------------------------------------------------------


def main_cells(quick: bool) -> list[Cell]:
    """Most cases where a rate is held against an aim."""
    if quick:
        return [Cell(family.name, 10, x, 3, 100, 10) for family in FAMILIES for x in (0.1, 1.0, 5.0)]
    cells = [Cell(family.name, 10, x, 3, 1000 if x == 1 else 200, 50) for family in FAMILIES for x in MULTIPLES]
    return cells + [
        Cell(name, hop, x, 3, 400 if x == 1 else 150, 50)
        for hop in HOPS_MS[1:]
        for name in EVERYWHERE
        for x in MULTIPLES
    ]


def curve_cells() -> list[Cell]:
    """PASSes of a case exactly at its limit, against how many slow frames come together.

    A hop of 80 ms, at which the least time of a launch adds no frames.
    """
    return [Cell(family.name, 80, 1.0, 3, 1000, frames=frames) for family in CLUSTERS for frames in CURVE_FRAMES]


def longer_cells() -> list[Cell]:
    """Clear cases, given longer launches: three of 20,000 frames are the 60,000 of LoadGen's 600 s."""
    names = [family.name for family in FAMILIES if family.name not in DIFFERING]
    return [
        Cell(name, 10, multiple, 3, 100 if frames == 5000 else 50, frames=frames)
        for name in names
        for multiple in (0.1, 5.0)
        for frames in LONGER
    ]


def limit_cells() -> list[Cell]:
    """FAILs of a case exactly at its limit, however long its launches are."""
    names = [family.name for family in FAMILIES if family.name not in DIFFERING]
    return [Cell(name, 80, 1.0, 3, 600, frames=frames) for name in names for frames in LIMIT_FRAMES]


def further_cells() -> list[Cell]:
    """Launches that differ, and how many of them are measured."""
    return [
        Cell(name, 10, multiple, launches, 400)
        for name in DIFFERING
        for multiple in (0.1, 0.25)
        for launches in (3, 5, 10)
    ]


# ---- what is printed -----------------------------------------------------------------------------------------------


def rate(seen: np.ndarray, least: int = 1) -> str:
    """A rate in percent with its binomial standard error; nothing where fewer than `least` were seen."""
    if seen.size < least:
        return ""
    share = float(np.mean(seen))
    error = 100 * (share * (1 - share) / seen.size) ** 0.5
    return f"{100 * share:.1f} ± {error:.1f}" if error else f"{100 * share:.0f}"


def percent(seen: np.ndarray) -> str:
    return f"{100 * float(np.mean(seen)):.0f}" if seen.size else ""


def line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def head(*names: str) -> str:
    return line(*names) + "\n|---|" + "---:|" * (len(names) - 1)


def main_row(cell: Cell, found: Results) -> str:
    passed, failed = found.verdict == "PASS", found.verdict == "FAIL"
    return line(
        f"{cell.multiple:g}x",
        *(rate(seen) for seen in (passed, failed, ~passed & ~failed, passed & found.wrong, failed & found.wrong)),
        f"{np.median(found.frames):,.0f}",
        f"{np.median(found.seconds):.0f}",
        *(rate(found.contradicted[seen], least=20) for seen in (passed, failed)),
        *(percent(found.loadgen == verdict) for verdict in ("PASS", "FAIL")),
        *(percent((found.loadgen == verdict) & found.loadgen_wrong) for verdict in ("PASS", "FAIL")),
        percent(found.point),
        percent(found.mean),
    )


def print_main(results: Sequence[tuple[Cell, Results]]) -> None:
    columns = ("true share", "PASS", "FAIL", "INCONCL.", "false PASS", "false FAIL", "frames", "s")
    columns += ("one more contradicts PASS", "contradicts FAIL", "LoadGen PASS", "FAIL", "false PASS", "false FAIL")
    columns += ("point p99 PASS", "mean PASS")
    last: tuple[str, int] | None = None
    for cell, found in results:
        if (cell.name, cell.hop_ms) != last:
            last = cell.name, cell.hop_ms
            pace = f"hop {cell.hop_ms} ms" if cell.hop_ms else "burst"
            print(f"\n#### {cell.name}, {pace} (LoadGen: {cell.loadgen_frames:,} frames)\n\n{head(*columns)}")
        print(main_row(cell, found))


def print_grid(title: str, first: str, results: Sequence[tuple[Cell, Results]], width: int, verdicts: str) -> None:
    """A row for each `width` cells: how often a verdict is one of `verdicts`."""
    print(f"\n### {title}\n")
    names = [f"{cell.frames:,} frames" for cell, _ in results[:width]]
    print(head(first, *names))
    for at in range(0, len(results), width):
        cell = results[at][0]
        row = [rate(np.isin(found.verdict, verdicts.split())) for _, found in results[at : at + width]]
        print(line(f"{cell.name}, {cell.multiple:g}x", *row))


def print_further(results: Sequence[tuple[Cell, Results]]) -> None:
    print("\n### What more launches buy\n")
    print(head("case", "launches", "PASS", "one more is over, after a PASS"))
    for cell, found in results:
        passed = found.verdict == "PASS"
        row = (str(cell.launches), rate(passed), rate(found.contradicted[passed], least=20))
        print(line(f"{cell.name}, {cell.multiple:g}x", *row))


def print_tables(quick: bool) -> None:
    began_s = time.monotonic()
    wanted = [main_cells(quick), *([] if quick else [curve_cells(), limit_cells(), longer_cells(), further_cells()])]
    with multiprocessing.Pool(PROCESSES) as pool:
        flat = pool.map(simulate, [cell for cells in wanted for cell in cells], chunksize=1)
    print_main(flat[: len(wanted[0])])
    if not quick:
        ends = np.cumsum([len(cells) for cells in wanted])
        curve, limit, longer, further = (flat[first:end] for first, end in pairwise(ends))
        print_grid("PASS exactly at the limit", "clusters", curve, len(CURVE_FRAMES), "PASS")
        print_grid("FAIL exactly at the limit", "case", limit, len(LIMIT_FRAMES), "FAIL")
        print_grid("Clear cases settled (PASS or FAIL)", "case", longer, len(LONGER), "PASS FAIL")
        print_further(further)
    print(f"\n{sum(cell.cases for cell, _ in flat):,} cases in {time.monotonic() - began_s:.0f} s")


def print_power() -> None:
    """459, 662 and 1,301 are asked for; whole blocks make 700 of 662 and 1,400 of 1,301."""
    lengths = (459, 662, 700, 1301, 1400)
    clusters = (3.0, 10.0)
    print(head("true share", *(f"{frames:,} frames, L = {c:g}" for frames in lengths for c in clusters)))
    for multiple in (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0):
        chances = [
            pass_probability(multiple * ALLOWED, ALLOWED, frames, 3, CONFIDENCE, cluster)
            for frames in lengths
            for cluster in clusters
        ]
        print(line(f"{multiple:g}x", *(f"{100 * chance:.2g}" if chance < 0.995 else "100" for chance in chances)))
    likely = [largest_share_likely_to_pass(ALLOWED, frames, 3, CONFIDENCE) / ALLOWED for frames in lengths]
    told = ", ".join(f"{share:.2g}x ({frames:,})" for share, frames in zip(likely, lengths, strict=True))
    print(f"\nPASSes nine times in ten up to a true share of: {told}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three shares at one hop, few cases: half a minute")
    parser.add_argument("--power", action="store_true", help="the exact chance of a PASS; no simulation")
    arguments = parser.parse_args()
    print_power() if arguments.power else print_tables(arguments.quick)
