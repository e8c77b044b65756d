"""Push of 200 MB to an agent over gRPC beside a plain TCP sendfile of the same file, in rotated rounds of one run.

    python benchmarks/push.py [--size-mb 200] [--rounds 5]

Aims: at least 0.6x the speed of sendfile; the second push of the same file sends nothing.
Sendfile neither hashes nor makes a file durable; the agent's push does hash every byte before the file counts.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import socket
import statistics
import tempfile
import threading
import time
from pathlib import Path

from rtfleet.artifact import file_of
from rtfleet.client import AgentClient
from rtfleet.transports import local

MB = 1_000_000


def sendfile_s(path: Path, target: Path) -> float:
    """Seconds from connect to the last byte written at the other end."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def receive() -> None:
            connection, _ = server.accept()
            with connection, target.open("wb") as out:
                while chunk := connection.recv(1 << 20):
                    out.write(chunk)

        receiver = threading.Thread(target=receive)
        receiver.start()
        began_s = time.perf_counter()
        with socket.create_connection(server.getsockname()) as client, path.open("rb") as stream:
            client.sendfile(stream)
        receiver.join()
        return time.perf_counter() - began_s


async def push_s(path: Path, folder: Path) -> tuple[float, int]:
    """Seconds of a first push into an empty store, and the bytes that a second push sent."""
    async with (
        local.connect("benchmark", folder / "store", "push-benchmark") as link,
        AgentClient(link, "benchmark") as client,
    ):
        await client.acquire("0" * 32, "benchmarks/push.py")
        file = file_of(path)
        began_s = time.perf_counter()
        await client.push([file])
        first_s = time.perf_counter() - began_s
        second_bytes = await client.push([file])
        await client.release()
        return first_s, second_bytes


def main() -> None:
    """Print one Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size-mb", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="rtfleet-push-", dir=memory if memory.is_dir() else None))
    tcp_s: list[float] = []
    grpc_s: list[float] = []
    try:
        source = folder / "model.bin"
        source.write_bytes(os.urandom(asked.size_mb * MB))
        second_bytes = 0
        for round_ in range(asked.rounds):
            # The order turns with the round, so that neither side always comes first.
            for side in ("tcp", "grpc") if round_ % 2 else ("grpc", "tcp"):
                if side == "tcp":
                    tcp_s.append(sendfile_s(source, folder / "received.bin"))
                    (folder / "received.bin").unlink()
                else:
                    seconds, again_bytes = asyncio.run(push_s(source, folder))
                    grpc_s.append(seconds)
                    second_bytes = max(second_bytes, again_bytes)
                    shutil.rmtree(folder / "store")
    finally:
        shutil.rmtree(folder)
    tcp, grpc = statistics.median(tcp_s), statistics.median(grpc_s)
    print("| way | median MB/s | ratio to sendfile |\n| --- | --- | --- |")
    print(f"| TCP sendfile | {asked.size_mb / tcp:.0f} | 1.00 |")
    print(f"| gRPC push, hashed | {asked.size_mb / grpc:.0f} | {tcp / grpc:.2f} |")
    print(f"\nSecond push of the same file: {second_bytes} bytes sent.")
    print(f"{asked.rounds} rounds of {asked.size_mb} MB on {os.cpu_count()} cores, memory file system to memory.")


if __name__ == "__main__":
    main()
