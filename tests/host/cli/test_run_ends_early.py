"""A run that is broken off, by whom it may be, keeps what was measured and leaves nothing running."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stage as stages
from stage import Stage, ending, journal, read_until, strict, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(name="stage")
def _stage(tmp_path: Path) -> Stage:
    return stages.stage(tmp_path)


@pytest.fixture(name="process")
def _process(stage: Stage) -> Iterator[subprocess.Popen[str]]:
    """A run of two models: one launch of the short one is kept, one of the other goes on for a minute."""
    suite = stage.suite(stage.model("short"), stage.model("long", latency_us=100_000), run=stages.TWO_LAUNCHES)
    with ending(stage.start("run", suite)) as process:
        read_until(process, "launch 1 of 2")
        wait_until(lambda: kinds(stage).count("intent") == 2 and stage.workers())
        yield process


def kinds(stage: Stage) -> list[str]:
    return [record["type"] for record in journal(stage.runs()[0])]


def launches(stage: Stage) -> dict[str, list[dict[str, Any]]]:
    """Model -> its launches, as `rtfleet show` has them."""
    shown = stage.rtfleet("show", str(stage.runs()[0]), "--json", "-")
    return {case["model"]: case["launches"] for case in strict(shown.stdout)["cases"]}


def left(stage: Stage) -> list[int]:
    return [*stage.agents(), *stage.workers()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_keeps_what_was_measured_and_gives_the_device_back(
    stage: Stage, process: subprocess.Popen[str], number: signal.Signals
) -> None:
    """And so does the signal with which a CI job is cancelled."""
    process.send_signal(number)
    said = process.communicate(timeout=stages.PATIENCE_S)[0]

    assert process.returncode == 130
    assert "interrupted: leases are released, what was measured is kept" in said
    assert "exit code 130; interrupted, what was measured is kept" in said and "Traceback" not in said
    assert left(stage) == []
    assert journal(stage.runs()[0])[-1] == {"type": "end", "interrupted": True}
    kept = launches(stage)
    assert len(kept["short"]) == 1 and len(kept["short"][0]["latency_ns"]) >= 500
    assert strict((stage.runs()[0] / "run.json").read_text())["exit_code"] == 130
    again = stage.rtfleet("run", "suite.toml", "--dry-run")
    assert again.code == 0, again.stderr


def test_ctrl_c_before_a_device_has_answered_is_no_stack_trace(stage: Stage) -> None:
    suite = stage.suite(stage.model("luna"))
    with ending(stage.start("run", suite)) as process:
        wait_until(stage.agents)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=stages.PATIENCE_S)[0]

    assert process.returncode == 130, said
    assert "Traceback" not in said and left(stage) == []


def test_a_host_that_is_killed_leaves_every_finished_launch_and_no_agent(
    stage: Stage, process: subprocess.Popen[str]
) -> None:
    process.kill()
    process.wait(stages.PATIENCE_S)
    wait_until(lambda: not left(stage))

    shown = stage.rtfleet("show", str(stage.runs()[0]))

    assert shown.code == 3 and "Traceback" not in shown.everything
    assert "the run did not come to its end, what was measured is kept" in shown.stdout.splitlines()[-1]
    kept = launches(stage)
    assert [launch["error"] for launch in kept["short"]] == [None] and kept["long"] == []


def test_an_agent_that_is_killed_ends_the_run_and_leaves_the_launches_before(
    stage: Stage, process: subprocess.Popen[str]
) -> None:
    (agent,) = stage.agents()
    os.kill(agent, signal.SIGKILL)
    said = process.communicate(timeout=stages.PATIENCE_S)[0]

    assert process.returncode == 4, said
    assert "device 'board': the agent does not answer" in said and "hint: see whether it still runs" in said
    assert "Traceback" not in said
    wait_until(lambda: not left(stage))
    kept = launches(stage)
    assert kept["short"][0]["error"] is None and len(kept["short"][0]["latency_ns"]) >= 500
    assert [launch["error"]["kind"] for launch in kept["long"]] == ["DEVICE"]


def test_a_laptop_that_slept_in_a_launch_goes_on_when_it_wakes(stage: Stage) -> None:
    """Its lease ran out meanwhile; nobody took the device. The launch went on."""
    suite = stage.suite(stage.model("slow", latency_us=80_000), run=stages.ONE_LAUNCH)
    with ending(stage.start("run", suite)) as process:
        wait_until(lambda: stage.runs() and "intent" in kinds(stage) and stage.workers())
        process.send_signal(signal.SIGSTOP)
        time.sleep(35)  # a lease lasts 30 s
        process.send_signal(signal.SIGCONT)
        said = process.communicate(timeout=stages.PATIENCE_S)[0]

    assert process.returncode in (1, 3), said  # it is slower than a wake word may be
    (launch,) = launches(stage)["slow"]
    assert launch["error"] is None and len(launch["latency_ns"]) >= 200, said


def test_a_second_run_on_the_same_device_says_who_has_it(stage: Stage, process: subprocess.Popen[str]) -> None:
    (agent,) = stage.agents()

    second = stage.rtfleet("run", "suite.toml")

    assert second.code == 4
    assert f"device 'board': rtfleet-agent: device is already served by agent pid {agent}" in second.stderr
    assert "Traceback" not in second.everything and process.poll() is None


def test_a_disk_that_fills_up_ends_the_run_and_keeps_what_is_on_it(stage: Stage) -> None:
    disk = stage.folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small disk needs the right to mount one: {mounted.stderr.decode().strip()}")
    try:
        suite = stage.suite(stage.model("luna"), run="{ launches = 20, frames = 60, min_duration_s = 0.1 }")
        told = stage.rtfleet("run", suite, "--out", str(disk))
        (run,) = disk.iterdir()
        shutil.copytree(run, stage.folder / "kept")
    finally:
        subprocess.run(["umount", disk], check=True)

    assert told.code == 5
    assert f"error: {run}: can't be written: No space left on device" in told.stderr
    assert f"hint: what was measured before is kept: free some room, then `rtfleet show {run}`" in told.stderr
    assert "Traceback" not in told.everything and left(stage) == []
    shown = stage.rtfleet("show", str(stage.folder / "kept"), "--json", "-")
    assert len(strict(shown.stdout)["cases"][0]["launches"]) >= 1


def test_a_run_whose_host_was_killed_is_gone_on_with(stage: Stage) -> None:
    suite = stage.suite(stage.model("short"), stage.model("longer", latency_us=5_000), run=stages.TWO_LAUNCHES)
    with ending(stage.start("run", suite)) as process:
        read_until(process, "launch 1 of 2")
        wait_until(lambda: kinds(stage).count("intent") == 2 and stage.workers())
        process.kill()
    before = launches(stage)["short"][0]

    resumed = stage.rtfleet("run", "--resume", str(stage.runs()[0]))

    assert resumed.code in (0, 3), resumed.everything
    assert len(stage.runs()) == 1 and journal(stage.runs()[0])[-1] == {"type": "end", "interrupted": False}
    kept = launches(stage)
    assert kept["short"][0] == before and len(kept["short"]) == 2
    assert sum(launch["error"] is None for launch in kept["longer"]) == 2
