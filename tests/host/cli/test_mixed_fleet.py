"""Devices of three kinds in one run: on this machine, over ssh, and on the network with mutual TLS.

One is unplugged half-way and one is leased to somebody else: neither spoils the others.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stage as stages
from stage import Stage, ending, strict, wait_until
from transports.far import Far, board
from transports.standing import standing

from rtfleet import pki

pytestmark = pytest.mark.slow


@pytest.fixture(name="far")
def _far(tmp_path: Path) -> Iterator[Far]:
    folder = tmp_path / "far"
    folder.mkdir()
    with board(folder) as far:
        yield far


def by_device(document: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Device -> verdict of its case and kind of its error."""
    return {case["device"]: (case["verdict"], (case["error"] or {}).get("kind", "")) for case in document["cases"]}


def test_one_that_is_unplugged_and_one_that_is_leased_leave_the_others_judged(far: Far, tmp_path: Path) -> None:
    stage = Stage(tmp_path, f"here-{uuid.uuid4().hex[:12]}")
    keys = tmp_path / "pki"
    pki.init(keys, "lab")
    for name in ("bench", "taken"):
        pki.issue(keys, name, "agent")
    for name in ("ann", "bob"):
        pki.issue(keys, name, "host")
    with (
        standing(keys / "agents" / "bench", tmp_path / "bench") as bench,
        standing(keys / "agents" / "taken", tmp_path / "taken") as taken,
    ):
        devices = [
            f'[device.here]\nconnect = "local:{stage.emulated}"\n',
            f'[device.board]\nconnect = "ssh:board"\npython = "{far.python}"\n',
            f'[device.bench]\nconnect = "grpc:{bench.address}"\ntls = "pki/hosts/ann"\n',
            f'[device.taken]\nconnect = "grpc:{taken.address}"\ntls = "pki/hosts/ann"\n',
        ]
        (tmp_path / "fleet.toml").write_text("".join(devices))
        (tmp_path / "bobs.toml").write_text(devices[3].replace("ann", "bob"))
        held = stage.rtfleet("devices", "hold", "taken", "--fleet", "bobs.toml", "--reason", "new firmware")
        assert held.code == 0, held.everything
        model = stage.model("luna", latency_us=2000)
        entry = f'source = "{model}"\ntask = "speaker"\nbudgets = {{ latency_p50_ms = 1000 }}'
        suite = stage.suite(entry, run=stages.QUICK)

        environment = {**stage.environment, "PATH": far.path}
        command = [sys.executable, "-m", "rtfleet.cli.main", "run", suite, "--json", "run.json"]
        started = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        with ending(started) as process:
            said = stages.read_until(process, "bench/burst: launch 1 of 3")
            os.kill(bench.pid, signal.SIGKILL)
            said += process.communicate(timeout=stages.PATIENCE_S)[0]

        assert process.returncode == 4, said
        document = strict((tmp_path / "run.json").read_text())
        assert by_device(document) == {
            "here": ("PASS", ""),
            "board": ("PASS", ""),
            "bench": ("ERROR", "DEVICE"),
            "taken": ("ERROR", "LEASE"),
        }, said
        kept = next(case["launches"] for case in document["cases"] if case["device"] == "bench")
        assert kept and kept[0]["error"] is None and len(kept[0]["latency_ns"]) >= 500
        assert re.search(r"the device is leased to bob \(.*\) \(new firmware\)", said) and "Traceback" not in said
    wait_until(lambda: not far.agents() and not stage.agents())
