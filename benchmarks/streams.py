"""Streams of frames whose long-run share over a limit is known: what verdicts are tried on.

A family is a way in which frames can depend on each other. Latencies are in units of the limit: a frame is over where
it is above 1. Every `make` takes the share wanted and gives [rows, frames] and the true share of each row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
NORMAL = NormalDist()

# Spread of the logarithm of ordinary latencies: p99 / p50 = exp(2.33 * 0.15) = 1.4.
SIGMA = 0.15
# Streams whose slow frames have causes of their own: where the ordinary frames and the slow ones lie.
USUAL, SLOW = 0.5, 1.2
SLOW_MACHINE = 1.5
DRIFT = 0.2


@dataclass(frozen=True)
class Streams:
    """Launches side by side.

    Attributes:
        latency: [rows, frames] in units of the limit.
        share: [rows] long-run share of frames over the limit, under the conditions that the launch had.
        slowness: [rows, frames] by how much the machine, and its speed probe, was slower than usual; None: never.
        stalls: One stall in each row, from outside of the model; `share` does not count it.
    """

    latency: Floats
    share: Floats
    slowness: Floats | None = None
    stalls: bool = False


Make = Callable[[np.random.Generator, float, int, int], Streams]


@dataclass(frozen=True)
class Family:
    """`cluster`: how many slow frames come together; 0 where the family has no such number."""

    name: str
    make: Make
    cluster: int = 0


def clusters(least: int, most: int) -> Make:
    """Slow frames in clusters, their lengths uniform between `least` and `most`. Of 1: independent frames.

    Gaps are geometric. The launch is a window into something that goes on: it begins within a cluster as often as any
    frame lies in one, and a longer cluster is met more often.
    """
    lengths = np.arange(least, most + 1)
    mean_length = float(lengths.mean())

    def make(rng: np.random.Generator, share: float, rows: int, frames: int) -> Streams:
        gap = mean_length * (1 - share) / share
        expected = frames / (gap + mean_length)
        count = int(expected + 8 * math.sqrt(expected) + 8)
        length = rng.choice(lengths, (rows, count))
        inside = rng.random(rows) < share
        length[inside, 0] = rng.choice(lengths, int(inside.sum()), p=lengths / lengths.sum())
        start = rng.geometric(1 / (1 + gap), (rows, count)) - 1 + np.pad(length[:, :-1], ((0, 0), (1, 0)))
        # Gaps have no memory, so the first one is as long as any; a cluster under way began up to its length ago.
        start[:, 0] = np.where(inside, -rng.integers(0, length[:, 0]), start[:, 0] + 1)
        start = np.cumsum(start, axis=1)
        steps = np.zeros((rows, frames + 1), np.int32)
        row = np.repeat(np.arange(rows), count)
        np.add.at(steps, (row, np.clip(start, 0, frames).ravel()), 1)
        np.add.at(steps, (row, np.clip(start + length, 0, frames).ravel()), -1)
        usual = np.minimum(USUAL * np.exp(SIGMA * rng.standard_normal((rows, frames))), 0.95)
        return Streams(np.where(np.cumsum(steps, axis=1)[:, :-1] > 0, SLOW, usual), np.full(rows, share))

    return make


def autocorrelated(rho: float) -> Make:
    """The logarithm of the latency is a first-order autoregression; `rho` 0: independent frames."""

    def make(rng: np.random.Generator, share: float, rows: int, frames: int) -> Streams:
        noise = rng.standard_normal((frames, rows))
        if rho:
            noise[1:] *= math.sqrt(1 - rho**2)
            for frame in range(1, frames):
                noise[frame] += rho * noise[frame - 1]
        return Streams(np.exp(SIGMA * (noise.T - NORMAL.inv_cdf(1 - share))), np.full(rows, share))

    return make


def two_speeds(mean_stay: float) -> Make:
    """A machine that is 1.5 times slower half of the time, in stays of `mean_stay` frames on average."""

    def make(rng: np.random.Generator, share: float, rows: int, frames: int) -> Streams:
        flips = rng.random((rows, frames)) < 1 / mean_stay
        flips[:, 0] = rng.random(rows) < 0.5
        log_slow = math.log(SLOW_MACHINE) * (np.cumsum(flips, axis=1) % 2)
        limit = _log_limit(share, np.array([0.0, math.log(SLOW_MACHINE)]))
        latency = np.exp(SIGMA * rng.standard_normal((rows, frames)) + log_slow - limit)
        return Streams(latency, np.full(rows, share), np.exp(log_slow))

    return make


def drift(rng: np.random.Generator, share: float, rows: int, frames: int) -> Streams:
    """Latencies grow, or shrink, by 20 % from a launch's begin to its end; `share` is the launch's own mean."""
    log_drift = np.linspace(-0.5, 0.5, frames) * math.log1p(DRIFT)
    direction = rng.choice((-1, 1), (rows, 1))
    noise = SIGMA * rng.standard_normal((rows, frames))
    return Streams(np.exp(noise + direction * log_drift - _log_limit(share, log_drift)), np.full(rows, share))


def stalled(rng: np.random.Generator, share: float, rows: int, frames: int) -> Streams:
    """Independent slow frames, and one stall in each launch that is not the model's."""
    streams = clusters(1, 1)(rng, share, rows, frames)
    return Streams(streams.latency, streams.share, stalls=True)


def offset(spread: float) -> Make:
    """Each launch is faster or slower throughout, by a factor with that standard deviation (of its logarithm).

    `share` is that of the middle launch; every launch has its own.
    """

    def make(rng: np.random.Generator, share: float, rows: int, frames: int) -> Streams:
        log_factor = math.log1p(spread) * rng.standard_normal(rows)
        limit = SIGMA * NORMAL.inv_cdf(1 - share)
        latency = np.exp(SIGMA * rng.standard_normal((rows, frames)) + log_factor[:, None] - limit)
        return Streams(latency, np.array([1 - NORMAL.cdf((limit - one) / SIGMA) for one in log_factor]))

    return make


def _log_limit(share: float, log_shifts: Floats) -> float:
    """The logarithm of the limit that `share` of all frames exceed, when ordinary ones are shifted by each of these."""
    low, high = -2.0, 4.0
    shifts = log_shifts[:: max(1, len(log_shifts) // 200)]
    for _ in range(50):
        middle = (low + high) / 2
        over = np.mean([1 - NORMAL.cdf((middle - shift) / SIGMA) for shift in shifts])
        low, high = (middle, high) if over > share else (low, middle)
    return low


FAMILIES = (
    Family("independent slow frames", clusters(1, 1), 1),
    *(Family(f"clusters of {length}", clusters(length, length), length) for length in (2, 3, 5, 10, 20)),
    Family("clusters of 1 to 20", clusters(1, 20)),
    Family("log-normal, independent", autocorrelated(0.0)),
    Family("log-normal, lag-1 0.9", autocorrelated(0.9)),
    Family("log-normal, lag-1 0.99", autocorrelated(0.99)),
    Family("two speeds, stays of 200", two_speeds(200)),
    Family("two speeds, stays of 2,000", two_speeds(2000)),
    Family("drift of 20 %", drift),
    Family("one stall of 160 ms a launch", stalled),
    Family("launches differ by 5 %", offset(0.05)),
    Family("launches differ by 10 %", offset(0.10)),
    Family("launches differ by 30 %", offset(0.30)),
)
BY_NAME = {family.name: family for family in FAMILIES}
