"""What the fleet's devices say of themselves, without taking a lease."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rtfleet import profile, transports
from rtfleet.client import AgentClient
from rtfleet.errors import DeviceError
from rtfleet.fleet import Device
from rtfleet.holding import Health, health
from rtfleet.records import DeviceFacts


@dataclass(frozen=True)
class Answer:
    """One device's answer: its facts, or why there are none; and how it did of late."""

    device: Device
    facts: DeviceFacts | None
    error: DeviceError | None = None
    health: Health = field(default_factory=Health)


async def survey(devices: Sequence[Device], cache: Path, profiles: Path | None) -> list[Answer]:
    """Ask all devices at once."""
    return list(await asyncio.gather(*(_ask(device, cache, profiles) for device in devices)))


async def _ask(device: Device, cache: Path, profiles: Path | None) -> Answer:
    try:
        async with transports.connect(device, cache) as link, AgentClient(link, device.name) as client:
            facts = await client.describe(is_host=link.is_host)
    except DeviceError as error:
        return Answer(device, None, error, health(cache, device))
    return answer_of(device, facts, cache, profiles)


def answer_of(device: Device, facts: DeviceFacts, cache: Path, profiles: Path | None) -> Answer:
    """A device that said what it is, with the profile that it matches."""
    matched = profile.match(facts, profiles, device.profile)
    return Answer(device, replace(facts, profile=matched.name), health=health(cache, device))
