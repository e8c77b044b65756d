"""`rtfleet pki`: the lab's own authority, for agents that listen beyond loopback."""

from __future__ import annotations

from pathlib import Path

import typer

app = typer.Typer(help="Certificates for agents on the network and for hosts.", no_args_is_help=True)

_DIR = typer.Option(None, "--dir", metavar="DIR", help="The lab's keys; default ~/.config/rtfleet/pki.")


@app.command()
def init(
    dir_: Path | None = _DIR,
    name: str = typer.Option(None, "--name", metavar="LAB", help="Name of the lab; default: this machine's name."),
) -> None:
    """Make the lab's authority. Keep its folder to yourself: whoever has ca.key can let anybody in."""
    import platform

    from rtfleet import certificates, pki

    folder = dir_ or pki.default_folder()
    made = pki.init(folder, name or platform.node() or "rtfleet")
    print(f"{folder}: authority '{made.name}', until {certificates.day(made.valid_until)}")


@app.command()
def issue(
    name: str = typer.Argument(..., metavar="NAME", help="An agent's device as fleet.toml calls it, or a host."),
    client: bool = typer.Option(False, "--client", help="For a host that measures; without it: for an agent."),
    host: list[str] = typer.Option(
        [], "--host", metavar="DNS|IP", help="Another address of the agent, for other clients. Repeatable."
    ),
    days: int = typer.Option(90, "--days", min=1, max=825, help="How long it counts."),
    out: Path | None = typer.Option(None, "--out", metavar="DIR", help="Its folder; default: beside the lab's keys."),
    renew: bool = typer.Option(False, "--renew", help="Replace the one that NAME has."),
    dir_: Path | None = _DIR,
) -> None:
    """Issue a certificate, in a folder that is ready to be copied to its machine."""
    from rtfleet import certificates, pki

    made, folder = pki.issue(
        dir_ or pki.default_folder(),
        name,
        "host" if client else "agent",
        addresses=host,
        days=days,
        out=out,
        renew=renew,
    )
    print(f"{folder}: {made.role} '{made.name}', serial {made.serial}, until {certificates.day(made.valid_until)}")


@app.command()
def revoke(
    which: str = typer.Argument(..., metavar="NAME|SERIAL", help="All that a name has, or one by its serial number."),
    dir_: Path | None = _DIR,
) -> None:
    """Take a certificate back. Agents and hosts refuse it as soon as they have the new revoked.txt."""
    from rtfleet import certificates, pki

    folder = dir_ or pki.default_folder()
    for one in pki.revoke(folder, which):
        print(f"revoked: {one.role} '{one.name}', serial {one.serial}")
    print(f"now copy {folder / certificates.REVOKED} over the one beside each agent's and each host's certificate")


@app.command()
def show(dir_: Path | None = _DIR) -> None:
    """List the certificates that were issued: name, role, serial number, and how long they count."""
    from datetime import UTC, datetime

    from rtfleet import pki
    from rtfleet.report import console, tables

    console.output().print(tables.issued(pki.issued(dir_ or pki.default_folder()), datetime.now(UTC)))
