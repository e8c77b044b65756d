"""`rtfleet devices`: what is there, and what state it is in."""

from __future__ import annotations

from pathlib import Path

import typer


def devices(
    fleet: Path = typer.Option(None, "--fleet", help="fleet.toml; default: the one here, else this machine."),
) -> None:
    """List the fleet's devices: what each is, which runtimes it has, its profile and who measures on it now.

    Exit codes: 0 all answered, 4 a device did not.
    """
    import asyncio

    from rtfleet import fleet as fleets
    from rtfleet import survey
    from rtfleet.cache import cache_folder
    from rtfleet.report import console, tables

    found = asyncio.run(survey.survey(fleets.find(fleet), cache_folder(), fleets.profiles_beside(fleet)))
    console.output().print(tables.devices(found))
    raise typer.Exit(4 if any(answer.error for answer in found) else 0)
