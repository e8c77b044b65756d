"""`rtfleet doctor`: is everything here that a run needs?"""

from __future__ import annotations

from pathlib import Path

import typer


def doctor(
    device: list[str] = typer.Option([], "--device", help="Device of the fleet: NAME, label:L. Repeatable."),
    fleet: Path = typer.Option(None, "--fleet", help="fleet.toml; default: the one here, else this machine."),
) -> None:
    """Check this installation and its devices, and say what to do about what is missing.

    Exit codes: 0 a run can work, 4 a device can't be used.
    """
    from rtfleet import fleet as fleets
    from rtfleet.cache import cache_folder
    from rtfleet.doctor import examine
    from rtfleet.report import console, tables

    chosen = fleets.choose(fleets.find(fleet), device)
    findings = examine(chosen, cache_folder(), fleets.profiles_beside(fleet))
    console.output().print(tables.findings(findings))
    raise typer.Exit(4 if any(finding.state == "bad" for finding in findings) else 0)
