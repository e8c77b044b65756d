"""Devices taken out of use for a while: held by a person with a reason, or set aside after errors in a row."""

from __future__ import annotations

import asyncio
import getpass
import hashlib
import json
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from rtfleet import transports
from rtfleet.client import AgentClient, new_lease
from rtfleet.errors import DeviceError, LeaseHeld
from rtfleet.fleet import Device

ERRORS_IN_A_ROW = 3
STANDING = ("grpc", "adb")
"""Ways whose agent outlives the command that asked for the lease; the others' ends with their line."""
# How soon a hold notices that its line is gone.
_LOOK_S = 5.0


@dataclass(frozen=True)
class Health:
    """How a device did of late.

    Attributes:
        errors: Runs in a row in which it gave no result; `last` is why, the last time.
        lease_id: Of a hold of this user's; "" where there is none.
    """

    errors: int = 0
    last: str = ""
    lease_id: str = ""

    @property
    def set_aside(self) -> bool:
        """Whether runs leave it out until somebody releases it."""
        return self.errors >= ERRORS_IN_A_ROW


def health(cache: Path, device: Device) -> Health:
    """What is kept of a device; a file that can't be read is as good as none."""
    try:
        return Health(**json.loads(_file(cache, device).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Health()


def keep(cache: Path, device: Device, told: Health) -> None:
    """Keep it. A cache without room costs nothing but the memory of it."""
    path = _file(cache, device)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if told == Health():
            path.unlink(missing_ok=True)
        else:
            path.write_text(json.dumps(asdict(told)), encoding="utf-8")
    except OSError:
        return


def after_run(cache: Path, device: Device, error: str) -> None:
    """A run is over for a device; `error` is why it gave no result, "" where it gave one."""
    known = health(cache, device)
    now = Health(known.errors + 1, error, known.lease_id) if error else Health(lease_id=known.lease_id)
    if now != known:
        keep(cache, device, now)


async def hold(device: Device, cache: Path, seconds: float, reason: str, tell: Callable[[float], None]) -> None:
    """Keep everybody else off a device, also after this process where its agent stays; else until it is cancelled.

    Args:
        tell: Is given the seconds for which it is held, as soon as it is: no lease is shorter than the agent's usual,
            none longer than a week, and one's own is never made shorter.

    Raises:
        LeaseHeld: somebody else has it.
        DeviceError: it gives no answer.
    """
    known = health(cache, device)
    async with transports.connect(device, cache) as link, AgentClient(link, device.name) as client:
        try:
            held_s = await client.acquire(known.lease_id or new_lease(), _holder(), seconds, reason)
        except LeaseHeld as error:
            if error.kind != "LEASE_ENDED":
                raise
            # Somebody ended the hold before this one.
            held_s = await client.acquire(new_lease(), _holder(), seconds, reason)
        tell(held_s)
        if device.connect.partition(":")[0] in STANDING:
            keep(cache, device, Health(known.errors, known.last, client.lease_id))
            return
        until_s = asyncio.get_running_loop().time() + held_s
        while (left_s := until_s - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(min(_LOOK_S, left_s))
            await client.renew()


async def release(device: Device, cache: Path, *, force: bool) -> str:
    """Bring a device back into use: ends one's own hold and forgets its errors. What was done, in one sentence.

    Args:
        force: End whoever's lease it is.

    Raises:
        LeaseHeld: somebody else holds it.
        DeviceError: it gives no answer.
    """
    known = health(cache, device)
    said = []
    if known.set_aside:
        said.append(f"its {known.errors} errors are forgotten")
    if known.lease_id or force:
        async with transports.connect(device, cache) as link, AgentClient(link, device.name) as client:
            facts = await client.describe()
            client.lease_id = known.lease_id or new_lease()
            await client.release(force=force)
            still = (await client.describe()).lease_holder
        if still:
            keep(cache, device, Health(known.errors, known.last))
            raise LeaseHeld(
                f"device '{device.name}': your hold is over, and {still} has it now",
                "wait for the lease to end; --force ends anybody's",
                "LEASE",
            )
        if facts.lease_holder:
            said.append(f"the lease of {facts.lease_holder} is over")
    elif not known.set_aside:
        raise DeviceError(
            f"device '{device.name}' is not held by you, and it is not set aside",
            "rtfleet devices says who has it; --force ends anybody's lease",
            "LEASE",
        )
    keep(cache, device, Health())
    return f"{device.name}: {', '.join(said) or 'it was free'}"


def _holder() -> str:
    return f"{getpass.getuser()}@{platform.node()} by hand"


def _file(cache: Path, device: Device) -> Path:
    """A device is known by its name and how it is reached: two fleets may call two devices the same."""
    key = hashlib.sha256("\0".join((device.name, device.connect, device.serial)).encode()).hexdigest()[:16]
    return cache / "devices" / f"{key}.json"
