"""A percentile budget held against a case: the verdict of `percentile_claims`, and the words for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rtfleet import betting, binomial, percentile_claims, statistics
from rtfleet.disturbances import Disturbance, excuse, flattering, slowing
from rtfleet.judged import Check, Verdict
from rtfleet.metrics import find
from rtfleet.percentile_claims import Claim, Evidence
from rtfleet.profile import Budget
from rtfleet.records import Launch, RunSettings

# So many events are told with their time; more are counted.
EVENTS_TOLD = 2


@dataclass(frozen=True)
class Measured:
    """What a claim is held against.

    Attributes:
        launches: The good ones, in the order measured; `disturbed` likewise.
        hop_ns: Audio of one frame; None where the model does not stream.
        target_frames: Frames that a launch was asked for, before anything was seen.
        burst_of_a_stream: A streaming model measured back to back, which no stream ever is.
    """

    launches: Sequence[Launch]
    disturbed: Sequence[Sequence[Disturbance]]
    hop_ns: int | None
    target_frames: int
    burst_of_a_stream: bool
    settings: RunSettings


def judge(budget: Budget, measured: Measured) -> Check:
    """The check of a budget on a percentile or on the share of deadline misses."""
    claim = percentile_claims.claim_of(budget, measured.hop_ns)
    if isinstance(claim, str):
        return Check(budget.metric, budget.limit, None, "INCONCLUSIVE", claim, budget.where)
    if not measured.launches:
        text = "no launch was measured: measure again"
        return Check(budget.metric, budget.limit, None, "INCONCLUSIVE", text, budget.where)
    settings, launches = measured.settings, measured.launches
    seen = percentile_claims.evidence(claim, launches, [claim.column(launch) for launch in launches])
    verdict, reason = _verdict(claim, seen, measured)
    holds = len(launches) - len(percentile_claims.unproven_launches(seen, claim.share, settings.confidence))
    return Check(
        metric=budget.metric,
        limit=budget.limit,
        value=percentile_claims.value(claim, launches),
        verdict=verdict,
        reason=reason,
        where=budget.where,
        bound=percentile_claims.bound(claim, launches, seen, settings.confidence),
        confidence=settings.confidence,
        launch_confidence=launch_confidence(holds, len(launches)),
        effective_frames=seen.effective_frames,
        assumed_cluster=seen.cluster,
        cluster_measured=seen.cluster_measured,
    )


def launch_confidence(holds: int, launches: int) -> float:
    """How sure it is that one more launch would hold, from `holds` of `launches` that did: holds / (launches + 1).

    If launches come in no special order, the next one is as likely as any other to be the worst of all, so the chance
    that it is worse than each of k good ones is 1 / (k + 1): no distribution is assumed (Wilks 1941). 3 of 3 launches
    promise 75 %; 99 % would take 99.
    """
    return holds / (launches + 1)


def keeps_up(measured: Measured, where: str) -> Check | None:
    """A check of its own for a stream that falls behind, for cases without a budget on its responses."""
    behind = _behind(measured)
    if not behind:
        return None
    verdict, reason = _failed(
        behind, measured, lambda launch: percentile_claims.cannot_keep_up(launch, measured.hop_ns)
    )
    assert measured.hop_ns is not None
    rtf = float(np.median(statistics.pooled(launch.latency_ns for launch in measured.launches))) / measured.hop_ns
    return Check("rtf_p50", 1.0, rtf, verdict, reason, where)


def _verdict(claim: Claim, seen: Evidence, measured: Measured) -> tuple[Verdict, str]:
    failing = _disproving(claim, measured)
    if claim.of == "response":
        failing |= _behind(measured)
    if failing:
        return _failed(failing, measured, lambda launch: _fails(claim, launch, measured))
    if measured.burst_of_a_stream and claim.of == "response":
        return "INCONCLUSIVE", "measured back to back, which flatters a stream: measure it with --scenario paced"
    open_reason = _open_reason(claim, seen, measured)
    if open_reason:
        return "INCONCLUSIVE", open_reason
    every = [one for disturbed in measured.disturbed for one in disturbed]
    flattered = flattering(every)
    if flattered:
        return "INCONCLUSIVE", f"holds, but flattered by {flattered[0].text}: {flattered[0].hint}"
    slowed = slowing(every)
    despite = f", despite {slowed[0].text}" if slowed else ""
    return "PASS", f"{_counted(claim, seen)} in {len(seen.frames)} launches{_clusters(seen)}{despite}"


def _failed(failing: dict[int, str], measured: Measured, still_fails: Callable[[Launch], bool]) -> tuple[Verdict, str]:
    """FAIL, unless each of the failing launches may have been slowed by something else than the model."""
    excuses = [excuse(measured.launches[at], measured.disturbed[at], still_fails) for at in failing]
    for cause, why in zip(excuses, failing.values(), strict=True):
        if cause is None:
            return "FAIL", why
    why, cause = next(iter(failing.values())), excuses[0]
    assert cause is not None, "a launch without an excuse is a FAIL"
    return "INCONCLUSIVE", f"{why}, but with {cause.text}: {cause.hint}"


def _fails(claim: Claim, launch: Launch, measured: Measured) -> bool:
    """Whether one launch alone is a FAIL of the claim."""
    if claim.of == "response" and percentile_claims.cannot_keep_up(launch, measured.hop_ns):
        return True
    return percentile_claims.disproves(claim, launch, measured.hop_ns, _needed_wealth(measured))


def _behind(measured: Measured) -> dict[int, str]:
    """The launches whose stream fell ever further behind, with why."""
    return {
        at: f"cannot keep up: half the frames of launch {launch.round} take "
        f"{float(np.median(launch.latency_ns)) / 1e6:.3g} ms or longer, one comes every {measured.hop_ns / 1e6:.3g} ms"
        for at, launch in enumerate(measured.launches)
        if measured.hop_ns and percentile_claims.cannot_keep_up(launch, measured.hop_ns)
    }


def _disproving(claim: Claim, measured: Measured) -> dict[int, str]:
    """The launches whose blocks disprove the claim, with why."""
    needed = _needed_wealth(measured)
    return {
        at: f"{_percent(float(np.mean(claim.over_by_itself(launch, measured.hop_ns))))} of the frames of "
        f"launch {launch.round} are over {_limit(claim)}, {_percent(claim.share)} allowed"
        for at, launch in enumerate(measured.launches)
        if percentile_claims.disproves(claim, launch, measured.hop_ns, needed)
    }


def _needed_wealth(measured: Measured) -> float:
    launches = max(measured.settings.launches, len(measured.launches))
    return betting.needed_wealth(launches, measured.settings.confidence)


def _open_reason(claim: Claim, seen: Evidence, measured: Measured) -> str:
    """Why the claim is not proven, and what would settle it; "" where it is proven."""
    settings, launches = measured.settings, measured.launches
    missing = settings.launches - len(launches)
    if missing > 0 and not percentile_claims.unproven_launches(seen, claim.share, settings.confidence):
        more = f"{missing} more launch{'es' if missing > 1 else ''}"
        return f"{len(launches)} of {settings.launches} launches hold: {more} like them would settle it (--resume)"
    if not percentile_claims.proves(seen, claim.share, settings.confidence):
        return _scheduler(claim, seen, measured) or _unproven(claim, seen, measured)
    shortest = min(launch.latency_ns.size for launch in launches)
    if shortest < measured.target_frames:
        return f"a launch ended after {shortest} of {measured.target_frames} frames: measure it in full"
    return ""


def _scheduler(claim: Claim, seen: Evidence, measured: Measured) -> str:
    """Said where the latencies alone would have held; "" where the model has its part in it."""
    if claim.of != "response" or not sum(seen.over):
        return ""
    alone = [statistics.undelayed_response_ns(launch, measured.hop_ns) for launch in measured.launches]
    seen_alone = percentile_claims.evidence(claim, measured.launches, alone)
    if not percentile_claims.proves(seen_alone, claim.share, measured.settings.confidence):
        return ""
    return (
        f"the scheduler, not the model: {_counted(claim, seen)}, {sum(seen_alone.over)} by the model's own latency"
        f"{_events(claim, measured)}; measure again on a quieter device"
    )


def _unproven(claim: Claim, seen: Evidence, measured: Measured) -> str:
    settings = measured.settings
    said = f"{_counted(claim, seen)}{_clusters(seen)}{_events(claim, measured)}"
    causes = [one for disturbed in measured.disturbed for one in slowing(disturbed)]
    if causes:
        said += f", with {causes[0].text}"
    frames = percentile_claims.frames_a_launch_to_settle(seen, claim.share, settings)
    if frames is not None:
        return f"{said}: {_frames(frames, measured)} would settle it"
    frames = _frames_to_fail(claim, measured)
    if frames is not None:
        return f"{said}, more than the {_percent(claim.share)} allowed: {_frames(frames, measured)} would show a FAIL"
    return f"{said}, too close to the {_percent(claim.share)} allowed for {binomial.MOST_FRAMES:,} frames to settle it"


def _frames_to_fail(claim: Claim, measured: Measured) -> int | None:
    """Frames of a launch that would disprove the claim, were the worst launch to go on as it did."""
    frames = []
    for launch in measured.launches:
        shares = statistics.block_shares(launch, claim.over_by_itself(launch, measured.hop_ns))
        blocks = betting.blocks_to_settle(shares, claim.share, _needed_wealth(measured))
        if blocks is not None:
            frames.append(blocks * launch.latency_ns.size // max(shares.size, 1))
    return min(frames, default=None)


# ---- words ---------------------------------------------------------------------------------------------------------


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _limit(claim: Claim) -> str:
    if not claim.unit_ns:
        return f"the hop of {claim.limit_ns / 1e6:.3g} ms"
    rtf = find(claim.budget.metric).of == "rtf"
    return f"{claim.budget.limit:g}" + (" of real time" if rtf else " ms")


def _counted(claim: Claim, seen: Evidence) -> str:
    return f"{sum(seen.over)} of {sum(seen.frames):,} frames over {_limit(claim)}"


def _clusters(seen: Evidence) -> str:
    """L, which a PASS rests on, is printed with it; an assumption is called one."""
    kind = "seen" if seen.cluster_measured else "assumed"
    return f" (clusters of {seen.cluster:.1f} {kind})"


def _events(claim: Claim, measured: Measured) -> str:
    """The events behind the frames over, where they are few enough to name."""
    named = [
        f"{event.length_ms:.3g} ms at {event.at_s:.1f} s of launch {launch.round} "
        f"({event.frames} frame{'s' * (event.frames > 1)})"
        for launch in measured.launches
        for event in statistics.events(launch, claim.over(launch), measured.hop_ns)
    ]
    if not named or len(named) > EVENTS_TOLD:
        return f" in {len(named)} events" if named else ""
    return f": {'one stall' if len(named) == 1 else 'stalls'} of " + " and ".join(named)


def _frames(frames: int, measured: Measured) -> str:
    """A number of frames a launch, and the time that they take where the pace is known."""
    paced = measured.hop_ns if not measured.burst_of_a_stream else None
    seconds = f" (--duration {frames * paced / 1e9:.0f}s)" if paced else ""
    return f"{frames:,} frames a launch{seconds}"
