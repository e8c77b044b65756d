"""The report of a comparison: a table, a line for each metric that is not SAME, conditions; and the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from rtfleet import run_json
from rtfleet.compare import Pair
from rtfleet.judged import Comparison, Outcome
from rtfleet.records import DeviceFacts, Json, Launch
from rtfleet.report.rows import NONE
from rtfleet.report.words import Scale, plural, scale_of, significant, visible

# 1: first version
FORMAT_VERSION = 1

STYLES: dict[Outcome, str] = {"SLOWER": "bold red", "FASTER": "cyan", "SAME": "green", "INCONCLUSIVE": "yellow"}
_GRAVEST_FIRST: tuple[Outcome, ...] = ("SLOWER", "INCONCLUSIVE", "FASTER", "SAME")


@dataclass(frozen=True)
class Compared:
    """A whole comparison, judged.

    Attributes:
        baseline, candidate: What was compared, for people: a run's id or folder, a model.
        pairs: As they were compared; their conditions are shown.
        tolerance: Fraction.
        unmatched: Cases that only one side has, in words.
    """

    baseline: str
    candidate: str
    pairs: tuple[Pair, ...]
    comparisons: tuple[Comparison, ...]
    tolerance: float
    confidence: float
    exit_code: int
    unmatched: tuple[str, ...] = ()


def show(compared: Compared, console: Console) -> None:
    """Print the report."""
    for line in render(compared):
        console.print(line)


def render(compared: Compared) -> Iterator[RenderableType]:
    """The report, part by part. Foreign text is escaped and never markup."""
    yield from verdicts(compared.comparisons)
    if compared.unmatched:
        yield Text()
        yield _beside([(Text("not compared", "yellow"), Text(visible(text))) for text in compared.unmatched])
    yield Text()
    yield _beside([(Text(name, "dim"), Text(visible(text))) for name, text in _conditions(compared)])
    yield Text()
    yield Text(f"{counted(compared.comparisons)}; exit code {compared.exit_code}")


def verdicts(comparisons: Sequence[Comparison]) -> Iterator[RenderableType]:
    """The table, and a line for each metric that is not SAME."""
    yield table(comparisons)
    told = [one for one in comparisons if one.verdict != "SAME"]
    if told:
        yield Text()
        ordered = sorted(told, key=lambda one: _GRAVEST_FIRST.index(one.verdict))
        yield _beside([(Text(one.verdict, STYLES[one.verdict]), _explanation(one)) for one in ordered])


def trust(comparisons: Sequence[Comparison], confidence: float, tolerance: float) -> str:
    """How it was judged, and what that rests on."""
    together = f"{100 * confidence:g} % confidence for all {plural(len(comparisons), 'test')} together"
    return f"exact permutation of launches (rank sums); {together}; tolerance {100 * tolerance:g} %"


def launches(comparisons: Sequence[Comparison]) -> str:
    """How many each side has, and in which order they were measured."""
    counts = dict.fromkeys(f"{one.launches[0]} against {one.launches[1]}" for one in comparisons)
    orders = dict.fromkeys("in turns" if one.interleaved else "one after the other" for one in comparisons)
    return f"{', '.join(counts)}, measured {', '.join(orders)}"


def counted(comparisons: Sequence[Comparison]) -> str:
    """How many of each verdict, the gravest first."""
    found = [one.verdict for one in comparisons]
    named = ", ".join(f"{found.count(name)} {name}" for name in _GRAVEST_FIRST if name in found)
    return named or "nothing was compared"


def to_text(compared: Compared) -> str:
    """Strict JSON: no NaN, null where there is no such figure."""
    document: dict[str, Json] = {
        "format_version": FORMAT_VERSION,
        "baseline": compared.baseline,
        "candidate": compared.candidate,
        "tolerance": compared.tolerance,
        "confidence": compared.confidence,
        "exit_code": compared.exit_code,
        "comparisons": [run_json.plain(one) for one in compared.comparisons],
        "unmatched": list(compared.unmatched),
        "devices": [run_json.plain(device) for device in _devices(compared.pairs)],
    }
    return json.dumps(document, allow_nan=False, indent=1) + "\n"


# ---- the table -----------------------------------------------------------------------------------------------------


def table(comparisons: Sequence[Comparison]) -> Table:
    """A row for each metric of each case."""
    scale = scale_of(ns for one in comparisons for ns in (one.baseline_ns, one.candidate_ns) if ns is not None)
    rows = Table(box=None, pad_edge=False, show_edge=False)
    for heading in ("case", "metric"):
        rows.add_column(heading, overflow="fold")
    times = (f"baseline {scale.unit}", f"candidate {scale.unit}")
    for heading in (*times, "ratio", "interval", "smallest effect"):
        rows.add_column(heading, justify="right")
    rows.add_column("verdict", no_wrap=True)
    for one in comparisons:
        rows.add_row(
            Text(visible(one.case_id)),
            Text(one.metric),
            _time(one.baseline_ns, scale),
            _time(one.candidate_ns, scale),
            _ratio(one.ratio),
            f"{significant(one.interval[0])}-{significant(one.interval[1])}x" if one.interval else NONE,
            _ratio(one.smallest_effect),
            Text(one.verdict + (" (unlike)" if one.unlike else ""), STYLES[one.verdict]),
        )
    return rows


def _time(time_ns: float | None, scale: Scale) -> str:
    return NONE if time_ns is None else scale.show(time_ns)


def _ratio(ratio: float | None) -> str:
    return NONE if ratio is None else f"{significant(ratio)}x"


# ---- under it ------------------------------------------------------------------------------------------------------


def _beside(lines: Sequence[tuple[Text, Text]]) -> Table:
    """A word, and beside it text that is folded under itself."""
    table = Table(box=None, pad_edge=False, show_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for word, text in lines:
        table.add_row(word, text)
    return table


def _explanation(one: Comparison) -> Text:
    text = Text(f"{visible(one.case_id)}, {one.metric}", "bold")
    return text.append(f": {visible(one.reason)}", "not bold")


def _conditions(compared: Compared) -> Iterator[tuple[str, str]]:
    yield "baseline", compared.baseline
    yield "candidate", compared.candidate
    for device in _devices(compared.pairs):
        yield "device", _device(device)
    results = [result for pair in compared.pairs for result in (pair.baseline, pair.candidate)]
    for text in dict.fromkeys(_runtime(launch) for result in results for launch in result.launches if launch.runtime):
        yield "runtime", text
    yield "launches", launches(compared.comparisons)
    yield "judged", trust(compared.comparisons, compared.confidence, compared.tolerance)


def _devices(pairs: Sequence[Pair]) -> list[DeviceFacts]:
    found = (facts for pair in pairs for facts in (pair.baseline_device, pair.candidate_device) if facts)
    return list({(facts.alias, facts.identity): facts for facts in found}.values())


def _device(facts: DeviceFacts) -> str:
    said = (facts.alias, facts.model, f"{facts.os} {facts.os_version}", facts.soc, plural(facts.cores, "core"))
    return ", ".join(part for part in said if part.strip())


def _runtime(launch: Launch) -> str:
    runtime = launch.runtime
    return f"{runtime.name} {runtime.version} ({runtime.library_sha256[:8]})" if runtime else ""
