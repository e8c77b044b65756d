"""What it takes to run an agent on a phone, step by step: the first one that fails says what is wrong with it."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

from rtfleet.client import AgentClient
from rtfleet.errors import DeviceError
from rtfleet.fleet import Device
from rtfleet.records import DeviceFacts
from rtfleet.transports import adb, adb_phone, adb_scripts, adb_server
from rtfleet.transports.adb_line import Line

# Each is what an agent does before its next one can work. On a phone all of it is Linux's, none of it Android's own.
PROGRAMS = {
    "Python": "print('it computes:', 2 + 2)",
    "threads": "import threading; t = threading.Thread(target=print, args=('a thread ran',)); t.start(); t.join()",
    "sockets": "import socket; s = socket.create_server(('127.0.0.1', 0)); print('port', s.getsockname()[1])",
    "numpy": "import numpy; print(numpy.__version__, numpy.ones((64, 64)).dot(numpy.ones((64, 64))).sum())",
    "gRPC": "import grpc; print(grpc.__version__)",
    "onnxruntime": "import onnxruntime; print(onnxruntime.__version__)",
    "litert": "from ai_edge_litert import interpreter; print('its interpreter can be loaded')",
}
STEPS = (
    *("adb", "adb server", "phone", "authorised", "64-bit", "Android", "free space", "agent's files"),
    *(*PROGRAMS, "agent", "its answer"),
)
# Under an emulator the first import of a runtime takes 10 s.
_PROGRAM_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Step:
    """What became of a step. `error` is None where it went well, or where it was not tried: `text` tells."""

    subject: str
    text: str
    error: DeviceError | None = None
    tried: bool = True


@dataclass(frozen=True)
class Walked:
    """All steps in order, and what the agent said of the phone if it came to that."""

    steps: tuple[Step, ...]
    facts: DeviceFacts | None


async def walk(device: Device, cache: Path) -> Walked:
    """Take the steps until one fails. An agent that was started for it ends with it."""
    done: list[Step] = []
    facts: DeviceFacts | None = None
    async with contextlib.aclosing(_steps(device, cache)) as going:
        for subject in STEPS:
            try:
                said = await anext(going)
            except DeviceError as error:
                done.append(Step(subject, error.text, error))
                break
            if isinstance(said, DeviceFacts):
                facts, said = said, f"{said.model or 'a phone'}, {said.os_version}"
            done.append(Step(subject, said))
    missed = (Step(subject, "not tried", tried=False) for subject in STEPS[len(done) :])
    return Walked((*done, *missed), facts)


async def _steps(device: Device, cache: Path) -> AsyncGenerator[str | DeviceFacts, None]:
    """One answer a step, in the order of `STEPS`. Raises DeviceError in the step that fails."""
    server = adb_server.server_of(device.adb_server)
    version = (await adb_server.adb(server, "version", timeout_s=adb_server.START_TIMEOUT_S)).stdout
    yield ", ".join(line.strip() for line in version.splitlines() if "ersion" in line or "Installed" in line)
    listed = await adb_server.phones(server)
    yield f"{server} has {len(listed)} phone{'' if len(listed) == 1 else 's'}"
    phone = adb_phone.chosen(device, server, listed)
    yield f"{phone.serial} ({phone.state})" if phone else f"{device.serial} is to be connected to"
    line = await adb_phone.found(device)
    yield f"{line.serial} lets this computer in"
    seen = await adb.look(line)
    yield ", ".join(seen.abis)
    yield f"API level {seen.sdk}"
    yield f"{seen.free_bytes / 1e6:.0f} MB" if seen.free_bytes is not None else "it does not tell"
    brought = await adb.bundle_for(line, seen, cache)
    began_s = asyncio.get_running_loop().time()
    sent_bytes = await adb.bring(line, brought, seen)
    seconds = asyncio.get_running_loop().time() - began_s
    copied = f"{brought.name}: {sent_bytes / 1e6:.0f} MB copied and checked in {seconds:.1f} s"
    yield copied if sent_bytes else f"{brought.name} is there"
    if seen.agent is not None and (holder := await adb.holder(line, seen.agent)):
        raise line.error(f"{holder} measures on it, and would be disturbed", "ask again afterwards", kind="LEASE")
    for subject, program in PROGRAMS.items():
        yield await _said(line, brought.name, subject, program)
    async with adb.connect(device, cache) as link, AgentClient(link, device.name) as client:
        yield "it listens, and is reached through adb"
        yield await client.describe()


async def _said(line: Line, bundle: str, subject: str, program: str) -> str:
    ran = await line.run(adb_scripts.program(bundle, shlex.quote(program)), _PROGRAM_TIMEOUT_S)
    if ran.code:
        words = ran.stderr.strip() or ran.stdout.strip()
        raise adb.start_error(line, adb_scripts.Started(0, None, ran.code, words), what=subject)
    return ran.stdout.strip()
