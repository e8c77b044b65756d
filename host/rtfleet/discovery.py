"""What is there now: the fleet's devices, and the phones that are plugged in without being in a fleet."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rtfleet import fleet as fleets
from rtfleet.errors import DeviceError, UsageError
from rtfleet.fleet import Device
from rtfleet.transports import adb_phone, adb_server
from rtfleet.transports.adb_server import Phone, Server

# Of a serial number: enough to tell like phones apart, short enough for a table.
_TAIL = 4
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True)
class Here:
    """What a command has to do with.

    Attributes:
        notes: Phones that are plugged in and can't be used, each with why and what to do; `unusable` are their serials.
    """

    devices: tuple[Device, ...]
    notes: tuple[str, ...] = ()
    unusable: tuple[str, ...] = ()


def chosen(path: Path | None, wanted: Sequence[str], count: int | None = None) -> Here:
    """The devices of `NAME`, `label:L` and `auto` flags.

    Without a fleet.toml, `auto` is every phone that is plugged in, or this machine where none is; a phone's name, as
    `rtfleet devices` shows it, works as that of a device of the fleet does.

    Args:
        path: The fleet's file; None is the one here, if there is one.
        count: How many of the devices a run is to take.

    Raises:
        UsageError: a name or a label that no device has, or fewer devices than `count`.
        DeviceError: all phones that are plugged in can't be used, or the one that was meant.
    """
    known, is_fleet = fleets.find(path), fleets.file_of(path) is not None
    names = {device.name for device in known}
    strange = [word for word in wanted if word not in names and word != "auto" and not word.startswith("label:")]
    if not strange and (is_fleet or "auto" not in wanted):
        return Here(fleets.choose(known, wanted, count))
    found = asyncio.run(_phones(known, start=_starts(known, is_fleet)))
    if "auto" in wanted and not is_fleet:
        if not found.devices and found.notes:
            raise DeviceError(f"no phone can be used: {found.notes[0]}", "rtfleet run --device local is this machine")
        return Here(fleets.choose(found.devices or known, [], count), found.notes)
    try:
        return Here(fleets.choose((*known, *found.devices), wanted, count), found.notes)
    except UsageError as error:
        # The one that was meant may be a phone that is there and can't be used; adb does not know its model then.
        for serial, note in zip(found.unusable, found.notes, strict=False):
            if any(word.endswith(f"-{_tail(serial)}") for word in strange):
                raise DeviceError(note, "mend that, then try again") from None
        raise UsageError(error.text, "; ".join(found.notes) or error.hint) from None


def one(path: Path | None, wanted: str) -> Here:
    """The one device of a flag that may name several. Raises UsageError, DeviceError."""
    here = chosen(path, [wanted])
    if len(here.devices) != 1:
        names = ", ".join(device.name for device in here.devices)
        raise UsageError(f"{wanted}: there are {len(here.devices)} such devices", f"name one: {names}")
    return here


def everything(path: Path | None) -> Here:
    """The fleet's devices, or this machine, and the phones that are plugged in beside them. Raises UsageError."""
    known, is_fleet = fleets.find(path), fleets.file_of(path) is not None
    found = asyncio.run(_phones(known, start=_starts(known, is_fleet)))
    return Here((*known, *found.devices), found.notes)


def _starts(known: Sequence[Device], is_fleet: bool) -> bool:
    """Whether an adb server is started: not for a fleet without phones. One that runs is asked in any case."""
    return not is_fleet or any(device.connect == "adb" and not device.adb_server for device in known)


async def _phones(known: Sequence[Device], *, start: bool) -> Here:
    """Phones on this machine's adb server that are none of these devices."""
    server = adb_server.server_of("")
    if not start and not await adb_server.answers(server):
        return Here(())
    try:
        listed = await adb_server.phones(server)
    except DeviceError as error:
        return Here((), (f"{error.text} ({error.hint})",))
    return named(listed, known, server)


def named(listed: Sequence[Phone], known: Sequence[Device], server: Server) -> Here:
    """Devices for phones that are none of the known ones, and why the others are none that can be used."""
    own = [device for device in known if device.connect == "adb" and _is_of(device, server)]
    serials = {device.serial for device in own}
    # A device without a serial is the only phone that can be used, else the only one, whichever that is.
    likely = [phone for phone in listed if phone.state == adb_phone.USABLE] or listed
    if "" in serials and len(likely) == 1:
        serials.add(likely[0].serial)
    strange = [phone for phone in listed if phone.serial not in serials]
    usable = [phone for phone in strange if phone.state == adb_phone.USABLE]
    short = Counter(map(_name, usable))
    taken = {device.name for device in known}
    devices = []
    for phone in usable:
        name = _name(phone)
        if short[name] > 1 or name in taken:
            name = _name(phone, whole=True)
        devices.append(Device(name, "adb", serial=phone.serial))
    unusable = [phone for phone in strange if phone.state != adb_phone.USABLE]
    return Here(tuple(devices), tuple(map(_note, unusable)), tuple(phone.serial for phone in unusable))


def _is_of(device: Device, server: Server) -> bool:
    """Whether it is the same server, by whichever name the device has it."""
    its = adb_server.server_of(device.adb_server)
    return its.port == server.port and (its.host == server.host or {its.host, server.host} <= _LOOPBACK)


def _note(phone: Phone) -> str:
    text, hint, _ = adb_phone.why_not(phone)
    return f"phone {phone.serial}: {text} ({hint})"


def _name(phone: Phone, *, whole: bool = False) -> str:
    """ "pixel-8-j001": what it is and the end of its serial number, as a device's name in a fleet may be."""
    model = re.sub(r"[^a-z0-9]+", "-", phone.model.lower()).strip("-") or "phone"
    return f"{model}-{_tail(phone.serial, 0 if whole else _TAIL)}"


def _tail(serial: str, length: int = _TAIL) -> str:
    """Its last letters and digits; 0: all of them."""
    return re.sub(r"[^A-Za-z0-9]", "", serial)[-length:].lower()
