"""A phone as adb reaches it: a shell's commands, folders copied, and a tunnel to a port of its loopback.

The tunnel is our own listener, which opens a stream through the adb server for each connection. It is one way for
servers here and elsewhere (`adb forward` opens the port on the server's machine), there is nothing to be made anew when
a phone comes back and nothing left in the server when this process is killed, and TCP_NODELAY spares small answers the
delay that a forward adds to some of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rtfleet.errors import DeviceError
from rtfleet.transports import Ran, adb_server
from rtfleet.transports.adb_server import Server

if TYPE_CHECKING:
    from adbutils import AdbDevice

COMMAND_TIMEOUT_S = 60.0
_PIECE_BYTES = 1 << 18
# Of a cable or a wireless line that somebody would still wait for: an agent takes a quarter of an hour then.
_SLOWEST_BYTES_PER_S = 200_000
# Whether a phone is copied to that hangs; a slow line delays its answer by a megabyte.
_ASKED_EVERY_S = 10.0
_ANSWER_TIMEOUT_S = 30.0
# Of a copy, the phone's own words for a full disk.
_FULL = ("No space left", "ENOSPC", "Disk quota")


@dataclass(frozen=True)
class Line:
    """A phone that can be used.

    Attributes:
        device: The device's alias, for messages.
    """

    device: str
    server: Server
    serial: str

    async def run(self, script: str, timeout_s: float = COMMAND_TIMEOUT_S) -> Ran:
        """Run a script of the phone's shell to its end; it reads nothing.

        Raises:
            DeviceError: the phone is gone, or there was no answer in time.
        """
        from adbutils import AdbError, AdbTimeout

        try:
            ran = await adb_server.in_thread(lambda: self._phone().shell2(script, timeout=timeout_s, v2=True))
        except AdbTimeout:
            raise self.error("it does not answer in time", "see what keeps it busy", retryable=True) from None
        except (AdbError, OSError, EOFError) as error:
            raise self.lost(error) from None
        # Both are text, since an encoding is given by default.
        return Ran(ran.returncode, str(ran.stdout or ran.output), str(ran.stderr or ""))

    async def push(self, *sources: Path, size_bytes: int, to: str) -> None:
        """Copy files and folders, of that size, into a folder of the phone that exists.

        Raises:
            DeviceError: there is no room, the phone is gone, or it takes for ever.
        """
        # Absolute: adb takes a name that begins with a dash for an option.
        words = ("-s", self.serial, "push", *(str(source.absolute()) for source in sources), to)
        most_s = COMMAND_TIMEOUT_S + size_bytes / _SLOWEST_BYTES_PER_S
        ran = await self._while_it_answers(adb_server.adb(self.server, *words, timeout_s=most_s))
        if ran.code == 0:
            return
        said = [line.strip() for line in f"{ran.stdout}\n{ran.stderr}".splitlines() if line.strip()]
        # Its last line may be how far it came.
        failed = [line for line in said if "error" in line] or said
        last = failed[-1] if failed else "adb said nothing"
        if any(word in last for word in _FULL):
            raise self.error(f"there is no room for the agent ({last})", "free some space on it", kind="NO_DISK")
        raise self.error(f"the agent can't be copied there: {last}", f"adb -s {self.serial} push", retryable=True)

    async def _while_it_answers(self, work: Coroutine[None, None, Ran]) -> Ran:
        """The end of a copy, which goes on for long to a phone that hangs. Raises DeviceError where it does."""
        working = asyncio.create_task(work)
        try:
            while not (await asyncio.wait([working], timeout=_ASKED_EVERY_S))[0]:
                try:
                    await self.run("true", _ANSWER_TIMEOUT_S)
                except DeviceError:
                    if not working.done():
                        raise
            return await working
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def tunnel(self, port: int) -> AsyncIterator[str]:
        """The phone's loopback port as a gRPC address here: a socket that only this user can reach."""
        busy: set[asyncio.Task[None]] = set()

        def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._carry(port, reader, writer))
            busy.add(task)
            task.add_done_callback(busy.discard)

        with tempfile.TemporaryDirectory(prefix="rtfleet-adb-") as folder:
            path = Path(folder) / "agent"
            server = await asyncio.start_unix_server(serve, path, limit=_PIECE_BYTES)
            try:
                yield f"unix:{path}"
            finally:
                server.close()
                for task in busy:
                    task.cancel()
                await asyncio.gather(*busy, return_exceptions=True)

    def error(self, text: str, hint: str, *, kind: str = "DEVICE", retryable: bool = False) -> DeviceError:
        """An error of this phone."""
        return DeviceError(f"device '{self.device}': phone {self.serial}: {text}", hint, kind, retryable)

    def lost(self, error: Exception) -> DeviceError:
        """The phone, or the adb server, is gone."""
        return self.error(f"adb lost it ({error})", "plug it in again, and see what adb devices says", retryable=True)

    def _phone(self) -> AdbDevice:
        from adbutils import AdbDevice

        return AdbDevice(self.server.client, self.serial)

    async def _carry(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Bytes both ways until one side is done. A phone that is gone ends the connection, which gRPC then tells."""
        from adbutils import AdbError, Network

        dialling = asyncio.ensure_future(
            adb_server.in_thread(lambda: self._phone().create_connection(Network.TCP, port))
        )
        try:
            far = await asyncio.shield(dialling)
        except (AdbError, OSError, EOFError):
            writer.close()
            return
        except asyncio.CancelledError:
            dialling.add_done_callback(_hang_up)
            writer.close()
            raise
        far.setblocking(False)
        # Else small answers wait for each other: Nagle's algorithm and delayed acknowledgements, 40 ms.
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        far_reader, far_writer = await asyncio.open_connection(sock=far, limit=_PIECE_BYTES)
        ways = [
            asyncio.create_task(_pump(reader, far_writer)),
            asyncio.create_task(_pump(far_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            far_writer.close()
            writer.close()


def _hang_up(dialled: asyncio.Future[socket.socket]) -> None:
    """Nobody waits for the connection any more."""
    if not dialled.cancelled() and dialled.exception() is None:
        dialled.result().close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(_PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
