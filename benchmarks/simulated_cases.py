"""Cases of known truth, measured as a campaign does and judged by the product's own functions, and by its rivals'."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from streams import BY_NAME, Family, Floats, Streams

from rtfleet import binomial, budget, disturbances, percentile_check
from rtfleet.percentile_check import Measured
from rtfleet.profile import Budget
from rtfleet.records import Block, Case, Launch, RunSettings

ALLOWED, CONFIDENCE = 0.01, 0.99
BURST_LIMIT_NS = 5_000_000
LOADGEN_S = 600
STALL_NS = 160_000_000
PROBE_NS, PROBE_SPREAD = 20_000, 0.03
LEAST_BLOCKS = 5
ROWS_AT_ONCE = 100


@dataclass(frozen=True)
class Cell:
    """Cases of one kind.

    Attributes:
        name: The family's.
        hop_ms: 0 is a burst.
        multiple: True share of frames over / the allowed one.
        frames: Least frames of a launch; None: the product's default.
    """

    name: str
    hop_ms: int
    multiple: float
    launches: int
    cases: int
    loadgen_cases: int = 0
    frames: int | None = None

    @property
    def family(self) -> Family:
        return BY_NAME[self.name]

    @property
    def seed(self) -> int:
        """Depends on nothing but what is measured."""
        what = repr((self.name, self.hop_ms, self.multiple, self.launches, self.frames))
        return int.from_bytes(what.encode(), "little") % (2**61 - 1)

    @property
    def limit_ns(self) -> int:
        return self.hop_ms * 500_000 or BURST_LIMIT_NS

    @property
    def hop_ns(self) -> int | None:
        return self.hop_ms * 1_000_000 or None

    @property
    def budget(self) -> Budget:
        metric = "response_p99_ms" if self.hop_ms else "latency_p99_ms"
        return Budget("all", metric, self.limit_ns / 1e6, False, "verdicts.py")

    @property
    def settings(self) -> RunSettings:
        return RunSettings(launches=self.launches, frames=self.frames)

    @property
    def target(self) -> int:
        return budget.target_frames(self.settings, self.hop_ns)

    @property
    def block(self) -> int:
        return 50 if self.hop_ms >= 30 else 100

    @property
    def loadgen_frames(self) -> int:
        """Of 600 s. A burst's are at least this many: one frame takes half to two thirds of the limit."""
        return int(LOADGEN_S * 1e9 / (self.hop_ns or 0.6 * self.limit_ns))


@dataclass(frozen=True)
class Results:
    """One entry a case.

    Attributes:
        wrong: The verdict is a false PASS or a false FAIL.
        contradicted: One further launch of the case is truly on the other side of the limit.
        point, mean: The point p99, and the mean, of the whole launches are within the limit.
        loadgen, loadgen_wrong: One entry for each of LoadGen's runs.
    """

    verdict: np.ndarray
    wrong: np.ndarray
    frames: np.ndarray
    seconds: np.ndarray
    contradicted: np.ndarray
    point: np.ndarray
    mean: np.ndarray
    loadgen: np.ndarray
    loadgen_wrong: np.ndarray


def simulate(cell: Cell) -> tuple[Cell, Results]:
    """All cases of a cell, judged."""
    rng = np.random.default_rng(cell.seed)
    seconds = RunSettings.min_duration_s
    frames = max(cell.target, LEAST_BLOCKS * cell.block, int(seconds * 1e9 / (cell.hop_ns or 0.4 * cell.limit_ns)))
    rows: list[tuple[object, ...]] = []
    while len(rows) < cell.cases:
        # One launch more than is measured: the further one, of which only the truth is asked.
        each = cell.launches + 1
        streams = cell.family.make(rng, cell.multiple * ALLOWED, ROWS_AT_ONCE * each, frames + 150)
        for first in range(0, ROWS_AT_ONCE * each, each):
            whole = [_launch(rng, cell, streams, row) for row in range(first, first + cell.launches)]
            rows.append(_judged(cell, whole, streams.share[first : first + each]))
    columns = [np.array(column) for column in zip(*rows[: cell.cases], strict=True)]
    return cell, Results(*columns, *_loadgen(rng, cell))


def _launch(rng: np.random.Generator, cell: Cell, streams: Streams, row: int) -> Launch:
    """A whole launch, as the agent runs it to its end: blocks until there are enough of them, of frames and of time."""
    latency_ns = streams.latency[row] * cell.limit_ns
    if streams.stalls:
        latency_ns[rng.integers(cell.target)] += STALL_NS
    waits_ns = _waits(latency_ns, cell.hop_ns)
    clock_ns = np.cumsum(latency_ns) if not cell.hop_ns else cell.hop_ns * np.arange(1, latency_ns.size + 1)
    least = max(cell.target, LEAST_BLOCKS * cell.block)
    edges = [0]
    while edges[-1] < least or clock_ns[edges[-1] - 1] < RunSettings.min_duration_s * 1e9:
        end = edges[-1] + cell.block
        if end > latency_ns.size:
            break
        while end < latency_ns.size and waits_ns[end] > 0:  # a backlog keeps a block open
            end += 1
        edges.append(end)
    slowness = np.ones(1) if streams.slowness is None else streams.slowness[row]
    probes = PROBE_NS * np.exp(PROBE_SPREAD * rng.standard_normal(len(edges)))
    probes *= slowness[np.minimum(edges, slowness.size - 1)]
    blocks = tuple(
        Block("PACED" if cell.hop_ns else "BURST", first, end - first, int(probes[at]), int(probes[at]), 0)
        for at, (first, end) in enumerate(pairwise(edges))
    )
    return _until(latency_ns.astype(np.int64), waits_ns.astype(np.int64) if cell.hop_ns else _NONE, blocks)


_NONE = np.zeros(0, np.int64)


def _until(latency_ns: np.ndarray, lateness_ns: np.ndarray, blocks: tuple[Block, ...]) -> Launch:
    """The launch as it stands after these blocks."""
    end = blocks[-1].first_frame + blocks[-1].frames
    columns = {"latency_ns": latency_ns[:end], "lateness_ns": lateness_ns[:end]}
    return Launch("launch", "LATENCY", 1, "", 0, "", "", blocks=blocks, **columns)


def _waits(latency_ns: Floats, hop_ns: int | None) -> Floats:
    """How long each frame waits for those before it (Lindley 1952); nothing in a burst."""
    if not hop_ns or latency_ns.max() <= hop_ns:
        return np.zeros(latency_ns.size)
    grown = np.concatenate(([0.0], np.cumsum(latency_ns[:-1] - hop_ns)))
    return grown - np.minimum.accumulate(grown)


def _ended_by_decide(held: list[Launch], whole: Launch, cell: Cell) -> Launch:
    """The launch as far as `budget.decide`, asked after each block, lets it run.

    What is enough after some blocks is enough after all (wealth is looked at after each block, and no stream here
    falls behind), so of a launch that may run to its end it is asked once.
    """
    asked = ([cell.budget], cell.settings, cell.hop_ns)
    if not budget.decide(held, whole, *asked).enough:
        return whole
    for blocks in range(1, len(whole.blocks)):
        so_far = _until(whole.latency_ns, whole.lateness_ns, whole.blocks[:blocks])
        if budget.decide(held, so_far, *asked).enough:
            return so_far
    return whole


def _judged(cell: Cell, whole: list[Launch], share: Floats) -> tuple[object, ...]:
    """Measures and judges one case: the first fields of `Results`. `share` is each launch's, the last not measured."""
    launches: list[Launch] = []
    for one in whole:
        launches.append(_ended_by_decide(launches, one, cell))
    usual_ns = disturbances.usual_probe(launches)
    case = Case("", "", "", "", "paced" if cell.hop_ms else "burst")
    measured = Measured(
        launches=launches,
        disturbed=[disturbances.of_launch(one, case, None, cell.settings, usual_ns) for one in launches],
        hop_ns=cell.hop_ns,
        target_frames=cell.target,
        burst_of_a_stream=False,
        settings=cell.settings,
    )
    verdict = percentile_check.judge(cell.budget, measured).verdict
    over = _truly_over(share)
    frames = sum(one.latency_ns.size for one in launches)
    busy_s = sum(float(one.latency_ns.sum()) for one in launches) / 1e9
    response_ns = np.concatenate([one.response_ns for one in whole])
    return (
        verdict,
        _wrong(verdict, bool(over[:-1].any())),
        frames,
        frames * cell.hop_ms / 1000 if cell.hop_ms else busy_s,
        _wrong(verdict, bool(over[-1])),
        np.percentile(response_ns, 99) <= cell.limit_ns,
        response_ns.mean() <= cell.limit_ns,
    )


def _truly_over(share: Floats) -> np.ndarray:
    """With a hair of room: 1x is the allowed share itself, not a rounding error above it."""
    return share > ALLOWED * (1 + 1e-9)


def _wrong(verdict: str, over: bool) -> bool:
    return over if verdict == "PASS" else verdict == "FAIL" and not over


def _loadgen(rng: np.random.Generator, cell: Cell) -> tuple[np.ndarray, np.ndarray]:
    """LoadGen's Server rule on one launch of 600 s: its verdicts, and which are wrong.

    "PASS" is its VALID: k frames over in n are so few that P(X <= k) <= 1 %, X ~ Binomial(n, 1 %). It knows no FAIL;
    so is called here a point p99 over the limit, for which it tells to lower the rate; else it asks for more queries.
    """
    said: list[str] = []
    wrong: list[bool] = []
    frames = cell.loadgen_frames
    while len(said) < cell.loadgen_cases:
        streams = cell.family.make(rng, cell.multiple * ALLOWED, min(25, cell.loadgen_cases), frames)
        for latency_ns, truly in zip(streams.latency * cell.limit_ns, _truly_over(streams.share), strict=True):
            if streams.stalls:
                latency_ns[rng.integers(frames)] += STALL_NS
            over = int(np.count_nonzero(latency_ns + _waits(latency_ns, cell.hop_ns) > cell.limit_ns))
            valid = binomial.proves(over, frames, ALLOWED, CONFIDENCE)
            said.append("PASS" if valid else "FAIL" if over > ALLOWED * frames else "INCONCLUSIVE")
            wrong.append(_wrong(said[-1], bool(truly)))
    return np.array(said), np.array(wrong, bool)
