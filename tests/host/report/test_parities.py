"""Parity on the device beside the host's, what wake words heard, and what is recommended."""

from __future__ import annotations

import dataclasses
import io

import pytest
from builders import judged, judged_case, renamed, whole_case
from invented import parity
from rich.console import Console

from rtfleet.fidelity import AgainstLabels, Detections
from rtfleet.judged import JudgedCase, JudgedRun, Recommendation
from rtfleet.records import Options
from rtfleet.report import console, markdown, parities

HEARD = Detections(25, 24, 1, 558.0, AgainstLabels(20, 18, 19, 300.0, 2, 1))


def _shown(run: JudgedRun, width: int = 120) -> str:
    stream = io.StringIO()
    console.show(run, Console(file=stream, width=width))
    return stream.getvalue()


def _case(variant: str = "onnx-int8-static", device: str = "board", **result: object) -> JudgedCase:
    facts = {
        "parity_device": parity(max_abs_error=0.31, snr_db=7.2, decision_agreement=0.981, drift=1.4),
        "parity_host": parity(max_abs_error=4.1e-5, snr_db=38.0, drift=None, optimized=False),
    }
    return judged_case(renamed(whole_case(**(facts | result)), variant=variant, device=device))


def test_the_device_and_the_host_stand_side_by_side() -> None:
    lines = [" ".join(line.split()) for line in _shown(judged(_case(), _case("onnx-fp16"))).splitlines()]

    at = lines.index("parity max err SNR agree drift max err SNR agree drift")
    assert lines[at - 1] == "on the device on the host"
    assert lines[at + 1 : at + 4] == [
        "luna on board",
        "onnx-int8-static 0.310 7 dB 98.1% 1.4x 4.1e-05 38 dB 100% -",
        "onnx-fp16 0.310 7 dB 98.1% 1.4x 4.1e-05 38 dB 100% -",
    ]


def test_what_only_one_of_them_has_is_shown_and_what_none_has_is_no_row() -> None:
    alone = _case(parity_host=None)
    neither = _case("onnx-fp32", parity_host=None, parity_device=None)

    (found,) = parities.parities(judged(alone, neither))

    assert (found.variant, found.host) == ("onnx-int8-static", ("-", "-", "-", "-"))


def test_cases_of_one_device_stand_together_with_their_options() -> None:
    one = whole_case(options=Options(threads=4))
    threaded = judged_case(renamed(one, variant="onnx-int8-static", device="pixel"))

    found = parities.parities(judged(_case(device="pixel"), _case(), threaded))

    assert [(one.device_name, one.variant) for one in found] == [
        ("pixel", "onnx-int8-static"),
        ("pixel", "onnx-int8-static+t4"),
        ("board", "onnx-int8-static"),
    ]


@pytest.mark.parametrize("variant", ["onnx-int8-dynamic", "tflite-int8-dynamic"])
def test_a_row_is_one_line_at_eighty_columns(variant: str) -> None:
    lines = _shown(judged(_case(variant)), 80).splitlines()

    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines if line.rstrip().endswith("-") and "dB" in line] == [variant]


def test_markdown_has_the_same_figures_in_a_table_of_their_own() -> None:
    text = markdown.render(judged(_case()))

    assert "| board | luna | onnx-int8-static | 0.310 | 7 dB | 98.1% | 1.4x | 4.1e-05 | 38 dB | 100% |  |" in text


def test_hits_and_false_alarms_stand_beside_the_original_s() -> None:
    run = judged(_case(parity_device=parity(detections=HEARD)), _case("onnx-fp32"))

    said = (
        "luna on board: 18 of 20 clips with the phrase (original 19), 2 false alarms in 5.0 min of other audio "
        "(original 1); 25 detections (original 25: 1 missed, 1 extra)"
    )
    assert f"heard {said}" in " ".join(_shown(run).split())
    assert f"- **heard** {said}" in markdown.render(run)


def test_variants_that_heard_something_else_are_told_apart() -> None:
    same = parity(detections=dataclasses.replace(HEARD, matched=25, extra=0, labelled=None))
    run = judged(_case(parity_device=parity(detections=HEARD)), _case("onnx-fp32", parity_device=same))

    assert parities.heard(run)[1] == (
        "25 detections (original 25) in 9.3 min; no clip is known to hold the phrase",
        ("luna/onnx-fp32",),
    )
    assert parities.heard(run)[0][1] == ("luna/onnx-int8-static",)


def test_a_model_that_hears_nothing_is_not_spoken_of() -> None:
    assert parities.heard(judged(_case())) == ()


@pytest.mark.parametrize(
    ("advice", "word"), [("MET", "recommended"), ("OPEN", "undecided"), ("UNMET", "none fits"), ("NONE", "no result")]
)
def test_the_report_ends_with_what_each_device_should_run(advice: str, word: str) -> None:
    one = Recommendation("luna", "ev[red]il", "paced", advice, None, (), "because | of *this*")  # type: ignore[arg-type]
    run = dataclasses.replace(judged(_case()), recommendations=(one,))

    blocks = _shown(run).split("\n\n")
    assert blocks[-3] == f"{word}  luna on ev[red]il: because | of *this*"
    assert f"- **{word}** luna on ev\\[red\\]il: because \\| of \\*this\\*" in markdown.render(run)


def test_two_scenarios_of_one_model_are_told_apart() -> None:
    paced = Recommendation("luna", "board", "paced", "NONE", None, (), "why")
    run = dataclasses.replace(judged(_case()), recommendations=(paced, dataclasses.replace(paced, scenario="burst")))

    assert "luna on board, paced: why" in _shown(run) and "luna on board, burst: why" in _shown(run)
