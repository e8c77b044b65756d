"""Recognizers that take whole clips: each clip has a latency of its own, and no percentile goes across clips. Pure.

A clip's latency is what a user waits from the end of speech to the final text. The claim is that its median is within
the limit: with n repeats, of which k were over, it is proven where so few would be over by luck in at most
1 - confidence of all tries, were the true share one half, X ~ Binomial(n, 1/2) (the sign test). At 99 % that takes 7
repeats with none over, or 11 with one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rtfleet import binomial
from rtfleet.artifact import Artifact
from rtfleet.clip_times import of_clip
from rtfleet.disturbances import excuse, flattering, slowing
from rtfleet.judged import Check, Verdict
from rtfleet.metrics import find
from rtfleet.percentile_check import Measured, launch_confidence
from rtfleet.profile import Budget
from rtfleet.records import Launch, Nanoseconds, RunSettings

LEAST_REPEATS = 12
"""Of every clip in a launch: they prove a median within its limit at 99 % also where one of them was over."""
WARMUP_REPEATS = 2
_HALF = 0.5

_COLUMN: Mapping[str, Callable[[Launch], Nanoseconds]] = {
    "end_of_speech": lambda launch: launch.latency_ns,
    "first_token": lambda launch: launch.first_token_ns,
}


@dataclass(frozen=True)
class _Seen:
    """A clip in a launch."""

    clip: str
    launch: Launch
    repeats: int
    over: int


def repeats(clips: int, settings: RunSettings) -> int:
    """How often a launch gives each clip: where all of them are over, that disproves it, among so many clips too."""
    alpha = _alpha(clips, settings.launches, settings.confidence)
    return max(LEAST_REPEATS, math.ceil(-math.log2(alpha)))


def _alpha(clips: int, launches: int, confidence: float) -> float:
    """How often one clip of one launch may be disproven by luck, so that any of them is in 1 - confidence of tries."""
    return (1 - confidence) / (clips * launches)


def judge(budget: Budget, artifact: Artifact, measured: Measured) -> Check:
    """A budget on what every clip takes: the value is the slowest clip's median, of a FAIL the one that failed."""

    def check(verdict: Verdict, reason: str, value: float | None = None, holds: int | None = None) -> Check:
        return Check(
            metric=budget.metric,
            limit=budget.limit,
            value=value,
            verdict=verdict,
            reason=reason,
            where=budget.where,
            confidence=measured.settings.confidence,
            launch_confidence=None if holds is None else launch_confidence(holds, len(measured.launches)),
        )

    clips = artifact.utterances
    if not clips:
        return check("UNJUDGED", "no end of speech was measured: that takes a whole recognizer, not one graph of it")
    column, limit_ns = _COLUMN[find(budget.metric).of], budget.limit * 1e6
    seen = [
        [_seen(of_clip(launch, index, len(clips)), clip.clip, column, limit_ns) for index, clip in enumerate(clips)]
        for launch in measured.launches
    ]
    if not seen or any(not one.repeats for launch in seen for one in launch):
        return check("INCONCLUSIVE", "not every clip was measured in every launch: measure longer (--duration)")
    # By place: two clips may have one name.
    medians_ms = [_median_ms([column(one.launch) for one in same_clip]) for same_clip in zip(*seen, strict=True)]
    slowest = int(np.argmax(medians_ms))
    value = medians_ms[slowest]
    holds = sum(all(_proven(one, measured.settings.confidence) for one in launch) for launch in seen)
    told = f"{clips[slowest].clip}, the slowest of {len(clips)} clips: {value:.4g} ms, the limit is {budget.limit:g}"

    settings = measured.settings
    alpha = _alpha(len(clips), max(settings.launches, len(seen)), settings.confidence)
    failing = [(at, one) for at, launch in enumerate(seen) for one in launch if _disproven(one, alpha)]
    if failing:

        def still_fails(launch: Launch) -> bool:
            return _disproven(_seen(launch, "", column, limit_ns), alpha)

        causes = [excuse(one.launch, measured.disturbed[at], still_fails) for at, one in failing]
        deciding = causes.index(None) if None in causes else 0
        one, cause = failing[deciding][1], causes[deciding]
        own_ms = _median_ms([column(one.launch)])
        said = f"{one.clip} in launch {one.launch.round}: {own_ms:.4g} ms, the limit is {budget.limit:g}"
        if cause is None:
            return check("FAIL", said, own_ms, holds)
        return check("INCONCLUSIVE", f"{said}, but with {cause.text}: {cause.hint}", own_ms, holds)
    if holds < len(seen) or len(seen) < settings.launches:
        open_ = next((one for launch in seen for one in launch if not _proven(one, settings.confidence)), None)
        if open_ is None:
            missing = settings.launches - len(seen)
            return check("INCONCLUSIVE", f"{told}: {missing} more launches would settle it", value, holds)
        return check("INCONCLUSIVE", f"{told}: {_what_settles(open_, settings.confidence, alpha)}", value, holds)
    every = [one for disturbed in measured.disturbed for one in disturbed]
    if flatters := flattering(every):
        return check(
            "INCONCLUSIVE", f"{told}: holds, but flattered by {flatters[0].text}: {flatters[0].hint}", value, holds
        )
    slowed = slowing(every)
    return check("PASS", told + (f", despite {slowed[0].text}" if slowed else ""), value, holds)


def _seen(launch: Launch, clip: str, column: Callable[[Launch], Nanoseconds], limit_ns: float) -> _Seen:
    values = column(launch)
    return _Seen(clip, launch, values.size, int(np.count_nonzero(values > limit_ns)))


def _median_ms(columns: Sequence[Nanoseconds]) -> float:
    return float(np.median(np.concatenate(columns))) / 1e6


def _proven(one: _Seen, confidence: float) -> bool:
    return binomial.proves(one.over, one.repeats, _HALF, confidence)


def _disproven(one: _Seen, alpha: float) -> bool:
    """Whether so many would be over by luck in at most `alpha` of all tries, were the median within the limit."""
    if not one.repeats:
        return False
    # P(X >= over) of a fair coin is P(X <= repeats - over).
    return float(binomial.cumulative(one.repeats, _HALF)[one.repeats - one.over]) <= alpha


def _what_settles(one: _Seen, confidence: float, alpha: float) -> str:
    share = one.over / one.repeats
    seen = f"{one.over} of {one.repeats} repeats of {one.clip} were over in launch {one.launch.round}"
    if share > _HALF:
        needed, shown = binomial.frames_to_settle(1 - share, _HALF, 1 - alpha), "show a FAIL"
    else:
        needed, shown = binomial.frames_to_settle(share, _HALF, confidence), "settle it"
    return f"{seen}; {needed} repeats would {shown} (--duration)" if needed else f"{seen}, too near to be settled"
