"""Connections through the emulated phone's adbd: to its ports, and from them to the host."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adbd import Link, Stream

CHUNK_BYTES = 1024 * 1024


async def connect(stream: Stream, kind: str, address: str) -> None:
    """A connection to a port, or a socket of an abstract name, on the phone."""
    try:
        if kind == "tcp":
            reader, writer = await asyncio.open_connection("127.0.0.1", int(address.partition(":")[0]))
        else:
            unix = socket.socket(socket.AF_UNIX)
            unix.connect(b"\0" + address.encode())
            reader, writer = await asyncio.open_unix_connection(sock=unix)
    except OSError:
        return
    await joined(stream, reader, writer)


async def joined(stream: Stream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Both ways until one side has ended."""

    async def outward() -> None:
        while data := await reader.read(CHUNK_BYTES):
            await stream.write(data)

    async def inward() -> None:
        while data := await stream.read():
            writer.write(data)
            await writer.drain()

    ways = [asyncio.ensure_future(outward()), asyncio.ensure_future(inward())]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        if stream.closed:  # what came before the end is handed on
            await asyncio.wait(ways[1:])
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        writer.close()


async def reverse(link: Link, stream: Stream, asked: str) -> None:
    """`reverse:forward:tcp:P;tcp:Q`, `list-forward`, `killforward:tcp:P`, `killforward-all`."""
    verb, _, rest = asked.partition(":")
    if verb == "list-forward":
        await stream.write(_counted("".join(f"UsbFfs {here} {to}\n" for here, (to, _) in link.reversed.items())))
        return
    if verb == "forward":
        here, _, there = rest.removeprefix("norebind:").partition(";")

        async def dial(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await link.dial(there, reader, writer)

        if here in link.reversed and not rest.startswith("norebind:"):
            link.reversed.pop(here)[1].close()
        try:
            server = await asyncio.start_server(dial, "127.0.0.1", int(here.removeprefix("tcp:")))
        except (OSError, ValueError) as error:
            await stream.write(b"FAIL" + _counted(f"cannot bind listener: {error}"))
            return
        port = str(server.sockets[0].getsockname()[1])
        link.reversed[f"tcp:{port}"] = there, server
        await stream.write(b"OKAY" + (_counted(port) if here == "tcp:0" else b""))
        return
    ended = [here for here in link.reversed if verb == "killforward-all" or here == rest]
    for here in ended:
        link.reversed.pop(here)[1].close()
    found = ended or verb == "killforward-all"
    await stream.write(b"OKAY" if found else b"FAIL" + _counted(f"listener '{rest}' not found"))


def _counted(text: str) -> bytes:
    return b"%04x" % len(text.encode()) + text.encode()
