"""The devices of a campaign: connected, described, leased; and given back at the end."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import platform
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace

from rtfleet import cores, events, holding, launch_log, profile, resume, transports
from rtfleet.artifact import Artifact
from rtfleet.client import AgentClient, new_lease
from rtfleet.errors import DeviceError, LeaseHeld, UsageError
from rtfleet.fleet import Device
from rtfleet.order import Order
from rtfleet.profile import Budget, Profile
from rtfleet.records import Case, CaseError, DeviceFacts, Launch
from rtfleet.run_file import Announced, Journal

Tell = Callable[[events.Event], None]


@dataclass(frozen=True)
class Joined:
    """A case whose artifact exists."""

    case: Case
    artifact: Artifact
    budgets: tuple[Budget, ...]


@dataclass
class Before:
    """What a run knows of a device from before, also where that goes away and comes back.

    Attributes:
        lease_id: An agent knows its host by it.
        written: The lease that is in the journal, which it must be before it is used.
        inbox: Of its cases.
        identity: Of the device that joined; "" before.
        open_launch: What it measured when it went away; it goes on. "" where there was nothing.
        recovered: Launches by their case's id that an earlier host began, and whose events the agent kept for it.
    """

    lease_id: str
    written: str = ""
    inbox: asyncio.Queue[Joined | None] = field(default_factory=asyncio.Queue)
    identity: str = ""
    open_launch: str = ""
    recovered: dict[str, tuple[Launch, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Station:
    """A device that this run has leased, or had until its part was over.

    Attributes:
        inbox: Brings its cases as their artifacts get ready; None ends them.
        brought_bytes: Of the agent itself, where it had to be copied there; that took `brought_s`.
        alone: Held by whoever has it work; an agent refuses to do anything beside a launch.
    """

    device: Device
    client: AgentClient
    facts: DeviceFacts
    profile: Profile
    inbox: asyncio.Queue[Joined | None] = field(default_factory=asyncio.Queue)
    brought_bytes: int = 0
    brought_s: float = 0.0
    alone: asyncio.Lock = field(default_factory=asyncio.Lock)


class Roster:
    """The devices of a campaign as they join, go away, come back, or are lost for good.

    Args:
        wanted: So many of them are enough; those that come first are taken. None: all.
        kept: Those that a resumed run has measured on already; their places are theirs.

    Attributes:
        settled: The run has begun with those that had joined by then.
    """

    def __init__(self, devices: Sequence[Device], wanted: int | None = None, kept: Sequence[Device] = ()) -> None:
        self.settled = False
        self._kept = tuple(kept)
        self._asked = tuple(devices)
        self._wanted = len(self._asked) if wanted is None else wanted
        self._dismissed: set[Device] = set()
        self.lost: dict[Device, CaseError] = {}
        self._stations: dict[Device, Station] = {}
        self._first_error: DeviceError | None = None
        self._changed = asyncio.Event()

    @property
    def devices(self) -> tuple[Device, ...]:
        """Those that take part, or may."""
        return tuple(device for device in self._asked if device not in self._dismissed)

    @property
    def stations(self) -> tuple[Station, ...]:
        """Those that have joined and are not lost, in the order in which they joined."""
        return tuple(one for device, one in self._stations.items() if device not in self.lost)

    def join(self, station: Station) -> bool:
        """A device is connected and leased, for the first time or again. False: enough others came before it."""
        self._changed.set()
        if self.spares(station.device):
            return False
        self._stations[station.device] = station
        return True

    def spares(self, device: Device) -> bool:
        """Whether a device that has not joined is not needed any more: enough others have. It takes no part then."""
        expected = [one for one in self._kept if one not in self._stations and one not in self.lost]
        if device in self._stations or device in self._kept or len(self.stations) + len(expected) < self._wanted:
            return False
        self._changed.set()
        self._dismissed.add(device)
        return True

    def lose(self, device: Device, error: DeviceError) -> CaseError | None:
        """A device gives no (further) result; the error that its cases have. None: enough others are left."""
        self._changed.set()
        self._first_error = self._first_error or error
        left = [one for one in self.devices if one != device and one not in self.lost]
        if device not in self._stations and len(left) >= self._wanted:
            self._dismissed.add(device)
            return None
        self.lost[device] = case_error(error)
        return self.lost[device]

    async def settle(self, grace_s: float) -> None:
        """Wait for the first device, then for the others as long as `grace_s`: one that is late delays nobody.

        Raises:
            DeviceError: none can be used.
        """
        loop = asyncio.get_running_loop()
        until_s: float | None = None
        while len(self._stations.keys() | self.lost.keys()) < min(self._wanted, len(self.devices)):
            if self._stations and until_s is None:
                until_s = loop.time() + grace_s
            self._changed.clear()
            try:
                left_s = None if until_s is None else max(0.0, until_s - loop.time())
                await asyncio.wait_for(self._changed.wait(), left_s)
            except TimeoutError:
                break
        self.settled = True
        if not self._stations and self._first_error is not None:
            raise self._first_error


def case_error(error: DeviceError) -> CaseError:
    """The error of a device as that of a case on it."""
    kind = "LEASE" if isinstance(error, LeaseHeld) else "NO_DISK" if error.kind == "NO_DISK" else "DEVICE"
    return CaseError(kind, error.text, error.hint, error.retryable)


@contextlib.asynccontextmanager
async def connected(order: Order, device: Device, journal: Journal, before: Before) -> AsyncIterator[Station]:
    """The device, connected, described and leased, until the block ends.

    What still runs there of an earlier connection is taken up, or ended where nobody waits for it. `before` then has
    what an earlier host had begun.

    Raises:
        LeaseHeld: somebody else measures on it.
        DeviceError: it gives no answer, or is another one than that which went away.
        UsageError: it is not the one that a resumed run began with.
    """
    async with transports.connect(device, order.cache) as link, AgentClient(link, device.name) as client:
        facts = await client.describe(is_host=link.is_host)
        _check_same(device, before.identity, facts)
        matched = profile.match(facts, order.profiles, device.profile)
        facts = replace(facts, profile=matched.name)
        _check_cores(order, device, facts)
        resume.check_device(order.evidence, facts)
        if before.written != before.lease_id:  # once, however long it is waited for
            journal.lease(device.name, before.lease_id)
            before.written = before.lease_id
        async with client.leased(before.lease_id, _holder(order)):
            journal.device(facts)
            announced = order.evidence.unfinished.launches
            await client.cancel_running(but={before.open_launch, *(one.launch_id for one in announced)})
            for one in announced:
                await _recover(order, device, client, journal, before, one)
            before.identity = facts.identity
            yield Station(device, client, facts, matched, before.inbox, link.brought_bytes, link.brought_s)


@contextlib.asynccontextmanager
async def again(order: Order, over: Station) -> AsyncIterator[Station]:
    """A device whose own part of the run is over, for something short.

    Raises:
        LeaseHeld: somebody else has it now.
        DeviceError: it gives no answer.
    """
    async with (
        transports.connect(over.device, order.cache) as link,
        AgentClient(link, over.device.name) as client,
        client.leased(new_lease(), _holder(order)),
    ):
        yield replace(over, client=client)


def _holder(order: Order) -> str:
    return f"{getpass.getuser()}@{platform.node()} run {order.run_id}"


def refuse_set_aside(order: Order, device: Device) -> None:
    """Raises DeviceError for a device that gave nothing but errors of late: a run does not wait for it again."""
    known = holding.health(order.cache, device)
    if known.set_aside:
        raise DeviceError(
            f"device '{device.name}' is set aside after {known.errors} errors in a row; the last: {known.last}",
            f"mend it, then rtfleet devices release {device.name}",
            "SET_ASIDE",
            retryable=False,
        )


def lease_of(order: Order, device: Device) -> str:
    """A resumed run takes up the lease that it had, in case it still holds the device."""
    return order.evidence.unfinished.leases.get(device.name) or new_lease()


def _check_same(device: Device, identity: str, facts: DeviceFacts) -> None:
    """Raises DeviceError: launches of two devices are no one evidence. The right one may still come back."""
    # A phone without a serial is whichever is plugged in, and an address is whoever has it now.
    if identity and facts.identity != identity:
        raise DeviceError(
            f"device '{device.name}': another device answers in its place: {facts.model} {facts.identity}, and the run "
            f"began with {identity}",
            "bring back the one that went away; a phone's serial in fleet.toml tells one from another",
        )


def _check_cores(order: Order, device: Device, facts: DeviceFacts) -> None:
    """Raises UsageError, before anything is measured, for cores that the device does not have."""
    try:
        cores.chosen(order.suite.settings.cpus or device.cpus, facts.cores_info)
    except UsageError as error:
        raise UsageError(f"device '{device.name}': {error.text}", error.hint) from None


async def _recover(
    order: Order, device: Device, client: AgentClient, journal: Journal, before: Before, announced: Announced
) -> None:
    """A launch that an earlier host began and did not see the end of: the agent may have kept its events."""
    case_id, launch_id = announced.case_id, announced.launch_id
    held = order.evidence.results.get(case_id)
    if held is None or held.case.device != device.name or held.artifact is None:
        return
    told = [event async for event in client.held_events(launch_id)]
    if not told:
        return
    others = {one.launch_id for one in (*held.launches, *before.recovered.get(case_id, ()))} - {launch_id}
    launch = launch_log.launch_of(
        told,
        launch_id=launch_id,
        kind="LATENCY",
        round_=1 + len(others),
        paced=held.case.scenario == "paced",
        feeds_sha256=held.artifact.feeds.sha256,
    )
    recovered = replace(launch, preflight=announced.preflight)
    journal.launch(case_id, recovered)
    before.recovered[case_id] = (*before.recovered.get(case_id, ()), recovered)
    await client.acknowledge(launch_id)
