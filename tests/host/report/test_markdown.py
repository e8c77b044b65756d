"""Markdown for a CI summary."""

from __future__ import annotations

import re

from builders import every_verdict, hostile

from rtfleet.report import markdown


def _rows(text: str) -> list[list[str]]:
    """The first table's rows; an escaped border is text."""
    table = text.partition("<details>")[0]
    return [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines() if line.startswith("| ")]


def test_the_table_has_a_row_for_each_case() -> None:
    heading, rule, *rows = _rows(markdown.render(every_verdict()))

    assert len({len(row) for row in (heading, rule, *rows)}) == 1
    assert [row[-1].strip() for row in rows] == [
        "PASS",
        "**FAIL**",
        "**INCONCLUSIVE**",
        "**ERROR**",
        "PASS",
        "**UNJUDGED**",
    ]
    assert [cell.strip() for cell in rows[0][:7]] == [
        "board",
        "wake-word",
        "onnx-fp32",
        "paced: response to a frame every 80 ms",
        "0.492",
        "0.533",
        "0.698",
    ]


def test_verdict_reasons_and_conditions_follow() -> None:
    text = markdown.render(every_verdict())

    assert text.startswith("## rtfleet: FAIL\n")
    assert "- **FAIL** wake-word/onnx-int8-static: response\\_p99\\_ms: 12 % of the frames of launch 2" in text
    assert "<summary>2 kinds of warnings</summary>" in text
    assert "onnxruntime 1.32.0" in text


def test_hostile_names_stay_in_their_cell() -> None:
    text = markdown.render(hostile())

    assert len({len(row) for row in _rows(text)}) == 1
    assert "ev\\[red\\]il\\|\\\\x1b\\[2J" in text
    assert "\x1b" not in text


def test_markup_and_mentions_are_text() -> None:
    assert markdown.escaped("<b>*x*</b> & @team `code` [a](b)") == (
        "&lt;b&gt;\\*x\\*&lt;/b&gt; &amp; @\u200bteam \\`code\\` \\[a\\](b)"
    )
