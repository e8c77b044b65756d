"""A stand-in for a phone's adbd: ADB's wire protocol on a TCP port, its services served by this machine.

It runs inside the emulated phone's own root (`phone.py`), so that paths are the phone's and nothing is translated. The
protocol is that of AOSP's packages/modules/adb (docs/dev: protocol, services, sync; shell_protocol.h). It proves
nothing of SELinux, seccomp, bionic or toybox.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import adbd_services
import adbd_tunnels

VERSION = 0x01000001  # from here on nobody computes checksums
MAX_DATA_BYTES = 1024 * 1024
_HEADER = struct.Struct("<4sIIIII")
SHELL_USER = 2000
AUTH_TOKEN, AUTH_SIGNATURE, AUTH_PUBLIC_KEY = 1, 2, 3


@dataclass
class Phone:
    """What a test may change while the daemon runs.

    Attributes:
        authorized: Whether a host that shows its key is let in; one that waits is let in when this becomes true.
        bytes_per_s: Of the cable, each way; 0 is as fast as it goes.
        plugged: Whether anybody can connect.
    """

    banner: str
    authorized: bool = True
    bytes_per_s: int = 0
    plugged: bool = True
    links: set[Link] = field(default_factory=set)


class Stream:
    """One stream of a link. What arrives is acknowledged when it is taken, which is how ADB holds a sender back."""

    def __init__(self, link: Link, own: int, other: int) -> None:
        self.link, self.own, self.other = link, own, other
        self._arrived: asyncio.Queue[bytes] = asyncio.Queue()
        self._rest = b""
        self.ready = asyncio.Event()
        self.closed = False

    def take_in(self, data: bytes) -> None:
        self._arrived.put_nowait(data)

    async def read(self) -> bytes:
        """What came next; b"" at the end."""
        if self._rest:
            rest, self._rest = self._rest, b""
            return rest
        if self.closed and self._arrived.empty():
            return b""
        data = await self._arrived.get()
        if data and not self.closed:
            await self.link.send(b"OKAY", self.own, self.other)
        return data

    async def exactly(self, count: int) -> bytes:
        """Raises EOFError where the stream ends before."""
        if count == 0:  # an empty file has an empty piece
            return b""
        pieces, have = [], 0
        while have < count:
            piece = await self.read()
            if not piece:
                raise EOFError
            pieces.append(piece)
            have += len(piece)
        whole = b"".join(pieces)
        self._rest = whole[count:]
        return whole[:count]

    async def write(self, data: bytes) -> None:
        """Raises BrokenPipeError once the other side has closed."""
        for at in range(0, len(data), self.link.max_data_bytes):
            await self.ready.wait()
            if self.closed:
                raise BrokenPipeError
            self.ready.clear()
            await self.link.send(b"WRTE", self.own, self.other, data[at : at + self.link.max_data_bytes])

    def end(self) -> None:
        """The other side closed, or the link is gone."""
        self.closed = True
        self._arrived.put_nowait(b"")
        self.ready.set()


class Link:
    """One host's connection."""

    def __init__(self, phone: Phone, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.phone, self._reader, self._writer = phone, reader, writer
        self.max_data_bytes = MAX_DATA_BYTES
        self._streams: dict[int, Stream] = {}
        self._next_id = 1
        self._tasks: set[asyncio.Task[None]] = set()
        self._sending = asyncio.Lock()
        self._waits_for_person = False
        self.reversed: dict[str, tuple[str, asyncio.Server]] = {}

    async def send(self, command: bytes, first: int, second: int, data: bytes = b"") -> None:
        magic = struct.unpack("<I", command)[0] ^ 0xFFFFFFFF
        async with self._sending:
            await self._cable(len(data))
            self._writer.write(_HEADER.pack(command, first, second, len(data), 0, magic))
            self._writer.write(data)
            with contextlib.suppress(ConnectionError):
                await self._writer.drain()

    async def _cable(self, size_bytes: int) -> None:
        if self.phone.bytes_per_s:
            await asyncio.sleep(size_bytes / self.phone.bytes_per_s)

    async def serve(self) -> None:
        self.phone.links.add(self)
        try:
            while True:
                header = await self._reader.readexactly(_HEADER.size)
                command, first, second, length, _, _ = _HEADER.unpack(header)
                data = await self._reader.readexactly(length)
                await self._cable(length)
                await self._take(command, first, second, data)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.close()

    def close(self) -> None:
        self.phone.links.discard(self)
        for stream in self._streams.values():
            stream.end()
        self._streams.clear()
        for _, server in self.reversed.values():
            server.close()
        self._writer.close()

    async def welcome(self) -> None:
        """The host is let in, perhaps after it was kept waiting."""
        await self.send(b"CNXN", VERSION, MAX_DATA_BYTES, self.phone.banner.encode())

    async def allow(self) -> None:
        if self._waits_for_person:
            self._waits_for_person = False
            await self.welcome()

    async def _take(self, command: bytes, first: int, second: int, data: bytes) -> None:
        if command == b"CNXN":
            self.max_data_bytes = min(MAX_DATA_BYTES, second)
            if self.phone.authorized:
                await self.welcome()
            else:
                await self.send(b"AUTH", AUTH_TOKEN, 0, secrets.token_bytes(20))
        elif command == b"AUTH":
            # No key was ever accepted here: a signature is always a stranger's, and a public key is for its owner.
            if first == AUTH_SIGNATURE:
                await self.send(b"AUTH", AUTH_TOKEN, 0, secrets.token_bytes(20))
            elif first == AUTH_PUBLIC_KEY:
                self._waits_for_person = True
                if self.phone.authorized:
                    await self.allow()
        elif command == b"OPEN":
            self._start(Stream(self, self._new_id(), first), data.rstrip(b"\0").decode())
        elif stream := self._streams.get(second):
            if command == b"WRTE":
                stream.take_in(data)
            elif command == b"OKAY":
                stream.other = first
                stream.ready.set()
            elif command == b"CLSE":
                stream.end()
                self._streams.pop(second, None)

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _start(self, stream: Stream, service: str) -> None:
        self._streams[stream.own] = stream
        task = asyncio.get_running_loop().create_task(self._run(stream, service))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, stream: Stream, service: str) -> None:
        serve = service_of(self, service)
        if serve is None:
            await self.send(b"CLSE", 0, stream.other)
            self._streams.pop(stream.own, None)
            return
        await self.send(b"OKAY", stream.own, stream.other)
        stream.ready.set()
        try:
            with contextlib.suppress(EOFError, ConnectionError):
                await serve(stream)
        finally:
            await self._finish(stream)

    async def _finish(self, stream: Stream) -> None:
        self._streams.pop(stream.own, None)
        if not stream.closed:
            await self.send(b"CLSE", stream.own, stream.other)

    async def dial(self, destination: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection on the phone goes to the host: `adb reverse`."""
        stream = Stream(self, self._new_id(), 0)
        self._streams[stream.own] = stream
        await self.send(b"OPEN", stream.own, 0, destination.encode() + b"\0")
        try:
            with contextlib.suppress(ConnectionError):
                await adbd_tunnels.joined(stream, reader, writer)
        finally:
            await self._finish(stream)


Service = Callable[[Stream], Coroutine[Any, Any, None]]


def service_of(link: Link, service: str) -> Service | None:
    """What serves a stream to that destination; None where there is no such service."""
    kind, _, rest = service.partition(":")
    name, *options = kind.split(",")
    if name == "shell" and "v2" in options:
        terminal = "raw" not in options and ("pty" in options or not rest)
        return lambda stream: adbd_services.shell_v2(stream, rest, terminal=terminal)
    if name == "shell":
        return lambda stream: adbd_services.terminal_shell(stream, rest)
    if name == "exec":
        return lambda stream: adbd_services.plain_exec(stream, rest)
    if name == "sync":
        return adbd_services.sync
    if name in ("tcp", "localabstract"):
        return lambda stream: adbd_tunnels.connect(stream, name, rest)
    if name == "reverse":
        return lambda stream: adbd_tunnels.reverse(link, stream, rest)
    return None


# ---- the daemon ----------------------------------------------------------------------------------------------------


async def control(phone: Phone, words: list[str]) -> str:
    """One order of a test's: what was done, or what was asked for."""
    match words:
        case ["unplug"]:
            phone.plugged = False
            for link in list(phone.links):
                link.close()
        case ["plug"]:
            phone.plugged = True
        case ["authorize", yes]:
            phone.authorized = yes == "yes"
            for link in list(phone.links) if phone.authorized else []:
                await link.allow()
        case ["boot", state]:
            phone.banner = f"{state}::{phone.banner.partition('::')[2]}"
            for link in list(phone.links):
                link.close()
        case ["slow", bytes_per_s]:
            phone.bytes_per_s = int(bytes_per_s)
        case ["leave", megabytes]:
            with _as_root():
                _leave(int(megabytes) * 1_000_000)
        case ["noexec", yes]:
            option = "noexec" if yes == "yes" else "exec"
            with _as_root():
                subprocess.run(["mount", "-o", f"remount,bind,{option}", "/data"], check=True)
        case _:
            return f"unknown: {' '.join(words)}"
    return "done"


def _leave(free_bytes: int) -> None:
    """So much room on /data and no more."""
    filling = Path("/data/filling")
    filling.unlink(missing_ok=True)
    while (to_fill := shutil.disk_usage("/data").free - free_bytes) > 0:
        # What runs there writes too, and can have been quicker.
        with filling.open("ab") as file, contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), file.tell(), to_fill)


def _become_shell() -> None:
    """adbd is the shell's user, so all that it starts and writes is. A namespace of one user has no other."""
    if Path("/proc/self/uid_map").read_text().split()[2] != "1":
        os.setgroups([])
        os.setresgid(SHELL_USER, SHELL_USER, 0)
        os.setresuid(SHELL_USER, SHELL_USER, 0)


@contextlib.contextmanager
def _as_root() -> Iterator[None]:
    """For what a test does to the phone, not over adb."""
    real = os.getresuid()
    os.setresuid(0, 0, 0)
    try:
        yield
    finally:
        os.setresuid(*real)


async def main(control_path: str, banner: str) -> None:
    """Serves until its standard input ends, which whoever started it holds open."""
    phone = Phone(banner)

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not phone.plugged:
            writer.close()
            return
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await Link(phone, reader, writer).serve()

    async def obey(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        words = (await reader.readline()).decode().split()
        try:
            answer = await control(phone, words)
        except (OSError, subprocess.CalledProcessError) as error:
            answer = str(error)
        writer.write(answer.encode())
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0, limit=4 * MAX_DATA_BYTES)
    await asyncio.start_unix_server(obey, control_path)
    _become_shell()
    print(server.sockets[0].getsockname()[1], flush=True)
    abandoned = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), abandoned.set)
    await abandoned.wait()


if __name__ == "__main__":
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    asyncio.run(main(sys.argv[1], sys.argv[2]))
