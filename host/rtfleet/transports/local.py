"""An agent on this machine, started for one run and ended with it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from rtfleet.errors import DeviceError, LeaseHeld
from rtfleet.transports import Link

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
DEVICE_HELD_EXIT_CODE = 4


def store_of(cache: Path, emulated_as: str) -> Path:
    """The local agent's file store; it outlives the run, so that an unchanged suite pushes nothing."""
    return cache / "agents" / (emulated_as or "this-device")


@contextlib.asynccontextmanager
async def connect(device: str, store: Path, emulated_as: str = "") -> AsyncIterator[Link]:
    """An agent of this very Python on loopback. It ends with this block, and with this process however that ends.

    Args:
        device: The device's alias, for messages.
        store: Folder of the agent's files.
        emulated_as: The agent stands for another device of this name, with its own identity and lock.

    Raises:
        LeaseHeld: another agent already serves this machine; the text says which.
        DeviceError: the agent did not start; the text has its last words.
    """
    token = secrets.token_hex(32)
    arguments = ["serve", "--port", "0", "--store", str(store), "--token-stdin", "--exit-on-eof"]
    arguments += ["--as", emulated_as] if emulated_as else []
    store.mkdir(parents=True, exist_ok=True)
    log_path = store / "agent.log"
    with log_path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "rtfleet_agent",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            # Ctrl-C is the host's to handle: it cancels the launch and then ends the agent.
            start_new_session=True,
            # What gRPC says belongs into the agent's log, though not onto the host's screen.
            env={**os.environ, "ORT_DISABLE_TELEMETRY": "1", "GRPC_VERBOSITY": "ERROR"},
        )
    assert process.stdin and process.stdout
    try:
        process.stdin.write(f"{token}\n".encode())
        try:
            line = await asyncio.wait_for(process.stdout.readline(), START_TIMEOUT_S)
        except TimeoutError:
            line = b""
        if not line:
            raise await _start_error(device, process, log_path)
        yield Link(json.loads(line)["address"], token, is_host=True)
    finally:
        await _stop(process)


async def _start_error(device: str, process: asyncio.subprocess.Process, log_path: Path) -> DeviceError:
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(process.wait(), 1.0)
    words = log_path.read_text(errors="replace").strip() or "it said nothing"
    if process.returncode == DEVICE_HELD_EXIT_CODE:
        return LeaseHeld(f"device '{device}': {words}", "wait until the other run has ended", "LEASE")
    return DeviceError(
        f"device '{device}': the agent on this machine did not start: {words.splitlines()[-1]}",
        f"its whole output is in {log_path}",
    )


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.stdin:
        process.stdin.close()
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()
