"""How many devices can one controller drive? `rtfleet run` over simulated agents, beside a run over one of them.

    python benchmarks/fleet.py [--devices 200 500] [--seconds 10] > fleet.md

The agents are simulated (simulated_agents.py): they speak the real protocol over mutual TLS and compute nothing, so
wall time, processor time and memory are the controller's. A device's own time is what a fleet of one takes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from conditions import conditions

from rtfleet import pki

LAUNCHES = 3
MODEL = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": [1, 320]}],
    "outputs": [{"name": "y", "dtype": "float32", "shape": [1], "rule": "sum"}],
}


@dataclass(frozen=True)
class Ran:
    """One run: its wall time, the controller's processor time and peak memory, and what it kept."""

    devices: int
    wall_s: float
    cpu_s: float
    memory_mb: float
    launches: int
    frames: int


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--devices", type=int, nargs="+", default=[200, 500])
    parser.add_argument("--seconds", type=int, default=10, help="of a launch's blocks")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _certificates(folder, max(asked.devices))
        ran = [_run(folder, count, asked.seconds) for count in (1, *asked.devices)]
    _print(ran, asked.seconds)


def _certificates(folder: Path, count: int) -> None:
    pki.init(folder / "pki", "benchmark")
    pki.issue(folder / "pki", "controller", "host", out=folder / "controller")
    for number in range(count):
        name = f"device-{number:03}"
        # A new name each time: nothing is renewed, and nobody need look through those before it.
        pki.issue(folder / "pki", name, "agent", out=folder / name, renew=True)


def _run(folder: Path, count: int, seconds: int) -> Ran:
    with _agents(folder, count, seconds) as ports:
        tables = (
            f'[device.device-{number:03}]\nconnect = "grpc:127.0.0.1:{port}"\ntls = "{folder / "controller"}"\n'
            for number, port in enumerate(ports)
        )
        (folder / "fleet.toml").write_text("\n".join(tables))
        (folder / "m.fake.json").write_text(json.dumps(MODEL))
        frames = 100 * seconds
        (folder / "suite.toml").write_text(
            f"run = {{ launches = {LAUNCHES}, frames = {frames}, min_duration_s = 1, max_wait_s = 0 }}\n"
            '[[model]]\nsource = "m.fake.json"\ntask = "wake-word"\nhop_ms = 10\nsample_rate_hz = 32000\n'
        )
        command = [sys.executable, "-m", "rtfleet.cli.main", "run", "suite.toml", "--json", "run.json"]
        began_s = time.monotonic()
        with (folder / "run.log").open("wb") as log:
            process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
            _, status, used = os.wait4(process.pid, 0)
        wall_s = time.monotonic() - began_s
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 3):
        raise SystemExit((folder / "run.log").read_text(errors="replace")[-4000:])
    cases = json.loads((folder / "run.json").read_text())["cases"]
    launches = [launch for case in cases for launch in case["launches"] if launch["error"] is None]
    return Ran(
        devices=count,
        wall_s=wall_s,
        cpu_s=used.ru_utime + used.ru_stime,
        memory_mb=used.ru_maxrss / 1000,
        launches=len(launches),
        frames=sum(block["frames"] for launch in launches for block in launch["blocks"] if block["phase"] == "PACED"),
    )


@contextlib.contextmanager
def _agents(folder: Path, count: int, seconds: int) -> Iterator[list[int]]:
    """Ports of so many simulated agents."""
    script = Path(__file__).with_name("simulated_agents.py")
    command = [sys.executable, str(script), str(folder), str(count), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield json.loads(process.stdout.readline())
        finally:
            process.kill()


def _print(ran: Sequence[Ran], seconds: int) -> None:
    alone = ran[0]
    how = f"{LAUNCHES} launches of {seconds} s a device, mutual TLS, simulated agents on the same cores"
    print(conditions("fleet: one controller, many devices", how))
    print("| devices | wall s | over one device's | controller's cores | memory MB | launches kept | frames kept |")
    print("|---|---|---|---|---|---|---|")
    for one in ran:
        whole = one.launches == LAUNCHES * one.devices and one.frames == one.launches * 100 * seconds
        lost = "" if whole else " (LOST SOME)"
        print(
            f"| {one.devices} | {one.wall_s:.1f} | {one.wall_s / alone.wall_s:.2f}x | {one.cpu_s / one.wall_s:.2f} "
            f"| {one.memory_mb:.0f} | {one.launches:,} | {one.frames:,}{lost} |"
        )


if __name__ == "__main__":
    main()
