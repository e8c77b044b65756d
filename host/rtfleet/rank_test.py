"""Is one group of launches slower than another? The exact permutation test of ranks, its interval, Holm. Pure.

Under the hypothesis that the labels "baseline" and "candidate" mean nothing, each of the C(n + m, n) ways to give them
to the launches was as likely as the one seen. How often each rank sum comes up among all of them is counted here, for
any n and m and without drawing any (Mann and Whitney 1947). Nothing is assumed of how launches spread, only that they
are exchangeable. Of the statistics tried, ranks find as much as means where launches spread evenly, and several times
as much where some launches stall or the machine has two speeds (docs/compare.md).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Planned launches settle a case this often.
POWER = 0.8
# Launches that ranks need for each 1 that means would, where the spread is normal: pi / 3 (Hodges and Lehmann 1956).
RANKS_PER_MEAN = math.pi / 3
# Sums of rationals as floats: levels that are equal on paper are taken as equal.
SLACK = 1e-12


@functools.lru_cache(maxsize=64)
def null_tail(n: int, m: int) -> Floats:
    """P(U <= u) for u = 0 .. n m, exactly, without ties.

    U's counts are the coefficients of the Gaussian binomial, the product over i = 1..n of (1 - q^(m+i)) / (1 - q^i).
    """
    counts = [1] + [0] * (n * m)
    for i in range(1, n + 1):
        for power in range(n * m, m + i - 1, -1):
            counts[power] -= counts[power - m - i]
        for power in range(i, n * m + 1):
            counts[power] += counts[power - i]
    whole, so_far, tail = math.comb(n + m, n), 0, []
    for count in counts:
        so_far += count
        tail.append(so_far / whole)
    return np.array(tail)


@dataclass(frozen=True, eq=False)
class Shift:
    """By how much the logs of one group lie above those of the other.

    Attributes:
        differences: float64 [n m], ascending: each candidate's log minus each baseline's.
        spread: Standard deviation of a log within its group, pooled; None where a group has only one.
    """

    differences: Floats
    baselines: int
    candidates: int
    spread: float | None

    @property
    def estimate(self) -> float:
        """The median of all differences (Hodges and Lehmann 1963): the shift whose interval shrinks around it."""
        return float(np.median(self.differences))

    @property
    def p_value(self) -> float:
        """Two-sided, of no shift. Ties count against a difference, so that equal values never look like one."""
        tail = null_tail(self.baselines, self.candidates)
        not_above = int(np.count_nonzero(self.differences <= 0))
        not_below = int(np.count_nonzero(self.differences >= 0))
        return min(1.0, 2 * float(min(tail[not_above], tail[not_below])))

    def interval(self, level: float) -> tuple[float, float] | None:
        """All shifts that the test at `level` (two-sided, 0.01 for 99 %) does not exclude.

        A shift s is excluded exactly when too few differences are <= s, or >= s: so the ends are order statistics of
        the differences (Moses 1965). None where so few launches can't exclude anything.
        """
        tail = null_tail(self.baselines, self.candidates)
        kept = int(np.count_nonzero(tail <= level / 2 + SLACK))
        if kept == 0:
            return None
        return float(self.differences[kept - 1]), float(self.differences[-kept])


def shift(baseline: Floats, candidate: Floats) -> Shift | None:
    """Of the logs of two groups; None where one is empty."""
    if not baseline.size or not candidate.size:
        return None
    differences = np.sort(np.subtract.outer(candidate, baseline), axis=None)
    return Shift(differences, baseline.size, candidate.size, _spread(baseline, candidate))


def _spread(*groups: Floats) -> float | None:
    if min(group.size for group in groups) < 2:
        return None
    within = sum(float(np.sum((group - group.mean()) ** 2)) for group in groups)
    return math.sqrt(within / (sum(group.size for group in groups) - len(groups)))


@dataclass(frozen=True)
class Held:
    """A test among several.

    Attributes:
        level: Of its interval, two-sided. Where the test was rejected, the level that Holm rejected it at; else the
            whole call's share, alpha / tests, so that these intervals hold together.
        adjusted_p: Smallest alpha of the whole call at which it is rejected.
    """

    rejected: bool
    level: float
    adjusted_p: float


def holm(p_values: Sequence[float], alpha: float) -> tuple[Held, ...]:
    """The smallest p must be at most alpha / k, the next alpha / (k - 1), ..., until one is not (Holm 1979).

    The chance of any false rejection in the call is at most alpha, whatever the tests have to do with each other.
    """
    tests, held = len(p_values), dict[int, Held]()
    adjusted, going_on = 0.0, True
    for done, index in enumerate(sorted(range(tests), key=lambda index: p_values[index])):
        level = alpha / (tests - done)
        adjusted = max(adjusted, min(1.0, (tests - done) * p_values[index]))
        going_on = going_on and p_values[index] <= level + SLACK
        held[index] = Held(going_on, level if going_on else alpha / tests, adjusted)
    return tuple(held[index] for index in range(tests))


def least_launches(level: float) -> int:
    """Launches a side from which on the most extreme labelling, 2 of C(2n, n), is rare enough for `level`."""
    launches = 1
    while 2 / math.comb(2 * launches, launches) > level + SLACK:
        launches += 1
    return launches


def launches_to_settle(spread: float, half_width: float, level: float, power: float = POWER) -> int:
    """Launches a side whose interval ends less than `half_width` (of a log) from the true shift, on one side.

    It does so in a share of `power` of all comparisons.

    The usual count for two normal groups with Guenther's correction for a spread that is estimated (1981), times what
    ranks need more than means.
    """
    z = NormalDist().inv_cdf(1 - level / 2)
    normal = 2 * ((z + NormalDist().inv_cdf(power)) * spread / half_width) ** 2 + z**2 / 4
    return max(least_launches(level), math.ceil(RANKS_PER_MEAN * normal))
