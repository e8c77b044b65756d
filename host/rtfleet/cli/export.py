"""`rtfleet export`: model files for other tools, each checked against the original."""

from __future__ import annotations

from pathlib import Path

import typer


def export(
    model: str = typer.Argument(..., metavar="MODEL", help="A model of the zoo, module:function, file.py:function."),
    variant: list[str] = typer.Option([], "--variant", help="onnx-fp32, ..., or all. Repeatable."),
    out: Path = typer.Option(Path("artifacts"), "--out", help="Folder of what is made: OUT/MODEL/VARIANT."),
    clips: list[str] = typer.Option([], "--clips", metavar="DIR|GLOB", help="Audio to calibrate and check with."),
    files_only: bool = typer.Option(False, "--files-only", help="Refuse models that are Python code."),
) -> None:
    """Make variants of a model, check each against the original, and lay them out in a folder.

    Exit codes: 0 all made and within tolerance, 1 one out of tolerance, 2 a route that failed or bad input.
    """
    import asyncio

    from rich.console import Console

    from rtfleet.artifact import EXPORTED_VARIANTS
    from rtfleet.cache import cache_folder
    from rtfleet.delivery import Wish, deliver, exit_code
    from rtfleet.report import console, live, tables
    from rtfleet.suite import ModelEntry, check_variants, name_of

    wanted = EXPORTED_VARIANTS if "all" in variant else tuple(dict.fromkeys(variant))
    check_variants(wanted, "--variant")
    entry = ModelEntry(name_of(model), model, Path.cwd(), clips=tuple(clips), where="the command line")
    with live.live(Console(stderr=True)) as tell:
        found = asyncio.run(deliver(Wish(entry, wanted, out, cache_folder(), files_only), tell))
    for line in tables.delivered(found):
        console.output().print(line)
    raise typer.Exit(exit_code(found))
