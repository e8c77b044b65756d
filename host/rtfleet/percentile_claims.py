"""Judging "p99 of the response is at most 50 ms": a claim about the share of frames over a limit.

PASS: every launch proves it by the exact binomial on its raw frames, and the pooled frames divided by the cluster
length L prove it again. FAIL: the betting test disproves it in some launch. Else INCONCLUSIVE, with what would settle
it. `binomial` and `betting` hold the formulas, `disturbances` what may excuse or flatter a launch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from rtfleet import betting, binomial, statistics
from rtfleet.metrics import find
from rtfleet.profile import Budget
from rtfleet.records import Launch, Nanoseconds, RunSettings

# Frames over the limit never come alone: with fewer frames per cluster than this, nothing was learnt about clusters.
LEAST_CLUSTER = 3.0

# A share of none can't be proven by any number of frames; this many are asked for instead.
LEAST_SHARE = 1e-6


@dataclass(frozen=True)
class Claim:
    """At most `share` of all frames are over `limit_ns`.

    Attributes:
        unit_ns: Nanoseconds in one of the metric's units; 0 where the metric is the share itself.
        of: "response" contains the wait for the scheduler and for earlier frames, "latency" does not.
    """

    budget: Budget
    of: Literal["response", "latency"]
    limit_ns: float
    share: float
    unit_ns: float

    def over(self, launch: Launch) -> npt.NDArray[np.bool_]:
        """Which frames of a launch are over the limit."""
        return self.column(launch) > self.limit_ns

    def column(self, launch: Launch) -> Nanoseconds:
        """What the claim is about, frame by frame."""
        return launch.response_ns if self.of == "response" else launch.latency_ns

    def over_by_itself(self, launch: Launch, hop: int | None) -> npt.NDArray[np.bool_]:
        """Which frames are over through the model alone, on a scheduler that is never late."""
        if self.of == "latency":
            return self.over(launch)
        return statistics.undelayed_response_ns(launch, hop) > self.limit_ns


@dataclass(frozen=True)
class Evidence:
    """All frames of the good launches, held against a claim.

    Attributes:
        over: Frames over the limit, by launch; `frames` likewise.
        cluster: L, the mean length of runs of frames that came near the limit, at least 3.
        cluster_measured: Some frame came near; else L is an assumption.
    """

    over: tuple[int, ...]
    frames: tuple[int, ...]
    cluster: float
    cluster_measured: bool

    @property
    def effective_frames(self) -> float:
        """Pooled frames that count as independent."""
        return sum(self.frames) / self.cluster

    @property
    def seen_share(self) -> float:
        """Share of the pooled frames that are over."""
        return sum(self.over) / sum(self.frames)

    @property
    def worst_share(self) -> float:
        """Share of the frames that are over in the worst launch."""
        return max(over / frames for over, frames in zip(self.over, self.frames, strict=True))


def claim_of(budget: Budget, hop: int | None) -> Claim | str:
    """The claim that a budget makes, or why none can be made."""
    metric = find(budget.metric)
    if metric.of in ("rtf", "deadline") and not hop:
        return "the model has no hop, so its frames have no length in real time: give hop_ms"
    if metric.of == "deadline":
        if budget.limit >= 1:
            return "a share of 1 allows every frame to miss its deadline: give a smaller one"
        return Claim(budget, "response", float(hop or 0), max(budget.limit, LEAST_SHARE), 0.0)
    unit_ns = float(hop or 0) if metric.of == "rtf" else 1e6
    of: Literal["response", "latency"] = "response" if metric.of == "response" else "latency"
    assert metric.share_over is not None, f"{metric.name} is no percentile"
    return Claim(budget, of, budget.limit * unit_ns, metric.share_over, unit_ns)


def evidence(claim: Claim, launches: Sequence[Launch], columns: Sequence[Nanoseconds]) -> Evidence:
    """Frames over the limit and the clusters that they come in. `columns` are the launches', frame by frame.

    A frame came near where it is past the middle between the median and the limit, half the limit for a model far
    below it, and among the slowest of twice the allowed share. Closer to its limit a model has so many frames past the
    middle that they join to endless clusters, which tell nothing of those that may be over (docs/verdicts.md).
    """
    slow = 100 * (1 - min(2 * claim.share, 0.5))
    median_ns, slow_ns = (float(ns) for ns in np.percentile(statistics.pooled(columns), (50, slow)))
    near_ns = min(max((median_ns + claim.limit_ns) / 2, slow_ns), claim.limit_ns)
    lengths = np.concatenate([np.diff(statistics.runs(column > near_ns))[:, 0] for column in columns])
    return Evidence(
        over=tuple(int(np.count_nonzero(column > claim.limit_ns)) for column in columns),
        frames=tuple(launch.latency_ns.size for launch in launches),
        cluster=max(LEAST_CLUSTER, float(lengths.mean())) if lengths.size else LEAST_CLUSTER,
        cluster_measured=bool(lengths.size),
    )


def unproven_launches(seen: Evidence, share: float, confidence: float) -> list[int]:
    """Indices of the launches whose own frames do not prove the claim."""
    pairs = zip(seen.over, seen.frames, strict=True)
    return [at for at, (over, frames) in enumerate(pairs) if not binomial.proves(over, frames, share, confidence)]


def pooled_proves(seen: Evidence, share: float, confidence: float) -> bool:
    """Whether the pooled frames prove the claim when each cluster counts as one frame."""
    over = math.ceil(sum(seen.over) / seen.cluster)
    return binomial.proves(over, int(seen.effective_frames), share, confidence)


def proves(seen: Evidence, share: float, confidence: float) -> bool:
    """Whether every launch, and all of them together, prove the claim."""
    return not unproven_launches(seen, share, confidence) and pooled_proves(seen, share, confidence)


def disproves(claim: Claim, launch: Launch, hop: int | None, needed_wealth: float) -> bool:
    """Whether one launch disproves the claim through the model's own doing."""
    if not claim.over(launch).any():
        return False  # nor has any frame waited for another so long
    shares = statistics.block_shares(launch, claim.over_by_itself(launch, hop))
    return betting.disproves(shares, claim.share, needed_wealth)


def cannot_keep_up(launch: Launch, hop: int | None) -> bool:
    """Whether a stream falls ever further behind: half the frames take longer than the audio that they consume."""
    if not hop or len(statistics.block_edges(launch)) < betting.LEAST_BLOCKS_OVER:
        return False
    return float(np.median(launch.latency_ns)) > hop


def value(claim: Claim, launches: Sequence[Launch]) -> float:
    """What is shown: the pooled percentile by linear interpolation, or the pooled share, in the metric's unit."""
    pooled_ns = statistics.pooled(claim.column(launch) for launch in launches)
    if not claim.unit_ns:
        return float(np.mean(pooled_ns > claim.limit_ns))
    return float(np.percentile(pooled_ns, 100 * (1 - claim.share))) / claim.unit_ns


def bound(claim: Claim, launches: Sequence[Launch], seen: Evidence, confidence: float) -> float | None:
    """The upper confidence bound that decides: the claim is proven where it is within the limit.

    Of a percentile it is an order statistic, free of any distribution: with k frames allowed over, the (k+1)-th
    largest. The worst of the launches' own and the pooled one. None: too few frames for any bound.
    """
    pooled_frames = int(seen.effective_frames)
    if not claim.unit_ns:
        pairs = [*zip(seen.over, seen.frames, strict=True), (math.ceil(sum(seen.over) / seen.cluster), pooled_frames)]
        return max(binomial.upper_share(over, frames, confidence) for over, frames in pairs)
    columns = [claim.column(launch) for launch in launches]
    allowed = [binomial.most_over(column.size, claim.share, confidence) for column in columns]
    allowed_pooled = binomial.most_over(pooled_frames, claim.share, confidence)
    columns.append(statistics.pooled(columns))
    allowed.append(None if allowed_pooled is None else math.floor(allowed_pooled * seen.cluster))
    worst_ns = 0.0
    for column, most in zip(columns, allowed, strict=True):
        if most is None:
            return None
        worst_ns = max(worst_ns, float(np.partition(column, column.size - 1 - most)[column.size - 1 - most]))
    return worst_ns / claim.unit_ns


def frames_a_launch_to_settle(seen: Evidence, share: float, settings: RunSettings) -> int | None:
    """Frames a launch that would prove the claim if the shares seen are the true ones; None: none would."""
    alone = binomial.frames_to_settle(seen.worst_share, share, settings.confidence)
    together = binomial.frames_to_settle(seen.seen_share, share, settings.confidence)
    if alone is None or together is None:
        return None
    launches = max(settings.launches, len(seen.frames))
    return max(alone, math.ceil(together * seen.cluster / launches))
