"""A run while it goes on, on stderr: a view per device on a terminal, else one plain line for each thing that matters.

It is redrawn when an event comes and at no other time: events come between blocks, so nothing is drawn while one is
timed on this machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rtfleet import events
from rtfleet.report.words import duration, plural, scale_of, visible

Tell: TypeAlias = Callable[[events.Event], None]

_MEGABYTE = 1_000_000
_BAR_COLUMNS = 24
_MEASURED_ROWS = 8


@dataclass(frozen=True)
class Station:
    """One device's line."""

    name: str
    doing: str = "waiting"
    case_id: str = ""
    launch: str = ""
    progress: events.Progress | None = None
    done: int = 0


@dataclass(frozen=True)
class View:
    """What is shown: follows from the events alone. `measured` is case id -> its last launch and its numbers."""

    stations: Mapping[str, Station] = field(default_factory=dict)
    measured: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    working: str = ""
    planned: str = ""


@contextmanager
def live(console: Console) -> Iterator[Tell]:
    """Show a run's events until the block ends. The view goes then; what was printed above it stays."""
    if not console.is_terminal:
        yield _plain(console)
        return
    with Live(console=console, auto_refresh=False, transient=True) as screen:
        yield _drawn(screen)


def _plain(console: Console) -> Tell:
    view = View()

    def tell(event: events.Event) -> None:
        nonlocal view
        for line in (*news(event), *results(view, event)):
            console.print(Text(line), soft_wrap=True)
        view = after(view, event)

    return tell


def _drawn(screen: Live) -> Tell:
    view = View()

    def tell(event: events.Event) -> None:
        nonlocal view
        for line in news(event):
            screen.console.print(Text(line))
        view = after(view, event)
        screen.update(drawing(view, screen.console.width), refresh=True)

    return tell


# ---- what an event changes -----------------------------------------------------------------------------------------


def after(view: View, event: events.Event) -> View:
    """The view once that event is in it."""
    match event:
        case events.Planned(devices, case_ids, launches, estimate_s):
            time = f", about {duration(estimate_s)}" if estimate_s else ""
            planned = f"{plural(len(case_ids), 'case')}, {plural(launches, 'launch')} each{time}"
            stations = {**{name: Station(name) for name in devices}, **view.stations}
            return replace(view, planned=planned, stations=stations)
        case events.Working(model, step, seconds):
            return replace(view, working=visible(f"{model}: {step}") if seconds is None else "")
        case events.DeviceConnected(facts):
            return _with(view, facts.alias, doing="connected")
        case events.DeviceLost(device, error):
            return _with(view, device, doing=visible(f"lost: {error.text}"), case_id="", launch="", progress=None)
        case events.Waiting(device, case_id, reasons):
            return _with(view, device, doing=visible(_waiting(reasons)), case_id=case_id, progress=None)
        case events.LaunchStarted(device, case_id, kind, round_, rounds):
            launch = f"launch {round_} of {max(round_, rounds)}" if kind == "LATENCY" else kind.lower()
            return _with(view, device, doing="load", case_id=case_id, launch=launch, progress=None)
        case events.Progress(device, case_id, phase):
            return _with(view, device, doing=phase, case_id=case_id, progress=event)
        case events.LaunchEnded(device, case_id, launch):
            station = view.stations.get(device, Station(device))
            if not launch.error:
                numbers = (station.launch, _numbers(station.progress))
                view = replace(view, measured={**_without(view.measured, case_id), case_id: numbers})
            return _with(view, device, doing="between launches", progress=None, done=station.done + 1)
        case events.LaunchTakenUp(device):
            return _with(view, device, done=view.stations.get(device, Station(device)).done + 1)
        case _:
            return view


def _without(measured: Mapping[str, tuple[str, str]], case_id: str) -> dict[str, tuple[str, str]]:
    return {other: numbers for other, numbers in measured.items() if other != case_id}


def _with(view: View, device: str, **changes: object) -> View:
    station = view.stations.get(device, Station(device))
    return replace(view, stations={**view.stations, device: replace(station, **changes)})  # type: ignore[arg-type]


# ---- plain words ---------------------------------------------------------------------------------------------------


def news(event: events.Event) -> tuple[str, ...]:
    """Lines that stay on the screen, on a terminal too; () for what only moves the view."""
    match event:
        case events.Guessed(model, text):
            return (visible(text if text.startswith(model) else f"{model}: {text}"),)
        case events.LeftOut(device, model, variants, reason):
            return (visible(f"left out on {device}: {', '.join(variants)} of {model} ({reason})"),)
        case events.DeviceLost(device, error):
            return _trouble(device, error.text, error.hint)
        case events.CaseFailed(case_id, _, error):
            return _trouble(case_id, error.text, error.hint)
        case events.LaunchEnded(_, case_id, launch) | events.LaunchTakenUp(_, case_id, launch) if launch.error:
            return _trouble(f"{case_id}: launch {launch.round}", launch.error.text, launch.error.hint)
        case events.LaunchTakenUp(device, case_id, launch):
            return (visible(f"{case_id}: launch {launch.round}: taken up, {device} kept what it measured"),)
        case events.Ended(interrupted) if interrupted:
            return ("interrupted: leases are released, what was measured is kept",)
        case _:
            return ()


def _trouble(whose: str, text: str, hint: str) -> tuple[str, ...]:
    return (visible(f"{whose}: {text}"), *([visible(f"  hint: {hint}")] if hint else []))


def results(view: View, event: events.Event) -> tuple[str, ...]:
    """More lines where there is no view to look at. `view` is the one before the event."""
    match event:
        case events.Planned():
            return (f"plan: {after(view, event).planned}",)
        case events.DeviceConnected(facts):
            return (visible(f"{facts.alias}: connected ({facts.model or facts.identity}, {facts.os})"),)
        case events.Working(model, step, None):
            return (visible(f"{model}: {step}"),)
        case events.Waiting(device, case_id, reasons) if _is_news(_doing(view, device), case_id, reasons):
            return (visible(f"{device}: {_waiting(reasons)}"),)
        case events.Pushed(device, size_bytes, seconds) if size_bytes >= _MEGABYTE:
            return (visible(f"{device}: {size_bytes / _MEGABYTE:.0f} MB pushed in {duration(seconds)}"),)
        case events.LaunchEnded(device, case_id, launch) if not launch.error and device in view.stations:
            station = view.stations[device]
            return (visible(f"{case_id}: {station.launch}: {_numbers(station.progress)}"),)
        case _:
            return ()


def _waiting(reasons: Sequence[str]) -> str:
    return f"waiting: {'; '.join(reasons)}"


def _is_news(before: str, case_id: str, reasons: Sequence[str]) -> bool:
    """Whether it begins to wait, or the device itself is missing for another reason than before: seconds that are left
    are none, nor is what a device that is there is not fit for by and by."""
    if not before.startswith("waiting: "):
        return True
    return not case_id and re.sub(r"\d+", "", before) != re.sub(r"\d+", "", visible(_waiting(reasons)))


def _doing(view: View, device: str) -> str:
    return view.stations.get(device, Station(device)).doing


def _numbers(progress: events.Progress | None) -> str:
    if progress is None:
        return "done"
    said = f"{progress.frames:,} frames"
    if progress.frames < progress.target_frames:
        said = f"{progress.frames:,} of {progress.target_frames:,} frames"
    if progress.p50_ns is None or progress.p99_ns is None:
        return said
    scale = scale_of((progress.p99_ns,))
    return f"{said}, p50 {scale.show(progress.p50_ns)}, p99 {scale.show(progress.p99_ns)} {scale.unit}"


# ---- the view ------------------------------------------------------------------------------------------------------


def drawing(view: View, width: int) -> RenderableType:
    """What was measured last, one or two lines a device, then what the host does."""
    parts: list[RenderableType] = [*_measured(view)]
    parts += [_station(station, width) for station in view.stations.values()]
    if view.working:
        parts.append(Text(f"host  {view.working}", "dim", no_wrap=True, overflow="ellipsis"))
    if view.planned:
        done = sum(station.done for station in view.stations.values())
        parts.append(Text(f"{view.planned}; {plural(done, 'launch')} done", "dim", no_wrap=True, overflow="ellipsis"))
    return Group(*parts)


def _measured(view: View) -> Iterator[RenderableType]:
    """The last numbers of the cases measured last."""
    if not view.measured:
        return
    grid = Table.grid(padding=(0, 2, 0, 0))
    for name in ("case", "launch", "numbers"):
        grid.add_column(name, no_wrap=True, overflow="ellipsis")
    for case_id, (launch, numbers) in list(view.measured.items())[-_MEASURED_ROWS:]:
        grid.add_row(Text(visible(case_id)), Text(launch, "dim"), Text(numbers))
    yield grid


def _station(station: Station, width: int) -> RenderableType:
    head = Text(visible(station.name), "bold", no_wrap=True, overflow="ellipsis")
    what = [visible(station.case_id), station.launch, station.doing]
    head.append(f"  {', '.join(part for part in what if part)}", "not bold")
    progress = station.progress
    if progress is None or not progress.target_frames:
        return head
    grid = Table.grid(padding=(0, 2, 0, 0))
    # What is wanted is the least: a launch that needs more frames goes on with a full bar.
    bar = ProgressBar(total=progress.target_frames, completed=progress.frames, width=min(_BAR_COLUMNS, width // 4))
    grid.add_row("", bar, Text(_numbers(progress), no_wrap=True, overflow="ellipsis"))
    return Group(head, grid)
