"""macOS: what its commands tell without root. Each has a parser of its text, so that any system can test them.

Not yet seen on hardware. The formats are those of pmset(1), notifyutil(1) and sysctl(8) as people published them from
Intel and Apple silicon. Temperatures, clocks and power take root there (powermetrics) and are null.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from rtfleet_agent.launch import Reading
from rtfleet_agent.sensors import linux
from rtfleet_agent.sensors.reading import Run, read, run

_PMSET, _SYSCTL = "/usr/bin/pmset", "/usr/sbin/sysctl"
_NOTIFYUTIL = "/usr/bin/notifyutil"
_PRESSURE = "com.apple.system.thermalpressurelevel"
# OSThermalPressureLevel of macOS; "none" is its "nominal", as on the other systems.
PRESSURES = ("none", "moderate", "heavy", "trapping", "sleeping")
_SOURCES = {"AC Power": "Mains", "Battery Power": "Battery", "UPS Power": "UPS"}
# The first that stands in the line; the words on the right are Android's.
_CHARGING = (
    ("not charging", "not charging"),
    ("discharging", "discharging"),
    ("charged", "full"),
    ("charg", "charging"),  # also "finishing charge"
)
_NEEDS_ROOT = "macOS tells it to root only (powermetrics)"


def readings(run: Run = run) -> dict[str, Reading]:
    """All sensors; those that macOS has nothing for are there with a reason."""
    found = {name: Reading(None, "macOS has no such figure") for name in linux.ALWAYS}
    found |= {name: Reading(None, _NEEDS_ROOT) for name in ("temperature_c", "frequency_khz", "throttle_count")}
    found |= {
        "thermal_pressure": read(lambda: _pressure(run)),
        "cpu_speed_limit_percent": read(lambda: speed_limit_of(run(_PMSET, "-g", "therm"))),
        "power_mode": read(lambda: power_mode_of(run(_PMSET, "-g"))),
        "load_1m": read(lambda: load_of(run(_SYSCTL, "-n", "vm.loadavg"))),
        "uptime_s": read(lambda: time.time() - boot_time_of(run(_SYSCTL, "-n", "kern.boottime"))),
        "boottime_minus_monotonic_ns": read(suspended_ns),
        "boot_id": read(lambda: boot_id(run)),
    }
    try:
        found |= battery_of(run(_PMSET, "-g", "batt"))
    except (OSError, ValueError) as error:
        found |= {name: Reading(None, str(error)) for name in ("battery_percent", "power_source", "charging")}
    return found


def boot_id(run: Run = run) -> str:
    """Changes with every boot."""
    return run(_SYSCTL, "-n", "kern.bootsessionuuid").strip()


def sysctl(name: str, run: Run = run) -> str:
    """A value of the kernel; "" where there is none."""
    try:
        return run(_SYSCTL, "-n", name).strip()
    except OSError:
        return ""


def machine_id(run: Run = run) -> str:
    """The hardware's UUID; "" where it is not told."""
    try:
        told = run("/usr/sbin/ioreg", "-rd1", "-c", "IOPlatformExpertDevice")
    except OSError:
        return ""
    found = re.search(r'"IOPlatformUUID" = "([^"]+)"', told)
    return found[1] if found else ""


def suspended_ns() -> int:
    """Time spent asleep since boot: what only one of two clocks counts.

    Raises:
        ValueError: this Python lacks them.
    """
    asleep, awake = getattr(time, "CLOCK_MONOTONIC_RAW", None), getattr(time, "CLOCK_UPTIME_RAW", None)
    if asleep is None or awake is None:
        raise ValueError("this Python has no CLOCK_UPTIME_RAW")
    return time.clock_gettime_ns(asleep) - time.clock_gettime_ns(awake)


def _pressure(run: Run) -> str:
    """Of the kernel's notification, which has the finer levels; else what pmset has recorded."""
    try:
        return pressure_of(run(_NOTIFYUTIL, "-g", _PRESSURE))
    except (OSError, ValueError):
        return warning_of(run(_PMSET, "-g", "therm"))


def pressure_of(told: str) -> str:
    """The level in `com.apple.system.thermalpressurelevel 0`, what `notifyutil -g` prints.

    Raises:
        ValueError: there is none.
    """
    number = int(told.split()[-1]) if told.split() else -1
    if not 0 <= number < len(PRESSURES):
        raise ValueError(f"notifyutil tells no thermal pressure: {told.strip()!r}")
    return PRESSURES[number]


def warning_of(told: str) -> str:
    """ "none", or "warning" where `pmset -g therm` has recorded one.

    Raises:
        ValueError: it says neither.
    """
    if re.search(r"No thermal warning level has been recorded", told):
        return "none"
    if found := re.search(r"[Tt]hermal [Ww]arning [Ll]evel\s*(?:=\s*)?(\d+)", told):
        return "warning" if int(found[1]) else "none"
    raise ValueError("pmset -g therm tells no thermal warning level")


def speed_limit_of(told: str) -> float:
    """Percent of the full clock that the processor may have, from `pmset -g therm`; Intel Macs tell it.

    Raises:
        ValueError: it is not told.
    """
    found = re.search(r"CPU_Speed_Limit\s*=\s*(\d+)", told)
    if not found:
        raise ValueError("pmset -g therm tells no CPU_Speed_Limit (Apple silicon has none)")
    return float(found[1])


def battery_of(told: str) -> dict[str, Reading]:
    """`power_source`, `battery_percent` and `charging` from `pmset -g batt`.

    Raises:
        ValueError: it is no such text.
    """
    source = re.search(r"Now drawing from '([^']+)'", told)
    if not source:
        raise ValueError("pmset -g batt does not tell the power source")
    found: Mapping[str, Reading] = {"power_source": Reading(_SOURCES.get(source[1], source[1]))}
    battery = re.search(r"InternalBattery[^\t]*\t\s*(\d+)%;([^\n]*)", told)
    if not battery:
        return {**found, **{name: Reading(None, "no battery") for name in ("battery_percent", "charging")}}
    state = next((state for words, state in _CHARGING if words in battery[2]), "unknown")
    return {**found, "battery_percent": Reading(int(battery[1])), "charging": Reading(state)}


def power_mode_of(told: str) -> str:
    """ "low-power", "high-power" or "normal" from `pmset -g`, the settings in use.

    Raises:
        ValueError: it names neither `lowpowermode` nor `powermode` (macOS before 12, a desktop).
    """
    modes = dict(re.findall(r"^\s*(lowpowermode|powermode)\s+(\d)", told, re.MULTILINE))
    if not modes:
        raise ValueError("pmset -g names no power mode")
    if modes.get("lowpowermode") == "1" or modes.get("powermode") == "1":
        return "low-power"
    return "high-power" if modes.get("powermode") == "2" else "normal"


def load_of(told: str) -> float:
    """Of one minute, from `{ 1.52 1.80 1.94 }`. Raises ValueError."""
    words = told.replace(",", ".").strip(" {}\n").split()
    if not words:
        raise ValueError("sysctl vm.loadavg tells nothing")
    return float(words[0])


def boot_time_of(told: str) -> float:
    """Seconds since 1970 at boot, from `{ sec = 1784098183, usec = 710968 } Wed Jul 15 14:49:43 2026`.

    Raises:
        ValueError: it is not told.
    """
    found = re.search(r"sec = (\d+), usec = (\d+)", told)
    if not found:
        raise ValueError("sysctl kern.boottime tells no time")
    return int(found[1]) + int(found[2]) / 1e6
