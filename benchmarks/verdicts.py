"""Proof by simulation: how often rtfleet's verdicts are wrong, on streams whose truth is known.

    python benchmarks/verdicts.py            the whole table (minutes on two cores); --quick takes half a minute
    python benchmarks/verdicts.py --power    chance of a PASS against the true share, exact

A case is measured as the campaign does it: its launches run block by block, `budget.decide` is asked after each and
may end a launch, and `percentile_check.judge` gives the verdict. The budget is a p99 at half a hop (5 ms in a burst).

Truth of a case: the long-run share of frames over the limit of each *measured* launch, under the conditions which that
launch had. With the budget's allowed share (1 %):
- a PASS is false where some measured launch has a true share above the allowed one;
- a FAIL is false where no measured launch has (a case exactly at 1x may not FAIL, and a stall is not the model's);
- at exactly 1x no PASS is false by these words, but a case a hair above would get as many: the aim is held against
  the PASSes at 1x too.
"a further launch contradicts": after a PASS, one more launch of the case is truly over; after a FAIL it is not.

Beside it, the same streams judged by LoadGen's Server rule on one launch of 600 s (its default): valid if the point
p99 is within the limit and k frames over in n pass P(X <= k) <= 1 %, X ~ Binomial(n, 1 %) (loadgen/early_stopping.cc,
c = 0.99, d = 0; results.cc); by the point p99 and by the mean of the same three launches.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from dataclasses import dataclass

import numpy as np
from streams import FAMILIES, Family, Floats, Streams

from rtfleet import binomial, budget, disturbances, percentile_check
from rtfleet.percentile_check import Measured
from rtfleet.power import pass_probability
from rtfleet.profile import Budget
from rtfleet.records import Block, Case, Launch, RunSettings

ALLOWED, CONFIDENCE = 0.01, 0.99
MULTIPLES = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
HOPS_MS = (10, 32, 80, 0)
BURST_LIMIT_NS = 5_000_000
LOADGEN_S = 600
STALL_NS = 160_000_000
PROBE_NS, PROBE_SPREAD = 20_000, 0.03
ROWS_AT_ONCE = 100
BY_NAME = {family.name: family for family in FAMILIES}
# Every family is tried at a hop of 10 ms, these at the others too.
EVERYWHERE = tuple(
    BY_NAME[name]
    for name in ("independent slow frames", "clusters of 3", "clusters of 10", "log-normal, lag-1 0.9")
    + ("two speeds, stays of 200", "one stall of 160 ms a launch")
)


@dataclass(frozen=True)
class Cell:
    """One row of the table. `hop_ms` 0 is a burst."""

    family: Family
    hop_ms: int
    multiple: float
    launches: int
    cases: int
    loadgen_cases: int
    seed: int

    @property
    def limit_ns(self) -> int:
        return self.hop_ms * 500_000 or BURST_LIMIT_NS

    @property
    def budget(self) -> Budget:
        metric = "response_p99_ms" if self.hop_ms else "latency_p99_ms"
        return Budget("all", metric, self.limit_ns / 1e6, False, "verdicts.py")

    @property
    def block(self) -> int:
        return 50 if self.hop_ms >= 30 else 100


# Per cell, one row a case: verdict, is it false, frames, seconds, a further launch contradicts, point p99 and mean pass.
COLUMNS = ("verdict", "false", "frames", "seconds", "contradicted", "point", "mean", "fast_enough")


def simulate(cell: Cell) -> tuple[Cell, dict[str, np.ndarray]]:
    """All cases of a cell, judged."""
    rng = np.random.default_rng(cell.seed)
    rows: list[tuple] = []
    settings = RunSettings(launches=cell.launches)
    target = budget.target_frames(settings, cell.hop_ms * 1_000_000 or None)
    seconds = settings.min_duration_s
    frames = max(target, 5 * cell.block, int(seconds * 1000 / cell.hop_ms) if cell.hop_ms else 4 * target) + 150
    while len(rows) < cell.cases:
        # One launch more than is measured: the further one, of which only the truth is asked.
        each = cell.launches + 1
        streams = cell.family.make(rng, cell.multiple * ALLOWED, ROWS_AT_ONCE * each, frames)
        if not cell.hop_ms:
            frames = max(frames, int(1.3 * seconds * 1e9 / (cell.limit_ns * float(streams.latency.mean()))))
        for first in range(0, ROWS_AT_ONCE * each, each):
            launches = [launch_of(rng, cell, streams, row, target) for row in range(first, first + each - 1)]
            rows.append(judged(cell, launches, streams.share[first : first + each], settings, target))
    found = {name: np.array(column) for name, column in zip(COLUMNS, zip(*rows[: cell.cases], strict=True), strict=True)}
    found["loadgen"], found["loadgen_frames"] = loadgen(rng, cell)
    return cell, found


def launch_of(rng: np.random.Generator, cell: Cell, streams: Streams, row: int, target: int) -> Launch:
    """A whole launch, as the agent would have run it to its end."""
    latency_ns = streams.latency[row] * cell.limit_ns
    if streams.stalls:
        latency_ns[rng.integers(target)] += STALL_NS
    hop_ns = cell.hop_ms * 1_000_000
    waits_ns = waits(latency_ns, hop_ns)
    edges = [0]
    clock_ns = np.cumsum(latency_ns) if not hop_ns else hop_ns * np.arange(1, latency_ns.size + 1)
    while (
        len(edges) <= 5 or edges[-1] < target or clock_ns[edges[-1] - 1] < RunSettings.min_duration_s * 1e9
    ) and edges[-1] + cell.block < latency_ns.size:
        end = edges[-1] + cell.block
        while end < latency_ns.size and waits_ns[end] > 0:  # a backlog keeps a block open
            end += 1
        edges.append(end)
    slowness = np.ones(1) if streams.slowness is None else streams.slowness[row]
    probes = PROBE_NS * np.exp(PROBE_SPREAD * rng.standard_normal(len(edges)))
    probes *= slowness[np.minimum(edges, slowness.size - 1)]
    blocks = tuple(
        Block("PACED" if hop_ns else "BURST", first, end - first, int(probes[at]), int(probes[at]), 0)
        for at, (first, end) in enumerate(zip(edges, edges[1:], strict=False))
    )
    lateness_ns = waits_ns[: edges[-1]] if hop_ns else np.zeros(0)
    return launch_until(latency_ns[: edges[-1]].astype(np.int64), lateness_ns.astype(np.int64), blocks)


def launch_until(latency_ns: np.ndarray, lateness_ns: np.ndarray, blocks: tuple[Block, ...]) -> Launch:
    end = blocks[-1].first_frame + blocks[-1].frames
    return Launch(
        *("launch", "LATENCY", 1, "", 0, "", ""),
        latency_ns=latency_ns[:end],
        lateness_ns=lateness_ns[:end],
        blocks=blocks,
    )


def waits(latency_ns: Floats, hop_ns: int) -> Floats:
    """How long each frame waits for those before it (Lindley 1952); nothing in a burst."""
    if not hop_ns or latency_ns.max() <= hop_ns:
        return np.zeros(latency_ns.size)
    grown = np.concatenate(([0.0], np.cumsum(latency_ns[:-1] - hop_ns)))
    return grown - np.minimum.accumulate(grown)


def ended_by_decide(held: list[Launch], whole: Launch, cell: Cell, settings: RunSettings) -> Launch:
    """The launch as far as `budget.decide`, asked after each block, lets it run.

    What is enough after some blocks is enough after all (wealth is looked at after each block, and no stream here
    falls behind), so a launch that may run to its end is asked about once.
    """
    asked = ([cell.budget], settings, cell.hop_ms * 1_000_000 or None)
    if not budget.decide(held, whole, *asked).enough:
        return whole
    for blocks in range(1, len(whole.blocks)):
        so_far = launch_until(whole.latency_ns, whole.lateness_ns, whole.blocks[:blocks])
        if budget.decide(held, so_far, *asked).enough:
            return so_far
    return whole


def judged(cell: Cell, whole: list[Launch], share: Floats, settings: RunSettings, target: int) -> tuple:
    """Measures and judges one case: a row of `COLUMNS`. `share` is each launch's, the last one not measured."""
    launches: list[Launch] = []
    for one in whole:
        launches.append(ended_by_decide(launches, one, cell, settings))
    usual_ns = disturbances.usual_probe(launches)
    case = Case("", "", "", "", "paced" if cell.hop_ms else "burst")
    measured = Measured(
        launches=launches,
        disturbed=[disturbances.of_launch(one, case, None, settings, usual_ns) for one in launches],
        hop_ns=cell.hop_ms * 1_000_000 or None,
        target_frames=target,
        burst_of_a_stream=False,
        settings=settings,
    )
    verdict = percentile_check.judge(cell.budget, measured).verdict
    # A hair of room: 1x is the allowed share itself, not a rounding error above it.
    over = share > ALLOWED * (1 + 1e-9)
    is_false = bool(over[:-1].any()) if verdict == "PASS" else verdict == "FAIL" and not over[:-1].any()
    response = np.concatenate([one.response_ns for one in whole])
    frames = sum(one.latency_ns.size for one in launches)
    busy_s = sum(float(one.latency_ns.sum()) for one in launches) / 1e9
    return (
        verdict,
        is_false,
        frames,
        frames * cell.hop_ms / 1000 if cell.hop_ms else busy_s,
        verdict == "PASS" and over[-1] or verdict == "FAIL" and not over[-1],
        np.percentile(response, 99) <= cell.limit_ns,
        response.mean() <= cell.limit_ns,
        not over[:-1].any(),
    )


def loadgen(rng: np.random.Generator, cell: Cell) -> tuple[np.ndarray, np.ndarray]:
    """Verdicts, and whether each is false, of LoadGen on one launch of 600 s; and the frames of each."""
    said, frames_of = [], []
    while len(said) < cell.loadgen_cases:
        frames = LOADGEN_S * 1000 // cell.hop_ms if cell.hop_ms else int(LOADGEN_S * 1e9 / (0.6 * cell.limit_ns))
        streams = cell.family.make(rng, cell.multiple * ALLOWED, min(25, cell.loadgen_cases), frames)
        for latency, share in zip(streams.latency * cell.limit_ns, streams.share, strict=True):
            if streams.stalls:
                latency[rng.integers(frames)] += STALL_NS
            over = int(np.count_nonzero(latency + waits(latency, cell.hop_ms * 1_000_000) > cell.limit_ns))
            valid = binomial.proves(over, frames, ALLOWED, CONFIDENCE)
            verdict = "PASS" if valid else "FAIL" if over > ALLOWED * frames else "INCONCLUSIVE"
            truly_over = share > ALLOWED * (1 + 1e-9)
            said.append((verdict, truly_over if verdict == "PASS" else verdict == "FAIL" and not truly_over))
            frames_of.append(frames)
    return np.array(said, dtype=object), np.array(frames_of)


# ---- the table -----------------------------------------------------------------------------------------------------


def rate(seen: np.ndarray) -> str:
    """A rate in percent with its binomial standard error; "-" of nothing."""
    share = float(np.mean(seen))
    return f"{100 * share:.1f} ± {100 * (share * (1 - share) / seen.size) ** 0.5:.1f}" if 0 < share < 1 else f"{100 * share:.0f}"


def row(cell: Cell, found: dict[str, np.ndarray]) -> str:
    verdict, is_false = found["verdict"], found["false"]
    passed, failed = verdict == "PASS", verdict == "FAIL"
    told = [rate(passed), rate(failed), rate(~passed & ~failed), rate(passed & is_false), rate(failed & is_false)]
    told += [f"{np.median(found['frames']):,.0f}", f"{np.median(found['seconds']):.0f}"]
    further = [found["contradicted"][chosen] for chosen in (passed, failed)]
    told += [f"{100 * seen.mean():.0f}" if seen.size >= 20 else "" for seen in further]
    said = found["loadgen"]
    told += [f"{100 * np.mean(said[:, 0] == name):.0f}" for name in ("PASS", "FAIL")]
    told += [f"{100 * np.mean((said[:, 0] == 'PASS') & (said[:, 1] == True)):.0f}"]  # noqa: E712
    told += [f"{100 * found['point'].mean():.0f}", f"{100 * found['mean'].mean():.0f}"]
    return f"| {cell.multiple:g}x | " + " | ".join(told) + " |"


HEAD = (
    "| true share | PASS | FAIL | INCONCL. | false PASS | false FAIL | frames | s | 1 more after PASS | after FAIL "
    "| LoadGen PASS | FAIL | false PASS | point p99 PASS | mean PASS |\n|---|" + "---:|" * 14
)


def cells(quick: bool, families: str) -> list[Cell]:
    """All cells, most cases where a rate is held against an aim."""
    wanted = [(family, hop) for hop in HOPS_MS for family in (FAMILIES if hop == 10 else EVERYWHERE)]
    chosen = []
    for family, hop in wanted:
        if families not in family.name or (quick and (hop != 10 or "of 2" in family.name)):
            continue
        for multiple in (0.1, 1.0, 5.0) if quick else MULTIPLES:
            cases = 200 if quick else 2000 if multiple == 1 and hop == 10 else 1000 if multiple == 1 else 400
            seed = hash_of(family.name, hop, multiple)
            chosen.append(Cell(family, hop, multiple, 3, cases, 25 if quick else 100, seed))
    return chosen


def further_cells(quick: bool) -> list[Cell]:
    """More launches for cases whose launches differ: what they buy."""
    differing = [family for family in FAMILIES if family.name.startswith("launches differ")]
    return [
        Cell(family, 10, multiple, launches, 100 if quick else 600, 0, hash_of(family.name, launches, multiple))
        for family in differing
        for multiple in (0.1, 0.25, 0.5)
        for launches in (3, 5, 10)
    ]


def hash_of(*parts: object) -> int:
    """A seed that depends on nothing but these."""
    return int.from_bytes(repr(parts).encode(), "little") % (2**61 - 1)


def tables(quick: bool, families: str) -> None:
    began_s = time.monotonic()
    with multiprocessing.Pool(2) as pool:
        results = pool.map(simulate, cells(quick, families), chunksize=1)
        further = [] if families else pool.map(simulate, further_cells(quick), chunksize=1)
    last = None
    for cell, found in results:
        if (cell.family.name, cell.hop_ms) != last:
            last = cell.family.name, cell.hop_ms
            place = f"hop {cell.hop_ms} ms" if cell.hop_ms else "burst"
            print(f"\n### {cell.family.name}, {place} ({found['loadgen_frames'].max():,} frames for LoadGen)\n\n{HEAD}")
        print(row(cell, found))
    print("\n### More launches (hop 10 ms): PASS, and how often a further launch is over after it\n")
    print("| launches differ | true share | launches | PASS | one more is over |\n|---|---|---:|---:|---:|")
    for cell, found in further:
        passed = found["verdict"] == "PASS"
        over = rate(found["contradicted"][passed]) if passed.sum() >= 20 else ""
        print(f"| {cell.family.name[16:]} | {cell.multiple:g}x | {cell.launches} | {rate(passed)} | {over} |")
    print(f"\n{sum(cell.cases for cell, _ in results + further):,} cases in {time.monotonic() - began_s:.0f} s")


def power() -> None:
    print("| true share | " + " | ".join(f"{frames:,} frames, L = {c}" for frames in (459, 662, 1301) for c in (1, 3)))
    print("|---|" + "---:|" * 6)
    for multiple in (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0):
        chances = [
            pass_probability(multiple * ALLOWED, ALLOWED, frames, 3, CONFIDENCE, cluster)
            for frames in (459, 662, 1301)
            for cluster in (1.0, 3.0)
        ]
        print(f"| {multiple:g}x | " + " | ".join(f"{100 * chance:.3g}" for chance in chances) + " |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three shares at one hop, few cases: half a minute")
    parser.add_argument("--power", action="store_true", help="the exact chance of a PASS; no simulation")
    parser.add_argument("--only", default="", metavar="TEXT", help="families whose name holds this")
    arguments = parser.parse_args()
    power() if arguments.power else tables(arguments.quick, arguments.only)
