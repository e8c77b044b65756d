"""The betting test behind a FAIL: "more than the allowed share of frames is over the limit".

A gambler who doubts the claim bets on each block's over-limit share X in [0, 1]. Betting the fraction c of what a
block can cost, wealth is multiplied by 1 + c/m (X - m) with m the allowed share. While the claim is true no strategy
wins on average, so wealth ever reaches 1/alpha with probability at most alpha (Ville's inequality), whenever one
looks: blocks may be judged as they come. The wealth here is the mean of a few fixed strategies (the capital process
and its diversified Kelly bets in Waudby-Smith and Ramdas, "Estimating means of bounded random variables by
betting", J. R. Stat. Soc. B 86(1), 2024), so there is nothing to tune and nothing is learnt from the data judged.

The block is the unit because frames over the limit come in clusters: a stall of 160 ms at a 10 ms hop is twelve late
frames and one event, and it lies within one block.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

# Fractions of the stake that can be lost in a block with none over. Large ones find a gross excess in two blocks,
# small ones survive the many blocks with none over that long clusters leave. A bolder one (0.8) was tried: it finds an
# excess no more often, and fails several times as many good cases whose slow blocks come together (docs/verdicts.md).
BETS = (0.1, 0.2, 0.4)

# One event is in one block, and one event fails nothing, however long it was.
LEAST_BLOCKS_OVER = 2


def wealth(block_shares: npt.NDArray[np.float64], share: float) -> npt.NDArray[np.float64]:
    """The gambler's wealth after each block, from 1.

    Args:
        block_shares: [blocks] fraction of each block's frames over the limit, in the order measured.
        share: The allowed one, strictly between 0 and 1.
    """
    bets = np.array(BETS)[:, None] / share
    log_wealth = np.cumsum(np.log1p(bets * (block_shares[None, :] - share)), axis=1)
    # Beyond 1e200 nobody asks how much more; it keeps the mean finite.
    mean: npt.NDArray[np.float64] = np.exp(np.minimum(log_wealth, math.log(1e200))).mean(axis=0)
    return mean


def needed_wealth(launches: int, confidence: float) -> float:
    """What disproves a claim in one launch of several: alpha is split among them (Bonferroni). 300 for 3 at 99 %."""
    return launches / (1 - confidence)


def disproves(block_shares: npt.NDArray[np.float64], share: float, needed: float) -> bool:
    """Whether these blocks of one launch prove that more than `share` of all frames are over."""
    if block_shares.size < LEAST_BLOCKS_OVER:
        return False
    enough_blocks = np.cumsum(block_shares > share) >= LEAST_BLOCKS_OVER
    return bool(np.any((wealth(block_shares, share) >= needed) & enough_blocks))


def blocks_to_settle(block_shares: npt.NDArray[np.float64], share: float, needed: float) -> int | None:
    """Blocks until wealth suffices if it goes on growing as it did; None where it does not grow."""
    if not block_shares.size:
        return None
    log_now = math.log(wealth(block_shares, share)[-1])
    if log_now <= 0.05 * block_shares.size:
        return None
    return math.ceil(block_shares.size * math.log(needed) / log_now)
