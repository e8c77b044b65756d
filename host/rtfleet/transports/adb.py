"""Stock Android phones over adb: an agent that is brought along, started there for a run, and gone after it.

All of it lies in one folder of the phone: bundles by the hash of their content, each copied once; what the agent keeps;
and a note, for nobody but the shell's user, of where the agent listens. Two hosts share the agent; its lease says whose
turn it is, and whoever leaves last ends it. It ends by itself a minute after the last of them is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from rtfleet import bundle
from rtfleet.bundle import Bundle
from rtfleet.errors import DeviceError, LeaseHeld, UsageError
from rtfleet.fleet import Device
from rtfleet.transports import Link, adb_phone, adb_scripts, linger_s, no_room
from rtfleet.transports.adb_line import Line
from rtfleet.transports.adb_scripts import Agent, Seen, Started
from rtfleet.transports.local import DEVICE_HELD_EXIT_CODE

START_TIMEOUT_S = 120.0
AGENT = "the agent"
# Of the kernel, in a shell's exit code: a signal that ended the agent is added to 128.
_SIGSYS, _SIGKILL = 128 + 31, 128 + 9
_COPY_TIMEOUT_S = 600.0
# To see an agent end, which takes it a second or two, or a copy be removed. That comes about as well where nobody
# looks, and a host that is interrupted is not held up by a phone that hangs.
_STOP_TIMEOUT_S = 10.0
# Where an agent can't even write down what is wrong, nothing is started.
ROOM_BYTES = 10_000_000


@contextlib.asynccontextmanager
async def connect(device: Device, cache: Path) -> AsyncIterator[Link]:
    """An agent on the phone: the one that serves it already, or one that ends with this block.

    Raises:
        LeaseHeld: an agent of another version measures on it.
        DeviceError: there is no adb, no such phone, or the phone does not let an agent run; the text says which.
    """
    line = await adb_phone.found(device)
    seen = await look(line)
    brought = await bundle_for(line, seen, cache)
    clock = asyncio.get_running_loop().time
    began_s = clock()
    brought_bytes = await bring(line, brought, seen)
    if not brought_bytes and seen.agent is None:
        _check_room(line, seen.free_bytes, ROOM_BYTES)
    brought_s = clock() - began_s
    agent = await _agent(line, brought)
    try:
        async with line.tunnel(agent.port) as address:
            yield Link(address, agent.token, brought_bytes=brought_bytes, brought_s=brought_s)
    finally:
        # Where the phone is gone, the agent ends by itself.
        with contextlib.suppress(DeviceError):
            await line.run(adb_scripts.stop(agent), _STOP_TIMEOUT_S)


async def look(line: Line) -> Seen:
    """What the host asks a phone before an agent runs there. Raises DeviceError."""
    seen = adb_scripts.seen((await line.run(adb_scripts.LOOK)).stdout)
    if seen.sdk and seen.sdk < adb_scripts.OLDEST_SDK:
        raise line.error(
            f"its Android is too old: API level {seen.sdk}, and rtfleet needs {adb_scripts.OLDEST_SDK} (Android 7)",
            "take another phone",
        )
    if not seen.arch:
        raise line.error(
            f"it is 32-bit only ({', '.join(seen.abis) or 'it names no ABI'}), and rtfleet needs a 64-bit system",
            "take another phone: some have a 64-bit processor and a 32-bit Android all the same",
        )
    return seen


async def bundle_for(line: Line, seen: Seen, cache: Path) -> Bundle:
    """The agent for this phone, with every runtime. Raises DeviceError."""
    try:
        return await asyncio.to_thread(bundle.ensure, seen.arch, bundle.RUNTIMES, cache)
    except UsageError as error:
        raise line.error(error.text, error.hint) from None


async def bring(line: Line, brought: Bundle, seen: Seen) -> int:
    """Have a bundle there, and whole; the bytes that were copied. Raises DeviceError.

    A phone that lost its power keeps what was copied last with files that are cut short, and no agent of it would
    ever start, or one that measures but can't load its runtime.
    """
    if brought.name in seen.bundles:
        serves = seen.agent is not None and seen.agent.bundle == brought.name
        if serves or await _is_whole(line, brought):
            return 0
        await line.run(adb_scripts.forget(brought.name))
        seen = await look(line)
    return await copy(line, brought, seen)


async def _is_whole(line: Line, brought: Bundle) -> bool:
    told = await line.run(adb_scripts.sizes(brought.name))
    if told.code:
        return True  # a phone without `find` or `stat` is believed
    there = {
        path.removeprefix("./"): size for size, _, path in (text.partition(" ") for text in told.stdout.splitlines())
    }
    return all(there.get(file.path) == str(file.size_bytes) for file in brought.files)


async def copy(line: Line, brought: Bundle, seen: Seen) -> int:
    """Bring a bundle there, checked file by file; the bytes of it. Old ones make room for it where there is none.

    Raises:
        DeviceError: there is no room, or the phone is gone.
    """
    free_bytes = seen.free_bytes
    if free_bytes is not None and free_bytes < brought.size_bytes and seen.agent is None:
        await line.run(adb_scripts.FORGET_BUNDLES)
        free_bytes = (await look(line)).free_bytes
    _check_room(line, free_bytes, brought.size_bytes)
    part = (await line.run(adb_scripts.MAKE_PART)).stdout.strip()
    if not part.startswith(adb_scripts.FOLDER):
        raise line.error(f"nothing can be written to {adb_scripts.FOLDER}", "free some space on it", kind="NO_DISK")
    try:
        with tempfile.TemporaryDirectory(prefix="rtfleet-sums-") as folder:
            sums = Path(folder) / "sums"
            sums.write_text("".join(f"{file.sha256}  {file.path}\n" for file in brought.files))
            await line.push(brought.folder, sums, size_bytes=brought.size_bytes, to=part)
        kept = await line.run(adb_scripts.keep(part, brought.name), _COPY_TIMEOUT_S)
    finally:
        with contextlib.suppress(DeviceError):
            await line.run(f"rm -rf {part}", _STOP_TIMEOUT_S)
    if kept.code:
        said = (kept.stderr.strip() or kept.stdout.strip() or f"exit code {kept.code}").splitlines()[-1]
        raise line.error(f"what was copied there is not what was sent: {said}", "try again", retryable=True)
    return brought.size_bytes


def _check_room(line: Line, free_bytes: int | None, need_bytes: int) -> None:
    """Raises DeviceError where there is less."""
    if free_bytes is not None and free_bytes < need_bytes:
        raise line.error(no_room(need_bytes, free_bytes), "free some space on it", kind="NO_DISK")


# ---- the agent there -----------------------------------------------------------------------------------------------


async def _agent(line: Line, brought: Bundle) -> Agent:
    """The agent that serves the phone: the one that does, or a new one."""
    # Asked again: bundles take a while to be made and copied, and agents come and go meanwhile.
    running = await listening(line)
    if running is not None and running.bundle != brought.name:
        # Nobody's turn: it makes room. Else it stays until it is, and so does its device's lock.
        await line.run(adb_scripts.stop(running))
        running = await listening(line)
    agent = running or await started(line, brought)
    if agent.bundle != brought.name:
        who = await holder(line, agent)
        raise LeaseHeld(
            f"device '{line.device}': another version of rtfleet measures on it{who and f': {who}'}",
            "wait until that run has ended",
            "LEASE",
        )
    return agent


async def listening(line: Line) -> Agent | None:
    """The agent that runs there now. Raises DeviceError."""
    return adb_scripts.agent_of((await line.run(adb_scripts.LISTENING)).stdout)


async def started(line: Line, brought: Bundle) -> Agent:
    """A new agent that listens; or that of another host, which was quicker.

    Raises:
        LeaseHeld: an agent out of another folder serves the phone.
        DeviceError: it did not start; the text says why.
    """
    clock = asyncio.get_running_loop().time
    until_s = clock() + START_TIMEOUT_S
    told = adb_scripts.started((await line.run(adb_scripts.start(brought.name, linger_s()))).stdout)
    while told.agent is None and told.code is None:
        if clock() > until_s:
            raise line.error(f"the agent did not start within {START_TIMEOUT_S:.0f} s", "see what keeps it busy")
        told = adb_scripts.started((await line.run(adb_scripts.wait(told.pid))).stdout)
    if told.agent is not None:
        return told.agent
    raise start_error(line, told)


def start_error(line: Line, told: Started, what: str = AGENT) -> DeviceError:
    """Why an agent, or something else of its bundle, did not run."""
    lines = [text for text in told.words.splitlines() if text.strip()]
    last = lines[-1] if lines else "it said nothing"
    code = told.code or 0
    if code == DEVICE_HELD_EXIT_CODE:
        return LeaseHeld(f"device '{line.device}': {last}", "wait until the other run has ended", "LEASE")
    if code == _SIGSYS or "Bad system call" in told.words:
        return line.error(
            f"it forbids a system call that {what} needs ({last}): seccomp, exit code {code}",
            "rtfleet works from adb's shell only; a phone that filters even there can't be used",
        )
    if code == _SIGKILL:
        return line.error(
            f"it killed {what} while it started ({last})",
            "free some memory: close apps, or restart it; adb logcat says who killed it",
            retryable=True,
        )
    # Python's word for a file; of what may not be executed, the shell and the loader tell otherwise.
    if "[Errno 13] Permission denied" in last:
        return line.error(
            f"{what} may not use what lies in {adb_scripts.FOLDER} ({last})",
            f"it belongs to another user, of a root shell perhaps: adb root, adb shell rm -r {adb_scripts.FOLDER}, "
            "adb unroot; it is copied anew",
        )
    if code == 126 or "Permission denied" in told.words:
        return line.error(
            f"it refuses to execute what lies in {adb_scripts.FOLDER} ({last}): SELinux, or a folder without exec",
            "adb logcat -d | grep avc says what was denied; a work profile or a maker's lock can be the cause",
        )
    if code == 127 or "not found" in told.words:
        return line.error(
            f"the agent's loader is missing there ({last})", f"adb shell rm -r {adb_scripts.FOLDER}; it is copied anew"
        )
    if "No space left" in told.words:
        return line.error(f"{what} did not start: {last}", "free some space on it", kind="NO_DISK")
    return line.error(
        f"{what} ended while it started, exit code {code}: {last}",
        f"its whole output: adb -s {line.serial} shell cat {adb_scripts.LOG}"
        if what == AGENT
        else f"adb -s {line.serial} shell rm -r {adb_scripts.FOLDER}; it is copied anew",
        retryable=True,
    )


async def holder(line: Line, agent: Agent) -> str:
    """Who has the lease of an agent; "" where nobody has it, or it does not say."""
    from rtfleet.client import AgentClient

    try:
        async with line.tunnel(agent.port) as address, AgentClient(Link(address, agent.token), line.device) as client:
            return (await client.describe()).lease_holder
    except DeviceError:
        return ""
