"""One file to a phone: rtfleet's push through its tunnel beside plain `adb push`, in turned rounds of one run.

    python benchmarks/adb_push.py [--size-mb 100] [--rounds 5] [--serial SERIAL | --cable-mb-s 40]

Without --serial the phone is an emulated one behind a real adb server, its cable as fast as memory or as slow as asked.
Aim: at least 0.9x the speed of `adb push`.
`adb push` hashes nothing; the agent hashes every byte before the file counts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rtfleet import transports
from rtfleet.artifact import file_of
from rtfleet.cache import cache_folder
from rtfleet.client import AgentClient
from rtfleet.fleet import Device

MB = 1_000_000
THERE = "/data/local/tmp/rtfleet-benchmark.bin"


async def measured(serial: str, source: Path, size_mb: int, rounds: int) -> tuple[list[float], list[float], int]:
    """Seconds of plain pushes and of rtfleet's, and the bytes that pushing a file again sent."""
    adb = ["adb", "-s", serial]
    adb_s: list[float] = []
    own_s: list[float] = []
    again_bytes = 0
    device = Device("phone", "adb", serial=serial)
    async with (
        transports.connect(device, cache_folder()) as link,
        AgentClient(link, "phone") as client,
        client.leased(secrets.token_hex(16), "benchmarks/adb_push.py"),
    ):
        for round_ in range(rounds):
            # New bytes each time: the agent keeps what it has.
            source.write_bytes(os.urandom(size_mb * MB))
            file = file_of(source)
            for side in ("adb", "own") if round_ % 2 else ("own", "adb"):
                began_s = time.perf_counter()
                if side == "adb":
                    push = [*adb, "push", str(source), THERE]
                    await asyncio.to_thread(subprocess.run, push, check=True, capture_output=True)
                    adb_s.append(time.perf_counter() - began_s)
                else:
                    await client.push([file])
                    own_s.append(time.perf_counter() - began_s)
            again_bytes += await client.push([file])
    subprocess.run([*adb, "shell", "rm", "-f", THERE], check=True)
    return adb_s, own_s, again_bytes


def main() -> None:
    """Print one Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size-mb", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serial", default="")
    parser.add_argument("--cable-mb-s", type=int, default=0)
    asked = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rtfleet-adb-push-")))
        serial = asked.serial
        if not serial:
            sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
            from fakes import phone as fakes

            environment = stack.enter_context(fakes.adb_server(folder))
            os.environ["ANDROID_ADB_SERVER_PORT"] = environment["ANDROID_ADB_SERVER_PORT"]
            phone = stack.enter_context(fakes.emulated_phone(environment, data_bytes=8_000_000_000))
            phone.slow(asked.cable_mb_s * MB)
            serial = phone.serial
        adb_s, own_s, again_bytes = asyncio.run(measured(serial, folder / "model.bin", asked.size_mb, asked.rounds))
    plain, own = statistics.median(adb_s), statistics.median(own_s)
    print("| way | median MB/s | ratio to adb push |\n| --- | --- | --- |")
    print(f"| adb push | {asked.size_mb / plain:.0f} | 1.00 |")
    print(f"| rtfleet's push, hashed | {asked.size_mb / own:.0f} | {plain / own:.2f} |")
    print(f"\nPushing a file again: {again_bytes} bytes sent.")
    cable = f" on a cable of {asked.cable_mb_s} MB/s" if asked.cable_mb_s else ""
    what = "a phone" if asked.serial else f"an emulated phone{cable}"
    print(f"{asked.rounds} rounds of {asked.size_mb} MB to {what}, on {os.cpu_count()} cores.")


if __name__ == "__main__":
    main()
