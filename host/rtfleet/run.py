"""One run from beginning to end: a run directory, the campaign, its verdict."""

from __future__ import annotations

import asyncio
import os
import platform
import secrets
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from rtfleet import budget, campaign, events, run_file, source
from rtfleet import order as orders
from rtfleet.errors import UsageError
from rtfleet.export.job import Exports
from rtfleet.judged import JudgedRun
from rtfleet.order import Order
from rtfleet.plan import Plan
from rtfleet.records import Run
from rtfleet.station import Tell
from rtfleet.version import VERSION

SPARE_THREADS = 8


def new_run_id() -> str:
    """Sorts by time and is unique: 20261124-143005-5f3a."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def conduct(order: Order, out: Path, tell: Tell) -> tuple[JudgedRun, Path]:
    """Measure and judge; the judged run and its directory. Ctrl-C ends it early and keeps what was measured.

    Raises:
        UsageError: none of its models is there. Nothing was started.
        RtfleetError: nothing could be measured. What was measured before stays in the run directory.
    """
    _check_sources(order)
    folder = out / order.run_id
    with run_file.Journal.create(folder, _skeleton(order), orders.to_json(order)) as journal:
        return _conducted(order, folder, journal, tell)


def go_on(order: Order, folder: Path, tell: Tell) -> tuple[JudgedRun, Path]:
    """As `conduct`, in the directory of a run that began earlier. `order` as `resume.order_of` made it."""
    with run_file.Journal.resume(folder) as journal:
        return _conducted(order, folder, journal, tell)


def _conducted(order: Order, folder: Path, journal: run_file.Journal, tell: Tell) -> tuple[JudgedRun, Path]:
    interrupted = False
    try:
        asyncio.run(_campaign(order, folder, journal, tell))
    except KeyboardInterrupt:
        interrupted = True
    except ExceptionGroup as group:
        # A task group raises its members together; the first is the cause, the others followed from it. The journal
        # has no end then, as after a crash.
        raise _first(group) from group
    journal.end(interrupted)
    tell(events.Ended(interrupted))
    judged = budget.judge(run_file.read(folder))
    run_file.write(judged, folder)
    return judged, folder


def plan(order: Order, tell: Tell) -> Plan:
    """What `conduct` would measure and how long it would take. Leaves no run directory."""

    _check_sources(order)

    async def made(folder: Path) -> Plan:
        with run_file.Journal.create(folder, _skeleton(order)) as journal:
            async with Exports(order.cache, folder) as exports:
                return await campaign.plan_campaign(order, exports, journal, tell)

    with tempfile.TemporaryDirectory(prefix="rtfleet-plan-") as folder:
        return asyncio.run(made(Path(folder) / order.run_id))


def _check_sources(order: Order) -> None:
    """Raises UsageError where no model of the order can be found; one missing among others is a row of the report."""
    errors = []
    for entry in order.models:
        try:
            source.resolve(entry)
        except UsageError as error:
            errors.append(error)
    if errors and len(errors) == len(order.models):
        raise errors[0]


async def _campaign(order: Order, folder: Path, journal: run_file.Journal, tell: Tell) -> None:
    # A device that hangs while it is dialled holds a thread; the others must find one.
    threads = ThreadPoolExecutor(len(order.devices) + SPARE_THREADS, thread_name_prefix="run")
    asyncio.get_running_loop().set_default_executor(threads)
    async with Exports(order.cache, folder) as exports:
        await campaign.run_campaign(order, exports, journal, tell)


def _first(group: ExceptionGroup[Exception]) -> Exception:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, ExceptionGroup) else first


def _skeleton(order: Order) -> Run:
    return Run(
        id=order.run_id,
        started_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        rtfleet_version=VERSION,
        host={"platform": platform.platform(), "python": platform.python_version(), "cores": os.cpu_count() or 0},
        settings=order.suite.settings.run,
        devices=(),
        results=(),
        finished=False,
    )
