"""When a launch has enough, what a case's checks come to, and a run's exit code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from invented import (
    MS,
    P99_50_MS,
    REFERENCE,
    THREE_LAUNCHES,
    artifact,
    budget,
    case,
    device,
    launch,
    parity,
    state,
    with_frames,
)

from rtfleet import metrics
from rtfleet.artifact import Utterance
from rtfleet.budget import decide, judge, judge_case, judged_budgets, target_frames
from rtfleet.errors import UsageError
from rtfleet.judged import Check, JudgedCase, Verdict
from rtfleet.order import BASELINE
from rtfleet.records import BusyProcess, CaseError, CaseResult, Options, Placement, Preflight, Run, RunSettings

HOP_NS = 80 * MS
QUIET = launch(1.0)
BUSY = replace(state(), busy=(BusyProcess(7, "make", 1.8),))


def judged(result: CaseResult, settings: RunSettings = THREE_LAUNCHES, **facts: Any) -> JudgedCase:
    return judge_case(result, device(**facts), settings)


def check_of(result: CaseResult, settings: RunSettings = THREE_LAUNCHES, **facts: Any) -> Check:
    return judged(result, settings, **facts).checks[0]


# ---- frames and early ends -----------------------------------------------------------------------------------------


def test_frames_of_a_launch_are_fixed_before_anything_is_seen() -> None:
    asked = RunSettings()

    assert [target_frames(asked, hop) for hop in (None, 10 * MS, 20 * MS, 32 * MS)] == [1301, 1301, 1301, 662]
    assert target_frames(THREE_LAUNCHES, 10 * MS) == 459


def test_a_launch_that_goes_well_is_never_ended() -> None:
    assert not decide([QUIET, QUIET], launch(np.ones(5000)), [P99_50_MS], THREE_LAUNCHES, HOP_NS).enough


def test_a_launch_with_every_frame_over_ends_after_two_blocks() -> None:
    one, two = launch(np.full(100, 60.0)), launch(np.full(200, 60.0))

    assert not decide([], one, [P99_50_MS], THREE_LAUNCHES, HOP_NS).enough
    assert decide([], two, [P99_50_MS], THREE_LAUNCHES, HOP_NS).reason == "response_p99_ms is over 50"


def test_a_stream_that_falls_behind_ends_after_two_blocks() -> None:
    decision = decide([], launch(np.full(200, 81.0)), [budget("size_mb", 5)], THREE_LAUNCHES, HOP_NS)

    assert decision.reason == "it cannot keep up with its hop"


def test_nothing_ends_early_where_nothing_is_judged() -> None:
    assert not decide([], launch(np.full(200, 81.0)), [], THREE_LAUNCHES, HOP_NS).enough


def test_after_a_launch_failed_the_rest_are_not_needed_unless_something_slowed_it() -> None:
    failed = launch(60.0)

    assert decide([failed], QUIET, [P99_50_MS], THREE_LAUNCHES, HOP_NS).enough
    assert decide([failed], None, [P99_50_MS], THREE_LAUNCHES, HOP_NS).reason.startswith("launch 1 failed already")
    assert not decide([replace(failed, device_after=BUSY)], None, [P99_50_MS], THREE_LAUNCHES, HOP_NS).enough


def test_lateness_alone_ends_nothing() -> None:
    assert not decide([], launch(np.ones(300), 200.0), [P99_50_MS], THREE_LAUNCHES, HOP_NS).enough


@given(st.integers(2, 12), st.floats(51, 79))
def test_what_ended_a_launch_early_is_a_fail_when_judged(blocks: int, latency_ms: float) -> None:
    current = launch(np.full(100 * blocks, latency_ms))

    assert decide([], current, [P99_50_MS], THREE_LAUNCHES, HOP_NS).enough
    assert judged(case(current)).verdict == "FAIL"


def test_a_part_is_not_judged_by_its_tasks_budgets_and_so_not_ended_by_them() -> None:
    agreement = budget("parity_agreement", 0.97, floor=True, task="wake-word")
    budgets = (P99_50_MS, budget("size_mb", 50), agreement, budget("load_ms", 5, task="vad"))

    assert judged_budgets(budgets, case().case, artifact()) == budgets[:3]
    assert judged_budgets(budgets, case().case, artifact(covers="part")) == budgets[1:3]


def test_no_percentile_across_whole_clips_is_judged_and_so_none_ends_a_launch() -> None:
    budgets = (P99_50_MS, budget("deadline_misses", 0.1), budget("size_mb", 50))

    assert judged_budgets(budgets, case().case, artifact(utterances=(Utterance("a.wav", 1.0),))) == budgets[2:]


@pytest.mark.parametrize(
    "of",
    [
        case(launch(60.0), options=Options(optimize=False)),
        case(launch(60.0), of=artifact(variant="torch-fp32")),
        case(launch(60.0), of=artifact(model=f"{BASELINE}luna", reference=REFERENCE)),
    ],
)
def test_what_is_only_there_to_be_compared_with_owes_nothing_and_fails_nothing(of: CaseResult) -> None:
    assert of.artifact is not None
    result = judged(replace(of, parity_device=parity(snr_db=3.0)))

    assert judged_budgets(of.budgets, of.case, of.artifact) == ()
    assert (result.verdict, result.checks) == ("UNJUDGED", ())
    assert result.reason == "no budget is owed: it is only there to be compared with"


# ---- percentiles ---------------------------------------------------------------------------------------------------


def test_three_launches_of_459_frames_with_none_over_pass() -> None:
    result = judged(case(QUIET, QUIET, QUIET))

    assert (result.verdict, result.reason) == ("PASS", "")
    check = result.checks[0]
    assert (check.value, check.bound, check.confidence) == (1.1, 1.1, 0.99)
    assert (check.effective_frames, check.assumed_cluster, check.cluster_measured) == (459, 3, False)
    assert check.launch_confidence == 0.75
    assert check.reason == "0 of 1,377 frames over 50 ms in 3 launches (clusters of 3.0 assumed)"


@pytest.mark.parametrize(
    ("frames", "over", "verdict"),
    [(458, 0, "INCONCLUSIVE"), (459, 1, "INCONCLUSIVE"), (662, 1, "PASS"), (1001, 3, "PASS"), (1301, 4, "PASS")],
)
def test_frames_over_that_a_launch_may_have(frames: int, over: int, verdict: str) -> None:
    hiccups = with_frames(frames, {50 * at: 60.0 for at in range(over)})
    runs = [launch(hiccups), launch(np.ones(frames)), launch(np.ones(frames))]

    assert judged(case(*runs), RunSettings(frames=frames)).verdict == verdict


def test_a_model_at_two_thirds_of_its_limit_passes() -> None:
    steady = launch(33.0 + np.random.default_rng(7).normal(0, 1, 459))

    assert judged(case(steady, steady, steady)).verdict == "PASS"


def test_frames_that_come_near_in_clusters_count_as_fewer() -> None:
    clustered = launch(with_frames(459, {at: 40.0 for at in range(100, 112)}))

    check = check_of(case(clustered, QUIET, QUIET))

    assert (check.verdict, check.assumed_cluster, check.cluster_measured) == ("INCONCLUSIVE", 12, True)
    assert check.effective_frames == 1377 / 12
    assert "1,836 frames a launch (--duration 147s) would settle it" in check.reason


@given(st.integers(0, 10_000), st.floats(0.1, 1.0), st.floats(1, 5))
def test_a_pass_and_a_bound_within_the_limit_are_the_same(seed: int, spread: float, limit: float) -> None:
    run = launch(np.random.default_rng(seed).lognormal(0, spread, 459), burst=True)
    owed = budget("latency_p90_ms", limit)

    check = check_of(case(run, run, run, budgets=(owed,), scenario="burst"))

    assert (check.verdict == "PASS") == (check.bound is not None and check.bound <= limit)


def test_all_frames_over_fail_by_name_of_the_launch() -> None:
    result = judged(case(QUIET, launch(60.0), QUIET))

    assert (result.verdict, result.checks[0].launch_confidence) == ("FAIL", 0.5)
    assert result.reason == "response_p99_ms: 100 % of the frames of launch 2 are over 50 ms, 1 % allowed"


def test_one_stall_fails_nothing_and_is_named() -> None:
    stalled = launch(with_frames(459, {100: 160.0}), block=50)

    result = judged(case(stalled, QUIET, QUIET))

    assert result.verdict == "INCONCLUSIVE"
    assert "one stall of 160 ms at 8.0 s of launch 1" in result.reason


def test_where_only_lateness_is_over_it_is_the_scheduler_not_the_model() -> None:
    late = launch(1.0, with_frames(459, {at: 60.0 for at in range(0, 459, 5)}, usual=0.1))

    result = judged(case(late, late, late))

    assert result.verdict == "INCONCLUSIVE"
    assert "the scheduler, not the model: 276 of 1,377 frames over 50 ms, 0 by the model's own" in result.reason


def test_frames_that_wait_for_a_slow_one_of_the_same_model_are_the_models_own() -> None:
    """At a hop of 10 ms, 45 ms every tenth frame delay the next five; each is within the limit by itself."""
    slow = {at: 45.0 for at in range(0, 1301, 10)} | {at: 30.0 for at in range(1, 1301, 10)}
    latency = with_frames(1301, slow)
    of = artifact(hop_samples=160)
    waiting = launch(latency, np.zeros(1301))
    queue_ms = 0.0
    late = []
    for frame_ms in latency:
        late.append(queue_ms)
        queue_ms = max(0.0, queue_ms + frame_ms - 10)
    run = replace(waiting, lateness_ns=(np.array(late) * MS).astype(np.int64))

    assert judged(case(run, run, run, of=of), RunSettings()).verdict == "FAIL"


def test_a_stream_that_cannot_keep_up_fails_without_statistics() -> None:
    result = judged(case(launch(81.0), QUIET, QUIET, budgets=(budget("response_p99_ms", 500),)))

    assert result.verdict == "FAIL"
    assert result.reason.startswith("response_p99_ms: cannot keep up: half the frames of launch 1 take 81 ms or longer")


def test_a_stream_that_cannot_keep_up_fails_also_where_no_budget_is_on_its_responses() -> None:
    result = judged(case(launch(81.0), QUIET, QUIET, budgets=(budget("size_mb", 50),)))

    assert (result.verdict, [check.metric for check in result.checks]) == ("FAIL", ["size_mb", "rtf_p50"])


def test_fewer_launches_than_wanted_are_inconclusive_and_say_how_many_more() -> None:
    result = judged(case(QUIET, QUIET))

    assert result.verdict == "INCONCLUSIVE"
    assert "2 of 3 launches hold: 1 more launch like them would settle it" in result.reason


def test_a_launch_that_was_ended_early_proves_nothing() -> None:
    result = judged(case(QUIET, QUIET, QUIET), RunSettings(frames=600))

    assert result.reason == "response_p99_ms: a launch ended after 459 of 600 frames: measure it in full"


def test_more_over_than_allowed_but_not_surely_says_what_would_show_a_fail() -> None:
    over = with_frames(700, {at: 60.0 for at in range(0, 700, 45)})

    result = judged(case(*[launch(over)] * 3), RunSettings(frames=662))

    assert result.verdict == "INCONCLUSIVE"
    assert "more than the 1 % allowed" in result.reason and "would show a FAIL" in result.reason


def test_real_time_factor_and_deadline_misses_are_judged_like_percentiles() -> None:
    owed = (budget("rtf_p99", 0.5), budget("rtf_p99", 0.01), budget("deadline_misses", 0.01))

    checks = judged(case(QUIET, QUIET, QUIET, budgets=owed)).checks

    assert [check.verdict for check in checks] == ["PASS", "FAIL", "PASS"]
    assert [check.value for check in checks] == [0.0125, 0.0125, 0]
    assert checks[2].bound == pytest.approx(0.01, rel=0.02)


def test_no_number_of_frames_proves_that_no_deadline_is_ever_missed() -> None:
    check = check_of(case(QUIET, QUIET, QUIET, budgets=(budget("deadline_misses", 0),)))

    assert check.verdict == "INCONCLUSIVE"


def test_a_model_without_a_hop_has_no_real_time_factor_to_judge() -> None:
    run = launch(1.0, burst=True)
    offline = case(run, run, run, budgets=(budget("rtf_p50", 1),), of=artifact(hop_samples=None), scenario="burst")

    assert check_of(offline).reason.startswith("the model has no hop")


def test_a_stream_in_a_burst_is_flattered_but_can_fail() -> None:
    fast, slow = launch(1.0, burst=True), launch(60.0, burst=True)

    assert "--scenario paced" in judged(case(fast, fast, fast, scenario="burst")).reason
    assert judged(case(slow, slow, slow, scenario="burst")).verdict == "FAIL"


# ---- disturbances --------------------------------------------------------------------------------------------------


def test_a_busy_neighbour_excuses_a_fail_and_a_pass_stands_despite_it() -> None:
    slow = case(launch(60.0, device_after=BUSY), QUIET, QUIET)
    quick = case(launch(1.0, device_after=BUSY), QUIET, QUIET)

    assert judged(slow).verdict == "INCONCLUSIVE"
    assert "but with busy neighbours: 1.8 cores, make (pid 7) 1.8: stop them" in judged(slow).reason
    assert (judged(quick).verdict, judged(quick).reason) == (
        "PASS",
        "despite busy neighbours: 1.8 cores, make (pid 7) 1.8",
    )


def test_a_busy_neighbour_of_one_launch_does_not_excuse_another() -> None:
    assert judged(case(launch(60.0, device_after=BUSY), launch(60.0), QUIET)).verdict == "FAIL"


def test_fixed_clocks_flatter_a_pass_and_leave_a_fail() -> None:
    fixed = state(governor__cpu0="performance")

    flattered = judged(case(launch(1.0, device_before=fixed), QUIET, QUIET))

    assert flattered.verdict == "INCONCLUSIVE"
    assert "holds, but flattered by fixed clocks (governor.cpu0 is performance)" in flattered.reason
    assert judged(case(launch(60.0, device_before=fixed), QUIET, QUIET)).verdict == "FAIL"


def test_throttling_excuses_a_fail_but_not_in_a_sustained_run() -> None:
    hot = launch(60.0, device_before=state(throttle_count__cpu0=3), device_after=state(throttle_count__cpu0=9))
    sustained = replace(THREE_LAUNCHES, min_duration_s=600)

    assert judged(case(hot, QUIET, QUIET)).verdict == "INCONCLUSIVE"
    assert judged(case(hot, QUIET, QUIET), sustained).verdict == "FAIL"


def test_stolen_time_and_a_container_quota_can_only_slow() -> None:
    stolen = launch(60.0, device_before=state(0, steal_ns=0), device_after=state(10, steal_ns=2e9))
    limited = launch(60.0, device_before=state(cpu_quota_cores=0.5))

    assert "5.0% of the processor time" in judged(case(stolen, QUIET, QUIET)).reason
    assert "a quota of 0.5 cores" in judged(case(limited, QUIET, QUIET)).reason


def test_a_machine_that_the_probe_calls_slow_excuses_no_more_than_it_slowed() -> None:
    def on_a_slow_machine(latency_ms: float) -> CaseResult:
        slow = launch(latency_ms)
        blocks = tuple(replace(block, probe_before_ns=30_000) for block in slow.blocks)
        return case(replace(slow, blocks=blocks), QUIET, QUIET)

    assert "the speed probe took 1.50x its usual time" in judged(on_a_slow_machine(60.0)).reason
    assert judged(on_a_slow_machine(60.0)).verdict == "INCONCLUSIVE"
    assert judged(on_a_slow_machine(78.0)).verdict == "FAIL"


def test_a_device_that_was_not_fit_excuses_no_more_than_its_preflight_saw() -> None:
    gave_up = Preflight("gave-up", 60.0, 30_000, 20_000.0, ("it is 1.50x slower than usual while `make` uses 1 core",))

    def unfit(latency_ms: float) -> JudgedCase:
        return judged(case(launch(latency_ms, preflight=gave_up), QUIET, QUIET))

    assert unfit(60.0).verdict == "INCONCLUSIVE"
    assert "but with a device that was not fit: it is 1.50x slower than usual while `make`" in unfit(60.0).reason
    assert unfit(120.0).verdict == "FAIL"
    assert unfit(1.0).verdict == "PASS"
    assert "unfit" in {warning.code for warning in unfit(1.0).warnings}
    waited = launch(60.0, preflight=replace(gave_up, verdict="waited"))
    assert judged(case(waited, QUIET, QUIET)).verdict == "FAIL"


def test_a_slow_load_is_excused_by_what_can_only_slow_and_memory_by_nothing() -> None:
    slow = launch(1.0, load_ns=90 * MS, peak_rss_bytes=200_000_000, device_before=BUSY)
    owed = (budget("load_ms", 50), budget("peak_memory_mb", 50))

    checks = judged(case(slow, QUIET, QUIET, budgets=owed)).checks

    assert [check.verdict for check in checks] == ["INCONCLUSIVE", "FAIL"]


def test_pinning_flatters_where_cores_differ() -> None:
    pinned = case(QUIET, QUIET, QUIET, options=Options(cpus=(6, 7)))

    assert judged(pinned, arch="aarch64").verdict == "INCONCLUSIVE"
    assert judged(pinned, arch="x86_64").verdict == "PASS"


# ---- the other metrics ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "limit", "value", "verdict"),
    [
        ("size_mb", 2, 2.0, "PASS"),
        ("size_mb", 1.9, 2.0, "FAIL"),
        ("load_ms", 9, 9.0, "PASS"),
        ("load_ms", 8, 9.0, "FAIL"),
        ("first_inference_ms", 2, 2.0, "PASS"),
        ("peak_memory_mb", 12, 12.0, "PASS"),
        ("peak_memory_mb", 11, 12.0, "FAIL"),
    ],
)
def test_exact_metrics_and_the_worst_launch(metric: str, limit: float, value: float, verdict: str) -> None:
    result = case(QUIET, launch(1.0, load_ns=9 * MS), QUIET, budgets=(budget(metric, limit),))

    check = check_of(result)

    assert (check.value, check.verdict, check.confidence) == (value, verdict, None)


def test_unknown_memory_is_inconclusive_with_its_reason() -> None:
    blind = launch(1.0, peak_rss_bytes=None, memory_reason="this system has no VmHWM")

    check = check_of(case(blind, blind, blind, budgets=(budget("peak_memory_mb", 20),)))

    assert (check.verdict, check.value, check.reason) == ("INCONCLUSIVE", None, "this system has no VmHWM")


def test_the_accelerated_share_is_that_of_the_worst_launch() -> None:
    runs = [launch(1.0, placement=Placement("gpu", "gpu", share)) for share in (1.0, 0.8, 1.0)]
    unknown = launch(1.0, placement=Placement("gpu", "gpu", None, ("the delegate does not tell",)))
    owed = (budget("accelerated_share", 0.9, floor=True),)

    assert (check_of(case(*runs, budgets=owed)).verdict, check_of(case(*runs, budgets=owed)).value) == ("FAIL", 0.8)
    assert check_of(case(unknown, budgets=owed)).reason.endswith("the delegate does not tell")


@pytest.mark.parametrize(
    ("placement", "verdict", "reason"),
    [
        (Placement("cpu", "XNNPACK", 56 / 61, ("1 threads",), 56, 61), "PASS", "XNNPACK took 56 of 61 nodes"),
        (Placement("cpu", "built-in kernels", 0.0, (), 0, 61), "FAIL", "all 61 nodes ran on built-in kernels"),
        (Placement("gpu", "Luna, CPU", 0.5, (), 2, 4), "FAIL", "Luna took 2 of 4 nodes"),
        (Placement("cpu", "CPUExecutionProvider", 1.0), "UNJUDGED",
         "asked for the CPU, and CPUExecutionProvider is no delegate whose nodes could be counted"),
        (Placement("cpu", "XNNPACK", None, ("share of nodes unknown: a later subgraph",)), "UNJUDGED",
         "asked for the CPU, and the nodes of its delegate are not counted: a later subgraph"),
        (Placement("gpu", "Luna", None, ("mel: 1 threads", "mel: share of nodes unknown: too old")), "INCONCLUSIVE",
         "the accelerated share is unknown: mel: too old"),
        (Placement("gpu", "Luna", None, ("1 threads", "share of nodes unknown: too old", "cold")), "INCONCLUSIVE",
         "the accelerated share is unknown: too old"),
    ],
)  # fmt: skip
def test_the_accelerated_share_says_what_took_how_many_nodes(
    placement: Placement, verdict: Verdict, reason: str
) -> None:
    owed = (budget("accelerated_share", 0.9, floor=True),)
    check = check_of(case(launch(1.0, placement=placement), budgets=owed))

    assert (check.verdict, check.reason) == (verdict, reason)


# ---- parity --------------------------------------------------------------------------------------------------------


def test_an_artifact_out_of_tolerance_cannot_pass() -> None:
    of = artifact(reference=REFERENCE)

    result = judged(case(QUIET, QUIET, QUIET, of=of, parity_device=parity(snr_db=40.0), parity_host=parity()))

    assert result.verdict == "FAIL"
    assert result.reason.startswith("parity_snr_db: 40.0 dB") and "on the host 110.0 dB" in result.reason


def test_parity_that_is_owed_and_was_not_measured_is_inconclusive() -> None:
    result = judged(case(QUIET, QUIET, QUIET, of=artifact(reference=REFERENCE), parity_host=parity()))

    assert result.verdict == "INCONCLUSIVE"
    assert "parity was not measured on the device; on the host 110.0 dB" in result.reason


def test_a_profiles_parity_replaces_the_default() -> None:
    owed = (P99_50_MS, budget("parity_snr_db", 30, floor=True))

    result = judged(
        case(QUIET, QUIET, QUIET, of=artifact(reference=REFERENCE), budgets=owed, parity_device=parity(snr_db=40.0))
    )

    assert (result.verdict, len(result.checks)) == ("PASS", 2)


def test_parity_alone_is_no_pass() -> None:
    result = judged(case(QUIET, of=artifact(reference=REFERENCE), budgets=(), parity_device=parity()))

    assert (result.verdict, result.reason) == ("UNJUDGED", "no budget is owed: only parity was checked")


# ---- cases and runs ------------------------------------------------------------------------------------------------


def test_a_case_without_budgets_is_unjudged() -> None:
    assert judged(case(QUIET, budgets=())).verdict == "UNJUDGED"


def test_a_part_is_unjudged_against_its_tasks_budget() -> None:
    of = artifact(covers="part")

    result = judged(case(launch(60.0), of=of, budgets=(P99_50_MS, budget("size_mb", 50))))

    assert (result.verdict, [check.verdict for check in result.checks]) == ("UNJUDGED", ["UNJUDGED", "PASS"])
    assert "part of a wake-word model" in result.reason


@pytest.mark.parametrize(("good", "failed", "verdict"), [(3, 2, "PASS"), (3, 3, "ERROR"), (2, 1, "ERROR")])
def test_a_failed_launch_may_be_repeated_twice(good: int, failed: int, verdict: str) -> None:
    killed = launch(1.0, error=CaseError("KILLED", "the worker was killed by SIGSEGV"))

    result = judged(case(*[killed] * failed, *[QUIET] * good))

    assert result.verdict == verdict
    assert "SIGSEGV" in " ".join([result.reason, *(warning.text for warning in result.warnings)])


def ended(*results: CaseResult) -> tuple[str, int]:
    run = judge(Run("run", "now", "0", {}, THREE_LAUNCHES, (device(),), results))
    return run.verdict, run.exit_code


PASSES = case(QUIET, QUIET, QUIET)
FAILS = case(launch(60.0), QUIET, QUIET)
OPEN = case(QUIET)
UNJUDGED = case(QUIET, budgets=())
LOST = case(error=CaseError("DEVICE", "the agent gave no answer", retryable=True))
NO_EXPORT = case(artifact=None, error=CaseError("EXPORT", "no kernel for Foo"))
KILLED = case(launch(1.0, error=CaseError("KILLED", "SIGSEGV")))
BAD_MODEL = case(launch(1.0, error=CaseError("BAD_MODEL", "truncated")))


@pytest.mark.parametrize(
    ("results", "end"),
    [
        ([PASSES], ("PASS", 0)),
        ([PASSES, UNJUDGED], ("PASS", 0)),
        ([FAILS, NO_EXPORT, LOST, OPEN], ("FAIL", 1)),
        ([NO_EXPORT, LOST, OPEN, PASSES], ("ERROR", 2)),
        ([BAD_MODEL, PASSES], ("ERROR", 2)),
        ([LOST, OPEN, PASSES], ("ERROR", 4)),
        ([KILLED], ("ERROR", 4)),
        ([OPEN, PASSES], ("INCONCLUSIVE", 3)),
        ([UNJUDGED], ("UNJUDGED", 2)),
        ([], ("UNJUDGED", 2)),
    ],
)
def test_exit_codes_come_in_their_order(results: list[CaseResult], end: tuple[str, int]) -> None:
    assert ended(*results) == end


def test_a_case_whose_launches_were_not_measured_passes_nothing() -> None:
    """Its size alone is within its limit."""
    one_of_three = judged(case(QUIET, budgets=(budget("size_mb", 50),)))

    assert (one_of_three.verdict, one_of_three.reason) == (
        "INCONCLUSIVE",
        "1 of 3 launches were measured (--resume)",
    )
    assert judged(case(budgets=(budget("size_mb", 50),))).verdict == "INCONCLUSIVE"
    assert judged(case(budgets=(budget("size_mb", 1),))).verdict == "FAIL"


def test_a_run_that_did_not_come_to_its_end_passes_nothing() -> None:
    def unfinished(*results: CaseResult, interrupted: bool = False) -> tuple[str, int]:
        run = Run("run", "now", "0", {}, THREE_LAUNCHES, (device(),), results, False, interrupted)
        return judge(run).verdict, judge(run).exit_code

    assert unfinished(PASSES) == ("INCONCLUSIVE", 3)
    assert unfinished(PASSES, FAILS) == ("FAIL", 1)
    assert unfinished(PASSES, interrupted=True) == ("INCONCLUSIVE", 130)


# ---- metrics -------------------------------------------------------------------------------------------------------


def test_keys_of_files_are_read_with_their_floor() -> None:
    assert metrics.read_key("parity_agreement_min") == ("parity_agreement", True)
    assert metrics.read_key("response_p99_ms") == ("response_p99_ms", False)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("response_p98_ms", "unknown budget 'response_p98_ms'"),
        ("size_mb_min", "size_mb_min is no floor"),
        ("parity_snr_db", "parity_snr_db is no ceiling"),
    ],
)
def test_a_wrong_key_is_refused_with_what_is_right(key: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as refusal:
        metrics.read_key(key)

    assert refusal.value.hint
