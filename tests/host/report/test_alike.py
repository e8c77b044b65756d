"""Many devices of one kind take one row, and those that did not pass stand in full."""

from __future__ import annotations

import io

from builders import judged, judged_case, renamed, summary, whole_case
from invented import device
from rich.console import Console

from rtfleet.judged import JudgedCase, JudgedRun, Verdict
from rtfleet.report import console, markdown
from rtfleet.report.alike import alike


def measured(number: int, p99_ms: float, verdict: Verdict = "PASS", variant: str = "onnx-fp32") -> JudgedCase:
    result = renamed(whole_case(), device=f"pixel8-{number:02}", variant=variant)
    return judged_case(result, verdict, summary=summary(p99_ms))


def run(*cases: JudgedCase, profile: str = "pixel-8") -> JudgedRun:
    devices = tuple(device(alias=name, profile=profile) for name in {one.result.case.device: None for one in cases})
    return judged(*cases, devices=devices)


def shown(judged_run: JudgedRun) -> str:
    screen = Console(file=io.StringIO(), width=140, highlight=False)
    console.show(judged_run, screen)
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


TEN = [measured(number, 3.0 + number / 10) for number in range(1, 11)]


def test_ten_that_pass_are_one_row_with_the_slowests_numbers() -> None:
    text = shown(run(*TEN))

    assert "luna on 10 devices of pixel-8, the slowest's numbers" in text
    assert "10 of 10 PASS, worst pixel8-10" in text
    assert text.split("\n\n")[0].count("onnx-fp32") == 1


def test_one_that_fails_stands_in_full_beside_them() -> None:
    text = shown(run(*TEN[:6], measured(7, 80.0, "FAIL"), *TEN[7:]))

    assert "9 of 10 PASS, worst pixel8-07" in text
    assert "luna on pixel8-07, " in text
    assert "luna on pixel8-06, " not in text


def test_each_variant_has_its_own_row() -> None:
    int8 = [measured(number, 1.0, variant="onnx-int8-static") for number in range(1, 11)]

    found = alike(run(*TEN, *int8))

    assert {group.said for group in found.values()} == {
        "10 of 10 PASS, worst pixel8-10",
        "10 of 10 PASS, worst pixel8-01",
    }


def test_few_devices_and_devices_of_other_kinds_are_shown_one_by_one() -> None:
    assert alike(run(*TEN[:3])) == {}
    assert alike(run(*TEN, profile="")) == {}


def test_where_none_passed_it_says_what_they_are() -> None:
    (said,) = {group.said for group in alike(run(*[measured(n, 90.0, "FAIL") for n in range(1, 6)])).values()}

    assert said == "5 of 5 FAIL, worst pixel8-01"


def test_markdown_has_the_same_row() -> None:
    assert "10 of 10 PASS, worst pixel8-10" in markdown.render(run(*TEN))
