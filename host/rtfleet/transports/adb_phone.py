"""Which phone a device of the fleet is, and what to do where it is none that can be used."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Sequence

from rtfleet.errors import DeviceError
from rtfleet.fleet import Device
from rtfleet.transports import adb_server
from rtfleet.transports.adb_line import Line
from rtfleet.transports.adb_server import Phone, Server

USABLE = "device"
# A phone that was just plugged in, or connected, is not there at once.
_SETTLES_S = 5.0
_LOOK_S = 0.2
# Then the server is dialled again: one whose machine was switched off tells nothing, not even that.
_TRACKED_S = 10.0
_NETWORK = re.compile(r".+:\d+")
# adb's word for a state -> what it means, what to do, and whether trying again may help.
_MEANINGS = {
    "unauthorized": (
        "it does not trust this computer yet",
        "unlock it and accept the dialog 'Allow USB debugging?'; where none comes, revoke the authorisations in its "
        "developer options and plug it in again",
        True,
    ),
    "offline": (
        "it is offline: plugged in, and it does not answer",
        "unplug it and plug it in again, or restart it; where that does not help: adb kill-server",
        True,
    ),
    "recovery": ("it is in recovery mode", "restart it into Android: adb reboot", True),
    "rescue": ("it is in rescue mode", "restart it into Android: adb reboot", True),
    "sideload": ("it waits for an update to be sideloaded", "restart it into Android: adb reboot", True),
    "bootloader": ("it is in its bootloader", "restart it into Android: fastboot reboot", True),
    "no": (
        "this user may not use its USB device (no permissions)",
        "udev rules for it: apt install android-sdk-platform-tools-common, then plug it in again",
        False,
    ),
}
_PASSING = ("authorizing", "connecting", "offline")


def why_not(phone: Phone) -> tuple[str, str, bool]:
    """Why a phone can't be used, what to do, and whether trying again may help."""
    return _MEANINGS.get(phone.state, (f"its state is '{phone.state}'", "see what adb devices says", True))


async def found(device: Device) -> Line:
    """The phone that a device of the fleet names, when it can be used.

    Raises:
        DeviceError: there is no adb, no such phone, more than one, or one that can't be used; the text says which.
    """
    server = adb_server.server_of(device.adb_server)
    try:
        listed = await adb_server.phones(server)
        phone = chosen(device, server, listed)
        if phone is None:
            phone = await _connected(server, device.serial)
        if phone.state in _PASSING:
            phone = await _settled(server, phone)
    except DeviceError as error:
        raise DeviceError(f"device '{device.name}': {error.text}", error.hint, error.kind, error.retryable) from None
    line = Line(device.name, server, phone.serial)
    if phone.state != USABLE:
        text, hint, again = why_not(phone)
        raise line.error(text, hint, retryable=again)
    return line


def chosen(device: Device, server: Server, listed: Sequence[Phone]) -> Phone | None:
    """The phone; None: it is to be connected first. Raises DeviceError."""
    there = ", ".join(f"{phone.serial} ({phone.state})" for phone in listed)
    if device.serial:
        phone = next((one for one in listed if one.serial == device.serial), None)
        if phone is not None or _NETWORK.fullmatch(device.serial):
            return phone
        raise DeviceError(
            f"phone {device.serial} is not plugged in; the adb server {server} has {there or 'none at all'}",
            "plug it in and switch on USB debugging in its developer options; adb devices lists serial numbers",
        )
    if not listed:
        raise DeviceError(
            f"the adb server {server} has no phone",
            "plug one in, switch on USB debugging in its developer options, and try another cable if it does not show",
        )
    usable = [phone for phone in listed if phone.state == USABLE]
    if len(usable) > 1:
        raise DeviceError(
            f"there are {len(usable)} phones and the device has no serial: {there}",
            "name one in fleet.toml: serial = ",
            retryable=False,
        )
    return usable[0] if usable else listed[0]


async def plugged_in(device: Device, within_s: float) -> bool:
    """Wait a while for a phone that is unplugged, or not allowed yet; False where nothing is to be waited for so."""
    if _NETWORK.fullmatch(device.serial):
        return False  # a server knows of it only what a new `adb connect` finds

    def states_in(listed: Sequence[Phone]) -> set[str]:
        return {phone.state for phone in listed if phone.serial == device.serial or not device.serial}

    first: set[str] | None = None
    changes = adb_server.tracked(adb_server.server_of(device.adb_server))
    try:
        async with asyncio.timeout(min(within_s, _TRACKED_S)), contextlib.aclosing(changes):
            async for listed in changes:
                states = states_in(listed)
                first = states if first is None else first
                if USABLE in first:
                    return False  # it is something else that is wrong
                if states and states != first:
                    return True
    except TimeoutError:
        return True
    except (OSError, EOFError, ValueError):
        pass
    return False


async def _connected(server: Server, serial: str) -> Phone:
    """A phone on the network, at "host:port"."""
    said = (await adb_server.adb(server, "connect", serial, timeout_s=adb_server.START_TIMEOUT_S)).stdout.strip()
    phone = await _settled(server, Phone(serial, "absent"))
    if phone.state == "absent":
        raise DeviceError(
            f"phone {serial} can't be connected to ({said or 'adb says nothing'})",
            "see whether wireless debugging is on; Android 11 and newer must be paired once: adb pair",
        )
    return phone


async def _settled(server: Server, phone: Phone) -> Phone:
    """The phone when its state is more than a passing one, or has lasted."""
    clock = asyncio.get_running_loop().time
    until_s = clock() + _SETTLES_S
    tried_again = False
    while True:
        listed = await adb_server.phones(server)
        phone = next((one for one in listed if one.serial == phone.serial), Phone(phone.serial, "absent"))
        if phone.state not in (*_PASSING, "absent") or clock() > until_s:
            return phone
        if phone.state == "offline" and not tried_again and _NETWORK.fullmatch(phone.serial):
            # adb takes a phone that was restarted for one that is connected.
            await adb_server.adb(server, "disconnect", phone.serial)
            await adb_server.adb(server, "connect", phone.serial, timeout_s=adb_server.START_TIMEOUT_S)
            tried_again = True
        await asyncio.sleep(_LOOK_S)
