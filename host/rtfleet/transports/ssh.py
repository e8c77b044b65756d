"""Boards and Macs over ssh: an agent that is started there for one run, reached through a tunnel, and ended with it.

The agent comes as a bundle that is copied once per version, or is that of a Python environment on the device
(`python` in fleet.toml). It listens on the device's own loopback only, and ends when the connection does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import shlex
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

from rtfleet import bundle
from rtfleet.bundle import Bundle
from rtfleet.errors import DeviceError, LeaseHeld, UsageError
from rtfleet.fleet import Device
from rtfleet.transports import Link, linger_s, no_room, ssh_line
from rtfleet.transports.local import DEVICE_HELD_EXIT_CODE
from rtfleet.transports.ssh_line import Line

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 15.0

# `uname -sm` of what a bundle can be made for.
_BUNDLES = {
    "Linux aarch64": "arm64",
    "Linux arm64": "arm64",
    "Linux x86_64": "x86_64",
}
_BUNDLES_THERE = '"$HOME/.cache/rtfleet/bundles"'
# Whole or not there: it is unpacked under another name. A copy that another host made meanwhile is the same.
_UNPACK = """set -e
place={place}
mkdir -p "$place"
# What a board that lost its power in the middle of a copy kept of it.
find "$place" -maxdepth 1 -name '.part-*' -mtime +0 -exec rm -rf {{}} +
part=$(mktemp -d "$place/.part-XXXXXX")
trap 'rm -rf "$part"' EXIT
tar -xof - -C "$part"
[ -d "$place/{name}" ] || mv "$part" "$place/{name}"
# Into the other's, where that was there a moment earlier.
rm -rf "$place/{name}/${{part##*/}}"
"""
# Unless an agent runs from one of them: another host's, or a standing one. The brackets keep grep from finding itself.
_FORGET_BUNDLES = """place=$(cd {place} && pwd -P) || exit 0
cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -q "$place/[r]tfleet-agent-" ||
    rm -rf "$place"/rtfleet-agent-*
"""


@contextlib.asynccontextmanager
async def connect(device: Device, destination: str, cache: Path) -> AsyncIterator[Link]:
    """An agent on the device, until this block ends or the connection breaks.

    Args:
        destination: "user@host", "user@host:port", or a Host of ~/.ssh/config.
        cache: For bundles, and for what the agent says.

    Raises:
        LeaseHeld: another agent already serves the device; the text says which.
        DeviceError: ssh did not get there, or the agent did not start; the text says why.
    """
    async with ssh_line.opened(device.name, destination) as line:
        program = _named(device.python) if device.python else await bundled(line, cache)
        token = secrets.token_hex(32)
        async with _agent(line, program, token, cache / "agents" / f"{device.name}.log") as port:
            yield Link(await line.forward(port), token)


# ---- which agent ---------------------------------------------------------------------------------------------------


def _named(python: str) -> str:
    """A Python of the device, as a shell's word; `~` is the home there."""
    if python.startswith("~/"):
        return f'"$HOME"/{shlex.quote(python[2:])}'
    return shlex.quote(python)


async def bundled(line: Line, cache: Path) -> str:
    """The launcher there of a bundle with every runtime, as a shell's word; it is copied once per version.

    Raises:
        DeviceError: no bundle can be made for the device, or it does not get there.
    """
    ran = await line.run("uname -sm")
    system = ran.stdout.strip()
    if system not in _BUNDLES:
        raise line.error(
            f"it is {system or 'no Unix'}, and rtfleet brings its own Python to 64-bit Linux only",
            "there: python3 -m venv ~/rtfleet && ~/rtfleet/bin/pip install 'rtfleet[onnxruntime,litert]'; "
            'then in fleet.toml: python = "~/rtfleet/bin/python"',
        )
    try:
        brought = await asyncio.to_thread(bundle.ensure, _BUNDLES[system], bundle.RUNTIMES, cache)
    except UsageError as error:
        raise line.error(error.text, error.hint) from None
    launcher = f"{_BUNDLES_THERE}/{brought.name}/run"
    if (await line.run(f"test -x {launcher}")).code != 0:
        await copy(line, brought)
    return launcher


async def copy(line: Line, brought: Bundle) -> None:
    """Unpack a bundle on the device. Old ones make room for it where there is none.

    Raises:
        DeviceError: there is no room, or nowhere to put it.
    """
    free_bytes = await _free_bytes(line)
    if free_bytes is not None and free_bytes < brought.size_bytes:
        await line.run(_FORGET_BUNDLES.format(place=_BUNDLES_THERE))
        free_bytes = await _free_bytes(line)
    if free_bytes is not None and free_bytes < brought.size_bytes:
        raise line.error(no_room(brought.size_bytes, free_bytes), "free some space in its ~/.cache", kind="NO_DISK")
    read, write = os.pipe()
    packing = asyncio.create_task(asyncio.to_thread(_pack, brought, write))
    try:
        ran = await line.run(_UNPACK.format(place=_BUNDLES_THERE, name=brought.name), stdin=read)
    finally:
        # Whoever still writes then learns that nobody reads.
        os.close(read)
        await packing
    if ran.code:
        first = (ran.stderr.strip().splitlines() or ["it said nothing"])[0]
        raise line.error(f"the agent can't be copied there: {first}", "has its ~/.cache room, and can it be written?")


async def _free_bytes(line: Line) -> int | None:
    """Where bundles lie; None where it does not tell."""
    found = re.search(r"(\d+) +\d+% +/", (await line.run('df -Pk "$HOME"')).stdout)
    return int(found[1]) * 1024 if found else None


def _pack(brought: Bundle, descriptor: int) -> None:
    # What broke the pipe is told by the other side.
    with (
        contextlib.suppress(BrokenPipeError),
        open(descriptor, "wb") as pipe,
        tarfile.open(fileobj=pipe, mode="w|") as archive,
    ):
        for file in brought.files:
            archive.add(brought.folder / file.path, file.path)


# ---- the agent there -----------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _agent(line: Line, program: str, token: str, log_path: Path) -> AsyncIterator[int]:
    """A running agent; its port on the device's loopback."""
    log_path.parent.mkdir(parents=True, exist_ok=True)
    # Its input ends with the line, which a host that vanished leaves half open for hours.
    serve = f"exec {program} -m rtfleet_agent serve --port 0 --token-stdin --exit-on-eof --linger-s {linger_s():g}"
    with log_path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *line.command(serve),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    assert process.stdin and process.stdout
    try:
        process.stdin.write(f"{token}\n".encode())
        try:
            told = await asyncio.wait_for(process.stdout.readline(), START_TIMEOUT_S)
        except TimeoutError:
            told = b""
        if not told:
            raise await _start_error(line, process, program, log_path)
        yield int(json.loads(told)["address"].rpartition(":")[2])
    finally:
        # It stops by itself when its standard input ends, also where the line was cut.
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _start_error(line: Line, process: asyncio.subprocess.Process, program: str, log_path: Path) -> DeviceError:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), 1.0)
    words = log_path.read_text(errors="replace").strip() or "it said nothing"
    last = words.splitlines()[-1]
    if process.returncode == DEVICE_HELD_EXIT_CODE:
        return LeaseHeld(f"device '{line.device}': {words}", "wait until the other run has ended", "LEASE")
    if process.returncode == ssh_line.SSH_FAILED:
        return line.failure(words)
    if process.returncode in (126, 127):
        return line.error(f"there is no Python to start at {program} ({last})", "see `python` in fleet.toml")
    if "No module named rtfleet_agent" in words:
        return line.error(
            f"the Python {program} there has no rtfleet agent",
            f"there: {program} -m pip install 'rtfleet[onnxruntime,litert]'",
        )
    if "No space left" in words:
        return line.error(f"the agent did not start: {last}", "free some space there", kind="NO_DISK")
    return line.error(f"the agent did not start: {last}", f"its whole output is in {log_path}", retryable=True)
