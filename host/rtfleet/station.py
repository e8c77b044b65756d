"""The devices of a campaign: connected, described, leased; and given back at the end."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import platform
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace

from rtfleet import cores, events, launch_log, profile, resume, transports
from rtfleet.artifact import Artifact
from rtfleet.client import AgentClient
from rtfleet.errors import DeviceError, LeaseHeld, UsageError
from rtfleet.fleet import Device
from rtfleet.order import Order
from rtfleet.profile import Budget, Profile
from rtfleet.records import Case, CaseError, DeviceFacts, Launch
from rtfleet.run_file import Journal

Tell = Callable[[events.Event], None]


@dataclass(frozen=True)
class Joined:
    """A case whose artifact exists."""

    case: Case
    artifact: Artifact
    budgets: tuple[Budget, ...]


@dataclass(frozen=True)
class Station:
    """A device that this run has leased.

    Attributes:
        recovered: Case id -> what the agent still held of a launch that an earlier host began.
        inbox: Brings its cases as their artifacts get ready; None ends them.
    """

    device: Device
    client: AgentClient
    facts: DeviceFacts
    profile: Profile
    recovered: Mapping[str, Launch] = field(default_factory=dict)
    inbox: asyncio.Queue[Joined | None] = field(default_factory=asyncio.Queue)


async def connect_all(
    order: Order, journal: Journal, tell: Tell, stack: contextlib.AsyncExitStack
) -> tuple[list[Station], dict[Device, CaseError]]:
    """The devices that can be used until `stack` closes, and those that can't, which spoil nothing for the others.

    Raises:
        DeviceError: none can be used.
    """
    stations: list[Station] = []
    lost: dict[Device, CaseError] = {}
    first: DeviceError | None = None
    for device in order.devices:
        try:
            station = await stack.enter_async_context(_station(order, device, journal))
        except DeviceError as error:
            first = first or error
            lost[device] = case_error(error)
            tell(events.DeviceLost(device.name, lost[device]))
        else:
            stations.append(station)
            tell(events.DeviceConnected(station.facts))
    if first and not stations:
        raise first
    return stations, lost


def case_error(error: DeviceError) -> CaseError:
    """The error of a device as that of a case on it."""
    kind = "LEASE" if isinstance(error, LeaseHeld) else "DEVICE"
    return CaseError(kind, error.text, error.hint, error.retryable)


@contextlib.asynccontextmanager
async def _station(order: Order, device: Device, journal: Journal) -> AsyncIterator[Station]:
    async with transports.connect(device, order.cache) as link, AgentClient(link, device.name) as client:
        facts = await client.describe(is_host=link.is_host)
        matched = profile.match(facts, order.profiles, device.profile)
        facts = replace(facts, profile=matched.name)
        _check_cores(order, device, facts)
        resume.check_device(order.evidence, facts)
        journal.device(facts)
        # A resumed run takes up the lease that it had, in case it still holds the device.
        lease_id = order.evidence.unfinished.leases.get(device.name) or secrets.token_hex(16)
        journal.lease(device.name, lease_id)
        holder = f"{getpass.getuser()}@{platform.node()} run {order.run_id}"
        async with leased(client, lease_id, holder):
            recovered = await _recover(order, device, client, journal)
            yield Station(device, client, facts, matched, recovered)


@contextlib.asynccontextmanager
async def leased(client: AgentClient, lease_id: str, holder: str) -> AsyncIterator[None]:
    """The device is ours meanwhile, however long that is. Raises LeaseHeld."""
    renewer = asyncio.create_task(_renew(client, await client.acquire(lease_id, holder)))
    try:
        yield
    finally:
        renewer.cancel()
        with contextlib.suppress(DeviceError):
            await client.release()


def _check_cores(order: Order, device: Device, facts: DeviceFacts) -> None:
    """Raises UsageError, before anything is measured, for cores that the device does not have."""
    try:
        cores.chosen(order.suite.settings.cpus or device.cpus, facts.cores_info)
    except UsageError as error:
        raise UsageError(f"device '{device.name}': {error.text}", error.hint) from None


async def _renew(client: AgentClient, expires_in_s: float) -> None:
    while True:
        await asyncio.sleep(expires_in_s / 3)
        # An agent that does not answer is noticed by the launch itself, which then says so.
        with contextlib.suppress(DeviceError):
            await client.renew()


async def _recover(order: Order, device: Device, client: AgentClient, journal: Journal) -> dict[str, Launch]:
    """Launches that an earlier host began and did not see the end of: the agent may have kept their events."""
    found: dict[str, Launch] = {}
    for case_id, launch_id in order.evidence.unfinished.launches:
        held = order.evidence.results.get(case_id)
        if held is None or held.case.device != device.name or held.artifact is None:
            continue
        told = await client.held_events(launch_id)
        if told:
            found[case_id] = launch_log.launch_of(
                told,
                launch_id=launch_id,
                kind="LATENCY",
                round_=len(held.launches) + 1,
                paced=held.case.scenario == "paced",
                feeds_sha256=held.artifact.feeds.sha256,
            )
            journal.launch(case_id, found[case_id])
            await client.acknowledge(launch_id)
    return found
