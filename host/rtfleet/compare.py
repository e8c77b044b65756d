"""Is a candidate slower than its baseline? Launches compared by exact permutation; verdicts with what they rest on.

Pure functions of facts. Two tests a case: p50 of latency, and p99 of response where paced, of latency in a burst. All
tests of one call share the call's confidence (Holm), so that equal artifacts are called SLOWER or FASTER in at most 1 %
of calls at 99 %, if their launches are exchangeable: measured in turns (ABBA) on one device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rtfleet import likeness, one_sided, rank_test, statistics
from rtfleet.errors import UsageError
from rtfleet.judged import Comparison, Difference, Outcome
from rtfleet.likeness import Pair, differences, pairs_of, unmatched
from rtfleet.rank_test import Floats, Held, Shift
from rtfleet.records import CaseResult, Launch, Nanoseconds, Run

__all__ = ["Comparison", "Difference", "Pair", "compare", "differences", "exit_code", "pairs_of", "unmatched"]


DEFAULT_TOLERANCE = 0.1
DEFAULT_CONFIDENCE = 0.99
# With fewer launches a side nothing is decided: three against three can't go below p = 0.10.
LEAST_LAUNCHES = 5


@dataclass(frozen=True)
class _Test:
    """One metric of one pair: the ns of each launch, and the shift between their logs."""

    pair: Pair
    metric: str
    baseline_ns: Floats
    candidate_ns: Floats
    shift: Shift | None

    @property
    def decidable(self) -> bool:
        """Enough launches a side; fixed by the design, not by what was seen."""
        return min(self.baseline_ns.size, self.candidate_ns.size) >= LEAST_LAUNCHES


def compare(
    pairs: Sequence[Pair],
    *,
    tolerance: float = DEFAULT_TOLERANCE,
    confidence: float = DEFAULT_CONFIDENCE,
    anyway: bool = False,
) -> tuple[Comparison, ...]:
    """All pairs judged together, two comparisons a pair.

    Args:
        tolerance: Fraction: differences of up to 10 % are SAME once they are known to be no larger.
        anyway: Compare unlike conditions too; the comparisons say so.

    Raises:
        UsageError: conditions differ and `anyway` is not set; field and both values are named.
    """
    if not anyway:
        _refuse_unlike(pairs)
    tests = [test for pair in pairs for test in _tests(pair)]
    decidable = [test for test in tests if test.shift and test.decidable]
    held = rank_test.holm([test.shift.p_value for test in decidable if test.shift], 1 - confidence)
    of_test = {id(test): one for test, one in zip(decidable, held, strict=True)}
    rules = _Rules(tolerance, confidence, (1 - confidence) / max(1, len(tests)))
    undecided = Held(False, rules.level, 1.0)
    return tuple(_judged(test, of_test.get(id(test), undecided), rules) for test in tests)


def within(run: Run) -> tuple[Comparison, ...]:
    """The candidate of a run against the baseline that it was measured with; () where it has none.

    Conditions that differ by the suites' own words (threads, say) are marked: what was measured is not thrown away.
    """
    sides = likeness.sides_of(run)
    if not sides[0].results or not sides[1].results:
        return ()
    settings = run.settings
    pairs = likeness.pairs_of(*sides)
    return compare(pairs, tolerance=settings.tolerance, confidence=settings.confidence, anyway=True)


def exit_code(comparisons: Sequence[Comparison], tolerance: float = DEFAULT_TOLERANCE) -> int:
    """1 where something is SLOWER by more than the tolerance, 3 where something (or everything) is open, else 0."""
    slower = [one.ratio for one in comparisons if one.verdict == "SLOWER" and one.ratio is not None]
    if any(ratio > 1 + tolerance for ratio in slower):
        return 1
    return 3 if not comparisons or any(one.verdict == "INCONCLUSIVE" for one in comparisons) else 0


def _refuse_unlike(pairs: Sequence[Pair]) -> None:
    unlike = [(pair, found) for pair in pairs if (found := differences(pair))]
    if unlike:
        lines = [f"{pair.candidate.case.id}: {_told(found)}" for pair, found in unlike]
        raise UsageError(
            "measured under unlike conditions: " + "\n".join(lines),
            "measure both under the same, or compare them --anyway: the result is marked then",
        )


def _told(unlike: Sequence[Difference]) -> str:
    return ", ".join(f"{one.field} {one.baseline} against {one.candidate}" for one in unlike)


# ---- a test --------------------------------------------------------------------------------------------------------


def _tests(pair: Pair) -> tuple[_Test, _Test]:
    def latency_ns(launch: Launch) -> Nanoseconds:
        return launch.latency_ns

    def response_ns(launch: Launch) -> Nanoseconds:
        return launch.response_ns

    p50 = _test(pair, "latency_p50", latency_ns, 50)
    if pair.baseline.case.scenario == pair.candidate.case.scenario == "paced":
        return p50, _test(pair, "response_p99", response_ns, 99)
    return p50, _test(pair, "latency_p99", latency_ns, 99)


def _test(pair: Pair, metric: str, column: Callable[[Launch], Nanoseconds], percent: float) -> _Test:
    def of_launches(result: CaseResult) -> Floats:
        launches = statistics.good_launches(result)
        # A clock's tick is the least that a ratio can be made of.
        return np.array([max(1.0, float(np.percentile(column(one), percent))) for one in launches], np.float64)

    baseline, candidate = of_launches(pair.baseline), of_launches(pair.candidate)
    return _Test(pair, metric, baseline, candidate, rank_test.shift(np.log(baseline), np.log(candidate)))


@dataclass(frozen=True)
class _Rules:
    """What the call asked for. `level` is what each of its tests gets once all have launches enough."""

    tolerance: float
    confidence: float
    level: float


def _judged(test: _Test, held: Held, rules: _Rules) -> Comparison:
    ends = test.shift.interval(held.level) if test.shift else None
    ratios = (math.exp(ends[0]), math.exp(ends[1])) if ends else None
    verdict = _verdict(ratios, rules.tolerance) if test.decidable else "INCONCLUSIVE"
    hits, interleaved = one_sided.hits(test.pair), one_sided.interleaved(test.pair)
    unlike = differences(test.pair)
    doubts = []
    if not interleaved and verdict in ("SLOWER", "FASTER"):
        doubts = [hit.text for hit in hits if hit.may_be_why(verdict == "SLOWER")]
    needed = _needed(test, rules) if verdict == "INCONCLUSIVE" else None
    said = _doubted(doubts) if doubts else _said(verdict, test, ratios, held, rules, needed)
    if verdict in ("SLOWER", "FASTER") and not doubts and not interleaved:
        said += "; measured one after the other: a change of the machine in between would look the same"
    if hits and not doubts:
        said += f"; {'despite' if verdict == 'SAME' else 'while'} {'; '.join(hit.text for hit in hits)}"
    return Comparison(
        case_id=test.pair.candidate.case.id,
        metric=test.metric,
        verdict="INCONCLUSIVE" if doubts else verdict,
        reason=f"unlike conditions ({_told(unlike)}): {said}" if unlike else said,
        baseline_ns=float(np.median(test.baseline_ns)) if test.baseline_ns.size else None,
        candidate_ns=float(np.median(test.candidate_ns)) if test.candidate_ns.size else None,
        ratio=math.exp(test.shift.estimate) if test.shift else None,
        interval=ratios,
        interval_confidence=1 - held.level,
        smallest_effect=math.exp((ends[1] - ends[0]) / 2) if ends else None,
        p_value=held.adjusted_p if test.decidable else None,
        launches=(test.baseline_ns.size, test.candidate_ns.size),
        launches_needed=needed,
        interleaved=interleaved,
        unlike=unlike,
        disturbed=tuple(hit.text for hit in hits),
    )


def _verdict(ratios: tuple[float, float] | None, tolerance: float) -> Outcome:
    if ratios is None:
        return "INCONCLUSIVE"
    if ratios[0] > 1 or ratios[1] < 1:
        return "SLOWER" if ratios[0] > 1 else "FASTER"
    return "SAME" if 1 / (1 + tolerance) <= ratios[0] and ratios[1] <= 1 + tolerance else "INCONCLUSIVE"


def _needed(test: _Test, rules: _Rules) -> int | None:
    """Launches a side that would settle it if the ratio and the spread seen are the true ones; None: unknown."""
    least = max(LEAST_LAUNCHES, rank_test.least_launches(rules.level))
    if test.shift is None or test.shift.spread is None:
        return least
    apart, spread, power = abs(test.shift.estimate), test.shift.spread, rank_test.POWER
    # Either one end of the interval gets clear of 1, or both fit into the tolerance: whichever takes less.
    ways = ((apart, power), (math.log1p(rules.tolerance) - apart, (1 + power) / 2))
    enough = [rank_test.launches_to_settle(spread, width, rules.level, share) for width, share in ways if width > 0]
    have = min(test.baseline_ns.size, test.candidate_ns.size)
    return max(least, have + 1, min(enough)) if enough else None


# ---- in words ------------------------------------------------------------------------------------------------------


def _said(
    verdict: Outcome, test: _Test, ratios: tuple[float, float] | None, held: Held, rules: _Rules, needed: int | None
) -> str:
    """Why, in one sentence, and what would settle it."""
    within = f"{100 * rules.tolerance:g} %"
    if ratios and test.shift and verdict != "INCONCLUSIVE":
        ratio = math.exp(test.shift.estimate)
        held_at = f"{ratios[0]:.3g}-{ratios[1]:.3g}x at {_percent(1 - held.level)}"
        if verdict == "SAME":
            return f"{held_at}, within the tolerance of {within} either way"
        over = ratio > 1 + rules.tolerance or ratio < 1 / (1 + rules.tolerance)
        return f"{ratio:.3g}x ({held_at}), {'beyond' if over else 'within'} the tolerance of {within}"
    settle = f"about {needed:,} launches a side would settle it" if needed else "a tolerance above 0 would settle it"
    if not test.shift:
        return f"{_missing(test.pair)}; {settle}"
    baselines, candidates = test.baseline_ns.size, test.candidate_ns.size
    if not test.decidable:
        return f"{baselines} against {candidates} launches decide nothing, {LEAST_LAUNCHES} a side at least; {settle}"
    if ratios is None:
        return (
            f"{baselines} against {candidates} launches can't show anything at {_percent(rules.confidence)} "
            f"shared among all tests; {settle}"
        )
    return f"anything in {ratios[0]:.3g}-{ratios[1]:.3g}x is compatible with the launches; {settle}"


def _missing(pair: Pair) -> str:
    """Why a side has no good launch."""
    sides = (("baseline", pair.baseline), ("candidate", pair.candidate))
    side, result = next((name, one) for name, one in sides if not statistics.good_launches(one))
    why = [result.error.text] if result.error else [statistics.why_void(one) for one in result.launches]
    return f"the {side} has no good launch" + (f": {why[-1]}" if why else "")


def _doubted(doubts: Sequence[str]) -> str:
    return (
        f"may be no more than {'; '.join(doubts)}, since they were measured one after the other: "
        "measure both in turns (rtfleet run --against)"
    )


def _percent(share: float) -> str:
    """99 %, 99.5 %, 99.97 %: as many digits as tell it from 100 %."""
    return f"{100 * share:.5g} %"
