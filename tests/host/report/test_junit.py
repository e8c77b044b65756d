"""JUnit: what CI follows from run to run."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from builders import check, every_verdict, hostile, judged, judged_case, whole_case

from rtfleet.report import junit


def _cases(text: str) -> dict[str, ET.Element]:
    return {f"{case.get('classname')} {case.get('name')}": case for case in ET.fromstring(text).iter("testcase")}


def test_each_check_is_a_testcase_named_by_case_and_metric() -> None:
    assert list(_cases(junit.render(judged(judged_case(whole_case()))))) == [
        "rtfleet the run came to its end",
        "luna/onnx-fp32@board/paced measured",
        "luna/onnx-fp32@board/paced response_p99_ms",
        "luna/onnx-fp32@board/paced size_mb",
    ]


def test_verdicts_become_failures_errors_and_skips() -> None:
    cases = _cases(junit.render(every_verdict()))

    outcomes = {
        name: next((f"{part.tag} {part.get('type', '')}".strip() for part in case if part.tag != "system-out"), "")
        for name, case in cases.items()
    }
    assert outcomes["wake-word/onnx-fp32@board/paced response_p99_ms"] == ""
    assert outcomes["wake-word/onnx-int8-static@board/paced response_p99_ms"] == "failure FAIL"
    assert outcomes["wake-word/tflite-fp32@board/paced response_p99_ms"] == "error INCONCLUSIVE"
    assert outcomes["silero-vad/onnx-shipped@board/paced measured"] == "error SOURCE"
    assert outcomes["openwakeword-alexa/onnx-fp32@board/paced response_p99_ms"] == "skipped"


def test_the_counts_are_those_of_the_testcases() -> None:
    suite = ET.fromstring(junit.render(every_verdict())).find("testsuite")

    assert suite is not None
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "17",
        "failures": "1",
        "errors": "2",
        "skipped": "1",
    }


def test_the_conditions_are_properties() -> None:
    found = {one.get("name"): one.get("value") for one in ET.fromstring(junit.render(every_verdict())).iter("property")}

    assert found["run"] == "20261124-040000-5f3a"
    assert "onnxruntime 1.32.0" in (found["board"] or "")
    assert found["verdict"] == "FAIL"


def test_a_metric_checked_twice_has_two_names() -> None:
    case = judged_case(whole_case(), checks=(check(), check("FAIL")), verdict="FAIL")

    names = [name.rpartition("paced ")[2] for name in _cases(junit.render(judged(case)))]
    assert names[1:] == ["measured", "response_p99_ms", "response_p99_ms (2)"]


def test_a_case_that_owes_nothing_is_skipped() -> None:
    case = judged_case(whole_case(), "UNJUDGED", checks=(), reason="no budget is owed")

    _, measured = _cases(junit.render(judged(case))).values()
    assert [part.tag for part in measured] == ["skipped"]


def test_hostile_names_leave_valid_xml_without_control_characters() -> None:
    text = junit.render(hostile())

    assert any("ev[red]il|\\x1b[2J" in name for name in _cases(text))
    assert "\x1b" not in text


def test_a_run_that_did_not_come_to_its_end_is_an_error() -> None:
    crashed = judged(judged_case(whole_case()), verdict="INCONCLUSIVE", exit_code=3, finished=False)

    ended = _cases(junit.render(crashed))["rtfleet the run came to its end"]

    assert [(part.tag, part.get("type")) for part in ended] == [("error", "INCONCLUSIVE")]
