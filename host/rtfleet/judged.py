"""What is judged of a run's facts (`records.py`): it follows from them alone, so a stored run can be judged again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from rtfleet.records import CaseResult, Run, Scenario

Verdict: TypeAlias = Literal["PASS", "FAIL", "INCONCLUSIVE", "UNJUDGED", "ERROR"]
GRAVEST_FIRST: tuple[Verdict, ...] = ("ERROR", "FAIL", "INCONCLUSIVE", "UNJUDGED", "PASS")
Outcome: TypeAlias = Literal["SLOWER", "FASTER", "SAME", "INCONCLUSIVE"]
Advice: TypeAlias = Literal["MET", "OPEN", "UNMET", "NONE"]


@dataclass(frozen=True)
class Percentiles:
    """Linear-interpolation percentiles (Hyndman and Fan, type 7) of all frames of the good launches pooled, in ns."""

    p50_ns: float
    p90_ns: float
    p95_ns: float
    p99_ns: float
    max_ns: float


@dataclass(frozen=True)
class ClipTimes:
    """What one whole clip took a recognizer: medians over its repeats in all launches.

    Attributes:
        index: Of the clip among the artifact's utterances; two of them may have one name.
        end_of_speech_ns: From the clip handed in to its final text.
        per_token_ns: From one token to the next, after the first.
        tokens: Of the clip, the one that ended it included.
    """

    index: int
    clip: str
    duration_s: float
    repeats: int
    end_of_speech_ns: float
    first_token_ns: float | None
    per_token_ns: float | None
    tokens: int | None

    @property
    def rtf(self) -> float:
        """Processing time / audio time."""
        return self.end_of_speech_ns / 1e9 / self.duration_s


@dataclass(frozen=True)
class Summary:
    """What is shown of a case. None where the scenario has no such figure.

    Of a recognizer of whole clips, frames differ in length: its percentiles and its RTF are the slowest clip's.

    Attributes:
        duty_cycle: Fraction of a paced stream's time spent computing: mean latency / hop.
        pacing_penalty: Paced p50 / burst p50 of the same processes.
        deadline_misses: Frames whose response was longer than the hop.
        retention: Of a sustained run, the worst launch's: p50 of its last window / of its first.
        heated_c: Of a sustained run, its hottest launch's: the hottest sensor before it, and the most until its end.
        curve_p50_ns: Of a sustained run: p50 window by window, the mean of the launches.
        clips: Of a recognizer of whole clips.
    """

    launches: int
    frames: int
    latency: Percentiles
    response: Percentiles
    rtf_p50: float | None
    rtf_p99: float | None
    deadline_misses: int | None
    duty_cycle: float | None
    pacing_penalty: float | None
    load_ns: int | None = None
    first_inference_ns: int | None = None
    peak_memory_bytes: int | None = None
    overhead_ns: int | None = None
    retention: float | None = None
    heated_c: tuple[float, float] | None = None
    curve_p50_ns: tuple[float, ...] = ()
    clips: tuple[ClipTimes, ...] = ()


@dataclass(frozen=True)
class Warning:
    """Something that a reader of the numbers must know, and what to do about it."""

    code: str
    text: str
    hint: str


@dataclass(frozen=True)
class Check:
    """A budget held against a case.

    Attributes:
        value: What was measured, in the metric's own unit; None where nothing was.
        bound: The confidence bound that decided (upper for a ceiling); None for exact metrics.
        confidence: Of the verdict; None where the metric has no statistics.
        launch_confidence: Confidence that a further launch would also hold, from the number of launches alone.
        effective_frames: Pooled frames divided by the cluster length.
        assumed_cluster: L, the cluster length used; `cluster_measured` tells whether it was seen or assumed.
        reason: One sentence for people: why, and what would settle it.
        where: File and key of the limit.
    """

    metric: str
    limit: float
    value: float | None
    verdict: Verdict
    reason: str
    where: str
    bound: float | None = None
    confidence: float | None = None
    launch_confidence: float | None = None
    effective_frames: float | None = None
    assumed_cluster: float | None = None
    cluster_measured: bool = False


@dataclass(frozen=True)
class JudgedCase:
    """A case with all that follows from its facts."""

    result: CaseResult
    summary: Summary | None
    checks: tuple[Check, ...]
    warnings: tuple[Warning, ...]
    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True)
class Difference:
    """A condition that was not the same on both sides, with the value of each, as text."""

    field: str
    baseline: str
    candidate: str


@dataclass(frozen=True)
class Comparison:
    """One metric of one case, candidate against baseline.

    Attributes:
        case_id: The candidate's.
        metric: latency_p50, latency_p99 or response_p99: of each launch, judged over launches.
        baseline_ns, candidate_ns: The median launch; None without a good launch.
        ratio: Candidate / baseline: the median over all pairs of launches; below 1 is faster.
        interval: Ratios that the launches are compatible with, at `interval_confidence`; None where they are too few
            to exclude any.
        interval_confidence: Of this interval: the call's confidence shared among its tests.
        smallest_effect: The ratio by which a candidate must differ to be told apart now: half the interval's width.
        p_value: Two-sided, corrected for all tests of the call; None where nothing could be decided.
        launches: Good launches of the baseline, and of the candidate.
        launches_needed: Launches a side that would settle it, from the spread seen; only where INCONCLUSIVE.
        interleaved: The two sides' launches were measured in turns.
        unlike: Conditions that were not the same; compared anyway.
        disturbed: What disturbed launches of either side, in words.
        reason: One sentence for people, with all of this that matters.
    """

    case_id: str
    metric: str
    verdict: Outcome
    reason: str
    baseline_ns: float | None
    candidate_ns: float | None
    ratio: float | None
    interval: tuple[float, float] | None
    interval_confidence: float
    smallest_effect: float | None
    p_value: float | None
    launches: tuple[int, int]
    launches_needed: int | None
    interleaved: bool
    unlike: tuple[Difference, ...]
    disturbed: tuple[str, ...]


@dataclass(frozen=True)
class Recommendation:
    """Which variant of a model a device should run.

    Attributes:
        advice: MET: `case_id` meets every budget at the least cost. OPEN: nothing is proven to, but `case_id` may.
            UNMET: nothing does, `case_id` came closest. NONE: no variant gave a result.
        unmet: Budgets (metrics) that no variant meets; () where each is met by some variant, but all by none.
        reason: One sentence for people, with the numbers.
    """

    model: str
    device: str
    scenario: Scenario
    advice: Advice
    case_id: str | None
    unmet: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class JudgedRun:
    """A run with its verdict.

    Attributes:
        exit_code: As in the table of exit codes.
        comparisons: Of a run with a baseline, each metric of each case against it.
        recommendations: One for each model on each device that owes budgets.
    """

    run: Run
    cases: tuple[JudgedCase, ...]
    verdict: Verdict
    exit_code: int
    comparisons: tuple[Comparison, ...] = ()
    recommendations: tuple[Recommendation, ...] = ()
