"""`rtfleet show`: a stored run, judged again."""

from __future__ import annotations

import contextlib
from pathlib import Path

import typer


def show(
    run: Path = typer.Argument(..., metavar="RUN", help="A run's directory, or its run.json."),
    case: str = typer.Option(None, "--case", metavar="C", help="Only this case: its id, or part of it."),
    log: bool = typer.Option(False, "--log", help="The last words of launches that failed, in the report's place."),
    json: str = typer.Option(None, "--json", metavar="F", help="run.json; - is stdout."),
    junit: str = typer.Option(None, "--junit", metavar="F", help="JUnit XML; - is stdout."),
    markdown: str = typer.Option(None, "--markdown", metavar="F", help="Markdown; - is stdout."),
) -> None:
    """Judge a stored run again and show it; no device and no export library is needed. After a crash too.

    `--case` shows a part of it; verdict and exit code stay those of the whole.

    Exit codes: those of the run itself, 2 for what is no run.
    """
    from rtfleet import budget, run_file
    from rtfleet.errors import RtfleetError
    from rtfleet.report import files
    from rtfleet.report import log as logs

    targets = files.Targets(json, junit, markdown)
    files.check(targets)
    judged = budget.judge(run_file.read(run))
    folder = run if run.is_dir() else run.parent
    if run.is_dir():
        # A run that crashed has none yet; one that was judged by other rules gets today's.
        with contextlib.suppress(RtfleetError):  # a run of somebody else's can be looked at too
            run_file.write(judged, run)
    if case is not None:
        judged = budget.only(judged, case)
    if log:
        for line in logs.lines(judged):
            typer.echo(line)
        raise typer.Exit(judged.exit_code)
    raise typer.Exit(files.hand_over(judged, folder, targets))
