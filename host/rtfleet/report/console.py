"""The report on a terminal: the table, why verdicts are what they are, warnings, conditions, the end."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.text import Text

from rtfleet.judged import Advice, JudgedRun, Verdict
from rtfleet.report import comparison, parities, recognition, sentences
from rtfleet.report.rows import NONE, Group, Row, Rows, rows_of
from rtfleet.report.words import duration, plural, visible

if TYPE_CHECKING:
    from rtfleet.plan import Plan

STYLES: dict[Verdict, str] = {
    "PASS": "green",
    "FAIL": "bold red",
    "INCONCLUSIVE": "yellow",
    "UNJUDGED": "dim",
    "ERROR": "red",
}

# A piece of advice has the colour of a verdict.
_LIKE: dict[Advice, Verdict] = {"MET": "PASS", "OPEN": "INCONCLUSIVE", "UNMET": "FAIL", "NONE": "ERROR"}

# Width of what is no terminal: a log has no right edge.
LOG_COLUMNS = 132

# Cell -> its two heading lines. Neighbours with the same first line share it.
_HEADINGS = {
    "variant": ("", ""),
    "p50": ("{unit}", "p50"),
    "p90": ("{unit}", "p90"),
    "p99": ("{unit}", "p99"),
    "rtf": ("RTF", "p50"),
    "pacing": ("paced", "/burst"),
    "size": ("size", "MB"),
    "size_ratio": ("vs fp32", "size"),
    "speed_ratio": ("vs fp32", "speed"),
    "parity": ("parity", "SNR"),
    "agreement": ("parity", "agree"),
    "verdict": ("", "verdict"),
}
# What goes where a terminal is narrow, the first first; "" is the second space between columns.
_DROPPED = ("agreement", "p90", "size_ratio", "", "pacing", "speed_ratio")


def output() -> Console:
    """The console of stdout. What is piped gets room, so that a log's lines are not folded at 80 columns."""
    wide = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=LOG_COLUMNS if wide else None, highlight=False)


def show(judged: JudgedRun, console: Console, folder: Path | None = None) -> None:
    """Print the report."""
    for line in render(judged, console, folder):
        console.print(line)


def show_plan(plan: Plan, console: Console) -> None:
    """Print what would be measured, what can't be, and how long it would take."""
    for case in plan.cases:
        about = f"{plural(case.launches, 'launch')}, about {duration(case.seconds)}"
        console.print(Text.assemble(visible(case.case_id), (f"  {about}", "dim")))
    for power in dict.fromkeys(sentence for case in plan.cases for sentence in case.power):
        console.print(Text(visible(power), "dim"))
    for failure in plan.failures:
        console.print(Text.assemble(("ERROR  ", STYLES["ERROR"]), visible(failure)))
    exports = f", {duration(plan.export_s)} of them for exports" if plan.export_s else ""
    console.print(Text(f"{plural(len(plan.cases), 'case')}, about {duration(plan.estimate_s)}{exports}"))


def render(judged: JudgedRun, console: Console, folder: Path | None = None) -> Iterator[RenderableType]:
    """The report, part by part."""
    yield from _table(rows_of(judged), console.width)
    found = parities.parities(judged)
    if found:
        yield Text()
        yield from parities.lines(found)
    heard = parities.heard(judged)
    if heard:
        yield Text()
        yield from _beside([(Text("heard", "bold"), _named(cases, text)) for text, cases in heard], console)
    explained = sentences.explanations(judged)
    if explained:
        yield Text()
        yield from _beside([(Text(one.verdict, STYLES[one.verdict]), _explanation(one)) for one in explained], console)
    curves = sentences.curves(judged)
    if curves:
        yield Text()
        yield from _beside([(Text("sustained", "bold"), Text(f"{name}: {text}")) for name, text in curves], console)
    said = recognition.recognized(judged)
    if said:
        yield Text()
        yield from _beside([(Text("recognized", "bold"), Text(f"{name}: {text}")) for name, text in said], console)
    longest = sentences.operators(judged)
    if longest:
        yield Text()
        yield from _beside([(Text("time", "bold"), _operators(name, text)) for name, text in longest], console)
    warned = sentences.warnings(judged)
    if warned:
        yield Text()
        yield from _beside([(Text("warning", "yellow"), _warning(one)) for one in warned], console)
    if judged.comparisons:
        yield Text()
        yield Text("against the baseline", "bold")
        yield from comparison.verdicts(judged.comparisons)
    advised = sentences.recommendations(judged)
    if advised:
        yield Text()
        yield from _beside([(_advised(one), _named((one.whose,), one.text)) for one in advised], console)
    yield Text()
    conditions = sentences.conditions(judged, folder)
    yield from _beside([(Text(name, "dim"), Text(text)) for name, text in conditions], console)
    yield Text()
    yield Text.assemble((judged.verdict, STYLES[judged.verdict]), f": {sentences.ending(judged)}")


# ---- the table -----------------------------------------------------------------------------------------------------


def _table(rows: Rows, width: int) -> Iterator[Text]:
    """Rows under the heading of their group; the least telling columns go where the terminal is narrow."""
    columns = _columns(rows, width)
    for line in _heading_lines(columns):
        yield Text(line.rstrip(), "dim")
    for group in rows.groups:
        yield _group_heading(group)
        for row in group.rows:
            yield _line(row, columns)


@dataclass(frozen=True)
class _Columns:
    """What is shown, how wide, how far apart. `headings` are two lines a column."""

    names: tuple[str, ...]
    headings: tuple[tuple[str, str], ...]
    widths: tuple[int, ...]
    gap: int

    @property
    def all_width(self) -> int:
        return sum(self.widths) + self.gap * (len(self.widths) - 1)


def _columns(rows: Rows, width: int) -> _Columns:
    every = [row for group in rows.groups for row in group.rows]
    names = [name for name in _HEADINGS if any(getattr(row, name) != NONE for row in every)]
    gap = 2
    for drop in ("nothing", *_DROPPED):
        gap = 1 if drop == "" else gap
        names = [name for name in names if name != drop]
        columns = _measured(rows.unit, every, names, gap)
        if columns.all_width <= width:
            break
    return columns


def _measured(unit: str, rows: Sequence[Row], names: Sequence[str], gap: int) -> _Columns:
    headings = [(_HEADINGS[name][0].format(unit=unit), _HEADINGS[name][1]) for name in names]
    above = [upper for upper, _ in headings]
    widths = []
    for name, (upper, lower) in zip(names, headings, strict=True):
        # A heading that stands over several columns has room.
        own = 0 if above.count(upper) > 1 else cell_len(upper)
        widths.append(max(own, cell_len(lower), *(cell_len(_cell(row, name)) for row in rows)))
    return _Columns(tuple(names), tuple(headings), tuple(widths), gap)


def _heading_lines(columns: _Columns) -> Iterator[str]:
    above = []
    zipped = zip(columns.headings, columns.widths, strict=True)
    for upper, shared in itertools.groupby(zipped, lambda column: column[0][0]):
        room = [width for _, width in shared]
        above.append(upper.rjust(sum(room) + columns.gap * (len(room) - 1)))
    yield (" " * columns.gap).join(above)
    below = [
        _aligned(heading[1], name, width)
        for name, heading, width in zip(columns.names, columns.headings, columns.widths, strict=True)
    ]
    yield (" " * columns.gap).join(below)


def _cell(row: Row, name: str) -> str:
    text: str = row.verdict_text if name == "verdict" else getattr(row, name)
    return f"  {text}" if name == "variant" else text


def _aligned(text: str, name: str, width: int) -> str:
    space = " " * (width - cell_len(text))
    return text + space if name in ("variant", "verdict") else space + text


def _line(row: Row, columns: _Columns) -> Text:
    line = Text()
    for name, width in zip(columns.names, columns.widths, strict=True):
        text = _cell(row, name)
        style = STYLES[row.verdict] if name == "verdict" else "dim" if text == NONE else ""
        line.append(" " * columns.gap * bool(line))
        line.append(_aligned(text, name, width), style)
    line.rstrip()
    return line


def _group_heading(group: Group) -> Text:
    text = Text(group.model, "bold")
    text.append(f" on {group.device}, {group.shows}", "not bold")
    for note in group.notes:
        text.append(f"\n  {note}", "not bold italic")
    return text


# ---- under it ------------------------------------------------------------------------------------------------------


def _beside(lines: Sequence[tuple[Text, Text]], console: Console) -> Iterator[Text]:
    """A word, and beside it text that is folded under itself."""
    indent = max(cell_len(word.plain) for word, _ in lines) + 2
    for word, text in lines:
        for at, line in enumerate(text.wrap(console, max(20, console.width - indent), overflow="fold")):
            beside = word if at == 0 else Text()
            line.rstrip()
            yield Text.assemble(beside, " " * (indent - cell_len(beside.plain)), line)


def _named(cases: Sequence[str], text: str) -> Text:
    return Text(", ".join(cases), "bold").append(f": {text}", "not bold")


def _advised(one: sentences.Advised) -> Text:
    return Text(sentences.ADVICE[one.advice], STYLES[_LIKE[one.advice]])


def _explanation(one: sentences.Explained) -> Text:
    text = Text(", ".join(one.cases), "bold")
    text.append(f": {one.text}" if one.text else "", "not bold")
    if one.limit:
        text.append(f" ({one.limit})", "not bold dim")
    if one.hint:
        text.append(f"\nhint: {one.hint}", "not bold italic")
    return text


def _operators(case: str, text: str) -> Text:
    return Text.assemble((case, "bold"), f": {text}")


def _warning(one: sentences.Warned) -> Text:
    text = Text("\n".join(f"{', '.join(cases)}: {seen}" for seen, cases in one.texts))
    if one.more:
        text.append(f"\nand {one.more} more like it, in run.json", "dim")
    if one.hint:
        text.append(f"\nhint: {one.hint}", "italic")
    return text
