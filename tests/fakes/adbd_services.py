"""What the emulated phone's adbd serves: shells and files, with this machine's own means."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import io
import os
import pty
import signal
import stat
import struct
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

CHUNK_BYTES = 64 * 1024
STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN, WINDOW_SIZE = range(6)


class Stream(Protocol):
    """One stream of a link."""

    async def read(self) -> bytes:
        """What came next; b"" at the end."""

    async def exactly(self, count: int) -> bytes:
        """Raises EOFError where the stream ends before."""

    async def write(self, data: bytes) -> None:
        """Raises BrokenPipeError once the other side has closed."""


# ---- shells --------------------------------------------------------------------------------------------------------


async def _spawn(command: str, **streams: Any) -> asyncio.subprocess.Process:
    words = ["/bin/sh", "-c", command] if command else ["/bin/sh", "-i"]
    return await asyncio.create_subprocess_exec(*words, cwd="/", start_new_session=True, **streams)


def _hang_up(process: asyncio.subprocess.Process) -> None:
    """The host is gone: the shell is told, what it started is not, and the pipes are closed. So does adbd."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGHUP)
    _let_go(process)


def _let_go(process: asyncio.subprocess.Process) -> None:
    transport = process._transport
    for descriptor in (0, 1, 2):
        if pipe := transport.get_pipe_transport(descriptor):
            pipe.close()


def _exit(code: int) -> bytes:
    # A shell says 128 + n where a signal ended the command.
    return struct.pack("<BIB", EXIT, 1, code if code >= 0 else 128 - code)


async def _packet(stream: Stream) -> tuple[int, bytes]:
    """The shell protocol's next one."""
    kind, length = struct.unpack("<BI", await stream.exactly(5))
    return kind, await stream.exactly(length)


async def shell_v2(stream: Stream, command: str, *, terminal: bool) -> None:
    """Standard streams apart, and the exit code at the end."""
    if terminal:
        await _terminal(stream, command, framed=True)
        return
    pipe = asyncio.subprocess.PIPE
    process = await _spawn(command, stdin=pipe, stdout=pipe, stderr=pipe)
    assert process.stdin and process.stdout and process.stderr
    stdin, writing = process.stdin, asyncio.Lock()

    async def hand_out(reader: asyncio.StreamReader, kind: int) -> None:
        while data := await reader.read(CHUNK_BYTES):
            async with writing:
                await stream.write(struct.pack("<BI", kind, len(data)) + data)

    async def hand_in() -> None:
        with contextlib.suppress(EOFError):
            while True:
                kind, data = await _packet(stream)
                with contextlib.suppress(ConnectionError):  # the command reads no more
                    if kind == STDIN:
                        stdin.write(data)
                        await stdin.drain()
                    elif kind == CLOSE_STDIN:
                        stdin.close()
        _hang_up(process)

    feeding = asyncio.get_running_loop().create_task(hand_in())
    try:
        await asyncio.gather(hand_out(process.stdout, STDOUT), hand_out(process.stderr, STDERR))
        await stream.write(_exit(await process.wait()))
    finally:
        feeding.cancel()
        _let_go(process)


async def terminal_shell(stream: Stream, command: str) -> None:
    """As `adb shell` of old: everything through a pseudo-terminal, no exit code."""
    await _terminal(stream, command, framed=False)


async def _terminal(stream: Stream, command: str, *, framed: bool) -> None:
    master, slave = pty.openpty()
    process = await _spawn(
        command, stdin=slave, stdout=slave, stderr=slave, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    )
    os.close(slave)
    os.set_blocking(master, False)
    loop = asyncio.get_running_loop()

    async def hand_out() -> None:
        with contextlib.suppress(OSError):  # the last who had the terminal is gone
            while True:
                await _possible(loop.add_reader, loop.remove_reader, master)
                data = os.read(master, CHUNK_BYTES)
                await stream.write(struct.pack("<BI", STDOUT, len(data)) + data if framed else data)

    async def hand_in() -> None:
        with contextlib.suppress(EOFError):
            while True:
                kind, data = await _packet(stream) if framed else (STDIN, await stream.read())
                if kind == WINDOW_SIZE:  # rows x columns, pixels x pixels
                    rows, columns = data.rstrip(b"\0").split(b",")[0].split(b"x")
                    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", int(rows), int(columns), 0, 0))
                elif kind == STDIN and not data:
                    return
                with contextlib.suppress(OSError):  # nobody reads any more
                    while kind == STDIN and data:
                        await _possible(loop.add_writer, loop.remove_writer, master)
                        data = data[os.write(master, data) :]

    ways = [loop.create_task(hand_out()), loop.create_task(hand_in())]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        if ways[0].done() and framed:
            await stream.write(_exit(await process.wait()))
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        os.close(master)  # who still has the terminal is hung up


async def _possible(watch: Callable[..., None], forget: Callable[[int], object], descriptor: int) -> None:
    """Until it can be read, or written."""
    event = asyncio.Event()
    watch(descriptor, event.set)
    try:
        await event.wait()
    finally:
        forget(descriptor)


async def plain_exec(stream: Stream, command: str) -> None:
    """`adb exec-out`, `exec-in`: bytes as they are."""
    pipe = asyncio.subprocess.PIPE
    process = await _spawn(command, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT)
    assert process.stdin and process.stdout
    stdin = process.stdin

    async def hand_in() -> None:
        while data := await stream.read():
            with contextlib.suppress(ConnectionError):
                stdin.write(data)
                await stdin.drain()
        stdin.close()

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
        path = os.fsdecode(await stream.exactly(length))
        if request == b"SEND":
            await _receive(stream, path)
        elif request == b"RECV":
            await _send(stream, path)
        elif request == b"LIST":
            entries = b"".join(_entry(path, name) for name in _names(path))
            await stream.write(entries + struct.pack("<4sIIII", b"DONE", 0, 0, 0, 0))
        elif request == b"LIS2":
            entries = b"".join(_entry_v2(path, name) for name in _names(path))
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


def _entry(folder: str, name: str) -> bytes:
    told = os.fsencode(name)
    return b"DENT" + _stat(os.path.join(folder, name)) + struct.pack("<I", len(told)) + told


def _entry_v2(folder: str, name: str) -> bytes:
    told = os.fsencode(name)
    return b"DNT2" + _stat_v2(os.path.join(folder, name), follow=False) + struct.pack("<I", len(told)) + told


async def _receive(stream: Stream, request: str) -> None:
    path, _, mode = request.rpartition(",")
    error, content = "", None
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).unlink(missing_ok=True)
        # A link's content is where it leads.
        content = io.BytesIO() if stat.S_ISLNK(int(mode)) else open(path, "wb", buffering=0)  # noqa: SIM115
    except OSError as raised:
        error = f"couldn't create file: {raised.strerror}"
    whole = False
    try:
        while not whole:
            kind, length = struct.unpack("<4sI", await stream.exactly(8))
            if kind == b"DONE":
                whole, modified_s = True, length
                continue
            piece = await stream.exactly(length)
            try:
                while content and piece and not error:
                    piece = piece[content.write(piece) :]
            except OSError as raised:
                error = f"write failed: {raised.strerror}"
        if isinstance(content, io.BytesIO):
            os.symlink(content.getvalue().rstrip(b"\0"), path)
        elif content:
            os.fchmod(content.fileno(), int(mode) & 0o777 | 0o600)
            os.utime(content.fileno(), (modified_s, modified_s))
    finally:
        if content:
            content.close()
        if isinstance(content, io.FileIO) and (error or not whole):
            os.unlink(path)
    if error:
        await _fail(stream, error)
    else:
        await stream.write(struct.pack("<4sI", b"OKAY", 0))


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
