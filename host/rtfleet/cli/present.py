"""A run as a person or a CI job sees it: events while it goes on, then the report, its files and the exit code."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from rtfleet import campaign
from rtfleet import run as runs
from rtfleet.report import console, files, live


def run(order: campaign.Order, out: Path, json: str | None, junit: str | None, markdown: str | None) -> int:
    """Measure, judge and report; the exit code."""
    targets = files.Targets(json, junit, markdown)
    files.check(targets)
    with live.live(Console(stderr=True)) as tell:
        judged, folder = runs.conduct(order, out, tell)
    files.write(judged, folder, targets)
    if not targets.on_stdout:
        console.show(judged, console.output(), folder)
    return judged.exit_code


def dry(order: campaign.Order) -> int:
    """The plan and its time."""
    with live.live(Console(stderr=True)) as tell:
        planned = runs.plan(order, tell)
    console.show_plan(planned, console.output())
    return 0
