"""A run as a person or a CI job sees it: events while it goes on, then the report, its files and the exit code."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from rtfleet import compare
from rtfleet import noise as noises
from rtfleet import run as runs
from rtfleet.discovery import Here
from rtfleet.fleet import Device
from rtfleet.order import Order
from rtfleet.records import Run
from rtfleet.report import comparison as tables
from rtfleet.report import console, files, live


def told(here: Here) -> tuple[Device, ...]:
    """The devices that were chosen; what can't be used is named on the way."""
    for note in here.notes:
        print(note, file=sys.stderr)
    return here.devices


def run(order: Order, out: Path, targets: files.Targets, *, resumed: Path | None = None) -> int:
    """Measure, judge and report; the exit code. `resumed` is the directory of the run that is gone on with."""
    files.check(targets)
    with live.live(Console(stderr=True)) as tell:
        judged, folder = runs.go_on(order, resumed, tell) if resumed else runs.conduct(order, out, tell)
    return files.hand_over(judged, folder, targets)


def noise(order: Order, out: Path) -> int:
    """Measure a model against itself and say what could be told apart; the exit code: 4 where a device gave nothing."""
    with live.live(Console(stderr=True)) as tell:
        judged, folder = runs.conduct(order, out, tell)
    screen = console.output()
    screen.print(tables.table(judged.comparisons))
    screen.print()
    for one in judged.comparisons:
        screen.print(noises.told(one), markup=False)
    screen.print(f"\nkept in {folder}", markup=False)
    return 0 if any(one.smallest_effect for one in judged.comparisons) else judged.exit_code


def compared(
    runs: tuple[Run, Run], names: tuple[str, str], *, tolerance: float, confidence: float, anyway: bool = False
) -> tables.Compared:
    """Baseline and candidate, compared case by case. Raises UsageError for unlike conditions, unless `anyway`."""
    pairs = compare.pairs_of(*runs)
    comparisons = compare.compare(pairs, tolerance=tolerance, confidence=confidence, anyway=anyway)
    return tables.Compared(
        baseline=names[0],
        candidate=names[1],
        pairs=pairs,
        comparisons=comparisons,
        tolerance=tolerance,
        confidence=confidence,
        exit_code=compare.exit_code(comparisons, tolerance),
        unmatched=compare.unmatched(*runs),
    )


def comparison(found: tables.Compared, targets: files.Targets) -> int:
    """Show it, or write it as JSON; the exit code."""
    if targets.on_stdout:
        sys.stdout.write(tables.to_text(found))
    else:
        tables.show(found, console.output())
        if targets.json:
            files.put("--json", targets.json, [tables.to_text(found)])
    return found.exit_code


def dry(order: Order) -> int:
    """The plan and its time; the exit code: 2 where a model can't be measured."""
    with live.live(Console(stderr=True)) as tell:
        planned = runs.plan(order, tell)
    console.show_plan(planned, console.output())
    return 2 if planned.failures else 0
