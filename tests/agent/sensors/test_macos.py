"""What a Mac's commands print (published outputs of Intel and Apple silicon), as readings."""

from __future__ import annotations

import pytest
from trees import answering

from rtfleet_agent.launch import Reading
from rtfleet_agent.sensors import linux, macos

COOL = """Note: No thermal warning level has been recorded
Note: No performance warning level has been recorded
Note: No CPU power status has been recorded
"""
INTEL = """2026-10-05 17:10:00 +0300 CPU Power notify
\tCPU_Scheduler_Limit \t= 100
\tCPU_Available_CPUs \t= 4
\tCPU_Speed_Limit \t= 72
"""
SETTINGS = """System-wide power settings:
Currently in use:
 standby              1
 Sleep On Power Button 1
 powernap             1
 sleep                1 (sleep prevented by caffeinate, powerd)
 lowpowermode         {low}
 womp                 1
"""
ON_BATTERY = """Now drawing from 'Battery Power'
 -InternalBattery-0 (id=22675555)\t97%; discharging; 4:09 remaining present: true
"""
ANSWERS = {
    "notifyutil -g com.apple.system.thermalpressurelevel": "com.apple.system.thermalpressurelevel 2\n",
    "pmset -g therm": COOL,
    "pmset -g": SETTINGS.format(low=1),
    "pmset -g batt": ON_BATTERY,
    "sysctl -n vm.loadavg": "{ 2.78 3.45 3.39 }\n",
    "sysctl -n kern.boottime": "{ sec = 1784098183, usec = 710968 } Wed Jul 15 14:49:43 2026\n",
    "sysctl -n kern.bootsessionuuid": "EA5FEA49-0000-4000-8000-000000000001\n",
}


def test_a_laptop_tells_pressure_power_and_load() -> None:
    found = macos.readings(answering(ANSWERS))

    values = {name: reading.value for name, reading in found.items() if reading.value is not None}
    assert (values["thermal_pressure"], values["power_mode"], values["load_1m"]) == ("heavy", "low-power", 2.78)
    assert (values["power_source"], values["battery_percent"], values["charging"]) == ("Battery", 97, "discharging")
    assert values["boot_id"] == "EA5FEA49-0000-4000-8000-000000000001"
    assert set(linux.ALWAYS) <= set(found)
    assert "powermetrics" in found["temperature_c"].reason
    assert "Apple silicon" in found["cpu_speed_limit_percent"].reason


def test_a_mac_whose_commands_are_gone_says_why() -> None:
    found = macos.readings(answering({}))

    assert all(reading.reason for name, reading in found.items() if name != "boottime_minus_monotonic_ns")
    assert found["battery_percent"].reason == "/usr/bin/pmset can't be run: No such file or directory"


def test_the_pressure_is_pmset_s_where_the_notification_is_not_there() -> None:
    without = {line: text for line, text in ANSWERS.items() if not line.startswith("notifyutil")}

    assert macos.readings(answering(without))["thermal_pressure"] == Reading("none")


def test_an_intel_mac_tells_its_speed_limit() -> None:
    assert macos.speed_limit_of(INTEL) == 72


@pytest.mark.parametrize(("level", "word"), [(0, "none"), (1, "moderate"), (4, "sleeping")])
def test_the_levels_of_thermal_pressure(level: int, word: str) -> None:
    assert macos.pressure_of(f"com.apple.system.thermalpressurelevel {level}\n") == word


def test_a_level_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="no thermal pressure"):
        macos.pressure_of("")


@pytest.mark.parametrize(
    ("line", "percent", "charging"),
    [
        ("100%; charged; 0:00 remaining present: true", 100, "full"),
        ("7%; AC attached; not charging present: true", 7, "not charging"),
        ("87%; charging; 0:42 remaining present: true", 87, "charging"),
        ("99%; finishing charge; 0:10 remaining present: true", 99, "charging"),
        ("64%; discharging; (no estimate) present: true", 64, "discharging"),
    ],
)
def test_a_battery_on_the_mains(line: str, percent: int, charging: str) -> None:
    found = macos.battery_of(f"Now drawing from 'AC Power'\n -InternalBattery-0 (id=28442723)\t{line}\n")

    assert found == {
        "power_source": Reading("Mains"),
        "battery_percent": Reading(percent),
        "charging": Reading(charging),
    }


def test_a_desktop_has_no_battery() -> None:
    found = macos.battery_of("Now drawing from 'AC Power'\n")

    assert found["power_source"] == Reading("Mains")
    assert found["battery_percent"] == Reading(None, "no battery")


@pytest.mark.parametrize(
    ("settings", "mode"),
    [
        (SETTINGS.format(low=0), "normal"),
        (SETTINGS.format(low=1), "low-power"),
        (SETTINGS.format(low=0) + " powermode            2\n", "high-power"),
        (" powermode            1\n", "low-power"),
    ],
)
def test_the_power_mode_in_use(settings: str, mode: str) -> None:
    assert macos.power_mode_of(settings) == mode


def test_the_boot_time_is_exact() -> None:
    assert macos.boot_time_of(ANSWERS["sysctl -n kern.boottime"]) == pytest.approx(1784098183.710968)
