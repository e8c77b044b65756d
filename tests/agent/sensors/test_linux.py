"""What Linux tells, read from trees of files as machines have them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from trees import tree

from rtfleet_agent.launch import Reading
from rtfleet_agent.sensors import linux, processes
from rtfleet_agent.sensors.processes import Used
from rtfleet_agent.sensors.reading import family, read, run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sensors of Linux")
CPU = "sys/devices/system/cpu"


def test_a_board_tells_its_heat_clocks_and_power(tmp_path: Path) -> None:
    board = tree(
        tmp_path,
        {
            "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
            "sys/class/thermal/thermal_zone0/temp": "48312\n",
            "sys/class/thermal/thermal_zone1/type": "cpu-thermal\n",
            "sys/class/thermal/thermal_zone1/temp": "50000\n",
            "sys/class/thermal/thermal_zone2/type": "modem\n",
            "sys/class/thermal/thermal_zone2/temp": "",
            f"{CPU}/cpu0/cpufreq/scaling_cur_freq": "1500000\n",
            f"{CPU}/cpu10/cpufreq/scaling_cur_freq": "2400000\n",
            f"{CPU}/cpu0/cpufreq/scaling_governor": "schedutil\n",
            f"{CPU}/cpu0/thermal_throttle/core_throttle_count": "3\n",
            f"{CPU}/cpufreq/boost": "0\n",
            "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
            "sys/class/power_supply/BAT0/type": "Battery\n",
            "sys/class/power_supply/BAT0/capacity": "81\n",
            "sys/class/power_supply/AC/type": "Mains\n",
            "sys/class/power_supply/AC/online": "1\n",
            "sys/firmware/acpi/platform_profile": "balanced\n",
            "proc/loadavg": "0.52 0.58 0.59 1/467 12345\n",
        },
    )

    found = linux.readings(board)

    values = {name: reading.value for name, reading in found.items() if reading.value is not None}
    assert values["temperature_c.cpu-thermal"] == 48.312 and values["temperature_c.cpu-thermal.2"] == 50.0
    assert values["frequency_khz.cpu0"] == 1_500_000 and values["frequency_khz.cpu10"] == 2_400_000
    assert values["governor.cpu0"] == "schedutil" and values["boost"] == "off" and values["load_1m"] == 0.52
    assert values["throttle_count.cpu0"] == 3 and values["throttle_count.firmware_flags"] == 0x50005
    assert (values["battery_percent"], values["power_source"], values["power_mode"]) == (81, "Mains", "balanced")
    assert "temperature_c.modem" not in found


@pytest.mark.parametrize(
    ("least", "most", "told"),
    [
        ("729600", "1510400", "schedutil"),
        ("1510400", "1510400", "schedutil, fixed"),  # jetson_clocks
        ("115200", "115200", "schedutil"),  # as slow as it goes: nobody is flattered
    ],
)
def test_clocks_that_were_fixed_are_told_with_the_governor(tmp_path: Path, least: str, most: str, told: str) -> None:
    cpufreq = f"{CPU}/cpu0/cpufreq"
    files = {"scaling_governor": "schedutil", "scaling_min_freq": least, "scaling_max_freq": most}
    board = tree(
        tmp_path, {f"{cpufreq}/{name}": f"{value}\n" for name, value in {**files, "cpuinfo_min_freq": "115200"}.items()}
    )

    assert linux.readings(board)["governor.cpu0"].value == told


def test_a_machine_without_any_of_it_says_why(tmp_path: Path) -> None:
    found = linux.readings(tmp_path)

    told = ("boottime_minus_monotonic_ns", "scheduler")  # not from files
    missing = {name: reading for name, reading in found.items() if name not in told}
    assert set(linux.ALWAYS) == set(found)
    assert all(reading.value is None and reading.reason for reading in missing.values())


def test_the_cgroup_is_that_of_either_version(tmp_path: Path) -> None:
    two = tree(tmp_path / "two", {"proc/self/cgroup": "0::/user.slice/app\n"})
    one = tree(tmp_path / "one", {"proc/self/cgroup": "3:cpuset:/foreground\n2:memory:/apps\n0::/\n"})

    assert (linux.cgroup(two), linux.cgroup(one)) == ("/user.slice/app", "/apps")


def test_a_quota_is_in_cores(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "150000 100000\n"}

    assert linux.readings(tree(tmp_path, files))["cpu_quota_cores"] == Reading(1.5)


def _stat(name: str, state: str, user: int, core: int, started: int = 77) -> str:
    fields = [state, "1", *["0"] * 9, str(user), "0", *["0"] * 6, str(started), *["0"] * 16, str(core)]
    return f"9 ({name}) {' '.join(fields)}\n"


def test_processes_are_told_by_name_and_ticks_whatever_their_names_hold(tmp_path: Path) -> None:
    root = tree(tmp_path, {"proc/9/stat": _stat("a) b (c", "R", 250, 3), "proc/stat": "cpu 1\n", "proc/8/x": ""})

    assert processes.processes(root, fine=False) == {(9, 77): Used("a) b (c", 250 * processes.TICK_NS)}


def test_a_process_is_where_its_running_thread_is(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/9/task/9/stat": _stat("main", "S", 900, 0),
            "proc/9/task/10/stat": _stat("worker", "R", 50, 2),
            "proc/9/task/11/stat": _stat("worker", "R", 80, 5),
        },
    )

    assert (processes.core_of(9, root), processes.core_of(10, root)) == (5, None)


def test_a_process_that_is_pinned_is_seen_on_its_core() -> None:
    core = max(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, [{core}]); print(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as neighbour:
        try:
            neighbour.stdout.readline()
            assert processes.core_of(neighbour.pid) == core
        finally:
            neighbour.kill()


def test_a_command_says_in_one_sentence_why_it_gave_nothing() -> None:
    reasons = [
        read(lambda: run("/no/such/dumpsys", "battery")).reason,
        read(lambda: run("/bin/sh", "-c", "echo no such service >&2; exit 3")).reason,
    ]

    assert reasons == [
        "/no/such/dumpsys can't be run: No such file or directory",
        "sh -c echo no such service >&2; exit 3 failed: no such service",
    ]


def test_members_of_one_name_are_told_apart() -> None:
    assert family("x", [("a", 1), ("a", 2), ("a", 3)], "") == {
        "x.a": Reading(1),
        "x.a.2": Reading(2),
        "x.a.3": Reading(3),
    }
