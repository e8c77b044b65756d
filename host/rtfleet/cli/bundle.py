"""`rtfleet bundle`: the agent in one folder, for devices that have no Python."""

from __future__ import annotations

import typer

app = typer.Typer(help="The agent as one folder that runs anywhere: build, show, prune.", no_args_is_help=True)


@app.command()
def build(
    arch: str = typer.Option("arm64", "--arch", help="arm64 (phones, boards) or x86_64."),
    runtime: str = typer.Option("onnxruntime,litert", "--runtime", help="Runtimes in it, with commas between."),
) -> None:
    """Build the bundle, unless it is here, and print its folder.

    Runs build what they need themselves. Exit codes: 0 it is here, 2 a part can't be fetched.
    """
    from rtfleet import bundle

    runtimes = [name.strip() for name in runtime.split(",") if name.strip()]
    built = bundle.ensure(arch, runtimes, tell=lambda line: typer.echo(line, err=True))
    typer.echo(built.folder)


@app.command()
def show() -> None:
    """List the bundles that were built, last used first."""
    from rtfleet import bundle
    from rtfleet.report import console, tables

    console.output().print(tables.bundles(bundle.stored()))


@app.command()
def prune(everything: bool = typer.Option(False, "--all", help="The last ones too, and all that was fetched.")) -> None:
    """Remove all bundles but the last used of each architecture and set of runtimes; print what was removed."""
    from rtfleet import bundle

    for name in bundle.prune(everything=everything):
        typer.echo(name)
