"""Numbers and foreign text as people read them. Nothing is rounded before it gets here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


def visible(text: str) -> str:
    """Text of models, devices and files on one line: what draws on a terminal or reverses a line becomes an escape."""
    return "".join(
        character if character.isprintable() else repr(character)[1:-1] if character != "\n" else " "
        for character in text
    )


def significant(value: float, digits: int = 3) -> str:
    """As many significant digits, never with an exponent: 0.0412, 4.12, 41.2, 4,120."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "-"
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:,.{max(0, digits - 1 - math.floor(math.log10(abs(rounded))))}f}"


@dataclass(frozen=True)
class Scale:
    """One unit for a whole column of times."""

    unit: str
    unit_ns: float

    def show(self, time_ns: float) -> str:
        return significant(time_ns / self.unit_ns)


def scale_of(times_ns: Iterable[float]) -> Scale:
    """The unit that suits the longest of them."""
    longest_ns = max(times_ns, default=0.0)
    if longest_ns < 1e6:
        return Scale("µs", 1e3)
    return Scale("ms", 1e6) if longest_ns < 1e10 else Scale("s", 1e9)


def times(value: float) -> str:
    """A ratio: 3.9x."""
    return f"{significant(value, 2)}x"


def plural(count: int, word: str) -> str:
    """`1 launch`, `3 launches`."""
    return f"{count:,} {word}{'' if count == 1 else 'es' if word.endswith('ch') else 's'}"


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def sparkline(values: Sequence[float]) -> str:
    """The shape of a curve in one line, its least value lowest: ▁▂▂▅█."""
    low, high = min(values), max(values)
    bars = "▁▂▃▄▅▆▇█"
    return "".join(
        bars[round((value - low) / (high - low) * (len(bars) - 1))] if high > low else "▁" for value in values
    )
