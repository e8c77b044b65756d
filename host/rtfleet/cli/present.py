"""A run as a person or a CI job sees it: events while it goes on, then the report, its files and the exit code."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from rtfleet import run as runs
from rtfleet.order import Order
from rtfleet.report import console, files, live


def run(order: Order, out: Path, targets: files.Targets, *, resumed: Path | None = None) -> int:
    """Measure, judge and report; the exit code. `resumed` is the directory of the run that is gone on with."""
    files.check(targets)
    with live.live(Console(stderr=True)) as tell:
        judged, folder = runs.go_on(order, resumed, tell) if resumed else runs.conduct(order, out, tell)
    files.write(judged, folder, targets)
    if not targets.on_stdout:
        console.show(judged, console.output(), folder)
    return judged.exit_code


def dry(order: Order) -> int:
    """The plan and its time; the exit code: 2 where a model can't be measured."""
    with live.live(Console(stderr=True)) as tell:
        planned = runs.plan(order, tell)
    console.show_plan(planned, console.output())
    return 2 if planned.failures else 0
