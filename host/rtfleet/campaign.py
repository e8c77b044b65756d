"""Order and concurrency of a run: connect, prepare, push, launch, decide, write down. One coroutine a device.

No number is computed here and nothing is shown: facts go into the journal, and what happens is told as events.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import platform
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rtfleet import budget, events, launch_log, plan, profile, statistics, transports, validation
from rtfleet.artifact import Artifact
from rtfleet.client import AgentClient
from rtfleet.errors import DeviceError, ExportError, LeaseHeld, RtfleetError
from rtfleet.export.inspection import inspector
from rtfleet.export.job import Exports
from rtfleet.fleet import Device
from rtfleet.launch_log import LaunchEvent
from rtfleet.profile import Budget, Profile
from rtfleet.records import Case, CaseError, CaseResult, DeviceFacts, Launch
from rtfleet.run_file import Journal
from rtfleet.suite import ModelEntry, Suite

Tell = Callable[[events.Event], None]

# A failed launch may be repeated, but a case that needs more than this has failed.
MAX_REPEATS = 2


@dataclass(frozen=True)
class Order:
    """What a campaign is asked to do.

    Attributes:
        only_variants: A filter on the suite's variants; () is all.
        budgets: metric -> limit of the command line; they replace the profile's and the suite's.
        files_only: Refuse models that are Python.
        profiles: A `device_profiles` folder beside fleet.toml, searched before the shipped one.
    """

    run_id: str
    suite: Suite
    devices: tuple[Device, ...]
    cache: Path
    only_variants: tuple[str, ...] = ()
    budgets: Mapping[str, float] = field(default_factory=dict)
    files_only: bool = False
    profiles: Path | None = None


@dataclass(frozen=True)
class Joined:
    """A case whose artifact exists."""

    case: Case
    artifact: Artifact
    budgets: tuple[Budget, ...]


@dataclass(frozen=True)
class Station:
    """A device that this run has leased. `inbox` brings its cases as their artifacts get ready; None ends them."""

    device: Device
    client: AgentClient
    facts: DeviceFacts
    profile: Profile
    inbox: asyncio.Queue[Joined | None]


async def run_campaign(order: Order, exports: Exports, journal: Journal, tell: Tell) -> None:
    """Measure everything that `order` asks for. Facts are in the journal as soon as they are known.

    Raises:
        DeviceError: no device at all could be used.
        asyncio.CancelledError: after the running launches were cancelled and the leases released.
    """
    # Held by whoever works on this machine: one launch of one of its devices, or one step of an export.
    quiet = asyncio.Lock()
    async with contextlib.AsyncExitStack() as stack:
        stations = await _connect_all(order, journal, tell, stack)
        _tell_plan(order, stations, tell)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_prepare_all(order, exports, stations, quiet, journal, tell))
            for station in stations:
                tasks.create_task(_measure(order, station, stations, quiet, journal, tell))


async def plan_campaign(order: Order, exports: Exports, journal: Journal, tell: Tell) -> plan.Plan:
    """What `run_campaign` would do and how long it would take. Models are built, nothing is exported or measured.

    Raises:
        DeviceError: no device at all could be used.
    """
    settings = order.suite.settings
    cases: list[plan.PlannedCase] = []
    failures: list[str] = []
    export_s = 0.0
    seconds_of: dict[str, float] = {}
    async with contextlib.AsyncExitStack() as stack:
        stations = await _connect_all(order, journal, tell, stack)
        inspect = inspector(stations[0].client)
        for entry in order.suite.models:
            try:
                prepared = await exports.prepare(entry, inspect, files_only=order.files_only)
            except RtfleetError as error:
                failures.append(f"{entry.name}: {error.text}")
                continue
            hop_ns = prepared.hop_samples and prepared.hop_samples * plan.NS // prepared.sample_rate_hz
            for variant in plan.variants_of(entry, prepared, order.only_variants):
                if not exports.is_cached(prepared, variant):
                    export_s += plan.EXPORT_S[variant.split("-")[0]]
                for station in stations:
                    for case in plan.cases_of(entry, settings, variant, prepared.hop_samples, station.device):
                        cases.append(plan.planned(case, hop_ns, settings.run))
                        device = station.device.name
                        seconds_of[device] = seconds_of.get(device, 0.0) + cases[-1].seconds
    # On one machine the devices wait for each other, and for the exports.
    measured_s = sum(seconds_of.values()) if stations[0].facts.is_host else max(seconds_of.values(), default=0.0)
    return plan.Plan(tuple(cases), tuple(failures), export_s, export_s + measured_s)


async def _connect_all(order: Order, journal: Journal, tell: Tell, stack: contextlib.AsyncExitStack) -> list[Station]:
    """The devices that can be used now. One that can't is told and does not spoil the others."""
    stations: list[Station] = []
    failures: list[DeviceError] = []
    for device in order.devices:
        try:
            station = await stack.enter_async_context(_station(order, device, journal))
        except DeviceError as error:
            failures.append(error)
            tell(events.DeviceLost(device.name, _case_error(error)))
        else:
            stations.append(station)
            tell(events.DeviceConnected(station.facts))
    if not stations:
        raise failures[0]
    return stations


@contextlib.asynccontextmanager
async def _station(order: Order, device: Device, journal: Journal) -> AsyncIterator[Station]:
    async with transports.connect(device, order.cache) as link, AgentClient(link, device.name) as client:
        facts = await client.describe(is_host=link.is_host)
        matched = profile.match(facts, order.profiles, device.profile)
        facts = replace(facts, profile=matched.name)
        journal.device(facts)
        lease_id = secrets.token_hex(16)
        journal.lease(device.name, lease_id)
        holder = f"{getpass.getuser()}@{platform.node()} run {order.run_id}"
        expires_in_s = await client.acquire(lease_id, holder)
        renewer = asyncio.create_task(_renew(client, expires_in_s))
        try:
            yield Station(device, client, facts, matched, asyncio.Queue())
        finally:
            renewer.cancel()
            with contextlib.suppress(DeviceError):
                await client.release()


async def _renew(client: AgentClient, expires_in_s: float) -> None:
    while True:
        await asyncio.sleep(expires_in_s / 3)
        # An agent that does not answer is noticed by the launch itself, which then says so.
        with contextlib.suppress(DeviceError):
            await client.renew()


def _tell_plan(order: Order, stations: Sequence[Station], tell: Tell) -> None:
    names = tuple(station.device.name for station in stations)
    settings = order.suite.settings
    cases = plan.foreseen(order.suite, order.only_variants, [station.device for station in stations])
    measured_s = sum(case.seconds for case in cases)
    seconds = measured_s if stations[0].facts.is_host else measured_s / len(stations)
    tell(events.Planned(names, tuple(case.case_id for case in cases), settings.run.launches, seconds))


# ---- models --------------------------------------------------------------------------------------------------------


async def _prepare_all(
    order: Order, exports: Exports, stations: Sequence[Station], quiet: asyncio.Lock, journal: Journal, tell: Tell
) -> None:
    """Bring every artifact into being, once for all devices, and hand its cases to them."""
    try:
        for entry in order.suite.models:
            await _prepare(order, entry, exports, stations, quiet, journal, tell)
    finally:
        for station in stations:
            station.inbox.put_nowait(None)


async def _prepare(
    order: Order,
    entry: ModelEntry,
    exports: Exports,
    stations: Sequence[Station],
    quiet: asyncio.Lock,
    journal: Journal,
    tell: Tell,
) -> None:
    def fail(variant: str, hop_samples: int | None, kind: str, error: RtfleetError) -> None:
        for station in stations:
            scenario = plan.scenario_of(entry, order.suite.settings, hop_samples)
            case = Case("", entry.name, variant, station.device.name, scenario)
            problem = CaseError(kind, error.text, error.hint)
            journal.case(CaseResult(case, None, error=problem))
            tell(events.CaseFailed(case.id, case.device, problem))

    loop = asyncio.get_running_loop()
    inspect = inspector(stations[0].client)
    try:
        async with quiet:
            tell(events.Working(entry.name, "prepare"))
            began_s = loop.time()
            prepared = await exports.prepare(entry, inspect, files_only=order.files_only)
            tell(events.Working(entry.name, "prepare", loop.time() - began_s))
    except DeviceError as error:
        fail(entry.variants[0] if entry.variants else "?", None, error.kind, error)
        return
    except RtfleetError as error:
        fail(entry.variants[0] if len(entry.variants) == 1 else "*", None, "SOURCE", error)
        return
    for guess in prepared.guesses:
        tell(events.Guessed(entry.name, guess))
    for variant in plan.variants_of(entry, prepared, order.only_variants):
        try:
            async with quiet:
                tell(events.Working(entry.name, f"export {variant}"))
                began_s = loop.time()
                artifact = await exports.export(prepared, variant, inspect)
                tell(events.Working(entry.name, f"export {variant}", loop.time() - began_s))
        except DeviceError as error:
            fail(variant, prepared.hop_samples, error.kind, error)
        except ExportError as error:
            fail(variant, prepared.hop_samples, "EXPORT", error)
        except RtfleetError as error:
            fail(variant, prepared.hop_samples, "SOURCE", error)
        else:
            for station in stations:
                owed = profile.budgets_for(station.profile, artifact.task, entry.budgets, f"{entry.where}.budgets")
                owed = profile.laid_over(owed, artifact.task, order.budgets)
                for case in plan.cases_of(
                    entry, order.suite.settings, variant, artifact.hop_samples, station.device, artifact.id
                ):
                    station.inbox.put_nowait(Joined(case, artifact, owed))
            # A device that is this machine measures its first round before the next export begins: the first numbers
            # are there soon, and neither disturbs the other. Other devices don't wait.
            for station in stations:
                if station.facts.is_host:
                    await station.inbox.join()


# ---- one device ----------------------------------------------------------------------------------------------------


async def _measure(
    order: Order, station: Station, stations: Sequence[Station], quiet: asyncio.Lock, journal: Journal, tell: Tell
) -> None:
    """All of one device: latency in interleaved rounds, then what was missing, then parity (it heats)."""
    settings = order.suite.settings.run
    cases: list[Joined] = []
    launches: dict[str, list[Launch]] = {}
    dead: set[str] = set()

    async def one_launch(joined: Joined, round_: int) -> None:
        held = launches[joined.case.id]
        launch = await _latency(order, station, joined, round_, held, quiet, journal, tell)
        held.append(launch)
        if launch.error and not launch.error.retryable:
            dead.add(joined.case.id)

    arrivals = _arrivals(station)
    try:
        # The first round takes the cases as they get ready; the others begin when all are there.
        async for joined in arrivals:
            cases.append(joined)
            launches[joined.case.id] = []
            journal.case(CaseResult(joined.case, joined.artifact, joined.budgets))
            await _push(station, joined.artifact, tell)
            tell(events.CaseJoined(joined.case))
            await one_launch(joined, 1)
        for round_ in range(2, settings.launches + 1):
            for joined in plan.round_order(cases, round_):
                if joined.case.id not in dead:
                    await one_launch(joined, round_)
        for repeat in range(1, MAX_REPEATS + 1):
            for joined in cases:
                good = sum(launch.error is None for launch in launches[joined.case.id])
                if good < settings.launches and joined.case.id not in dead:
                    await one_launch(joined, settings.launches + repeat)
        for joined in cases:
            if any(launch.error is None for launch in launches[joined.case.id]):
                await _parity(order, station, stations, joined, quiet, journal, tell)
    except DeviceError as error:
        await arrivals.aclose()
        problem = _case_error(error)
        tell(events.DeviceLost(station.device.name, problem))
        for joined in cases:
            if sum(launch.error is None for launch in launches[joined.case.id]) < settings.launches:
                journal.case_error(joined.case.id, problem)
                tell(events.CaseFailed(joined.case.id, joined.case.device, problem))
        await _refuse_the_rest(station, problem, journal, tell)


async def _arrivals(station: Station) -> AsyncGenerator[Joined, None]:
    """The cases as they get ready. One is done with when the next is asked for, or when this is given up."""
    while (joined := await station.inbox.get()) is not None:
        try:
            yield joined
        finally:
            station.inbox.task_done()
    # The end stays readable: a device that is lost later looks for what else was meant for it.
    station.inbox.put_nowait(None)


async def _refuse_the_rest(station: Station, problem: CaseError, journal: Journal, tell: Tell) -> None:
    async for joined in _arrivals(station):
        journal.case(CaseResult(joined.case, joined.artifact, joined.budgets, error=problem))
        tell(events.CaseFailed(joined.case.id, joined.case.device, problem))


def _case_error(error: DeviceError) -> CaseError:
    kind = "LEASE" if isinstance(error, LeaseHeld) else "DEVICE"
    return CaseError(kind, error.text, error.hint, error.retryable)


async def _push(station: Station, artifact: Artifact, tell: Tell) -> None:
    began_s = asyncio.get_running_loop().time()
    sent_bytes = await station.client.push(artifact.needs)
    if sent_bytes:
        seconds = asyncio.get_running_loop().time() - began_s
        tell(events.Pushed(station.device.name, sent_bytes, seconds))


async def _latency(
    order: Order,
    station: Station,
    joined: Joined,
    round_: int,
    held: Sequence[Launch],
    quiet: asyncio.Lock,
    journal: Journal,
    tell: Tell,
) -> Launch:
    """One launch that measures. After each batch of blocks `budget.decide` says whether it has enough."""
    settings = order.suite.settings.run
    case, artifact = joined.case, joined.artifact
    asked = plan.order_of(case, artifact, settings, "LATENCY")
    journal.intent(case.id, asked.launch_id)
    so_far: list[LaunchEvent] = []
    decision = ""

    def as_launch() -> Launch:
        return launch_log.launch_of(
            so_far,
            launch_id=asked.launch_id,
            kind="LATENCY",
            round_=round_,
            paced=asked.hop_ns > 0,
            feeds_sha256=asked.feeds_sha256,
        )

    async with quiet:
        tell(events.LaunchStarted(case.device, case.id, "LATENCY", round_, settings.launches, asked.min_frames))
        try:
            async for event in station.client.launch(asked):
                so_far.append(event)
                if not isinstance(event, launch_log.Frames):
                    continue
                if event.phase == "BURST" and asked.hop_ns:
                    continue
                current = as_launch()
                tell(_progress(case, event, current, asked.min_frames))
                if event.phase == "WARMUP" or decision:
                    continue
                said = budget.decide(held, current, joined.budgets, settings, asked.hop_ns or None)
                if said.enough:
                    decision = said.reason
                    await station.client.finish(asked.launch_id)
        except DeviceError as error:
            # What was measured stays; the device is given up by the caller.
            so_far.append(launch_log.Failed("DEVICE", error.text, "", ""))
            journal.launch(case.id, as_launch())
            raise
    launch = as_launch()
    journal.launch(case.id, launch)
    tell(events.LaunchEnded(case.device, case.id, launch, decision))
    await station.client.acknowledge(asked.launch_id)
    return launch


def _progress(case: Case, frames: launch_log.Frames, current: Launch, target_frames: int) -> events.Progress:
    if frames.phase == "WARMUP":
        return events.Progress(case.device, case.id, "warm-up", 0, target_frames, None, None)
    shown = statistics.percentiles(current.response_ns) if current.latency_ns.size else None
    return events.Progress(
        device=case.device,
        case_id=case.id,
        phase="paced" if frames.phase == "PACED" else "burst",
        frames=len(current.latency_ns),
        target_frames=target_frames,
        p50_ns=shown.p50_ns if shown else None,
        p99_ns=shown.p99_ns if shown else None,
    )


# ---- parity --------------------------------------------------------------------------------------------------------


async def _parity(
    order: Order,
    station: Station,
    stations: Sequence[Station],
    joined: Joined,
    quiet: asyncio.Lock,
    journal: Journal,
    tell: Tell,
) -> None:
    """Outputs on the device, and on the host with the runtime's optimizer off, against the original model's."""
    case, artifact, settings = joined.case, joined.artifact, order.suite.settings.run
    host = next((other for other in stations if other.facts.is_host), station)
    tell(events.Progress(case.device, case.id, "parity", 0, 0, None, None))
    async with quiet:
        on_device = await validation.outputs_of(station.client, case, artifact, settings, optimize=True)
        await _push(host, artifact, tell)
        on_host = await validation.outputs_of(host.client, case, artifact, settings, optimize=False)
    reference = None if isinstance(on_host, CaseError) else on_host
    if reference and artifact.reference and (found := validation.against_original(artifact, reference)):
        journal.parity(case.id, "host", found)
    if isinstance(on_device, CaseError):
        journal.case_error(case.id, on_device)
    elif found := validation.against_original(artifact, on_device, reference):
        journal.parity(case.id, "device", found)
