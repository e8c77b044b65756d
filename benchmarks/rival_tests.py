"""Tests that `compare` could use, over many simulated calls at once. Each tells which calls it would decide.

logs is float64 [calls, launches] in time order, `is_candidate` bool [launches], `level` two-sided. All are exact
permutation tests; they differ in what may be exchanged (any launches, those of the same eight, those of a pair) and in
what is looked at (ranks, means).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from rtfleet import rank_test

Logs = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Test = Callable[[Logs, Flags, float], Flags]

MOST_RELABELLINGS = 200_000
SUBSET = 20_000
SLACK = 1e-9


def ranks_within(size: int | None) -> Test:
    """Rank sums within blocks of `size` launches in a row (None: all of them), added up."""

    def decides(logs: Logs, is_candidate: Flags, level: float) -> Flags:
        launches = is_candidate.size
        tails, differences = np.ones(1), []
        for first in range(0, launches, size or launches):
            block = slice(first, first + (size or launches))
            own = is_candidate[block]
            counts = np.diff(rank_test.null_tail(int((~own).sum()), int(own.sum())), prepend=0.0)
            tails = np.convolve(tails, counts)
            candidate, baseline = logs[:, block][:, own], logs[:, block][:, ~own]
            differences.append((candidate[:, :, None] - baseline[:, None, :]).reshape(len(logs), -1))
        every = np.concatenate(differences, axis=1)
        tail = np.cumsum(tails)
        rarest = np.minimum(tail[(every <= 0).sum(axis=1)], tail[(every >= 0).sum(axis=1)])
        decided: Flags = 2 * rarest <= level + rank_test.SLACK
        return decided

    return decides


def means(logs: Logs, is_candidate: Flags, level: float) -> Flags:
    """Difference of mean logs among all relabellings, a seeded subset where they are more than 200,000."""
    return _extreme(logs, is_candidate, _relabellings(is_candidate), level)


def pairs_flipped(logs: Logs, is_candidate: Flags, level: float) -> Flags:
    """Fisher's sign flips of the differences of AB, BA, AB, ...: the mean of pairs among all 2^n flips."""
    flips = np.array(list(itertools.product((False, True), repeat=is_candidate.size // 2)))
    return _extreme(logs, is_candidate, np.stack((flips, ~flips), axis=-1).reshape(len(flips), -1), level)


def _relabellings(is_candidate: Flags) -> Flags:
    launches, candidates = is_candidate.size, int(is_candidate.sum())
    if math.comb(launches, candidates) <= MOST_RELABELLINGS:
        chosen = np.array(list(itertools.combinations(range(launches), candidates)))
    else:
        chosen = np.random.default_rng(0).random((SUBSET, launches)).argsort(axis=1)[:, :candidates]
        chosen = np.concatenate((chosen, np.flatnonzero(is_candidate)[None]))
    labels = np.zeros((len(chosen), launches), bool)
    np.put_along_axis(labels, chosen, True, axis=1)
    return labels


def _extreme(logs: Logs, is_candidate: Flags, relabellings: Flags, level: float) -> Flags:
    sums = logs @ relabellings.T.astype(float)
    seen = (logs @ is_candidate.astype(float))[:, None]
    rarest = np.minimum((sums >= seen - SLACK).mean(axis=1), (sums <= seen + SLACK).mean(axis=1))
    decided: Flags = 2 * rarest <= level + rank_test.SLACK
    return decided


TESTS: Mapping[str, Test] = {
    "ranks": ranks_within(None),
    "means": means,
    "ranks in eights": ranks_within(8),
    "ranks in ABBA fours": ranks_within(4),
    "pairs flipped": pairs_flipped,
}
