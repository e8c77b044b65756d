"""The exact binomial test behind a PASS: "at most this share of all frames is over the limit".

With n frames, k of them over, the claim holds at a confidence when so few would be over by luck in at most
1 - confidence of all tries, were the true share exactly the allowed one: P(X <= k) <= 1 - confidence for
X ~ Binomial(n, share) (Clopper and Pearson 1934; the same test as the early stopping of MLPerf's LoadGen). At 99 %
for p99: 459 frames with none over, 662 with one, 838 with two, 1001 with three.

The test takes frames as independent, which they are not; `percentile_claims` divides them by the cluster length first.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

# A claim that needs more frames a launch than this is called unsettled rather than given a number nobody measures.
MOST_FRAMES = 100_000


def cumulative(frames: int, share: float, upto: int | None = None) -> npt.NDArray[np.float64]:
    """P(X <= k) for k = 0 ... `upto` (or all), X ~ Binomial(frames, share); `share` strictly between 0 and 1.

    Neighbouring terms differ by the factor (n-k+1)/k * p/(1-p); in logarithms nothing underflows on the way to the
    terms that count.
    """
    over = np.arange(1, min(frames if upto is None else upto, frames) + 1, dtype=np.float64)
    steps = np.log((frames - over + 1) / over) + np.log(share / (1 - share))
    log_terms = frames * np.log1p(-share) + np.concatenate(([0.0], np.cumsum(steps)))
    sums: npt.NDArray[np.float64] = np.cumsum(np.exp(log_terms))
    return np.clip(sums, 0.0, 1.0)


@lru_cache(maxsize=4096)
def most_over(frames: int, share: float, confidence: float) -> int | None:
    """The most frames over the limit with which `frames` frames still prove the claim; None: too few frames."""
    if frames < 1:
        return None
    # Of any confidence above one half, the answer lies below the mean; the rest need not be summed.
    upto = math.ceil(frames * share) if confidence > 0.5 else frames
    most = int(np.searchsorted(cumulative(frames, share, upto), 1 - confidence, side="right")) - 1
    return most if most >= 0 else None


def proves(over: int, frames: int, share: float, confidence: float) -> bool:
    """Whether `over` of `frames` frames prove that at most `share` of all frames are over."""
    most = most_over(frames, share, confidence)
    return most is not None and over <= most


@lru_cache(maxsize=4096)
def frames_needed(over: int, share: float, confidence: float) -> int:
    """The fewest frames that prove the claim with `over` of them over."""
    low, high = over, max(math.ceil(1.2 * over / share), 16)
    while not proves(over, high, share, confidence):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if proves(over, middle, share, confidence) else (middle, high)
    return high


def upper_share(over: int, frames: int, confidence: float) -> float:
    """The upper confidence bound on the share of frames over (Clopper and Pearson): larger ones would be noticed."""
    if frames < 1 or over >= frames:
        return 1.0
    low, high = over / frames, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if cumulative(frames, middle, over)[over] > 1 - confidence else (low, middle)
    return high


def frames_to_settle(seen_share: float, share: float, confidence: float) -> int | None:
    """The fewest frames that prove the claim if the share seen so far is the true one; None: none, or far too many.

    "k over needs n frames" grows slower than k / seen_share: the first k with room for what `seen_share` of n would
    be is found by doubling and halving.
    """
    if seen_share >= share or MOST_FRAMES * (share - seen_share) ** 2 < share * (1 - share):
        return None

    def enough(over: int) -> bool:
        return seen_share * frames_needed(over, share, confidence) <= over

    low, high = -1, 0
    while not enough(high):
        low, high = high, 2 * high + 1
        if high > MOST_FRAMES * share:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return frames_needed(high, share, confidence)
