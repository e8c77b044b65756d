"""What Linux tells; a reading is there or its reason is."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from rtfleet_agent import sensors
from rtfleet_agent.launch import BusyProcess
from rtfleet_agent.sensors import Snapshot, busy_between, linux, processes
from rtfleet_agent.sensors.processes import Used

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="sensors of Linux")
SECOND_NS = 10**9


def test_every_reading_has_a_value_or_a_reason() -> None:
    readings = sensors.readings()
    families = {name.partition(".")[0] for name in readings}

    assert set(linux.ALWAYS) <= families
    assert all((reading.value is None) == bool(reading.reason) for reading in readings.values())


def test_load_steal_uptime_suspend_and_boot_are_never_null_on_linux() -> None:
    readings = sensors.readings()
    for name in ("load_1m", "steal_ns", "uptime_s", "boottime_minus_monotonic_ns", "boot_id", "cgroup", "cpuset"):
        assert readings[name].value is not None, name
    if os.path.exists("/proc/pressure/cpu"):
        assert isinstance(readings["pressure_cpu_some_us"].value, int)


def test_the_state_before_a_launch_names_a_busy_neighbour() -> None:
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        while True:  # until the interpreter is up and spins
            state, _ = sensors.before()
            if neighbour.pid in [process.pid for process in state.busy]:
                break
    finally:
        neighbour.kill()
        neighbour.wait()
    assert state.when == "before"
    assert state.readings["others_core_share"].value > 0


def test_the_state_after_a_launch_covers_all_of_it() -> None:
    _, start = sensors.before()
    state = sensors.after(start, worker_cpu_ns=0)
    assert state.when == "after" and state.at_mono_ns > start.at_mono_ns


def test_busy_is_who_took_two_percent_of_a_core_since() -> None:
    start = Snapshot(0, processes={(10, 1): Used("old", 50), (11, 1): Used("idle", 5)})
    end = Snapshot(
        SECOND_NS,
        processes={
            (10, 1): Used("old", 50 + SECOND_NS // 2),
            (11, 1): Used("idle", 5 + SECOND_NS // 100),
            (12, 900): Used("new", SECOND_NS // 4),
        },
    )
    assert busy_between(start, end, own=frozenset()) == (BusyProcess(10, "old", 0.5), BusyProcess(12, "new", 0.25))


def test_a_pid_that_came_back_is_another_process() -> None:
    start = Snapshot(0, processes={(10, 1): Used("old", 9 * SECOND_NS)})
    end = Snapshot(SECOND_NS, processes={(10, 777): Used("new", SECOND_NS // 10)})
    assert busy_between(start, end, own=frozenset()) == (BusyProcess(10, "new", 0.1),)


def test_the_agent_itself_is_named_only_where_it_is_a_burden() -> None:
    start = Snapshot(0)
    used = {(1, 1): Used("agent", SECOND_NS // 25), (2, 1): Used("host", SECOND_NS // 10)}
    end = Snapshot(SECOND_NS, processes=used)
    assert busy_between(start, end, own=frozenset({1, 2})) == (BusyProcess(2, "host", 0.1),)


def test_at_most_eight_are_named() -> None:
    end = Snapshot(SECOND_NS, processes={(pid, 1): Used(f"p{pid}", pid * SECOND_NS // 10) for pid in range(1, 21)})
    assert [process.pid for process in busy_between(Snapshot(0), end, frozenset())] == list(range(20, 12, -1))


def test_own_processes_are_this_one_and_what_started_it() -> None:
    assert {os.getpid(), os.getppid()} <= processes.own_processes()
