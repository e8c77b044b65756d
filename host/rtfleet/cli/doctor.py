"""`rtfleet doctor`: is everything here that a run needs, and how small a difference can a device show?"""

from __future__ import annotations

from pathlib import Path

import typer


def doctor(
    device: list[str] = typer.Option([], "--device", help="Device of the fleet: NAME, label:L. Repeatable."),
    fleet: Path = typer.Option(None, "--fleet", help="fleet.toml; default: the one here, else this machine."),
    noise: bool = typer.Option(False, "--noise", help="Compare a model with itself: the least difference to be seen."),
    model: str = typer.Option(
        "wake-word", "--model", metavar="MODEL|SUITE.toml", help="For --noise: what is measured."
    ),
    scenario: str = typer.Option(None, "--scenario", help="For --noise: paced or burst; default: the model's own."),
    launches: int = typer.Option(8, "--launches", min=6, max=1000, help="For --noise: of each side."),
    out: Path = typer.Option(Path("rtfleet-runs"), "--out", help="For --noise: folder of run directories."),
) -> None:
    """Check this installation and its devices, and say what to do about what is missing.

    With --noise, measure one model against itself in turns, some five minutes a device.

    Exit codes: 0 a run can work, 4 a device can't be used.
    """
    from rtfleet import discovery
    from rtfleet import fleet as fleets
    from rtfleet import noise as noises
    from rtfleet.cache import cache_folder
    from rtfleet.cli import options, present
    from rtfleet.doctor import examine
    from rtfleet.report import console, tables

    chosen = present.told(discovery.chosen(fleet, device))
    profiles = fleets.profiles_beside(fleet)
    if noise:
        order = noises.order_of(model, chosen, launches, options.scenario(scenario), cache_folder(), profiles)
        raise typer.Exit(present.noise(order, out))
    findings = examine(chosen, cache_folder(), profiles)
    console.output().print(tables.findings(findings))
    raise typer.Exit(4 if any(finding.state == "bad" for finding in findings) else 0)
