"""Which variant a device should run, and what is said where none fits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from invented import THREE_LAUNCHES, artifact, budget, case, device, launch, parity

from rtfleet.artifact import File, Graph
from rtfleet.budget import judge, judge_case
from rtfleet.judged import JudgedCase, Recommendation
from rtfleet.order import BASELINE
from rtfleet.recommend import recommend
from rtfleet.records import CaseError, CaseResult, Options, Run


def of_size(size_bytes: int, variant: str, **changes: Any) -> Any:
    graph = Graph("main", (File("model", "a" * 64, size_bytes),), (), ())
    return artifact(variant=variant, graphs=(graph,), **changes)


def measured(variant: str, latency_ms: Any, size_mb: float = 2.0, **changes: Any) -> JudgedCase:
    """A case of three launches (a number, or one for each), judged."""
    of_launches = latency_ms if isinstance(latency_ms, list) else [latency_ms] * 3
    facts = {"of": of_size(round(size_mb * 1e6), variant), "parity_device": parity(snr_db=90.0)} | changes
    return judge_case(case(*map(launch, of_launches), **facts), device(), THREE_LAUNCHES)


def only(*cases: JudgedCase) -> Recommendation:
    (found,) = recommend(cases)
    return found


def test_the_fastest_of_those_that_pass_is_recommended_with_its_numbers() -> None:
    found = only(measured("onnx-fp32", 5.0, 1.0), measured("tflite-fp32", 1.1, 2.0))

    assert (found.advice, found.case_id, found.unmet) == ("MET", "luna/tflite-fp32@board/paced", ())
    assert (found.model, found.device, found.scenario) == ("luna", "board", "paced")
    assert found.reason == (
        "tflite-fp32 meets every budget at the least cost: response p99 1.2 ms of 50 allowed, 2 MB, parity 90 dB"
    )


def test_of_equally_fast_ones_the_smallest_is_recommended() -> None:
    found = only(measured("onnx-fp32", 1.0, 2.0), measured("onnx-int8-static", 1.02, 0.5), measured("onnx-fp16", 9, 1))

    assert found.case_id == "luna/onnx-int8-static@board/paced"
    assert found.reason.endswith("; as fast as onnx-fp32 within the launches' spread, and smaller")


def test_launches_that_overlap_are_as_fast_and_those_that_do_not_are_slower() -> None:
    fast, overlapping, slower = [1.0, 1.1, 2.0], [1.9, 2.2, 2.4], [2.3, 2.4, 2.5]

    assert only(measured("onnx-fp32", fast), measured("onnx-int8-static", overlapping, 0.5)).case_id == (
        "luna/onnx-int8-static@board/paced"
    )
    assert only(measured("onnx-fp32", fast), measured("onnx-int8-static", slower, 0.5)).case_id == (
        "luna/onnx-fp32@board/paced"
    )


def test_a_noisy_tail_does_not_make_a_slower_model_as_fast() -> None:
    """p99 can't tell them apart, since each launch has its hiccups; p50 can."""
    frames = np.arange(459)
    tail = np.where(frames % 40 == 0, 20.0, 0.0)

    found = only(
        measured("tflite-fp32", [1.0 + tail, 1.1 + tail, 1.2 + tail]),
        measured("onnx-fp32", [4.0 + tail * 0.9, 4.1 + tail, 4.2 + tail], 0.5),
    )

    assert found.case_id == "luna/tflite-fp32@board/paced"


def test_accelerators_and_threads_are_choices_too() -> None:
    gpu = measured("onnx-fp16", 0.5, options=Options("gpu"))

    assert only(measured("onnx-fp32", 3.0), gpu).reason.startswith("onnx-fp16+gpu meets every budget")


def test_a_case_that_failed_is_never_chosen() -> None:
    failing = measured("onnx-int8-static", 0.1, 0.1, parity_device=parity(snr_db=3.0))

    assert failing.verdict == "FAIL"
    assert only(failing, measured("onnx-fp32", 3.0)).case_id == "luna/onnx-fp32@board/paced"


def test_where_nothing_is_proven_the_best_of_what_is_open_is_named() -> None:
    found = only(measured("onnx-fp32", [3.0]), measured("tflite-fp32", 60.0))

    assert (found.advice, found.case_id) == ("OPEN", "luna/onnx-fp32@board/paced")
    assert found.reason == (
        "nothing is proven to meet every budget; onnx-fp32 would if response_p99_ms held: "
        "response p99 3.1 ms of 50 allowed, 2 MB, parity 90 dB"
    )


def test_what_only_lacks_launches_says_so() -> None:
    found = only(measured("onnx-fp32", [3.0], budgets=(budget("size_mb", 5),)))

    assert "onnx-fp32 would if further launches held, 1 of 3 launches were measured (--resume): " in found.reason


def test_a_budget_that_nothing_meets_is_named_with_what_came_closest() -> None:
    found = only(measured("onnx-fp32", 75.0), measured("tflite-fp32", 61.0), measured("onnx-fp16", 70.0))

    assert (found.advice, found.unmet) == ("UNMET", ("response_p99_ms",))
    assert found.case_id == "luna/tflite-fp32@board/paced"
    assert found.reason == (
        "nothing meets response_p99_ms; tflite-fp32 came closest: response_p99_ms 61.1 ms of 50 allowed"
    )


def test_of_several_budgets_that_nothing_meets_the_hardest_comes_first() -> None:
    owed = (budget("size_mb", 0.1), budget("response_p99_ms", 50))

    found = only(measured("onnx-fp32", 60.0, 2.0, budgets=owed), measured("tflite-fp32", 70.0, 1.0, budgets=owed))

    assert found.unmet == ("size_mb", "response_p99_ms")
    assert found.case_id == "luna/tflite-fp32@board/paced"
    assert found.reason == (
        "nothing meets size_mb and response_p99_ms; tflite-fp32 came closest: size_mb 1 MB of 0.1 allowed; "
        "onnx-fp32 came closest: response_p99_ms 60.1 ms of 50 allowed"
    )


def test_a_floor_is_missed_from_below_and_a_value_that_is_none_is_furthest_away() -> None:
    owed = (budget("parity_snr_db", 20, floor=True),)

    found = only(
        measured("onnx-fp32", 1.0, budgets=owed, parity_device=parity(snr_db=None, max_abs_error=None, nan_frames=3)),
        measured("onnx-int8-static", 1.0, budgets=owed, parity_device=parity(snr_db=10.0)),
        measured("onnx-int8-dynamic", 1.0, budgets=owed, parity_device=parity(snr_db=15.0)),
    )

    assert found.reason.endswith("onnx-int8-dynamic came closest: parity_snr_db 15 dB of 20 owed")


def test_where_each_budget_is_met_by_some_but_all_by_none_the_nearest_miss_is_named() -> None:
    owed = (budget("size_mb", 1), budget("response_p99_ms", 50))

    found = only(measured("onnx-fp32", 3.0, 1.2, budgets=owed), measured("onnx-int8-static", 75.0, 0.5, budgets=owed))

    assert (found.advice, found.unmet, found.case_id) == ("UNMET", (), "luna/onnx-fp32@board/paced")
    assert found.reason == "no variant meets every budget; onnx-fp32 came closest: size_mb 1.2 MB of 1 allowed"


def test_where_nothing_gave_a_result_that_is_said() -> None:
    lost = replace(case(), error=CaseError("DEVICE", "the phone was unplugged"))

    found = only(judge_case(lost, device(), THREE_LAUNCHES))

    assert (found.advice, found.case_id) == ("NONE", None)
    assert found.reason == "no variant gave a result; onnx-fp32: the phone was unplugged"


@pytest.mark.parametrize("changes", [{"budgets": ()}, {"of": artifact(covers="part")}])
def test_what_owes_no_budget_is_not_recommended(changes: dict[str, Any]) -> None:
    assert recommend([measured("onnx-fp32", 3.0, **changes)]) == ()


def test_what_is_only_there_to_be_compared_with_is_not_recommended() -> None:
    plain = measured("onnx-fp32", 0.5, options=Options(optimize=False))
    torch = measured("torch-fp32", 0.5)

    assert only(plain, torch, measured("onnx-fp32", 3.0)).case_id == "luna/onnx-fp32@board/paced"
    assert recommend([plain, torch]) == ()


def test_each_model_device_and_scenario_has_its_own_and_a_baseline_none() -> None:
    one = measured("onnx-fp32", 3.0)

    def elsewhere(**changes: Any) -> JudgedCase:
        return replace(one, result=replace(one.result, case=replace(one.result.case, **changes)))

    cases = [one, elsewhere(device="pixel"), elsewhere(model=f"{BASELINE}luna"), elsewhere(scenario="burst")]

    assert [(found.device, found.scenario) for found in recommend(cases)] == [
        ("board", "paced"),
        ("pixel", "paced"),
        ("board", "burst"),
    ]


def test_a_judged_run_has_them() -> None:
    results: tuple[CaseResult, ...] = (measured("onnx-fp32", 3.0).result,)
    run = Run("id", "2026-11-24T00:00:00Z", "0", {}, THREE_LAUNCHES, (device(),), results)

    assert [one.case_id for one in judge(run).recommendations] == ["luna/onnx-fp32@board/paced"]
