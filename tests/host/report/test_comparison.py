"""The report of a comparison."""

from __future__ import annotations

import dataclasses
import io
import json
from typing import Any

from builders import HOSTILE, ORT, whole_case
from invented import device
from rich.console import Console

from rtfleet.compare import Pair
from rtfleet.judged import Comparison, Difference
from rtfleet.report import comparison
from rtfleet.report.comparison import Compared

PAIR = Pair(whole_case(), whole_case(), device(model="Board of tests"), device(model="Board of tests"))


def _one(**changes: Any) -> Comparison:
    facts: dict[str, Any] = {
        "case_id": "luna/onnx-fp32@board/paced",
        "metric": "latency_p50",
        "verdict": "SAME",
        "reason": "0.98-1.03x at 99.5 %, within the tolerance of 10 % either way",
        "baseline_ns": 3e6,
        "candidate_ns": 3.03e6,
        "ratio": 1.01,
        "interval": (0.98, 1.03),
        "interval_confidence": 0.995,
        "smallest_effect": 1.026,
        "p_value": 0.4,
        "launches": (8, 8),
        "launches_needed": None,
        "interleaved": True,
        "unlike": (),
        "disturbed": (),
    }
    return Comparison(**(facts | changes))


SLOWER = _one(verdict="SLOWER", metric="response_p99", ratio=1.21, reason="1.21x (1.12-1.3x at 99.5 %)")
OPEN = _one(
    verdict="INCONCLUSIVE", baseline_ns=None, ratio=None, interval=None, smallest_effect=None, p_value=None,
    reason="3 against 8 launches decide nothing", launches=(3, 8), launches_needed=6,
)  # fmt: skip


def _compared(*comparisons: Comparison, **changes: Any) -> Compared:
    facts: dict[str, Any] = {
        "baseline": "before",
        "candidate": "after",
        "pairs": (PAIR,),
        "comparisons": comparisons,
        "tolerance": 0.1,
        "confidence": 0.99,
        "exit_code": 1,
    }
    return Compared(**(facts | changes))


def _lines(compared: Compared, width: int = 140) -> list[str]:
    stream = io.StringIO()
    comparison.show(compared, Console(file=stream, width=width, color_system=None))
    return [" ".join(line.split()) for line in stream.getvalue().splitlines()]


def test_a_row_has_all_that_a_verdict_rests_on() -> None:
    lines = _lines(_compared(_one(), SLOWER))

    assert lines[0] == "case metric baseline ms candidate ms ratio interval smallest effect verdict"
    assert lines[1] == "luna/onnx-fp32@board/paced latency_p50 3.00 3.03 1.01x 0.980-1.03x 1.03x SAME"
    assert lines[2].endswith("SLOWER")
    assert lines[-1] == "1 SLOWER, 1 SAME; exit code 1"


def test_every_verdict_but_same_is_explained_the_gravest_first() -> None:
    told = [line for line in _lines(_compared(OPEN, _one(), SLOWER)) if line.startswith(("SLOWER", "INCONC", "SAME"))]

    assert told == [
        "SLOWER luna/onnx-fp32@board/paced, response_p99: 1.21x (1.12-1.3x at 99.5 %)",
        "INCONCLUSIVE luna/onnx-fp32@board/paced, latency_p50: 3 against 8 launches decide nothing",
    ]


def test_the_conditions_stand_below() -> None:
    lines = _lines(_compared(_one(), unmatched=("luna/onnx-fp16@board/paced: only in before",)))

    assert "not compared luna/onnx-fp16@board/paced: only in before" in lines
    assert "device board, Board of tests, linux 6, 4 cores" in lines
    assert "runtime onnxruntime 1.32.0 (dddddddd)" in lines
    assert "launches 8 against 8, measured in turns" in lines
    assert any("99 % confidence for all 1 test together; tolerance 10 %" in line for line in lines)


def test_unlike_conditions_are_marked_beside_the_verdict() -> None:
    assert _lines(_compared(_one(unlike=(Difference("threads", "1", "4"),))))[1].endswith("SAME (unlike)")


def test_json_is_strict_and_has_everything() -> None:
    document = json.loads(
        comparison.to_text(_compared(SLOWER, OPEN, _one(unlike=(Difference("hop", "80 ms", "none"),))))
    )

    assert document["format_version"] == 1
    assert [one["verdict"] for one in document["comparisons"]] == ["SLOWER", "INCONCLUSIVE", "SAME"]
    assert document["comparisons"][0]["interval"] == [0.98, 1.03]
    assert document["comparisons"][1]["ratio"] is None
    assert document["comparisons"][2]["unlike"] == [{"field": "hop", "baseline": "80 ms", "candidate": "none"}]
    assert document["devices"][0]["identity"] == "serial"


def test_foreign_text_can_neither_draw_nor_be_markup() -> None:
    launches = tuple(
        dataclasses.replace(one, runtime=dataclasses.replace(ORT, version=HOSTILE)) for one in PAIR.candidate.launches
    )
    pair = dataclasses.replace(
        PAIR,
        candidate=dataclasses.replace(PAIR.candidate, launches=launches),
        candidate_device=device(identity="x", model=HOSTILE),
    )
    bad = dataclasses.replace(SLOWER, case_id=HOSTILE, reason=HOSTILE)
    text = "\n".join(_lines(_compared(bad, pairs=(pair,), baseline=HOSTILE, unmatched=(HOSTILE,)), 300))

    assert "\x1b" not in text
    assert "\u202e" not in text
    assert text.count("ev[red]il|") == 7
