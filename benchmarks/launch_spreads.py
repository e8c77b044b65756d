"""How launches of one case spread: float64 [calls, launches, 2], logs of each launch's p50 and p99, in time order.

Spreads are those recorded (shared/measuring.md): offsets between launches of 5 to 30 %, a machine with two speeds
(1.75x) that stays in one for several launches, neighbours in time alike, stalls that only a p99 sees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rtfleet import run_file, statistics

Logs = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], Logs]

TWO_SPEEDS = 1.75
# Launches that the machine stays fast, and slow, on average.
STAYS = (8.0, 4.0)
# What a launch's p99 strays by besides what moves its p50.
TAIL = 0.05


def abba(side: int) -> npt.NDArray[np.bool_]:
    """Which launches are the candidate's, in the order measured."""
    return np.array(([False, True, True, False] * side)[: 2 * side])


def _both(p50: Logs, p99_besides: Logs) -> Logs:
    return np.stack((p50, p50 + p99_besides), axis=-1)


def offsets(spread: float) -> Draw:
    """Each launch has its own offset, independent of all others."""

    def draw(rng: np.random.Generator, calls: int, launches: int) -> Logs:
        own, tail = rng.standard_normal((2, calls, launches))
        return _both(spread * own, (TAIL + spread / 2) * tail)

    return draw


def stalls(rng: np.random.Generator, calls: int, launches: int) -> Logs:
    """One launch in four has a p99 four times as long."""
    own, tail = rng.standard_normal((2, calls, launches))
    return _both(0.05 * own, TAIL * tail + np.log(4) * (rng.random((calls, launches)) < 0.25))


def two_speeds(rng: np.random.Generator, calls: int, launches: int) -> Logs:
    """The machine is fast or slow, and stays so for several launches."""
    fast, slow = STAYS
    is_slow = np.zeros((calls, launches), bool)
    is_slow[:, 0] = rng.random(calls) < slow / (fast + slow)
    for at in range(1, launches):
        changes = rng.random(calls) < np.where(is_slow[:, at - 1], 1 / slow, 1 / fast)
        is_slow[:, at] = is_slow[:, at - 1] ^ changes
    own, tail = rng.standard_normal((2, calls, launches))
    return _both(np.log(TWO_SPEEDS) * is_slow + 0.05 * own, TAIL * tail)


def autocorrelated(rng: np.random.Generator, calls: int, launches: int) -> Logs:
    """Offsets of 10 % of which the next launch keeps 80 %."""
    steps, tail = rng.standard_normal((2, calls, launches))
    offset = steps.copy()
    for at in range(1, launches):
        offset[:, at] = 0.8 * offset[:, at - 1] + 0.6 * steps[:, at]
    return _both(0.1 * offset, TAIL * tail)


def drift(rng: np.random.Generator, calls: int, launches: int) -> Logs:
    """Heat: the last launch is 30 % slower than the first."""
    own, tail = rng.standard_normal((2, calls, launches))
    return _both(0.05 * own + np.log(1.3) * np.linspace(0, 1, launches), TAIL * tail)


FAMILIES: Mapping[str, Draw] = {
    "offsets of 3 %": offsets(0.03),
    "offsets of 5 %": offsets(0.05),
    "offsets of 10 %": offsets(0.1),
    "offsets of 20 %": offsets(0.2),
    "offsets of 30 %": offsets(0.3),
    "5 %, stalls in 1 of 4": stalls,
    "two speeds, long stays": two_speeds,
    "10 %, autocorrelated 0.8": autocorrelated,
    "5 %, drifting by 30 %": drift,
}


def of_runs(folders: Sequence[Path]) -> tuple[str, Draw]:
    """Launches of stored runs, each by its distance from its case's mean, drawn with replacement. With their name."""
    left = []
    for folder in folders:
        for result in run_file.read(folder).results:
            launches = statistics.good_launches(result)
            if len(launches) > 1:
                seen = [np.percentile(launch.response_ns, (50, 99)) for launch in launches]
                logs = np.log(np.maximum(seen, 1.0))
                left.append((logs - logs.mean(axis=0)) * np.sqrt(len(launches) / (len(launches) - 1)))
    pool: Logs = np.concatenate(left)

    def draw(rng: np.random.Generator, calls: int, launches: int) -> Logs:
        return pool[rng.integers(0, len(pool), (calls, launches))]

    p50, p99 = 100 * np.expm1(pool.std(axis=0))
    return f"{len(pool)} stored launches (p50 {p50:.0f} %, p99 {p99:.0f} %)", draw
