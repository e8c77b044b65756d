"""The report on a terminal."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path

import pytest
from builders import (
    every_verdict,
    hostile,
    judged,
    judged_case,
    measured_launch,
    renamed,
    streaming,
    summary,
    whole_case,
)
from rich.console import Console

from rtfleet.artifact import File, Graph
from rtfleet.judged import JudgedCase, JudgedRun
from rtfleet.plan import Plan, PlannedCase
from rtfleet.records import Options, Placement
from rtfleet.report import console


def _shown(run: JudgedRun, width: int = 120, *, colours: bool = False) -> str:
    stream = io.StringIO()
    terminal = Console(file=stream, width=width, force_terminal=colours, color_system="standard" if colours else None)
    console.show(run, terminal, Path("rtfleet-runs/one"))
    return stream.getvalue()


def _table_of(run: JudgedRun, width: int = 120) -> list[str]:
    """The lines down to the first empty one."""
    return _shown(run, width).partition("\n\n")[0].splitlines()


def test_the_report_reads_from_the_table_down_to_the_exit_code() -> None:
    lines = _shown(every_verdict()).splitlines()

    assert lines[2] == "wake-word on board, paced: response to a frame every 80 ms"
    assert " ".join(lines[3].split()) == "onnx-fp32 0.492 0.533 0.698 0.0052 1.7x 2.10 - - exact 100% PASS"
    assert lines[-1] == "FAIL: 1 ERROR, 1 FAIL, 1 INCONCLUSIVE, 1 UNJUDGED, 2 PASS; exit code 1"
    assert "kept in   rtfleet-runs/one" in lines


def test_a_burst_says_that_it_shows_latencies() -> None:
    assert "speaker-encoder on board, burst: latency back to back" in _shown(every_verdict()).splitlines()


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = _shown(every_verdict(), width).splitlines()

    assert max(map(len, lines)) <= width


def test_every_row_is_one_line_at_eighty_columns() -> None:
    lines = _table_of(every_verdict(), 80)

    verdicts = [line.split()[-1] for line in lines if line.startswith("  onnx") or line.startswith("  tflite")]
    assert verdicts == ["PASS", "FAIL", "INCONCLUSIVE", "ERROR", "PASS", "UNJUDGED"]


def test_all_times_are_in_the_unit_that_stands_above_them() -> None:
    fast = judged(judged_case(whole_case(), shown=summary(0.04)))

    assert "µs" in _shown(fast).splitlines()[0]
    assert "ms" in _shown(every_verdict()).splitlines()[0]


def test_every_verdict_that_is_no_plain_pass_says_why_and_names_its_limit() -> None:
    said = " ".join(_shown(every_verdict()).split())

    assert "FAIL wake-word/onnx-int8-static: response_p99_ms: 12 % of the frames of launch 2 are over 50 ms" in said
    assert "(limit 50, device_profiles/generic-linux.toml: wake-word.response_p99_ms)" in said
    assert "ERROR silero-vad/onnx-shipped: silero-vad can't be fetched" in said
    assert "hint: rtfleet models fetch" in said
    assert "would settle it" in said


def test_a_pass_despite_a_disturbance_is_explained() -> None:
    case = judged_case(whole_case(), reason="despite a busy neighbour")

    assert "PASS  luna/onnx-fp32: despite a busy neighbour" in _shown(judged(case))


def test_a_warning_is_told_once_with_its_cases_and_its_hint() -> None:
    said = _shown(every_verdict(), 200)

    assert said.count("a busy neighbour") == 1
    assert "warning  wake-word/onnx-fp32, wake-word/onnx-int8-static: a busy neighbour" in said
    assert said.count("hint: stop it") == 1


def test_cases_on_two_devices_are_told_apart_by_their_device() -> None:
    case = whole_case()
    run = judged(judged_case(case, "FAIL"), judged_case(renamed(case, device="pixel"), "FAIL"))

    assert "luna/onnx-fp32@board, luna/onnx-fp32@pixel: response_p99_ms" in _shown(run)


def test_a_variant_stands_beside_fp32_of_its_own_format() -> None:
    small = streaming(graphs=(Graph("main", (File("m", "a" * 64, 525_000),), (), ()),), variant="onnx-int8-static")
    run = judged(
        judged_case(whole_case(), shown=summary(4.0)),
        judged_case(whole_case(of=small), shown=summary(2.0)),
        judged_case(renamed(whole_case(), variant="tflite-int8-static"), shown=summary(1.0)),
    )

    rows = {line.split()[0]: line.split() for line in _table_of(run) if line.startswith("  ")}
    assert rows["onnx-int8-static"][7:9] == ["0.25x", "2.0x"]
    assert rows["onnx-fp32"][7:9] == rows["tflite-int8-static"][7:9] == ["-", "-"]


def test_what_a_reader_must_know_of_a_model_stands_with_its_numbers() -> None:
    noted = streaming(note="trained on synthetic speech", synthetic=True, covers="part")

    lines = _shown(judged(judged_case(whole_case(of=noted)))).splitlines()

    assert lines[3:6] == ["  part of a wake-word model", "  synthetic input", "  trained on synthetic speech"]


def test_a_lookahead_stands_with_the_numbers_that_it_comes_on_top_of() -> None:
    lines = _shown(judged(judged_case(whole_case(of=streaming(task="asr", lookahead_ms=40.0))))).splitlines()

    assert "chunks of 80 ms and 40 ms of lookahead: they come on top of the response" in lines[3]


def test_where_the_time_goes_is_told_of_the_cases_that_fail() -> None:
    passed, failed = judged_case(renamed(whole_case(), model="kept")), judged_case(whole_case(), "FAIL")
    told = (
        "time  luna/onnx-fp32: Convolution #2, 200 calls of 30.0 µs: 60%, SPLIT_V #25, 200 calls of 15.0 µs: 30%, "
        "less than 1 µs each: 10%; 67% of the time on XNNPACK"
    )

    assert told in _shown(judged(passed, failed), 200).splitlines()
    assert "time  kept" not in _shown(judged(passed, failed), 200)
    # Nothing fails, and somebody asked.
    assert "time  kept/onnx-fp32: Convolution #2" in _shown(judged(passed), 200)


def test_what_a_delegate_took_stands_with_the_conditions() -> None:
    def placed(taken: int, **changes: object) -> JudgedCase:
        placement = Placement("cpu", "XNNPACK" if taken else "built-in kernels", taken / 61, (), taken, 61)
        return judged_case(renamed(whole_case(measured_launch(placement=placement)), **changes))

    run = judged(placed(56), placed(56, variant="tflite-fp16"), placed(0, options=Options(optimize=False)))

    assert (
        "placed    XNNPACK took 56 of 61 nodes (luna/onnx-fp32, luna/tflite-fp16); "
        "all 61 nodes ran on built-in kernels (luna/onnx-fp32+plain)"
    ) in _shown(run, 200).splitlines()
    assert "placed" not in _shown(judged(judged_case(whole_case())))


def test_hostile_names_are_shown_as_they_are_and_draw_nothing() -> None:
    said = _shown(hostile(), 200)

    assert "ev[red]il|\\x1b[2J\\u202e name" in said
    assert "\x1b" not in said
    assert "\u202e" not in said


def test_hostile_names_do_not_break_colours() -> None:
    said = _shown(hostile(), 200, colours=True)

    assert "ev[red]il|\\x1b[2J" in said
    assert "\x1b[2J" not in said


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    stream = io.StringIO()
    console.show(every_verdict(), Console(file=stream, width=100, force_terminal=True))

    assert not re.search(r"\x1b\[([34]|9\d|\d*;[34])\d", stream.getvalue())


def test_an_interrupted_run_and_one_that_crashed_say_so() -> None:
    cut = judged(judged_case(whole_case()), finished=False, interrupted=True)
    crashed = judged(judged_case(whole_case()), finished=False)

    assert _shown(cut).splitlines()[-1] == "PASS: 1 PASS; exit code 0; interrupted, what was measured is kept"
    assert "the run did not come to its end" in _shown(crashed)


def test_a_run_without_cases_says_that_nothing_was_measured() -> None:
    empty = dataclasses.replace(judged(), verdict="UNJUDGED", exit_code=2)

    assert _shown(empty).splitlines()[-1] == "UNJUDGED: nothing was measured; exit code 2"


def test_a_plan_names_cases_failures_and_time() -> None:
    stream = io.StringIO()
    plan = Plan((PlannedCase("a/onnx-fp32@local/paced", 3, 90.0),), ("b: no such model",), 30.0, 620.0)

    console.show_plan(plan, Console(file=stream, width=100))

    assert stream.getvalue().splitlines() == [
        "a/onnx-fp32@local/paced  3 launches, about 2 min",
        "ERROR  b: no such model",
        "1 case, about 10 min, 30 s of them for exports",
    ]
