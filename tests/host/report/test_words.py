"""Numbers and foreign text as people read them."""

from __future__ import annotations

import pytest

from rtfleet.report.words import duration, plural, scale_of, significant, visible


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.04123, "0.0412"),
        (0.4, "0.400"),
        (4.123, "4.12"),
        (9.999, "10.0"),
        (41.23, "41.2"),
        (4123, "4,120"),
        (-2.5, "-2.50"),
        (float("nan"), "-"),
    ],
)
def test_numbers_have_three_significant_digits_and_no_exponent(value: float, shown: str) -> None:
    assert significant(value) == shown


@pytest.mark.parametrize(("longest_ns", "unit"), [(9e5, "µs"), (1e6, "ms"), (9e9, "ms"), (1e10, "s")])
def test_a_column_of_times_has_the_unit_of_its_longest(longest_ns: float, unit: str) -> None:
    scale = scale_of([1.0, longest_ns, 2.0])

    assert scale.unit == unit
    assert scale.show(longest_ns) == significant(longest_ns / scale.unit_ns)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain [red] | ü 语", "plain [red] | ü 语"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("a\nb", "a b"),
        ("a\r\tb", "a\\r\\tb"),
        ("right\u202eleft\u200b", "right\\u202eleft\\u200b"),
        ("\udcff", "\\udcff"),
    ],
)
def test_what_would_draw_on_the_terminal_becomes_an_escape(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(1.2, "1 s"), (89, "89 s"), (620, "10 min"), (12600, "3.5 h")])
def test_durations_are_rough(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_plurals() -> None:
    assert plural(1, "launch") == "1 launch"
    assert plural(3, "launch") == "3 launches"
    assert plural(1200, "frame") == "1,200 frames"
