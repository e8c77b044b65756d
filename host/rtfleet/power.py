"""The chance that a case PASSes, before it is measured: what a number of frames can show.

The rule of `percentile_claims` in numbers: n frames a launch, m launches, X_i of them over in launch i. PASS takes
X_i <= k in every launch and ceil((X_1 + ... + X_m) / L) <= K, where k and K are the most frames over with which n and
int(m n / L) frames prove the claim. With independent frames X_i ~ Binomial(n, true share), so

    P(PASS) = P(X_1 <= k, ..., X_m <= k, X_1 + ... + X_m <= floor(K L)),

which is a sum over the m-fold convolution of the binomial's first k + 1 terms: exact, nothing is simulated. Frames that
come over in clusters, and launches that differ, pass less often than this says.
"""

from __future__ import annotations

import math

import numpy as np

from rtfleet import binomial, metrics
from rtfleet.percentile_claims import LEAST_CLUSTER
from rtfleet.profile import Budget
from rtfleet.records import RunSettings


def pass_probability(
    true_share: float, share: float, frames: int, launches: int, confidence: float, cluster: float
) -> float:
    """The chance of a PASS when `true_share` of all frames are over and `share` may be.

    Args:
        frames: Of each launch.
        cluster: L, by which the pooled frames are divided.
    """
    most = binomial.most_over(frames, share, confidence)
    most_pooled = binomial.most_over(int(launches * frames / cluster), share, confidence)
    if most is None or most_pooled is None or true_share >= 1:
        return 0.0
    if true_share <= 0:
        return 1.0
    one = np.diff(binomial.cumulative(frames, true_share, most), prepend=0.0)
    together = np.ones(1)
    for _ in range(launches):
        together = np.convolve(together, one)
    return float(min(1.0, together[: math.floor(most_pooled * cluster) + 1].sum()))


def largest_share_likely_to_pass(
    share: float, frames: int, launches: int, confidence: float, probability: float = 0.9
) -> float:
    """The largest true share that PASSes with this probability at L = 3; 0 where not even a share of none does."""
    if pass_probability(0.0, share, frames, launches, confidence, LEAST_CLUSTER) < probability:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        likely = pass_probability(middle, share, frames, launches, confidence, LEAST_CLUSTER) >= probability
        low, high = (middle, high) if likely else (low, middle)
    return low


def foretold(budget: Budget, frames: int, settings: RunSettings) -> str:
    """What launches of so many frames can show of a limit on a percentile; "" for any other metric."""
    metric = metrics.find(budget.metric)
    share = budget.limit if metric.judging == "share" else metric.share_over
    if share is None or not 0 < share < 1:
        return ""
    measured = f"{budget.metric} {budget.limit:g}: {settings.launches} launches of {frames:,} frames"
    likely = largest_share_likely_to_pass(share, frames, settings.launches, settings.confidence)
    if not likely:
        # Each launch by itself, and all of them divided by the least cluster.
        alone = binomial.frames_needed(0, share, settings.confidence)
        least = max(alone, math.ceil(LEAST_CLUSTER * alone / settings.launches))
        return f"{measured} can't show a PASS: {least:,} frames a launch are the least (--duration)"
    return f"{measured} PASS 9 times in 10 where {_percent(likely)} are over ({_percent(share)} allowed)"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
