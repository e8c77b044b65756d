"""Order and concurrency of a run: connect, prepare, push, launch, decide, write down. One coroutine a device.

No number is computed here and nothing is shown: facts go into the journal, and what happens is told as events.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from rtfleet import events, holding, launching, plan, preparing, resume, station, statistics, transports, validation
from rtfleet.client import new_lease
from rtfleet.errors import DeviceError, LeaseHeld, RtfleetError, UsageError
from rtfleet.export.inspection import inspector
from rtfleet.export.job import Exports
from rtfleet.fleet import Device
from rtfleet.launching import Campaign, OpenLaunch
from rtfleet.operators import Operators
from rtfleet.order import Order
from rtfleet.records import CaseError, CaseResult, DeviceFacts, Launch, Preflight
from rtfleet.run_file import Journal
from rtfleet.station import Before, Joined, Roster, Station, Tell

# A failed launch may be repeated, but a case that needs more than this has failed.
MAX_REPEATS = 2
# How long the devices that answered wait for the others, before the run is planned and its first export begins.
GRACE_S = 3.0
# Kinds of errors that say nothing against a device.
_NOT_ITS_FAULT = ("LEASE", "LEASE_ENDED", "SET_ASIDE", "NO_ADB_SERVER", "UNFIT")


async def run_campaign(order: Order, exports: Exports, journal: Journal, tell: Tell) -> None:
    """Measure everything that `order` asks for. Facts are in the journal as soon as they are known.

    A device that is late, hangs, goes away or is leased elsewhere delays none of the others.

    Raises:
        DeviceError: no device at all could be used.
        UsageError: a resumed run whose conditions are not those of its beginning, or a device that does not fit what
            was asked of it; of one that comes when the others have begun it is its own cases' error.
        asyncio.CancelledError: after the running launches were cancelled and the leases released.
    """
    measured = {result.case.device for result in order.evidence.results.values() if result.launches}
    kept = [device for device in order.devices if device.name in measured]
    campaign = Campaign(order, exports, journal, tell, Roster(order.devices, order.count, kept))
    handout = preparing.Handout(campaign)
    async with asyncio.TaskGroup() as tasks:
        for device in order.devices:
            tasks.create_task(_device(campaign, handout, device))
        await campaign.roster.settle(GRACE_S)
        _tell_plan(campaign)
        await preparing.prepare_all(campaign, handout)


def _tell_plan(campaign: Campaign) -> None:
    order, stations = campaign.order, campaign.stations
    settings, profiled = order.suite.settings, order.profile_ops
    cases = plan.foreseen(order.models, settings, order.only_variants, campaign.fleet, profiled=profiled)
    seconds = sum(case.seconds for case in cases) / (1 if stations[0].facts.is_host else len(stations))
    names = tuple(device.name for device in order.devices if device not in campaign.roster.lost)
    campaign.tell(events.Planned(names, tuple(case.case_id for case in cases), settings.run.launches, seconds))


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
        fleet = dict.fromkeys(order.devices) | {one.device: one.facts for one in stations}
        inspect = inspector(stations[0].client)
        for entry in order.models:
            try:
                prepared = await exports.prepare(entry, inspect, files_only=order.files_only)
            except RtfleetError as error:
                failures.append(f"{entry.name}: {error.text}")
                continue
            hop_ns = prepared.hop_samples and prepared.hop_samples * plan.NS // prepared.sample_rate_hz
            variants = plan.variants_of(entry, prepared.origin, prepared.shipped, order.only_variants)
            preparing.tell_left_out(entry, variants, fleet, tell)
            for variant in variants:
                takers = [one for one in stations if not plan.cannot_run(variant, one.facts)]
                if not takers:
                    whys = dict.fromkeys(plan.cannot_run(variant, one.facts) for one in stations)
                    failures += [f"{entry.name}/{variant}: {why}" for why in whys]
                    continue
                if not exports.is_cached(prepared, variant):
                    export_s += plan.EXPORT_S[variant.split("-")[0]]
                for one in takers:
                    for case in plan.cases_of(entry, settings, variant, prepared.hop_samples, one.device, one.facts):
                        owed = preparing.owed_by(order, entry, prepared.task, one.profile)
                        owed = tuple(limit for limit in owed if prepared.covers == "whole" or limit.task == "all")
                        cases.append(plan.planned(case, hop_ns, settings.run, owed, profiled=order.profile_ops))
                        name = one.device.name
                        seconds_of[name] = seconds_of.get(name, 0.0) + cases[-1].seconds
    # On one machine the devices wait for each other, and for the exports.
    measured_s = sum(seconds_of.values()) if stations[0].facts.is_host else max(seconds_of.values(), default=0.0)
    return plan.Plan(tuple(cases), tuple(failures), export_s, export_s + measured_s)


async def _connect_all(order: Order, journal: Journal, tell: Tell, stack: contextlib.AsyncExitStack) -> list[Station]:
    """Those that can be used until `stack` closes. Raises DeviceError: none can."""

    async def connect(device: Device) -> Station | DeviceError:
        try:
            here = station.connected(order, device, journal, Before(station.lease_of(order, device)))
            return await stack.enter_async_context(here)
        except DeviceError as error:
            tell(events.DeviceLost(device.name, station.case_error(error)))
            return error

    found = await asyncio.gather(*map(connect, order.devices))
    stations = [one for one in found if isinstance(one, Station)]
    if not stations:
        raise next(one for one in found if isinstance(one, DeviceError))
    for one in stations:
        tell(events.DeviceConnected(one.facts))
    return stations


# ---- one device ----------------------------------------------------------------------------------------------------


@dataclass
class _Done:
    """What one device has done so far, also where it goes away and comes back.

    Attributes:
        rounds: Those that a case has had, those of an earlier host with its good launches.
        fitness: How fit the device was, launch by launch.
        open: The launch that runs, or ran when the device went away.
        compared, profiled: Cases whose parity, and whose operators, are known.
    """

    before: Before
    cases: list[Joined] = field(default_factory=list)
    launches: dict[str, list[Launch]] = field(default_factory=dict)
    rounds: dict[str, int] = field(default_factory=dict)
    fitness: list[Preflight | None] = field(default_factory=lambda: [None])
    open: OpenLaunch | None = None
    compared: set[str] = field(default_factory=set)
    profiled: set[str] = field(default_factory=set)

    def held_before(self, campaign: Campaign, joined: Joined) -> tuple[Launch, ...]:
        """Launches of a case that are an earlier host's."""
        recovered = self.before.recovered.get(joined.case.id, ())
        # One that was cut off is there already, as far as it was seen.
        anew = {one.launch_id for one in recovered}
        return (*(one for one in campaign.held_launches(joined) if one.launch_id not in anew), *recovered)


async def _device(campaign: Campaign, handout: preparing.Handout, device: Device) -> None:
    """One device from its first word to its last: waited for while somebody else has it, and when it goes away."""
    order, run = campaign.order, campaign.order.suite.settings.run
    clock = asyncio.get_running_loop().time
    done = _Done(Before(station.lease_of(order, device)))
    began_s, joined, missed, away_since_s = clock(), False, False, 0.0
    while True:
        try:
            station.refuse_set_aside(order, device)
            done.before.open_launch = done.open.asked.launch_id if done.open else ""
            connected = station.connected(order, device, campaign.journal, done.before)
            async with contextlib.AsyncExitStack() as closing, connected as here:
                if not campaign.roster.join(here):
                    return
                campaign.tell(events.DeviceConnected(here.facts))
                if here.brought_bytes:
                    campaign.tell(events.Pushed(device.name, here.brought_bytes, here.brought_s))
                if not joined:
                    handout.join(here)
                joined, away_since_s = True, 0.0
                await _take_up(campaign, here, done)
                await _measure(campaign, here, done)
                if here.facts.is_host:
                    # Outputs of another device may just be compared with this machine's.
                    await closing.enter_async_context(campaign.quiet)
                campaign.over.add(device)
            holding.after_run(order.cache, device, _why_nothing(done, here.facts))
            return
        except LeaseHeld as error:
            problem: DeviceError = error
            if error.kind == "LEASE_ENDED":
                if joined or done.before.lease_id != order.evidence.unfinished.leases.get(device.name):
                    break  # whoever did it needs the device
                # It was an earlier host's; a run that is gone on with on purpose has one of its own.
                done.before.lease_id = new_lease()
                continue
            left_s = run.lease_wait_s - (clock() - began_s)
            if joined:
                # Somebody came while this host slept, or its old agent has not heard yet that the line is gone.
                away_since_s = away_since_s or clock()
                left_s = max(run.lease_wait_s, run.comeback_s) - (clock() - away_since_s)
        except UsageError as error:
            if joined or not campaign.roster.settled:
                raise
            # The others have begun: what does not fit this one spoils nothing of theirs.
            problem, left_s = DeviceError(error.text, error.hint, "UNFIT", retryable=False), 0.0
        except DeviceError as error:
            problem = error
            away_since_s = away_since_s or clock()
            left_s = run.comeback_s - (clock() - away_since_s) if joined and error.retryable else 0.0
            if not joined and error.kind == "UNAVAILABLE" and not missed:
                # An agent that hosts share may be ended by the last of them just when another has found it.
                missed, left_s = True, transports.LOOK_AGAIN_S
        if not joined and campaign.roster.spares(device):
            return
        if left_s <= 0:
            break
        campaign.tell(events.Waiting(device.name, "", (problem.text,)))
        await transports.worth_a_look(device, left_s)
    if problem.kind not in _NOT_ITS_FAULT:
        holding.after_run(order.cache, device, problem.text)
    lost = campaign.roster.lose(device, problem)
    campaign.tell(events.DeviceLost(device.name, station.case_error(problem)))
    if lost is None:
        return
    if joined:
        await _give_up(campaign, done, lost)
    else:
        handout.lose(device)


def _why_nothing(done: _Done, facts: DeviceFacts) -> str:
    """Why a device gave not one good launch though its models are sound; "" where it gave one, or had none to give."""
    # A runtime that nobody installed says nothing against a device.
    there = {runtime.name for runtime in facts.runtimes if not runtime.error}
    tried = [one for joined in done.cases if joined.artifact.runtime in there for one in done.launches[joined.case.id]]
    failed = [launch.error for launch in tried if launch.error and launch.error.retryable]
    return failed[-1].text if failed and len(failed) == len(tried) else ""


async def _take_up(campaign: Campaign, here: Station, done: _Done) -> None:
    """The launch that ran when the device went away."""
    if done.open is None:
        return
    held = done.launches[done.open.joined.case.id]
    # It stays open until its end is known: the device may go away again meanwhile.
    launch = await launching.take_up(campaign, here, done.open, held)
    done.open = None
    if launch is not None:
        held.append(launch)
        done.fitness.append(launch.preflight)


async def _measure(campaign: Campaign, here: Station, done: _Done) -> None:
    """All of one device: latency in interleaved rounds, then what was missing, then parity and profiles (they heat).

    Raises:
        DeviceError: it gives no answer. What is `done` by then is not done again.
    """
    cases, launches, rounds = done.cases, done.launches, done.rounds

    def wanted(joined: Joined) -> int:
        return campaign.wanted_launches(joined.case.id)

    def good(joined: Joined) -> int:
        return sum(not statistics.why_void(launch) for launch in launches[joined.case.id])

    def hopeless(joined: Joined) -> bool:
        """A failure of this run that measuring again does not cure; one of an earlier run may have been mended."""
        new = launches[joined.case.id][len(done.held_before(campaign, joined)) :]
        return any(launch.error and not launch.error.retryable for launch in new)

    async def launch(joined: Joined) -> None:
        held = launches[joined.case.id]
        rounds[joined.case.id] += 1
        asked = plan.order_of(joined.case, joined.artifact, campaign.order.suite.settings.run, "LATENCY")
        done.open = OpenLaunch(joined, asked)
        held.append(await launching.latency(campaign, here, done.open, held, done.fitness[-1]))
        done.open = None
        done.fitness.append(held[-1].preflight)

    for joined in cases:  # of a device that came back, perhaps with an empty store
        await launching.push(campaign, here, joined.artifact)
    # The first round takes the cases as they get ready; the others begin when all are there.
    arrivals = _arrivals(here.inbox)
    try:
        async for joined in arrivals:
            resume.check_case(campaign.order.evidence, joined.case, joined.artifact)
            cases.append(joined)
            launches[joined.case.id] = list(done.held_before(campaign, joined))
            rounds[joined.case.id] = good(joined)
            campaign.journal.case(CaseResult(joined.case, joined.artifact, joined.budgets))
            await launching.push(campaign, here, joined.artifact)
            campaign.tell(events.CaseJoined(joined.case))
            for recovered in done.before.recovered.get(joined.case.id, ()):
                campaign.tell(events.LaunchTakenUp(here.device.name, joined.case.id, recovered))
            if campaign.order.baseline is None and good(joined) < wanted(joined):
                await launch(joined)
    finally:
        await arrivals.aclose()
    for round_ in range(1, max(map(wanted, cases), default=0) + 1):
        for joined in plan.round_order(cases, round_, paired=campaign.order.baseline is not None):
            if rounds[joined.case.id] < round_ <= wanted(joined) and not hopeless(joined):
                await launch(joined)
    for _ in range(MAX_REPEATS):
        for joined in cases:
            if good(joined) < wanted(joined) and not hopeless(joined):
                await launch(joined)
    for joined in cases:
        if good(joined) and joined.case.id not in done.compared and campaign.owes_parity(joined.case):
            await launching.parity(campaign, here, joined)
            done.compared.add(joined.case.id)
    for joined in cases:
        if good(joined) and joined.case.id not in done.profiled and campaign.owes_operators(joined):
            await launching.operators(campaign, here, joined)
            done.profiled.add(joined.case.id)


async def _give_up(campaign: Campaign, done: _Done, problem: CaseError) -> None:
    """A device that is gone: what it measured stays, what it owes has its error."""
    for joined in done.cases:
        good = sum(not statistics.why_void(launch) for launch in done.launches[joined.case.id])
        unheard = joined.case.id not in done.compared and campaign.lacks_parity(joined.case)
        if good < campaign.wanted_launches(joined.case.id) or (unheard and joined.artifact.vocabulary is not None):
            campaign.journal.case_error(joined.case.id, problem)
            campaign.tell(events.CaseFailed(joined.case.id, joined.case.device, problem))
            continue
        if unheard:
            # Else nothing would say that a check is missing.
            campaign.journal.parity(joined.case.id, "device", validation.unknown(problem.text))
        if joined.case.id not in done.profiled and campaign.owes_operators(joined):
            campaign.journal.operators(joined.case.id, Operators(failed=problem.text))
    async for joined in _arrivals(done.before.inbox):
        if campaign.is_settled(joined.case):
            continue
        campaign.journal.case(CaseResult(joined.case, joined.artifact, joined.budgets, error=problem))
        campaign.tell(events.CaseFailed(joined.case.id, joined.case.device, problem))


async def _arrivals(inbox: asyncio.Queue[Joined | None]) -> AsyncGenerator[Joined, None]:
    """The cases as they get ready. One is done with when the next is asked for, or when this is given up."""
    while (joined := await inbox.get()) is not None:
        try:
            yield joined
        finally:
            inbox.task_done()
    # The end stays readable: a device that comes back, or is lost, looks for what else was meant for it.
    inbox.put_nowait(None)
