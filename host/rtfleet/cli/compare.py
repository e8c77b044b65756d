"""`rtfleet compare`: is one stored run slower than another?"""

from __future__ import annotations

from pathlib import Path

import typer


def compare(
    baseline: Path = typer.Argument(..., metavar="BASELINE", help="A run's directory, or its run.json."),
    candidate: Path = typer.Argument(..., metavar="CANDIDATE", help="The run to compare with it."),
    tolerance: str = typer.Option("10%", "--tolerance", help="Differences up to this are no failure: 10%, 0.1."),
    confidence: float = typer.Option(0.99, "--confidence", help="Of all verdicts together."),
    anyway: bool = typer.Option(False, "--anyway", help="Compare unlike conditions too; the result says so."),
    json: str = typer.Option(None, "--json", metavar="F", help="The comparison as JSON; - is stdout."),
) -> None:
    """Compare the cases that two runs have in common, launch against launch.

    Launches that were measured in turns (rtfleet run --against) tell more: between two runs the machine may change.

    Exit codes: 0 nothing is slower by more than the tolerance, 1 something is, 2 unlike conditions or no such runs,
    3 INCONCLUSIVE.
    """
    from rtfleet import run_file
    from rtfleet.cli import options, present
    from rtfleet.report import files

    targets = files.Targets(json)
    files.check(targets)
    allowed, trust = options.tolerance(tolerance), options.confidence(confidence) or confidence
    runs = run_file.read(baseline), run_file.read(candidate)
    names = f"{runs[0].id} ({baseline})", f"{runs[1].id} ({candidate})"
    compared = present.compared(runs, names, tolerance=allowed, confidence=trust, anyway=anyway)
    raise typer.Exit(present.comparison(compared, targets))
