"""`rtfleet run`: measure models on devices and judge them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import typer


def run(
    context: typer.Context,
    what: str | None = typer.Argument(
        None, metavar="[quick|full|SUITE.toml|MODEL]", help="A suite, built in or a file, or one model; default quick."
    ),
    device: list[str] = typer.Option([], "--device", help="Device of the fleet: NAME, label:L or auto. Repeatable."),
    count: int = typer.Option(None, "--count", min=1, help="So many of these devices, whichever answer first."),
    fleet: Path | None = typer.Option(None, "--fleet", help="fleet.toml; default: the one here, else this machine."),
    model: list[str] = typer.Option([], "--model", help="Only these models of the suite. Repeatable."),
    variant: list[str] = typer.Option([], "--variant", help="Only these variants (onnx-fp32, ...). Repeatable."),
    scenario: str = typer.Option(None, "--scenario", help="paced or burst, for every model."),
    launches: int = typer.Option(None, "--launches", min=1, help="Launches of each case: 3; 8 with --against."),
    duration: str = typer.Option(None, "--duration", metavar="10m", help="Least time of a launch."),
    confidence: float = typer.Option(None, "--confidence", help="Of the verdicts (default 0.99)."),
    threads: list[int] = typer.Option(
        [], "--threads", min=1, max=1024, help="Threads of the runtime (default 1). Repeatable."
    ),
    cpus: str = typer.Option(None, "--cpus", metavar="big|little|LIST", help="Cores to run on: 0,2-3."),
    accelerator: list[str] = typer.Option([], "--accelerator", help="cpu, gpu or npu. Repeatable."),
    budget: list[str] = typer.Option([], "--budget", metavar="METRIC=LIMIT", help="Replaces a limit. Repeatable."),
    task: str = typer.Option(None, "--task", help="Of a model that is a file: wake-word, vad, asr, speaker."),
    hop_ms: float = typer.Option(
        None, "--hop-ms", min=0.1, max=60_000, help="Audio that one frame consumes, if it streams."
    ),
    sample_rate: int = typer.Option(None, "--sample-rate", min=1000, max=768_000, help="Hz; default 16000."),
    input_: list[str] = typer.Option([], "--input", metavar="N=SHAPE|VALUE", help="input=1x576, sr=16000."),
    state: list[str] = typer.Option([], "--state", metavar="IN=OUT", help="A streaming state pair. Repeatable."),
    clips: list[str] = typer.Option([], "--clips", metavar="DIR|GLOB", help="Audio; default: the shipped clips."),
    out: Path = typer.Option(Path("rtfleet-runs"), "--out", help="Folder of run directories."),
    json: str = typer.Option(None, "--json", metavar="F", help="run.json; - is stdout."),
    junit: str = typer.Option(None, "--junit", metavar="F", help="JUnit XML; - is stdout."),
    markdown: str = typer.Option(None, "--markdown", metavar="F", help="Markdown; - is stdout."),
    against: str | None = typer.Option(
        None, "--against", metavar="BASELINE", help="Compare with this suite or model, ABBA."
    ),
    tolerance: str = typer.Option(None, "--tolerance", metavar="10%", help="Slower by up to this passes --against."),
    resume: Path | None = typer.Option(None, "--resume", metavar="RUN", help="Add launches to a run's evidence."),
    timeout: str = typer.Option(None, "--timeout", metavar="30m", help="Longest time of one launch."),
    plain: bool = typer.Option(False, "--plain", help="Each case once more without optimizer and default delegates."),
    profile_ops: bool = typer.Option(False, "--profile-ops", help="Where the time goes, from a launch of its own."),
    dry_run: bool = typer.Option(False, "--dry-run", help="The plan and its time; nothing is measured."),
    files_only: bool = typer.Option(False, "--files-only", help="Refuse models that are Python code."),
) -> None:
    """Measure models on devices and judge them against the devices' budgets.

    Exit codes: 0 every judged check passed, 1 a FAIL, 2 bad input, 3 INCONCLUSIVE, 4 a device gave no result.
    """
    from rtfleet import discovery, suite
    from rtfleet import fleet as fleets
    from rtfleet import resume as resumes
    from rtfleet import run as runs
    from rtfleet.cache import cache_folder
    from rtfleet.cli import description, options, present
    from rtfleet.order import Order
    from rtfleet.report.files import Targets

    targets = Targets(json, junit, markdown)
    if resume is not None:
        given = [name for name in context.params if str(context.get_parameter_source(name)).endswith("COMMANDLINE")]
        options.check_resume(given)
        order = resumes.order_of(resume, launches)
        order = replace(order, files_only=order.files_only or files_only)
        raise typer.Exit(present.run(order, out, targets, resumed=resume))
    shapes, pairs = description.inputs(input_), description.states(state)
    described = description.Description(description.task(task), hop_ms, sample_rate, shapes, pairs, tuple(clips))
    what = "quick" if what is None else what
    chosen = options.filtered(options.suite_of(what, variant, described, suite.find(what)), model)
    settings = options.settings_over(
        chosen.settings,
        launches=launches or (8 if against else None),
        confidence=options.confidence(confidence),
        duration_s=options.duration_s(duration, "--duration"),
        timeout_s=options.duration_s(timeout, "--timeout"),
        tolerance=None if tolerance is None else options.tolerance(tolerance),
        scenario=options.scenario(scenario),
        threads=threads,
        cpus=options.cpus(cpus),
        accelerators=options.accelerators(accelerator),
        plain=plain,
    )
    order = Order(
        run_id=runs.new_run_id(),
        suite=replace(chosen, settings=settings),
        devices=present.told(discovery.chosen(fleet, device, count)),
        cache=cache_folder(),
        baseline=options.baseline(against, chosen, described, suite.find(against)) if against else None,
        only_variants=tuple(variant),
        budgets=options.budgets(budget),
        files_only=files_only,
        profile_ops=profile_ops,
        count=count,
        profiles=fleets.profiles_beside(fleet),
    )
    raise typer.Exit(present.dry(order) if dry_run else present.run(order, out, targets))
