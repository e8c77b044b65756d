"""`rtfleet export`: model files for other tools, each checked against the original."""

from __future__ import annotations

from pathlib import Path

import typer


def export(
    model: str = typer.Argument(..., metavar="MODEL", help="As of run: a zoo name, file.py:function, or a file."),
    variant: list[str] = typer.Option([], "--variant", help="onnx-fp32, ..., or all. Repeatable."),
    task: str = typer.Option(None, "--task", help="Of a model that is a file: wake-word, vad, asr, speaker."),
    hop_ms: float = typer.Option(
        None, "--hop-ms", min=0.1, max=60_000, help="Audio that one frame consumes, if it streams."
    ),
    sample_rate: int = typer.Option(None, "--sample-rate", min=1000, max=768_000, help="Hz; default 16000."),
    input_: list[str] = typer.Option([], "--input", metavar="N=SHAPE|VALUE", help="input=1x576, sr=16000."),
    state: list[str] = typer.Option([], "--state", metavar="IN=OUT", help="A streaming state pair. Repeatable."),
    out: Path = typer.Option(Path("artifacts"), "--out", help="Folder of what is made: OUT/MODEL/VARIANT."),
    clips: list[str] = typer.Option([], "--clips", metavar="DIR|GLOB", help="Audio to calibrate and check with."),
    files_only: bool = typer.Option(False, "--files-only", help="Refuse models that are Python code."),
) -> None:
    """Make variants of a model, check each against the original, and lay them out in a folder.

    `--variant all` is every variant that such a model can be had in; one that can't be made is a row with its reason.

    Exit codes: 0 all made and within tolerance, 1 one out of tolerance, 2 a route that failed or bad input.
    """
    import asyncio

    from rich.console import Console

    from rtfleet.cache import cache_folder
    from rtfleet.cli import description
    from rtfleet.delivery import Wish, deliver, exit_code
    from rtfleet.report import console, live, tables

    described = description.Description(
        description.task(task),
        hop_ms,
        sample_rate,
        description.inputs(input_),
        description.states(state),
        tuple(clips),
    )
    entry = description.entry_of(model, variant, described)
    with live.live(Console(stderr=True)) as tell:
        found = asyncio.run(deliver(Wish(entry, out, cache_folder(), files_only), tell))
    for line in tables.delivered(found):
        console.output().print(line)
    raise typer.Exit(exit_code(found))
