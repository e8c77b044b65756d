"""What the emulated phone's adbd serves: shells and files, with this machine's own means."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import signal
import stat
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

CHUNK_BYTES = 64 * 1024
STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)
SHELL_USER = 2000


class Stream(Protocol):
    """One stream of a link."""

    async def read(self) -> bytes:
        """What came next; b"" at the end."""

    async def exactly(self, count: int) -> bytes:
        """Raises EOFError where the stream ends before."""

    async def write(self, data: bytes) -> None:
        """Raises BrokenPipeError once the other side has closed."""


# ---- shells --------------------------------------------------------------------------------------------------------


def _as_shell_user() -> dict[str, Any]:
    """Root stands for the phone's init, what it starts is the shell's user. A namespace of one user has no other."""
    alone = Path("/proc/self/uid_map").read_text().split()[2] == "1"
    return {} if alone else {"user": SHELL_USER, "group": SHELL_USER, "extra_groups": []}


async def _spawn(command: str, **streams: Any) -> asyncio.subprocess.Process:
    words = ["/bin/sh", "-c", command] if command else ["/bin/sh", "-i"]
    return await asyncio.create_subprocess_exec(
        *words,
        cwd="/",
        start_new_session=True,
        **streams,
        **_as_shell_user(),
    )


async def shell_v2(stream: Stream, command: str, *, terminal: bool) -> None:
    """Standard streams apart, and the exit code at the end."""
    if terminal:
        await _terminal(stream, command, framed=True)
        return
    pipe = asyncio.subprocess.PIPE
    process = await _spawn(command, stdin=pipe, stdout=pipe, stderr=pipe)
    assert process.stdin and process.stdout and process.stderr
    writing = asyncio.Lock()

    async def hand_out(reader: asyncio.StreamReader, kind: int) -> None:
        while data := await reader.read(CHUNK_BYTES):
            async with writing:
                await stream.write(struct.pack("<BI", kind, len(data)) + data)

    async def hand_in() -> None:
        with contextlib.suppress(EOFError, ConnectionError, BrokenPipeError):
            while True:
                kind, length = struct.unpack("<BI", await stream.exactly(5))
                data = await stream.exactly(length)
                if kind == STDIN:
                    process.stdin.write(data)
                    await process.stdin.drain()
                elif kind == CLOSE_STDIN:
                    break
        process.stdin.close()

    feeding = asyncio.get_running_loop().create_task(hand_in())
    try:
        await asyncio.gather(hand_out(process.stdout, STDOUT), hand_out(process.stderr, STDERR))
        code = await process.wait()
        # A shell says 128 + n where a signal ended the command.
        await stream.write(struct.pack("<BIB", EXIT, 1, code if code >= 0 else 128 - code))
    finally:
        feeding.cancel()
        _let_go(process)


def _let_go(process: asyncio.subprocess.Process) -> None:
    """Its pipes are closed, as adbd does when the host is gone: it lives on, if it can do without them."""
    transport = process._transport
    for descriptor in (0, 1, 2):
        if pipe := transport.get_pipe_transport(descriptor):
            pipe.close()


async def terminal_shell(stream: Stream, command: str) -> None:
    """As `adb shell` of old: everything through a pseudo-terminal, no exit code."""
    await _terminal(stream, command, framed=False)


async def _terminal(stream: Stream, command: str, *, framed: bool) -> None:
    master, slave = pty.openpty()
    process = await _spawn(command, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    loop = asyncio.get_running_loop()

    async def hand_in() -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                if framed:
                    kind, length = struct.unpack("<BI", await stream.exactly(5))
                    data = await stream.exactly(length)
                    if kind != STDIN:
                        continue
                elif not (data := await stream.read()):
                    return
                os.write(master, data)

    feeding = loop.create_task(hand_in())
    try:
        while True:
            try:
                data = await loop.run_in_executor(None, os.read, master, CHUNK_BYTES)
            except OSError:  # the last who had the terminal is gone
                break
            await stream.write(struct.pack("<BI", STDOUT, len(data)) + data if framed else data)
        code = await process.wait()
        if framed:
            await stream.write(struct.pack("<BIB", EXIT, 1, code if code >= 0 else 128 - code))
    finally:
        feeding.cancel()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGHUP)
        os.close(master)


async def plain_exec(stream: Stream, command: str) -> None:
    """`adb exec-out`, `exec-in`: bytes as they are."""
    pipe = asyncio.subprocess.PIPE
    process = await _spawn(command, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT)
    assert process.stdin and process.stdout

    async def hand_in() -> None:
        while data := await stream.read():
            process.stdin.write(data)
            await process.stdin.drain()
        process.stdin.close()

    feeding = asyncio.get_running_loop().create_task(hand_in())
    try:
        while data := await process.stdout.read(CHUNK_BYTES):
            await stream.write(data)
        await process.wait()
    finally:
        feeding.cancel()
        _let_go(process)


# ---- files ---------------------------------------------------------------------------------------------------------


async def sync(stream: Stream) -> None:
    """`adb push`, `pull`, `ls`: requests of four letters until QUIT."""
    while True:
        request, length = struct.unpack("<4sI", await stream.exactly(8))
        if request == b"QUIT":
            return
        path = (await stream.exactly(length)).decode()
        if request == b"SEND":
            await _receive(stream, path)
        elif request == b"RECV":
            await _send(stream, path)
        elif request == b"LIST":
            entries = b"".join(_entry(Path(path) / name) for name in _names(path))
            await stream.write(entries + struct.pack("<4sIIII", b"DONE", 0, 0, 0, 0))
        elif request == b"LIS2":
            entries = b"".join(_entry_v2(Path(path) / name) for name in _names(path))
            await stream.write(entries + b"DONE" + bytes(72))
        elif request == b"STAT":
            await stream.write(b"STAT" + _stat(path))
        elif request in (b"STA2", b"LST2"):
            await stream.write(request + _stat_v2(path, follow=request == b"STA2"))
        else:
            await _fail(stream, f"unknown command {request!r}")
            return


def _names(path: str) -> list[str]:
    try:
        return [".", "..", *os.listdir(path)]
    except OSError:
        return []


def _stat(path: str | Path) -> bytes:
    try:
        found = os.lstat(path)
    except OSError:
        return bytes(12)
    return struct.pack("<III", found.st_mode, found.st_size & 0xFFFFFFFF, int(found.st_mtime))


def _stat_v2(path: str | Path, *, follow: bool) -> bytes:
    try:
        found = os.stat(path, follow_symlinks=follow)
    except OSError as error:
        return struct.pack("<I", error.errno or 5) + bytes(64)
    return struct.pack(
        "<IQQIIIIQqqq", 0, found.st_dev, found.st_ino, found.st_mode, found.st_nlink, found.st_uid, found.st_gid,
        found.st_size, int(found.st_atime), int(found.st_mtime), int(found.st_ctime),
    )  # fmt: skip


def _entry(path: Path) -> bytes:
    name = path.name.encode()
    return b"DENT" + _stat(path) + struct.pack("<I", len(name)) + name


def _entry_v2(path: Path) -> bytes:
    name = path.name.encode()
    return b"DNT2" + _stat_v2(path, follow=False) + struct.pack("<I", len(name)) + name


async def _pieces(stream: Stream) -> AsyncIterator[bytes]:
    """A file's content, to its end; its time comes last and is left out."""
    while True:
        kind, length = struct.unpack("<4sI", await stream.exactly(8))
        if kind == b"DONE":
            return
        yield await stream.exactly(length)


async def _receive(stream: Stream, request: str) -> None:
    path, _, mode = request.rpartition(",")
    error, file = "", None
    try:
        _make_folders(Path(path).parent)
        if stat.S_ISLNK(int(mode)):
            target = b"".join([piece async for piece in _pieces(stream)]).rstrip(b"\0")
            Path(path).unlink(missing_ok=True)
            os.symlink(target, path)
            await stream.write(struct.pack("<4sI", b"OKAY", 0))
            return
        Path(path).unlink(missing_ok=True)
        file = open(path, "wb", buffering=0)  # noqa: SIM115  # what can't be opened is read to its end too
    except OSError as raised:
        error = f"couldn't create file: {raised.strerror}"
    async for piece in _pieces(stream):
        try:
            while file and piece and not error:
                piece = piece[file.write(piece) :]
        except OSError as raised:
            error = f"write failed: {raised.strerror}"
    if file:
        os.fchmod(file.fileno(), int(mode) & 0o777 | 0o600)
        if _as_shell_user():
            os.fchown(file.fileno(), SHELL_USER, SHELL_USER)
        file.close()
        if error:
            os.unlink(path)
    if error:
        await _fail(stream, error)
    else:
        await stream.write(struct.pack("<4sI", b"OKAY", 0))


def _make_folders(folder: Path) -> None:
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=0o775)
        if _as_shell_user():
            os.chown(one, SHELL_USER, SHELL_USER)


async def _send(stream: Stream, path: str) -> None:
    try:
        with open(path, "rb") as file:
            while data := file.read(CHUNK_BYTES):
                await stream.write(struct.pack("<4sI", b"DATA", len(data)) + data)
    except OSError as raised:
        await _fail(stream, f"open failed: {raised.strerror}")
        return
    await stream.write(struct.pack("<4sI", b"DONE", 0))


async def _fail(stream: Stream, text: str) -> None:
    await stream.write(struct.pack("<4sI", b"FAIL", len(text)) + text.encode())
