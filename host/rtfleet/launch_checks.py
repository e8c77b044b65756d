"""Budgets without percentiles: what a file or a runtime states exactly, and what each launch has one figure of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rtfleet import sustained
from rtfleet.artifact import Artifact
from rtfleet.disturbances import excuse, flattering, slowing
from rtfleet.fidelity import Recognition
from rtfleet.judged import Check, Verdict
from rtfleet.metrics import find
from rtfleet.percentile_check import Measured, launch_confidence
from rtfleet.profile import Budget
from rtfleet.records import CaseResult, Launch

# Value of a launch in the metric's unit; None where it is not known.
_OF_LAUNCH: Mapping[str, Callable[[Launch], float | None]] = {
    "load": lambda launch: None if launch.load_ns is None else launch.load_ns / 1e6,
    "first_inference": lambda launch: None if launch.first_inference_ns is None else launch.first_inference_ns / 1e6,
    "memory": lambda launch: _grown_mb(launch),
    "retention": sustained.retention,
}


def _grown_mb(launch: Launch) -> float | None:
    """Peak memory of the worker minus what it had before it loaded the model, in 10^6 bytes."""
    if launch.peak_rss_bytes is None or launch.rss_before_load_bytes is None:
        return None
    return (launch.peak_rss_bytes - launch.rss_before_load_bytes) / 1e6


def worst_launch(budget: Budget, measured: Measured) -> Check:
    """Load, first inference, memory: the worst launch counts, without statistics."""
    metric = find(budget.metric)
    values = [_OF_LAUNCH[metric.of](launch) for launch in measured.launches]
    known = {at: value for at, value in enumerate(values) if value is not None}
    if not known:
        return _open(budget, _why_unknown(metric.of, measured.launches))
    within = sum(value <= budget.limit for value in known.values())
    worst_at = max(known, key=lambda at: known[at])

    def check(verdict: Verdict, reason: str) -> Check:
        return Check(
            metric=budget.metric,
            limit=budget.limit,
            value=known[worst_at],
            verdict=verdict,
            reason=reason,
            where=budget.where,
            launch_confidence=launch_confidence(within, len(known)),
        )

    timed = metric.of != "memory"
    over = [at for at, value in known.items() if value > budget.limit]
    if over:
        said = f"{known[worst_at]:.4g} in launch {measured.launches[worst_at].round}, the limit is {budget.limit:g}"

        def still_over(launch: Launch) -> bool:
            value = _OF_LAUNCH[metric.of](launch)
            return value is not None and value > budget.limit

        causes = [excuse(measured.launches[at], measured.disturbed[at], still_over) if timed else None for at in over]
        cause = causes[0]
        if cause is None or None in causes:
            return check("FAIL", said)
        return check("INCONCLUSIVE", f"{said}, but with {cause.text}: {cause.hint}")
    wanted = measured.settings.launches
    if len(known) < wanted:
        return check("INCONCLUSIVE", f"{len(known)} of {wanted} launches: {wanted - len(known)} more would settle it")
    every = [one for disturbed in measured.disturbed for one in disturbed]
    if timed and flattering(every):
        cause = flattering(every)[0]
        return check("INCONCLUSIVE", f"holds, but flattered by {cause.text}: {cause.hint}")
    despite = f", despite {slowing(every)[0].text}" if timed and slowing(every) else ""
    return check("PASS", f"the worst of {len(known)} launches{despite}")


def exact(budget: Budget, result: CaseResult, artifact: Artifact, launches: Sequence[Launch]) -> Check:
    """Size, word errors and accelerated share: exact, so a limit is kept or broken."""
    metric = find(budget.metric)
    if metric.of == "word_error_rate":
        return _word_errors(budget, result.recognition, artifact)
    if metric.of == "size":
        value = artifact.size_bytes / 1e6
        verdict: Verdict = "PASS" if value <= budget.limit else "FAIL"
        return Check(budget.metric, budget.limit, value, verdict, f"{value:.4g} MB of model files", budget.where)
    placed = [launch.placement for launch in launches if launch.placement is not None]
    shares = [placement.accelerated_share for placement in placed if placement.accelerated_share is not None]
    why = next((one.why_unknown for one in placed if one.why_unknown), "")
    uncounted = next((one for one in placed if one.asked == "cpu" and not one.nodes), None)
    if uncounted is not None:
        # Everything runs on a CPU that was asked for: a share says something only of a delegate there.
        of_it = f"{uncounted.ran} is no delegate whose nodes could be counted"
        said = f"the nodes of its delegate are not counted: {why}" if why else of_it
        return Check(budget.metric, budget.limit, None, "UNJUDGED", f"asked for the CPU, and {said}", budget.where)
    if not shares or len(shares) < len(launches):
        notes = [note for one in placed for note in one.notes] or ["the runtime does not tell"]
        return _open(budget, f"the accelerated share is unknown: {why or notes[-1]}")
    least = min(placed, key=lambda one: one.accelerated_share or 0.0)
    verdict = "PASS" if min(shares) >= budget.limit else "FAIL"
    return Check(budget.metric, budget.limit, min(shares), verdict, least.words, budget.where)


def _word_errors(budget: Budget, recognition: Recognition | None, artifact: Artifact) -> Check:
    comparable = artifact.vocabulary is not None and any(clip.transcript for clip in artifact.utterances)
    if recognition is None and comparable:
        return _open(budget, "what it recognized was not measured: measure again (--resume)")
    if recognition is None or (rate := recognition.word_error_rate) is None:
        text = "no words were compared: that takes a recognizer, and a transcript (.txt) beside a clip"
        return Check(budget.metric, budget.limit, None, "UNJUDGED", text, budget.where)
    verdict: Verdict = "PASS" if rate <= budget.limit else "FAIL"
    reason = f"{recognition.wrong_words} of {recognition.words} words wrong"
    return Check(budget.metric, budget.limit, rate, verdict, reason, budget.where)


def _open(budget: Budget, reason: str) -> Check:
    return Check(budget.metric, budget.limit, None, "INCONCLUSIVE", reason, budget.where)


def _why_unknown(of: str, launches: Sequence[Launch]) -> str:
    if not launches:
        return "no launch was measured: measure again"
    if of == "retention":
        return "the launches are too short for a curve: measure longer (--duration 10m)"
    reason = next((launch.memory_reason for launch in launches if launch.memory_reason), "") if of == "memory" else ""
    return reason or "the agent reported no figure"
