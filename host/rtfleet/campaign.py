"""Order and concurrency of a run: connect, prepare, push, launch, decide, write down. One coroutine a device.

No number is computed here and nothing is shown: facts go into the journal, and what happens is told as events.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from rtfleet import events, launching, plan, preparing, resume, station, statistics
from rtfleet.errors import DeviceError, RtfleetError
from rtfleet.export.inspection import inspector
from rtfleet.export.job import Exports
from rtfleet.launching import Campaign
from rtfleet.order import Order
from rtfleet.records import CaseError, CaseResult, Launch, Preflight
from rtfleet.run_file import Journal
from rtfleet.station import Joined, Station, Tell

# A failed launch may be repeated, but a case that needs more than this has failed.
MAX_REPEATS = 2


async def run_campaign(order: Order, exports: Exports, journal: Journal, tell: Tell) -> None:
    """Measure everything that `order` asks for. Facts are in the journal as soon as they are known.

    Raises:
        DeviceError: no device at all could be used.
        UsageError: a resumed run whose conditions are not those of its beginning.
        asyncio.CancelledError: after the running launches were cancelled and the leases released.
    """
    async with contextlib.AsyncExitStack() as stack:
        stations, lost = await station.connect_all(order, journal, tell, stack)
        campaign = Campaign(order, exports, journal, tell, stations, lost)
        settings, profiled = order.suite.settings, order.profile_ops
        cases = plan.foreseen(order.models, settings, order.only_variants, campaign.fleet, profiled=profiled)
        seconds = sum(case.seconds for case in cases) / (1 if stations[0].facts.is_host else len(stations))
        names = tuple(one.device.name for one in stations)
        tell(events.Planned(names, tuple(case.case_id for case in cases), settings.run.launches, seconds))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(preparing.prepare_all(campaign))
            for one in stations:
                tasks.create_task(_measure(campaign, one))


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
        stations, lost = await station.connect_all(order, journal, tell, stack)
        fleet = Campaign(order, exports, journal, tell, stations, lost).fleet
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


# ---- one device ----------------------------------------------------------------------------------------------------


async def _measure(campaign: Campaign, here: Station) -> None:
    """All of one device: latency in interleaved rounds, then what was missing, then parity and profiles (they heat)."""
    cases: list[Joined] = []
    launches: dict[str, list[Launch]] = {}
    # Rounds that a case has had, those of an earlier host with its good launches.
    rounds: dict[str, int] = {}
    arrivals = _arrivals(here)
    # How fit the device was, launch by launch.
    fitness: list[Preflight | None] = [None]

    def wanted(joined: Joined) -> int:
        return campaign.wanted_launches(joined.case.id)

    def good(joined: Joined) -> int:
        return sum(not statistics.why_void(launch) for launch in launches[joined.case.id])

    def hopeless(joined: Joined) -> bool:
        """A failure of this run that measuring again does not cure; one of an earlier run may have been mended."""
        new = launches[joined.case.id][len(campaign.held_launches(here, joined)) :]
        return any(launch.error and not launch.error.retryable for launch in new)

    async def launch(joined: Joined) -> None:
        held = launches[joined.case.id]
        rounds[joined.case.id] += 1
        held.append(await launching.latency(campaign, here, joined, held, fitness[-1]))
        fitness.append(held[-1].preflight)

    try:
        # The first round takes the cases as they get ready; the others begin when all are there.
        async for joined in arrivals:
            resume.check_case(campaign.order.evidence, joined.case, joined.artifact)
            cases.append(joined)
            launches[joined.case.id] = list(campaign.held_launches(here, joined))
            rounds[joined.case.id] = good(joined)
            campaign.journal.case(CaseResult(joined.case, joined.artifact, joined.budgets))
            await launching.push(campaign, here, joined.artifact)
            campaign.tell(events.CaseJoined(joined.case))
            if campaign.order.baseline is None and good(joined) < wanted(joined):
                await launch(joined)
        for round_ in range(1, max(map(wanted, cases), default=0) + 1):
            for joined in plan.round_order(cases, round_, paired=campaign.order.baseline is not None):
                if rounds[joined.case.id] < round_ <= wanted(joined) and not hopeless(joined):
                    await launch(joined)
        for _ in range(MAX_REPEATS):
            for joined in cases:
                if good(joined) < wanted(joined) and not hopeless(joined):
                    await launch(joined)
        for joined in cases:
            if good(joined) and campaign.owes_parity(joined):
                await launching.parity(campaign, here, joined)
        for joined in cases:
            if good(joined) and campaign.owes_operators(joined):
                await launching.operators(campaign, here, joined)
    except DeviceError as error:
        await arrivals.aclose()
        problem = station.case_error(error)
        campaign.tell(events.DeviceLost(here.device.name, problem))
        for joined in cases:
            if good(joined) < wanted(joined):
                campaign.journal.case_error(joined.case.id, problem)
                campaign.tell(events.CaseFailed(joined.case.id, joined.case.device, problem))
        await _refuse_the_rest(campaign, here, problem)


async def _arrivals(here: Station) -> AsyncGenerator[Joined, None]:
    """The cases as they get ready. One is done with when the next is asked for, or when this is given up."""
    while (joined := await here.inbox.get()) is not None:
        try:
            yield joined
        finally:
            here.inbox.task_done()
    # The end stays readable: a device that is lost later looks for what else was meant for it.
    here.inbox.put_nowait(None)


async def _refuse_the_rest(campaign: Campaign, here: Station, problem: CaseError) -> None:
    async for joined in _arrivals(here):
        campaign.journal.case(CaseResult(joined.case, joined.artifact, joined.budgets, error=problem))
        campaign.tell(events.CaseFailed(joined.case.id, joined.case.device, problem))
