"""Budgets held against facts: when a launch has enough, the checks and verdict of a case, the verdict of a run.

Pure functions. Percentiles are judged by `percentile_check`, parity by `parity`; this module knows which budget goes
where, what a case's checks come to, and in which order several ends of a run count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rtfleet import (
    betting,
    clip_checks,
    compare,
    disturbances,
    launch_checks,
    parity,
    percentile_check,
    percentile_claims,
    quality,
    recommend,
    statistics,
    sustained,
)
from rtfleet.artifact import Artifact
from rtfleet.errors import UsageError
from rtfleet.judged import GRAVEST_FIRST, Check, JudgedCase, JudgedRun, Verdict
from rtfleet.metrics import METRICS, find
from rtfleet.order import only_compared
from rtfleet.percentile_check import Measured
from rtfleet.profile import Budget
from rtfleet.records import Case, CaseResult, DeviceFacts, Launch, Run, RunSettings

__all__ = ["METRICS", "Decision", "decide", "judge", "judge_case", "judged_budgets", "target_frames"]

# With 459 frames a p99 is proven only if none is over; these leave room for four, and for one, honest hiccups.
FRAMES_OF_SHORT_HOPS = 1301
FRAMES_OF_LONG_HOPS = 662
SHORT_HOP_NS = 20_000_000

# A launch that failed may be repeated this often before the case itself is an error.
MOST_REPEATS = 2

# Failures that measuring again does not cure: the model or its export is what is wrong (exit code 2, not 4).
INPUT_ERRORS = frozenset({"SOURCE", "EXPORT", "BAD_MODEL", "BAD_OUTPUT", "UNSUPPORTED_OP", "UNSUPPORTED"})

_GRAVEST_CODE_FIRST = (1, 2, 4, 3, 0)

ONLY_COMPARED = "no budget is owed: it is only there to be compared with"
KEEPS_UP = "rtfleet's rule: a stream keeps up with its hop"


@dataclass(frozen=True)
class Decision:
    """Whether a launch has enough. `reason` is one clause for people; "" where it goes on."""

    enough: bool
    reason: str = ""


def target_frames(settings: RunSettings, hop_ns: int | None) -> int:
    """Frames that every launch is asked for, before anything was seen. `hop_ns` None (or 0) is a burst."""
    if settings.frames is not None:
        return settings.frames
    return FRAMES_OF_LONG_HOPS if hop_ns and hop_ns > SHORT_HOP_NS else FRAMES_OF_SHORT_HOPS


def decide(
    launches_so_far: Sequence[Launch],
    current: Launch | None,
    budgets: Sequence[Budget],
    settings: RunSettings,
    hop_ns: int | None,
) -> Decision:
    """Asked after each batch of blocks: enough, where no further frame can turn a FAIL.

    A launch that goes well is never ended here, however well: it ends by its own least count and time, which were
    fixed before anything was seen. Ending when the frames look good would turn a PASS into luck; the betting test
    alone may be looked at after every block.

    Args:
        budgets: Those that will be judged (`judged_budgets`).
        hop_ns: None in a burst.
    """
    needed = betting.needed_wealth(max(settings.launches, len(launches_so_far) + 1), settings.confidence)
    for launch in launches_so_far:
        if launch.kind == "LATENCY" and not statistics.why_void(launch):
            why = _certain_fail(launch, budgets, needed, hop_ns)
            if why and not _maybe_slowed(launch):
                return Decision(True, f"launch {launch.round} failed already: {why}")
    why = _certain_fail(current, budgets, needed, hop_ns) if current is not None else ""
    return Decision(bool(why), why)


def _certain_fail(launch: Launch, budgets: Sequence[Budget], needed: float, hop_ns: int | None) -> str:
    if not launch.latency_ns.size or not budgets:
        return ""
    if percentile_claims.cannot_keep_up(launch, hop_ns):
        return "it cannot keep up with its hop"
    for budget in budgets:
        if find(budget.metric).judging in ("percentile", "share"):
            claim = percentile_claims.claim_of(budget, hop_ns)
            if not isinstance(claim, str) and percentile_claims.disproves(claim, launch, hop_ns, needed):
                return f"{budget.metric} is over {budget.limit:g}"
    return ""


def _maybe_slowed(launch: Launch) -> bool:
    """Whether something else may be why it failed; then the other launches are still worth their time."""
    causes = (disturbances.busy(launch, 0), disturbances.steal(launch, 0), disturbances.throttled(launch))
    return any(causes) or disturbances.low_power(launch) is not None


def judged_budgets(budgets: Sequence[Budget], case: Case, artifact: Artifact) -> tuple[Budget, ...]:
    """The budgets that a case is judged by: its task's and everybody's, none of what is only compared with.

    A part owes nothing of its task but parity, and whole clips have no percentiles across them.
    """
    if only_compared(case):
        return ()

    def is_judged(budget: Budget) -> bool:
        metric = find(budget.metric)
        if artifact.utterances and metric.judging in ("percentile", "share"):
            return False
        of_whole = artifact.covers == "whole" or metric.of.startswith("parity")
        return budget.task == "all" or (budget.task == artifact.task and of_whole)

    return tuple(filter(is_judged, budgets))


# ---- a case --------------------------------------------------------------------------------------------------------


def judge_case(result: CaseResult, device: DeviceFacts | None, settings: RunSettings) -> JudgedCase:
    """All that follows from a case's facts."""
    summary = statistics.summarize(result)
    if summary is not None and sustained.is_sustained(result.case.scenario, settings):
        launches = statistics.good_launches(result)
        summary = replace(
            summary,
            retention=max((one for one in map(sustained.retention, launches) if one is not None), default=None),
            heated_c=max(filter(None, map(sustained.heated_c, launches)), key=lambda heat: heat[1], default=None),
            curve_p50_ns=sustained.mean_curve_ns(launches),
        )
    warnings = quality.warnings(result, summary, device, settings)
    error = _error(result, settings)
    if error or result.artifact is None:
        text = error or "there is no model file to judge"
        return JudgedCase(result, summary, (), warnings, "ERROR", text)
    if only_compared(result.case):
        return JudgedCase(result, summary, (), warnings, "UNJUDGED", ONLY_COMPARED)
    checks = _checks(result, result.artifact, device, settings)
    owed = frozenset(budget.metric for budget in judged_budgets(result.budgets, result.case, result.artifact))
    verdict, reason = _verdict_of(checks, owed), ""
    missing = settings.launches - len(statistics.good_launches(result))
    if missing > 0 and verdict == "PASS":
        # Whatever else holds: what was not measured did not pass.
        verdict = "INCONCLUSIVE"
        reason = f"{settings.launches - missing} of {settings.launches} launches were measured (--resume)"
    return JudgedCase(result, summary, checks, warnings, verdict, reason or _reason(verdict, checks))


def _verdict_of(checks: Sequence[Check], owed: frozenset[str]) -> Verdict:
    """As bad as the worst check. A PASS takes a budget that was held; a part, or parity alone, is UNJUDGED."""
    verdicts = {check.verdict for check in checks}
    for verdict in GRAVEST_FIRST[:-1]:
        if verdict in verdicts:
            return verdict
    return "PASS" if any(check.metric in owed for check in checks) else "UNJUDGED"


def _reason(verdict: Verdict, checks: Sequence[Check]) -> str:
    """One line why, and what would settle it; "" for a plain PASS."""
    if verdict == "PASS":
        despite = [check.reason.partition("despite ")[2] for check in checks if "despite " in check.reason]
        return f"despite {despite[0]}" if despite else ""
    deciding = [check for check in checks if check.verdict == verdict]
    if not deciding:
        return "no budget is owed: only parity was checked" if checks else "no budget is owed"
    more = f" (and {len(deciding) - 1} more)" if len(deciding) > 1 else ""
    return f"{deciding[0].metric}: {deciding[0].reason}{more}"


def _error(result: CaseResult, settings: RunSettings) -> str:
    """Why a case is an ERROR; "" where it is none."""
    if result.error is not None:
        return result.error.text
    failed = [why for why in map(statistics.why_void, _latency_launches(result)) if why]
    good = len(statistics.good_launches(result))
    if not failed or (good >= settings.launches and len(failed) <= MOST_REPEATS):
        return ""
    return f"{len(failed)} of {len(failed) + good} launches failed; the last: {failed[-1]}"


def _latency_launches(result: CaseResult) -> list[Launch]:
    return [launch for launch in result.launches if launch.kind == "LATENCY"]


def _checks(
    result: CaseResult, artifact: Artifact, device: DeviceFacts | None, settings: RunSettings
) -> tuple[Check, ...]:
    launches = statistics.good_launches(result)
    usual_probe_ns = disturbances.usual_probe(launches)
    paced_hop_ns = artifact.hop_ns if result.case.scenario == "paced" else None
    measured = Measured(
        launches=launches,
        disturbed=[disturbances.of_launch(one, result.case, device, settings, usual_probe_ns) for one in launches],
        hop_ns=artifact.hop_ns,
        target_frames=target_frames(settings, paced_hop_ns),
        burst_of_a_stream=artifact.hop_ns is not None and paced_hop_ns is None,
        settings=settings,
    )
    owed = [budget for budget in result.budgets if budget.task in ("all", artifact.task)]
    checks = [_check(budget, result, artifact, measured) for budget in owed]
    told = any(check.verdict == "FAIL" and "cannot keep up" in check.reason for check in checks)
    if judged_budgets(owed, result.case, artifact) and artifact.covers == "whole" and not told:
        behind = percentile_check.keeps_up(measured, KEEPS_UP)
        checks += [behind] if behind else []
    if artifact.reference is not None or result.parity_device is not None:
        limited = {budget.metric for budget in owed}
        defaults = [budget for budget in parity.default_budgets(artifact) if budget.metric not in limited]
        checks += [parity.judge(budget, result.parity_device, result.parity_host) for budget in defaults]
    return tuple(checks)


def _check(budget: Budget, result: CaseResult, artifact: Artifact, measured: Measured) -> Check:
    metric = find(budget.metric)
    if metric.of.startswith("parity"):
        if artifact.vocabulary is not None:
            text = "a recognizer's tokens are judged by word_error_rate"
            return Check(budget.metric, budget.limit, None, "UNJUDGED", text, budget.where)
        return parity.judge(budget, result.parity_device, result.parity_host)
    if artifact.covers == "part" and budget.task != "all":
        text = f"{artifact.part_of}: the budget is for the whole of it"
        return Check(budget.metric, budget.limit, None, "UNJUDGED", text, budget.where)
    if metric.judging == "clip":
        return clip_checks.judge(budget, artifact, measured)
    if metric.judging in ("percentile", "share"):
        if artifact.utterances:
            text = "clips differ in length, so there is no percentile across them: end_of_speech_ms judges each clip"
            return Check(budget.metric, budget.limit, None, "UNJUDGED", text, budget.where)
        return percentile_check.judge(budget, measured)
    if metric.judging == "worst":
        return launch_checks.worst_launch(budget, measured)
    return launch_checks.exact(budget, result, artifact, measured.launches)


# ---- a run ---------------------------------------------------------------------------------------------------------


def judge(run: Run) -> JudgedRun:
    """Every case judged, and what the run comes to.

    Where several ends hold, the exit code is the first of: 130 interrupted, 1 a FAIL, 2 bad input or nothing judged at
    all, 4 a device gave no result, 3 INCONCLUSIVE; else 0. A candidate that is slower than its baseline is a FAIL; a
    run that did not come to its end passes nothing.
    """
    devices = {device.alias: device for device in run.devices}
    cases = tuple(judge_case(result, devices.get(result.case.device), run.settings) for result in run.results)
    unlike = quality.unlike_builds(run)
    cases = tuple(
        replace(case, warnings=(*case.warnings, unlike[id_])) if (id_ := case.result.case.id) in unlike else case
        for case in cases
    )
    comparisons = compare.within(run)
    ends = [_end(cases)]
    if comparisons:
        code = compare.exit_code(comparisons, run.settings.tolerance)
        of_code: dict[int, Verdict] = {0: "PASS", 1: "FAIL", 3: "INCONCLUSIVE"}
        # A comparison is a judgement, so that a run without budgets has one.
        ends = [end for end in ends if end.verdict != "UNJUDGED"]
        ends.append(_End(of_code[code], code))
    if not run.finished:
        # What was not reached is no row, and may have failed.
        ends.append(_End("INCONCLUSIVE", 3))
    end = min(ends, key=lambda one: _GRAVEST_CODE_FIRST.index(one.exit_code))
    code = 130 if run.interrupted else end.exit_code
    return JudgedRun(run, cases, end.verdict, code, comparisons, recommend.recommend(cases))


def only(judged: JudgedRun, case: str) -> JudgedRun:
    """The cases whose id has that in it, under the verdict of the whole run.

    Raises:
        UsageError: there is none.
    """
    kept = tuple(one for one in judged.cases if case in one.result.case.id)
    if not kept:
        ids = ", ".join(one.result.case.id for one in judged.cases)
        raise UsageError(f"--case {case}: the run has no such case", f"it has {ids}")
    shown = {one.result.case.id for one in kept}
    return replace(
        judged,
        cases=kept,
        comparisons=tuple(one for one in judged.comparisons if one.case_id in shown),
        recommendations=(),
    )


@dataclass(frozen=True)
class _End:
    verdict: Verdict
    exit_code: int


def _end(cases: Sequence[JudgedCase]) -> _End:
    verdicts = {case.verdict for case in cases}
    kinds = {_error_kind(case.result) for case in cases if case.verdict == "ERROR"}
    if "FAIL" in verdicts:
        return _End("FAIL", 1)
    if kinds & INPUT_ERRORS:
        return _End("ERROR", 2)
    if kinds:
        return _End("ERROR", 4)
    if "INCONCLUSIVE" in verdicts:
        return _End("INCONCLUSIVE", 3)
    return _End("PASS", 0) if "PASS" in verdicts else _End("UNJUDGED", 2)


def _error_kind(result: CaseResult) -> str:
    """What kind of error made a case an ERROR: its own, else its last failed launch's."""
    if result.error is not None:
        return result.error.kind
    failed = [launch.error.kind for launch in _latency_launches(result) if launch.error is not None]
    return failed[-1] if failed else "DEVICE"
