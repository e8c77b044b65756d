"""`rtfleet compare`: is one stored run slower than another?"""

from __future__ import annotations

import math
import sys
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
    from rtfleet import compare as comparing
    from rtfleet import run_file
    from rtfleet.cli import options
    from rtfleet.errors import RtfleetError
    from rtfleet.report import comparison, console, files

    targets = files.Targets(json)
    files.check(targets)
    allowed, trust = share(tolerance, "--tolerance"), options.confidence(confidence) or confidence
    runs = run_file.read(baseline), run_file.read(candidate)
    pairs = comparing.pairs_of(*runs)
    comparisons = comparing.compare(pairs, tolerance=allowed, confidence=trust, anyway=anyway)
    compared = comparison.Compared(
        baseline=f"{runs[0].id} ({baseline})",
        candidate=f"{runs[1].id} ({candidate})",
        pairs=pairs,
        comparisons=comparisons,
        tolerance=allowed,
        confidence=trust,
        exit_code=comparing.exit_code(comparisons, allowed),
        unmatched=comparing.unmatched(*runs),
    )
    if targets.on_stdout:
        sys.stdout.write(comparison.to_text(compared))
    else:
        comparison.show(compared, console.output())
        if json:
            try:
                Path(json).write_text(comparison.to_text(compared), encoding="utf-8")
            except OSError as error:
                raise RtfleetError(f"--json {json}: can't be written: {error.strerror}") from None
    raise typer.Exit(compared.exit_code)


def share(text: str, flag: str) -> float:
    """`10%`, `10 %` and `0.1` are 0.1. Raises UsageError for what is no share of at least 0 and below 1."""
    from rtfleet.errors import UsageError

    number, percent, rest = text.partition("%")
    try:
        value = float(number) / (100 if percent else 1)
    except ValueError:
        value = math.nan
    if rest.strip() or not 0 <= value < 1:
        raise UsageError(f"{flag} {text}: expected a share like 10% or 0.1")
    return value
