"""One launch after the other: files pushed, latency measured until there is enough, outputs compared."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

from rtfleet import budget, events, history, launch_log, plan, preflight, statistics, sustained, validation
from rtfleet.artifact import Artifact
from rtfleet.errors import DeviceError, LeaseHeld
from rtfleet.export.job import Exports
from rtfleet.fleet import Device
from rtfleet.launch_log import LaunchEvent
from rtfleet.launch_order import LaunchOrder
from rtfleet.order import BASELINE, Order
from rtfleet.records import Case, CaseError, Launch, Preflight
from rtfleet.run_file import Journal
from rtfleet.station import Joined, Roster, Station, Tell, again, case_error
from rtfleet.transports import LOOK_AGAIN_S


@dataclass(frozen=True)
class Campaign:
    """What everybody who works on a run has in common.

    Attributes:
        roster: The devices as they come and go.
        quiet: Held by whoever works on this machine: one launch of one of its devices, or one step of an export.
        over: Devices whose own part is over; they are free for others.
        missed: Of these, those that could not be had again for a comparison.
    """

    order: Order
    exports: Exports
    journal: Journal
    tell: Tell
    roster: Roster
    quiet: asyncio.Lock = field(default_factory=asyncio.Lock)
    over: set[Device] = field(default_factory=set)
    missed: set[Device] = field(default_factory=set)

    @property
    def stations(self) -> tuple[Station, ...]:
        """The devices that have joined."""
        return self.roster.stations

    @property
    def fleet(self) -> plan.Fleet:
        """All devices of the run, with what those that were reached said of themselves."""
        return dict.fromkeys(self.roster.devices) | {station.device: station.facts for station in self.stations}

    def undisturbed(self, here: Station) -> contextlib.AbstractAsyncContextManager[None]:
        """While a device is measured: nothing else there, and where it is this machine, nothing else of this run."""
        return self.quiet if here.facts.is_host else here.alone

    def wanted_launches(self, case_id: str) -> int:
        """Good launches that a case is to have in the end."""
        return self.order.evidence.launches.get(case_id, self.order.suite.settings.run.launches)

    def held_launches(self, joined: Joined) -> tuple[Launch, ...]:
        """Launches of a case that an earlier host wrote down."""
        result = self.order.evidence.results.get(joined.case.id)
        return result.launches if result else ()

    def is_complete(self, case_id: str) -> bool:
        """Whether an earlier host measured all that the case was asked for then."""
        result = self.order.evidence.results.get(case_id)
        asked = self.order.suite.settings.run.launches
        return result is not None and len(statistics.good_launches(result)) >= asked

    def is_settled(self, case: Case) -> bool:
        """Whether an earlier host measured all that is wanted, and compared it."""
        result = self.order.evidence.results.get(case.id)
        measured = result is not None and len(statistics.good_launches(result)) >= self.wanted_launches(case.id)
        return measured and not self.lacks_parity(case)

    def lacks_parity(self, case: Case) -> bool:
        """Whether the device's outputs are to be compared: not a second time in a resumed run, and not those of what
        is only compared with."""
        result = self.order.evidence.results.get(case.id)
        compared = result is not None and result.parity_device is not None and not result.parity_device.unknown
        known = compared or (result is not None and result.recognition is not None)
        return not known and not case.model.startswith(BASELINE)

    def owes_parity(self, case: Case) -> bool:
        """Likewise, or those of the file on this machine, which could not be had before."""
        result = self.order.evidence.results.get(case.id)
        on_host = result.parity_host if result is not None else None
        return self.lacks_parity(case) or (on_host is not None and bool(on_host.unknown))

    def owes_operators(self, joined: Joined) -> bool:
        """Likewise, where they were asked for; a launch that gave none is tried again."""
        result = self.order.evidence.results.get(joined.case.id)
        known = result is not None and result.operators is not None and not result.operators.failed
        return self.order.profile_ops and not known and not joined.case.model.startswith(BASELINE)


@dataclass
class OpenLaunch:
    """A launch that runs, or ran when its device went away.

    Attributes:
        asked: Its id is how its events are found again.
        fit: How fit the device was for it.
        stopped: Why it was ended early; "" where it was not.
        is_cut: Its device went away; what was seen until then is in the journal.
    """

    joined: Joined
    asked: LaunchOrder
    fit: Preflight | None = None
    stopped: str = ""
    is_cut: bool = False


async def push(campaign: Campaign, here: Station, artifact: Artifact) -> None:
    """Whatever of the artifact the device lacks."""
    began_s = asyncio.get_running_loop().time()
    sent_bytes = await here.client.push(artifact.needs)
    if sent_bytes:
        seconds = asyncio.get_running_loop().time() - began_s
        campaign.tell(events.Pushed(here.device.name, sent_bytes, seconds))


async def _fit(campaign: Campaign, here: Station, case: Case, previous: Preflight | None) -> Preflight:
    """Look at the device until it is fit or was waited for long enough. Healthy speeds enter its history."""
    kept = history.file_of(campaign.order.cache, here.facts, case.options.cpus)
    usual_ns = history.usual_ns(history.recent(history.read(kept)))
    limits = preflight.limits_after(previous, campaign.order.suite.settings.run.max_wait_s)
    clock = asyncio.get_running_loop().time
    began_s, looks = clock(), list[preflight.Look]()
    while True:
        at_s = clock() - began_s
        looks.append(preflight.look_of(await here.client.probe(case.options.cpus), at_s))
        found = preflight.step(looks, usual_ns, limits)
        if isinstance(found, Preflight):
            # A cache without room costs the next run a comparison, and this one nothing.
            with contextlib.suppress(OSError):
                history.remember(kept, *preflight.healthy_ns(looks, usual_ns, limits))
            return found
        if found.reasons:
            campaign.tell(events.Waiting(case.device, case.id, found.reasons))
        await asyncio.sleep(found.pause_s)


async def latency(
    campaign: Campaign, here: Station, open_: OpenLaunch, held: Sequence[Launch], previous: Preflight | None
) -> Launch:
    """One launch that measures.

    Args:
        held: The case's launches so far.
        previous: The preflight of this device's last launch.

    Raises:
        DeviceError: the device gave no answer. What was measured until then is in the journal.
    """
    case, asked = open_.joined.case, open_.asked
    async with campaign.undisturbed(here):
        open_.fit = await _fit(campaign, here, case, previous)
        campaign.journal.intent(case.id, asked.launch_id, open_.fit)
        wanted = campaign.wanted_launches(case.id)
        campaign.tell(events.LaunchStarted(case.device, case.id, "LATENCY", len(held) + 1, wanted, asked.min_frames))
        launch = await _followed(campaign, here, open_, held, here.client.launch(asked))
    assert launch is not None, "a launch tells at least how it ended"
    return launch


async def take_up(campaign: Campaign, here: Station, open_: OpenLaunch, held: Sequence[Launch]) -> Launch | None:
    """A launch that ran when the device went away: its agent kept the events, and nothing is measured twice.

    None where it has nothing of it. Raises DeviceError: the device went away again.
    """
    async with campaign.undisturbed(here):
        return await _followed(campaign, here, open_, held, here.client.held_events(open_.asked.launch_id))


async def _followed(
    campaign: Campaign,
    here: Station,
    open_: OpenLaunch,
    held: Sequence[Launch],
    stream: AsyncIterator[LaunchEvent],
) -> Launch | None:
    """A launch from its events. After each batch of blocks `budget.decide` says whether it has enough.

    None: there is not one event. Else it is in the journal, also where the device gave no answer.
    """
    settings = campaign.order.suite.settings.run
    case, asked = open_.joined.case, open_.asked
    judged = budget.judged_budgets(open_.joined.budgets, case, open_.joined.artifact)
    so_far: list[LaunchEvent] = []
    decision = open_.stopped

    def as_launch() -> Launch:
        launch = launch_log.launch_of(
            so_far,
            launch_id=asked.launch_id,
            kind="LATENCY",
            round_=len(held) + 1,
            paced=asked.hop_ns > 0,
            feeds_sha256=asked.feeds_sha256,
        )
        return replace(launch, stopped=open_.stopped, preflight=open_.fit)

    try:
        async for event in stream:
            so_far.append(event)
            # The state after a launch can't have ended it.
            if isinstance(event, launch_log.Conditions) and event.when != "after" and not decision:
                decision = open_.stopped = sustained.limit_reached(event.state, settings)
                if decision:
                    await here.client.finish(asked.launch_id)
            if not isinstance(event, launch_log.Frames) or (event.phase == "BURST" and asked.hop_ns):
                continue
            current = as_launch()
            campaign.tell(_progress(case, event, current, asked.min_frames))
            # Launches that are compared must all be of one length.
            if event.phase == "WARMUP" or decision or campaign.order.baseline is not None:
                continue
            said = budget.decide(held, current, judged, settings, asked.hop_ns or None)
            if said.enough:
                decision = said.reason
                await here.client.finish(asked.launch_id)
    except DeviceError as error:
        if not open_.is_cut:
            so_far.append(launch_log.Failed("DEVICE", error.text, "", ""))
            campaign.journal.launch(case.id, as_launch())
        open_.is_cut = True
        raise
    if not so_far:
        return None
    launch = as_launch()
    campaign.journal.launch(case.id, launch)
    campaign.tell(events.LaunchEnded(case.device, case.id, launch, decision))
    await here.client.acknowledge(asked.launch_id)
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


async def parity(campaign: Campaign, here: Station, joined: Joined) -> None:
    """Outputs on the device, and on the host with the runtime's optimizer off, against the original model's.

    Of a model that gives tokens: what it recognized, against the clips' transcripts.
    """
    case, artifact, settings = joined.case, joined.artifact, campaign.order.suite.settings.run
    campaign.tell(events.Progress(case.device, case.id, "parity", 0, 0, None, None))
    on_device = None
    if campaign.lacks_parity(case):
        async with campaign.undisturbed(here):
            on_device = await validation.outputs_of(here.client, case, artifact, settings)
    plain = await _of_the_file(campaign, here, joined)
    if artifact.vocabulary is not None and on_device is not None:
        heard = validation.recognized(artifact, on_device, None if isinstance(plain, CaseError) else plain)
        if isinstance(heard, CaseError):
            campaign.journal.case_error(case.id, heard)
        else:
            campaign.journal.recognition(case.id, heard)
        return
    if artifact.reference:
        found = validation.against_original(artifact, plain)
        if isinstance(found, CaseError) and found.kind in launch_log.OF_THE_DEVICE:
            found = validation.unknown(found.text)
        if not isinstance(found, CaseError):
            campaign.journal.parity(case.id, "host", found)
    if on_device is None:
        return
    of_device = validation.against_original(artifact, on_device, plain)
    if isinstance(of_device, CaseError):
        campaign.journal.case_error(case.id, of_device)
    else:
        campaign.journal.parity(case.id, "device", of_device)


async def _of_the_file(campaign: Campaign, here: Station, joined: Joined) -> validation.Outputs | CaseError:
    """What the file gives with the runtime's optimizer off, on the host. A file that is its own original is run so on
    the device itself where the host can't (Core ML on Linux), since there is nothing else to compare with."""
    case, artifact, settings = validation.of_the_file(joined.case), joined.artifact, campaign.order.suite.settings.run
    is_here = False
    try:
        async with _on_host(campaign, here) as host:
            is_here = host.device == here.device
            await push(campaign, host, artifact)
            found = await validation.outputs_of(host.client, case, artifact, settings)
    except DeviceError as error:
        if is_here:
            raise
        found = case_error(error)
    own_original = artifact.reference is None and artifact.vocabulary is None
    if not isinstance(found, CaseError) or is_here or not own_original:
        return found
    async with campaign.undisturbed(here):
        own = await validation.outputs_of(here.client, case, artifact, settings)
    if isinstance(own, CaseError):
        return replace(own, text=f"on the host: {found.text}; on the device itself: {own.text}")
    return own


@contextlib.asynccontextmanager
async def _on_host(campaign: Campaign, here: Station) -> AsyncIterator[Station]:
    """The device that is this machine, while nothing of the run is measured on it; `here`, where none is.

    One whose own part is over is not held for others all that time: it is reached anew, and waited for while another
    run has it. One that is away for a moment comes back by itself.

    Raises:
        DeviceError: it can't be had.
    """
    clock, run = asyncio.get_running_loop().time, campaign.order.suite.settings.run
    until_s = 0.0
    while True:
        others = sorted((one for one in campaign.stations if one.facts.is_host), key=lambda one: one.client.closed)
        host = here if here.facts.is_host else next(iter(others), here)
        async with campaign.undisturbed(host), contextlib.AsyncExitStack() as stack:
            try:
                if host.device in campaign.over:
                    host = await stack.enter_async_context(again(campaign.order, host))
                elif host.client.closed:
                    raise LeaseHeld(
                        f"device '{host.device.name}': it is away just now", "it comes back, or is lost", "LEASE"
                    )
            except LeaseHeld as error:
                until_s = until_s or clock() + max(run.lease_wait_s, run.comeback_s)
                if clock() > until_s or host.device in campaign.missed:
                    campaign.missed.add(host.device)
                    raise
                campaign.tell(events.Waiting(here.device.name, "", (error.text,)))
            else:
                yield host
                return
        await asyncio.sleep(LOOK_AGAIN_S)


async def operators(campaign: Campaign, here: Station, joined: Joined) -> None:
    """One launch for the times per operator. Its frames are none of the case's: profiling slows them."""
    case, artifact = joined.case, joined.artifact
    asked = plan.order_of(case, artifact, campaign.order.suite.settings.run, "PROFILE")
    campaign.tell(events.Progress(case.device, case.id, "profile", 0, 0, None, None))
    async with campaign.undisturbed(here):
        told = [event async for event in here.client.launch(asked)]
    campaign.journal.operators(case.id, launch_log.operators_of(told))
    await here.client.acknowledge(asked.launch_id)
