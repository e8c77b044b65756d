"""`rtfleet devices`: what is there, and what state it is in; holding a device and giving it back."""

from __future__ import annotations

from pathlib import Path

import typer

app = typer.Typer(help="List the fleet's devices; hold one, or release it.", invoke_without_command=True)

_FLEET = typer.Option(None, "--fleet", help="fleet.toml; default: the one here, else this machine.")


@app.callback()
def devices(context: typer.Context, fleet: Path = _FLEET) -> None:
    """List the fleet's devices and the phones that are plugged in.

    What each is, which runtimes it has, its profile and who has it now, since when.

    Exit codes: 0 all answered, 4 a device did not.
    """
    if context.invoked_subcommand is not None:
        return
    import asyncio

    from rtfleet import discovery, survey
    from rtfleet import fleet as fleets
    from rtfleet.cache import cache_folder
    from rtfleet.cli import present
    from rtfleet.report import console, tables

    here = present.told(discovery.everything(fleet))
    found = asyncio.run(survey.survey(here, cache_folder(), fleets.profiles_beside(fleet)))
    console.output().print(tables.devices(found))
    raise typer.Exit(4 if any(answer.error for answer in found) else 0)


@app.command()
def hold(
    name: str = typer.Argument(..., metavar="NAME", help="A device of the fleet."),
    for_: str = typer.Option("1h", "--for", metavar="2h", help="How long."),
    reason: str = typer.Option("", "--reason", metavar="WHY", help="Told to whoever asks for it meanwhile."),
    fleet: Path = _FLEET,
) -> None:
    """Keep everybody else off a device. A phone or a standing agent is held without this command; others while it runs.

    Exit codes: 0 it was held, 4 somebody else has it, or it gives no answer.
    """
    import asyncio

    from rtfleet import discovery, holding
    from rtfleet.cache import cache_folder
    from rtfleet.cli import options, present
    from rtfleet.report import words

    (device,) = present.told(discovery.one(fleet, name))
    seconds = options.duration_s(for_, "--for") or 0.0
    stays = device.connect.partition(":")[0] in holding.STANDING

    def tell(held_s: float) -> None:
        until = "" if stays else " while this command runs; Ctrl-C ends it"
        typer.echo(f"{device.name}: held for {words.duration(held_s)}{until}", err=True)

    asyncio.run(holding.hold(device, cache_folder(), seconds, reason, tell))


@app.command()
def release(
    name: str = typer.Argument(..., metavar="NAME", help="A device of the fleet."),
    force: bool = typer.Option(False, "--force", help="Whoever has it; what they measure ends."),
    fleet: Path = _FLEET,
) -> None:
    """Bring a device back into use: ends your hold of it, and forgets the errors that it was set aside for.

    Exit codes: 0 it is free, 4 somebody else has it, or it gives no answer.
    """
    import asyncio

    from rtfleet import discovery, holding
    from rtfleet.cache import cache_folder
    from rtfleet.cli import present

    (device,) = present.told(discovery.one(fleet, name))
    typer.echo(asyncio.run(holding.release(device, cache_folder(), force=force)))
