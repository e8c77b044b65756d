"""Ways to a device. Each is a context that yields a `Link`; leaving it leaves nothing running that was not before."""

from __future__ import annotations

import asyncio
import os
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from rtfleet.fleet import Device

# A device that is away, or somebody else's, is looked for so often.
LOOK_AGAIN_S = 2.0


@dataclass(frozen=True, repr=False)
class Tls:
    """What mutual TLS is spoken with: PEM, and the name that the agent's certificate must have."""

    authority: bytes
    certificate: bytes
    key: bytes
    agent_name: str


@dataclass(frozen=True, repr=False)
class Link:
    """Where an agent listens and how to be let in. Token and keys never enter a log: they have no repr.

    Attributes:
        token: "" where `tls` lets us in.
        is_host: The device is the machine that this process runs on: nothing else may run while a block is timed.
        brought_bytes: Of the agent itself, that had to be copied there first; 0 where it was there.
        brought_s: How long that took.
    """

    address: str
    token: str
    is_host: bool = False
    tls: Tls | None = None
    brought_bytes: int = 0
    brought_s: float = 0.0


@dataclass(frozen=True)
class Ran:
    """How a command on a device ended."""

    code: int
    stdout: str
    stderr: str


def connect(device: Device, cache: Path) -> AbstractAsyncContextManager[Link]:
    """The way to a device that its `connect` names.

    Raises (on entering):
        DeviceError: the device did not let us in.
    """
    from rtfleet.transports import adb, local, network, ssh

    way, _, rest = device.connect.partition(":")
    if way == "local":
        return local.connect(device.name, local.store_of(cache, rest), rest)
    if way == "grpc":
        return network.connect(device, rest)
    if way == "ssh":
        return ssh.connect(device, rest, cache)
    return adb.connect(device, cache)  # fleet.py lets no other through


async def worth_a_look(device: Device, left_s: float) -> None:
    """Wait until a device may be there again: until a phone that is unplugged is plugged in, else a moment.

    Args:
        left_s: No longer than this.
    """
    from rtfleet.transports import adb_phone

    if device.connect != "adb" or not await adb_phone.plugged_in(device, left_s):
        await asyncio.sleep(min(left_s, LOOK_AGAIN_S))


def linger_s() -> float:
    """How long an agent that nobody wants any more stays; $RTFLEET_LINGER_S is for tests."""
    return float(os.environ.get("RTFLEET_LINGER_S") or 60.0)


def no_room(size_bytes: int, free_bytes: int) -> str:
    """What is wrong with a device that has less room than an agent needs."""
    return f"there is no room for the agent: {size_bytes / 1e6:.0f} MB, and {free_bytes / 1e6:.0f} MB are free"
