"""The adb server that phones hang on: this machine's, or a lab host's. Which phones it has, and in what state.

The `adb` binary starts the server and copies; what it answers is asked for through adbutils. Its calls block, so they
are made in threads of their own: a phone that hangs holds up none of the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from rtfleet.errors import DeviceError, UsageError
from rtfleet.transports import Ran, command

if TYPE_CHECKING:
    from adbutils import AdbClient

DEFAULT_PORT = 5037
ANSWER_TIMEOUT_S = 10.0
# The binary that adbutils brings takes 3 s to start for the first time.
START_TIMEOUT_S = 30.0
_THREADS = 64

T = TypeVar("T")
_threads = ThreadPoolExecutor(_THREADS, "adb")


@dataclass(frozen=True)
class Server:
    """An adb server. `is_here`: on this machine, where it is started if it does not run.

    One that a fleet names is not: `localhost` may be a tunnel, and starting one there would end one of another version.
    """

    host: str
    port: int
    is_here: bool

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def client(self) -> AdbClient:
        """adbutils' way to it."""
        from adbutils import AdbClient

        return AdbClient(self.host, self.port, ANSWER_TIMEOUT_S)

    @property
    def words(self) -> tuple[str, ...]:
        """What makes the `adb` binary speak to it. `-H` would be a remote server to it, which it never starts."""
        return ("-P", str(self.port)) if self.is_here else ("-H", self.host, "-P", str(self.port))


@dataclass(frozen=True)
class Phone:
    """A phone that the server lists.

    Attributes:
        state: "device" is one that can be used.
        model: "Pixel_8"; "" where adb does not know it yet.
    """

    serial: str
    state: str
    model: str = ""


def server_of(adb_server: str) -> Server:
    """The server of a fleet's `adb_server`, "host:port"; of adb's own variables, or the usual one, for "".

    Raises:
        UsageError: one of those variables names no port.
    """
    if adb_server:
        host, _, port = adb_server.rpartition(":") if re.search(r":\d+$", adb_server) else (adb_server, "", "")
        return Server(host.strip("[]"), int(port or DEFAULT_PORT), is_here=False)
    named = re.fullmatch(r"tcp:(?:(.+):)?(\d+)", os.environ.get("ADB_SERVER_SOCKET", ""))
    if named:
        host = named[1] or "localhost"
        port_there = _port("ADB_SERVER_SOCKET", named[2])
        return Server("127.0.0.1" if host == "localhost" else host, port_there, is_here=host == "localhost")
    variable = "ANDROID_ADB_SERVER_PORT"
    return Server("127.0.0.1", _port(variable, os.environ.get(variable) or str(DEFAULT_PORT)), is_here=True)


def _port(variable: str, text: str) -> int:
    if not re.fullmatch(r"\d{1,5}", text) or not 0 < int(text) <= 65_535:
        raise UsageError(f"${variable}: {text!r} is no port", f"unset {variable}, or let it be what adb's server has")
    return int(text)


async def in_thread(call: Callable[[], T]) -> T:
    """What a call of adbutils returns."""
    return await asyncio.get_running_loop().run_in_executor(_threads, call)


async def adb(server: Server, *words: str, timeout_s: float = ANSWER_TIMEOUT_S) -> Ran:
    """Run the `adb` binary to its end: the system's, else the one that adbutils brings.

    Raises:
        DeviceError: there is none, or it gave no answer in time.
    """
    import adbutils

    try:
        return await command.run((adbutils.adb_path(), *server.words, *words), timeout_s)
    except TimeoutError:
        raise DeviceError(
            f"`adb {' '.join(words)}` gave no answer within {timeout_s:.0f} s", "adb kill-server, then again"
        ) from None
    except (OSError, adbutils.AdbError) as error:
        raise DeviceError(
            f"this machine has no `adb` command that can be run ({error})",
            "install Android's platform tools (Debian and Ubuntu: apt install adb; macOS: brew install "
            "android-platform-tools)",
            kind="NO_ADB_SERVER",
            retryable=False,
        ) from None


async def phones(server: Server) -> tuple[Phone, ...]:
    """All that the server lists, whatever their state. A server of this machine is started if it does not run.

    Raises:
        DeviceError: there is no adb, or the server can't be reached.
    """
    await _reach(server)
    from adbutils import AdbError

    try:
        listed = await in_thread(lambda: server.client.list(extended=True))
    except (AdbError, OSError, ValueError) as error:
        raise _unreachable(server, str(error)) from None
    return tuple(Phone(one.serial, one.state, one.tags.get("model", "")) for one in listed)


async def tracked(server: Server) -> AsyncGenerator[tuple[Phone, ...]]:
    """All that a running server lists, now and whenever that changes.

    Not adbutils' way: that blocks a thread, which would hold up a host that is interrupted.

    Raises:
        OSError, EOFError: it does not run (any more).
    """
    words = b"host:track-devices"
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        writer.write(b"%04x%s" % (len(words), words))
        if await reader.readexactly(4) != b"OKAY":
            return
        while True:
            size_bytes = int(await reader.readexactly(4), 16)
            lines = (await reader.readexactly(size_bytes)).decode(errors="replace").splitlines()
            yield tuple(Phone(serial, state) for serial, _, state in (line.partition("\t") for line in lines))
    finally:
        writer.close()


async def _reach(server: Server) -> None:
    if server.is_here:
        try:
            started = await adb(server, "start-server", timeout_s=START_TIMEOUT_S)
        except DeviceError as error:
            raise DeviceError(error.text, error.hint, "NO_ADB_SERVER", error.retryable) from None
        if started.code:
            raise _unreachable(server, (started.stderr.strip().splitlines() or ["it said nothing"])[-1])
        return
    # adbutils would start a server here where it does not reach the one there.
    try:
        await _dial(server)
    except (OSError, TimeoutError) as error:
        raise _unreachable(server, str(error) or "no answer in time") from None


async def answers(server: Server) -> bool:
    """Whether it runs; it is not started."""
    try:
        await _dial(server)
    except (OSError, TimeoutError):
        return False
    return True


async def _dial(server: Server) -> None:
    _, writer = await asyncio.wait_for(asyncio.open_connection(server.host, server.port), ANSWER_TIMEOUT_S)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def _unreachable(server: Server, words: str) -> DeviceError:
    hint = "see what it says: adb start-server" if server.is_here else "on that machine: adb -a nodaemon server start"
    return DeviceError(f"the adb server {server} can't be reached ({words})", hint, kind="NO_ADB_SERVER")
