"""Comparing: verdicts, what they promise, and what is refused."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from builders import ORT, run_of
from invented import artifact, case, device, launch, state

from rtfleet import rank_test
from rtfleet.budget import judge
from rtfleet.compare import Pair, compare, differences, exit_code, pairs_of, unmatched
from rtfleet.errors import UsageError
from rtfleet.judged import Comparison, JudgedRun
from rtfleet.order import BASELINE
from rtfleet.records import CaseError, CaseResult, Options

NOISE = np.random.default_rng(5)
UNDRAWN = NOISE.bit_generator.state
BUSY = {"device_after": state(2.0, others_core_share=3.9)}


@pytest.fixture(autouse=True)
def _same_noise() -> None:
    """Each test draws the same, whichever ran before it."""
    NOISE.bit_generator.state = UNDRAWN


def spread(launches: int, by: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Factors of as many launches, log-normal."""
    return np.exp(by * NOISE.standard_normal(launches))


def side(medians_ms: Sequence[float] | np.ndarray, at: Sequence[int] | None = None, **changes: Any) -> CaseResult:
    """A case of one launch for each median, started at those times; frames differ a little."""
    frames = np.linspace(0.9, 1.1, 101)
    times = at if at is not None else range(len(medians_ms))
    return case(
        *(
            launch(median * frames, launch_id=f"l{start}", started_mono_ns=start, runtime=ORT, **changes)
            for median, start in zip(medians_ms, times, strict=True)
        )
    )


def in_turns(baseline: np.ndarray, candidate: np.ndarray, **changes: Any) -> Pair:
    """Measured ABBA."""
    order = [(0, 1, 1, 0)[at % 4] for at in range(len(baseline) + len(candidate))]
    first, second = ([at for at, which in enumerate(order) if which == wanted] for wanted in (0, 1))
    return Pair(side(baseline, first, **changes), side(candidate, second, **changes), device(), device())


def p50_of(*pairs: Pair, **how: Any) -> Comparison:
    return compare(pairs, **how)[0]


# ---- verdicts ------------------------------------------------------------------------------------------------------


def test_two_metrics_are_compared_and_named_for_their_scenario() -> None:
    paced = in_turns(spread(8, 0.03), spread(8, 0.03))
    burst = Pair(*(case(*(launch(1.0, burst=True) for _ in range(8)), scenario="burst") for _ in range(2)))

    assert [one.metric for one in compare([paced])] == ["latency_p50", "response_p99"]
    assert [one.metric for one in compare([burst])] == ["latency_p50", "latency_p99"]


def test_equal_launches_are_the_same() -> None:
    found = compare([in_turns(np.full(8, 3.0), np.full(8, 3.0))])

    assert {one.verdict for one in found} == {"SAME"}
    assert found[0].interval == (1.0, 1.0)
    assert exit_code(found) == 0


def test_an_artifact_against_itself_is_same_or_inconclusive() -> None:
    found = [compare([in_turns(spread(8, by), spread(8, by))]) for by in (0.01, 0.02, 0.2) for _ in range(5)]

    assert {one.verdict for one in itertools.chain(*found)} == {"SAME", "INCONCLUSIVE"}


def test_a_candidate_slower_by_a_fifth_is_found_at_a_spread_of_three_percent() -> None:
    found = compare([in_turns(3 * spread(8, 0.03), 3.6 * spread(8, 0.03))])

    assert [one.verdict for one in found] == ["SLOWER", "SLOWER"]
    low, high = found[0].interval or (0, 0)
    assert 1 < low < 1.2 < high
    assert found[0].ratio == pytest.approx(1.2, rel=0.05)
    assert found[0].smallest_effect == pytest.approx(math.sqrt(high / low))
    assert "beyond the tolerance of 10 %" in found[0].reason
    assert exit_code(found) == 1


def test_a_faster_candidate_passes() -> None:
    found = compare([in_turns(3.6 * spread(8, 0.03), 3 * spread(8, 0.03))])

    assert {one.verdict for one in found} == {"FASTER"}
    assert exit_code(found) == 0


def test_slower_within_the_tolerance_is_told_but_passes() -> None:
    found = compare([in_turns(3 * spread(8, 0.005), 3.15 * spread(8, 0.005))])

    assert {one.verdict for one in found} == {"SLOWER"}
    assert "within the tolerance of 10 %" in found[0].reason
    assert exit_code(found, 0.1) == 0
    assert exit_code(found, 0.01) == 1


@pytest.mark.parametrize("launches", [0, 1, 3, 4])
def test_fewer_than_five_launches_a_side_never_decide(launches: int) -> None:
    found = compare([in_turns(np.full(launches, 1.0), np.full(launches, 9.0))], confidence=0.5)

    assert {one.verdict for one in found} == {"INCONCLUSIVE"}
    assert all(one.launches_needed and one.launches_needed >= 5 for one in found)
    assert exit_code(found) == 3


def test_launches_that_can_show_nothing_at_this_confidence_say_how_many_could() -> None:
    found = p50_of(in_turns(spread(5, 0.01), 2 * spread(5, 0.01)))

    assert found.verdict == "INCONCLUSIVE"
    assert found.interval is None
    assert "5 against 5 launches can't show anything at 99 % shared among all tests; about 6 launches" in found.reason


def test_what_is_open_says_how_many_launches_would_settle_it() -> None:
    found = p50_of(in_turns(spread(8, 0.1), spread(8, 0.1)))

    assert found.verdict == "INCONCLUSIVE"
    assert found.launches_needed is not None
    assert 20 < found.launches_needed < 400
    assert f"about {found.launches_needed} launches a side would settle it" in found.reason


def test_the_launches_said_to_settle_it_do_so_mostly() -> None:
    rng = np.random.default_rng(3)
    needed = rank_test.launches_to_settle(0.1, math.log(1.15), 0.005)
    shifts = [rank_test.shift(0.1 * x, 0.1 * y + math.log(1.15)) for x, y in rng.standard_normal((400, 2, needed))]

    found = [one is not None and one.p_value <= 0.005 for one in shifts]

    assert 0.72 < np.mean(found) < 0.9


def test_a_case_that_failed_is_open_with_its_error() -> None:
    pair = in_turns(spread(8, 0.03), spread(8, 0.03))
    broken = dataclasses.replace(pair.candidate, launches=(), error=CaseError("EXPORT", "no such operator"))

    found = p50_of(dataclasses.replace(pair, candidate=broken))

    assert found.verdict == "INCONCLUSIVE"
    assert found.ratio is None
    assert "the candidate has no good launch: no such operator" in found.reason


def test_nothing_compared_is_no_pass() -> None:
    assert exit_code(compare([])) == 3


# ---- what the statistics promise -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 5), (5, 5), (6, 4)])
def test_the_null_distribution_counts_every_labelling(n: int, m: int) -> None:
    sums = [sum(chosen) - n * (n - 1) // 2 for chosen in itertools.combinations(range(n + m), n)]
    counted = [np.mean([u <= bound for u in sums]) for bound in range(n * m + 1)]

    assert rank_test.null_tail(n, m) == pytest.approx(counted)


def test_the_interval_holds_exactly_the_shifts_that_the_test_keeps() -> None:
    rng = np.random.default_rng(1)
    baseline, candidate = rng.standard_normal(8), rng.standard_normal(7) + 1
    whole = rank_test.shift(baseline, candidate)
    low, high = (whole.interval(0.01) if whole else None) or (0, 0)

    def kept(by: float) -> bool:
        moved = rank_test.shift(baseline, candidate - by)
        return moved is not None and moved.p_value > 0.01

    assert [kept(low - 1e-6), kept(low + 1e-6), kept(high - 1e-6), kept(high + 1e-6)] == [False, True, True, False]


def test_a_thousand_launches_a_side_are_no_special_case_and_two_are_enough_to_be_counted() -> None:
    assert rank_test.least_launches(0.01) == 5
    assert rank_test.least_launches(0.005) == 6
    assert rank_test.null_tail(60, 60)[-1] == pytest.approx(1)


def test_holm_asks_most_of_the_smallest_and_stops_at_the_first_that_fails() -> None:
    held = rank_test.holm([0.02, 0.004, 0.003, 0.5], 0.01)

    assert [one.rejected for one in held] == [False, False, False, False]
    assert [one.rejected for one in rank_test.holm([0.02, 0.003, 0.002, 0.5], 0.01)] == [False, True, True, False]
    assert [one.level for one in rank_test.holm([0.003, 0.9], 0.01)] == [0.005, 0.005]
    assert [one.adjusted_p for one in rank_test.holm([0.003, 0.002, 0.9], 0.01)] == pytest.approx([0.006, 0.006, 0.9])


def test_all_cases_of_a_call_share_its_confidence() -> None:
    slower = in_turns(spread(8, 0.03), 1.07 * spread(8, 0.03))
    others = [in_turns(spread(8, 0.03), spread(8, 0.03)) for _ in range(20)]

    alone, among = p50_of(slower), p50_of(slower, *others)

    assert alone.verdict == "SLOWER"
    assert alone.interval and among.interval
    assert among.interval[0] < alone.interval[0]
    assert among.interval_confidence > alone.interval_confidence >= 0.99
    assert among.p_value is not None and alone.p_value is not None
    assert among.p_value > alone.p_value


def test_false_alarms_are_rarer_than_one_call_in_a_hundred() -> None:
    rng, calls, alarms = np.random.default_rng(11), 3000, 0
    for _ in range(calls):
        p50, besides = rng.standard_t(3, (2, 2, 8)) * 0.1
        shifts = [rank_test.shift(*p50), rank_test.shift(*(p50 + besides))]
        held = rank_test.holm([one.p_value for one in shifts if one], 0.01)
        alarms += any(one.rejected for one in held)

    # 1 % and three standard errors of what 3,000 calls can tell.
    assert 0 < alarms / calls <= 0.01 + 3 * math.sqrt(0.01 * 0.99 / calls)


# ---- conditions ----------------------------------------------------------------------------------------------------


def _with(pair: Pair, **changes: Any) -> Pair:
    launches = tuple(dataclasses.replace(one, **changes) for one in pair.candidate.launches)
    return dataclasses.replace(pair, candidate=dataclasses.replace(pair.candidate, launches=launches))


def _case_with(pair: Pair, **changes: Any) -> Pair:
    identity = dataclasses.replace(pair.candidate.case, **changes)
    return dataclasses.replace(pair, candidate=dataclasses.replace(pair.candidate, case=identity))


LIKE = in_turns(spread(8, 0.02), spread(8, 0.02))
OTHER_ORT = dataclasses.replace(ORT, version="1.31.0", library_sha256="f" * 64)
FASTER_HOP = dataclasses.replace(LIKE.candidate, artifact=artifact(hop_samples=160))
UNLIKE = {
    "device": (dataclasses.replace(LIKE, candidate_device=device(identity="other")), "serial", "other"),
    "runtime": (_with(LIKE, runtime=dataclasses.replace(ORT, name="litert")), "onnxruntime", "litert"),
    "runtime version": (_with(LIKE, runtime=OTHER_ORT), "1.32.0", "1.31.0"),
    "runtime library": (_with(LIKE, runtime=OTHER_ORT), "d" * 64, "f" * 64),
    "threads": (_case_with(LIKE, options=Options(threads=4)), "1", "4"),
    "cpus": (_case_with(LIKE, options=Options(cpus=(0, 1))), "the scheduler's choice", "0,1"),
    "accelerator": (_case_with(LIKE, options=Options(accelerator="gpu")), "cpu", "gpu"),
    "scenario": (_case_with(LIKE, scenario="burst"), "paced", "burst"),
    "feeds": (_with(LIKE, feeds_sha256="9" * 64), "b" * 64, "9" * 64),
    "hop": (dataclasses.replace(LIKE, candidate=FASTER_HOP), "80 ms", "10 ms"),
}


@pytest.mark.parametrize("field", UNLIKE)
def test_unlike_conditions_are_refused_with_field_and_both_values(field: str) -> None:
    pair, before, after = UNLIKE[field]

    with pytest.raises(UsageError) as refused:
        compare([pair])

    assert f"{field} {before} against {after}" in refused.value.text
    assert "--anyway" in refused.value.hint


def test_compared_anyway_the_result_is_marked() -> None:
    found = compare([UNLIKE["runtime version"][0]], anyway=True)

    assert {one.field for one in found[0].unlike} == {"runtime version", "runtime library"}
    assert found[0].reason.startswith("unlike conditions (runtime version 1.32.0 against 1.31.0")


def test_the_artifact_may_differ_for_it_is_what_is_compared() -> None:
    other = dataclasses.replace(LIKE.candidate, artifact=artifact(id="e" * 64))

    assert differences(dataclasses.replace(LIKE, candidate=other)) == ()


def test_cases_of_two_runs_are_matched_by_id_and_the_rest_is_named() -> None:
    burst = dataclasses.replace(LIKE.candidate, case=dataclasses.replace(LIKE.candidate.case, scenario="burst"))
    before, after = run_of(LIKE.baseline, id="before"), run_of(burst, LIKE.candidate, id="after")

    (pair,) = pairs_of(before, after)

    assert pair.candidate is LIKE.candidate
    assert pair.baseline_device == before.devices[0]
    assert unmatched(before, after) == ("luna/onnx-fp32@board/burst: only in after",)


def test_runs_without_a_common_case_are_refused_with_what_is_there() -> None:
    burst = dataclasses.replace(LIKE.candidate, case=dataclasses.replace(LIKE.candidate.case, scenario="burst"))

    with pytest.raises(
        UsageError, match=r"before has luna/onnx-fp32@board/paced; after has luna/onnx-fp32@board/burst"
    ):
        pairs_of(run_of(LIKE.baseline, id="before"), run_of(burst, id="after"))
    with pytest.raises(UsageError, match="both are run"):
        pairs_of(run_of(LIKE.baseline), run_of(LIKE.baseline))


# ---- disturbances --------------------------------------------------------------------------------------------------


def test_a_disturbance_of_either_side_is_named_with_its_launches() -> None:
    pair = in_turns(np.full(8, 3.0), np.full(8, 3.0))
    busy = dataclasses.replace(pair.candidate.launches[0], **BUSY)
    one_busy = dataclasses.replace(pair.candidate, launches=(busy, *pair.candidate.launches[1:]))

    found = p50_of(dataclasses.replace(pair, candidate=one_busy))

    assert found.verdict == "SAME"
    assert "despite busy neighbours: 3.9 cores" in found.reason
    assert "0 of 8 launches of the baseline, 1 of 8 of the candidate" in found.disturbed[0]


def test_a_candidate_slowed_by_others_in_a_run_of_its_own_is_not_called_slower() -> None:
    baseline = side(3 * spread(8, 0.02), range(8))
    busy = side(3.9 * spread(8, 0.02), range(10, 18), **BUSY)

    found = p50_of(Pair(baseline, busy, device(), device()))

    assert found.verdict == "INCONCLUSIVE"
    assert found.reason.startswith("may be no more than busy neighbours")
    assert "in turns" in found.reason


def test_a_disturbance_that_points_the_other_way_excuses_nothing() -> None:
    busy = side(3 * spread(8, 0.02), range(8), **BUSY)
    slower = side(3.9 * spread(8, 0.02), range(10, 18))

    found = p50_of(Pair(busy, slower, device(), device()))

    assert found.verdict == "SLOWER"
    assert "measured one after the other" in found.reason


def test_launches_in_turns_need_no_excuse() -> None:
    found = p50_of(in_turns(3 * spread(8, 0.02), 3.9 * spread(8, 0.02), **BUSY))

    assert found.interleaved
    assert found.verdict == "SLOWER"
    assert "one after the other" not in found.reason
    assert "while busy neighbours" in found.reason


def test_a_machine_that_was_slower_for_one_run_is_seen_by_its_probe() -> None:
    baseline = side(3 * spread(8, 0.02), range(8))
    slow = side(3.9 * spread(8, 0.02), range(10, 18))
    slowed = tuple(
        dataclasses.replace(
            one, blocks=tuple(dataclasses.replace(block, probe_before_ns=30_000) for block in one.blocks)
        )
        for one in slow.launches
    )

    found = p50_of(Pair(baseline, dataclasses.replace(slow, launches=slowed), device(), device()))

    assert found.verdict == "INCONCLUSIVE"
    assert "a slow machine" in found.reason


# ---- within a run --------------------------------------------------------------------------------------------------


def against(baseline_ms: float, candidate_ms: float, *more: CaseResult, interrupted: bool = False) -> JudgedRun:
    """A run whose candidate was measured in turns with its baseline, judged."""
    pair = in_turns(baseline_ms * spread(8, 0.01), candidate_ms * spread(8, 0.01))
    earlier = dataclasses.replace(pair.baseline.case, model=f"{BASELINE}{pair.baseline.case.model}")
    before = dataclasses.replace(pair.baseline, case=earlier, budgets=())
    after = dataclasses.replace(pair.candidate, budgets=())
    return judge(run_of(before, after, *more, devices=(device(),), interrupted=interrupted))


@pytest.mark.parametrize(("candidate_ms", "verdict", "code"), [(3.0, "PASS", 0), (3.9, "FAIL", 1), (3.15, "PASS", 0)])
def test_a_run_with_a_baseline_is_judged_by_it(candidate_ms: float, verdict: str, code: int) -> None:
    """Its cases owe nothing. Slower by 5 % is within the tolerance."""
    run = against(3.0, candidate_ms)

    assert [one.metric for one in run.comparisons] == ["latency_p50", "response_p99"]
    assert (run.verdict, run.exit_code) == (verdict, code)


def test_the_graver_of_budgets_and_baseline_counts() -> None:
    broken = case(error=CaseError("DEVICE", "gone"), scenario="burst")

    assert against(3.0, 3.0, broken).exit_code == 4
    assert against(3.0, 3.9, broken).exit_code == 1
    assert against(3.0, 3.9, broken, interrupted=True).exit_code == 130


def test_a_run_without_a_baseline_has_no_comparisons() -> None:
    assert judge(run_of(side([3.0] * 8))).comparisons == ()
