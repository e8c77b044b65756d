"""Android, as the shell user of adb sees it: what Linux tells there, and what the system's services say.

Not yet seen on hardware. The formats are those of AOSP's services and of outputs that people published (a Samsung A52
with Android 12 and others). SELinux hides parts of /proc and /sys, which parts is the maker's choice; each such
reading is null with the system's own words.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path

from rtfleet_agent.launch import Reading
from rtfleet_agent.sensors import linux
from rtfleet_agent.sensors.reading import Run, family, read, run

# PowerManager.THERMAL_STATUS_*, by number.
THERMAL_STATUS = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
# android.hardware.thermal TemperatureType: these are volts, amperes and percents, and -1 may be in any unit.
_NO_TEMPERATURES = {-1, 6, 7, 8}
# BatteryManager.BATTERY_STATUS_*.
_CHARGING = {1: "unknown", 2: "charging", 3: "discharging", 4: "not charging", 5: "full"}
# Who tells in the log that a process was killed, and why; and how much of that is kept.
_KILLERS = re.compile(
    r"lowmemorykiller|lmkd|am_kill|am_proc_died|tombstoned|crash_dump|Out of memory|avc: +denied", re.I
)
_LOG_LINES = 40
_LOG_BYTES = 8192
# In the words that /sys/class/power_supply has for the same thing.
_SOURCES = (("AC powered", "Mains"), ("USB powered", "USB"), ("Wireless powered", "Wireless"), ("Dock powered", "Dock"))
_TEMPERATURE = re.compile(r"Temperature\{mValue=([^,]+), mType=(-?\d+), mName=([^,}]+), mStatus=(\d+)\}")


def is_android(root: Path = Path("/")) -> bool:
    """Whether this is a phone, where Python's own answer is "linux": Android's init sets ANDROID_ROOT for all."""
    # os.path, because Path.exists raises where a folder may not be looked into.
    return os.path.exists(root / "system/build.prop") or (root == Path("/") and "ANDROID_ROOT" in os.environ)


def command(name: str, root: Path = Path("/")) -> str:
    """Where the system keeps `dumpsys`, `getprop`, `settings`: $ANDROID_ROOT/bin, which is /system/bin."""
    system = Path(os.environ.get("ANDROID_ROOT", "/system")) if root == Path("/") else root / "system"
    return str(system / "bin" / name)


def getprop(name: str, root: Path = Path("/"), run: Run = run) -> str:
    """A system property; "" where there is none, or none that may be read."""
    try:
        return run(command("getprop", root), name).strip()
    except OSError:
        return ""


def readings(root: Path = Path("/"), run: Run = run) -> dict[str, Reading]:
    """All of Linux's sensors, with temperatures, battery and power mode as Android's services tell them.

    `thermal_pressure`, `charging`, `screen` and `cpuset_group` are Android's own.
    """
    dumpsys = command("dumpsys", root)
    found = linux.readings(root)
    found["power_mode"] = read(lambda: power_mode_of(run(command("settings", root), "get", "global", "low_power")))
    found["screen"] = read(lambda: screen_of(run(dumpsys, "power")))
    found["cpuset_group"] = read(lambda: _cpuset_group(root))
    try:
        heat = run(dumpsys, "thermalservice")
    except OSError as error:
        found["thermal_pressure"] = Reading(None, str(error))
    else:
        found["thermal_pressure"] = read(lambda: thermal_status_of(heat))
        if degrees := temperatures_of(heat):
            # Zones of /sys, where they may be read, are many, unnamed by Android and partly no temperatures.
            found = {name: value for name, value in found.items() if name.split(".")[0] != "temperature_c"}
            found |= family("temperature_c", degrees.items(), "")
    try:
        found |= battery_of(run(dumpsys, "battery"))
    except (OSError, ValueError) as error:
        found["charging"] = Reading(None, str(error))
    return found


def thermal_status_of(dump: str) -> str:
    """The throttling that `dumpsys thermalservice` tells, as PowerManager names it: "none", "light", ...

    Raises:
        ValueError: it tells none.
    """
    found = re.search(r"^\s*Thermal Status:\s*(\d+)", dump, re.MULTILINE)
    if not found:
        raise ValueError("dumpsys thermalservice tells no status")
    number = int(found[1])
    return THERMAL_STATUS[number] if number < len(THERMAL_STATUS) else f"status {number}"


def temperatures_of(dump: str) -> dict[str, float]:
    """Name -> °C from `dumpsys thermalservice`: the hardware's current ones, else those that the service remembers."""
    cached, _, current = dump.partition("Current temperatures from HAL:")
    return _temperatures(current) or _temperatures(cached)


def _temperatures(dump: str) -> dict[str, float]:
    found = {}
    for value, kind, name, _status in _TEMPERATURE.findall(dump):
        try:
            degrees = float(value)
        except ValueError:
            continue
        if int(kind) not in _NO_TEMPERATURES and math.isfinite(degrees):
            found[name] = degrees
    return found


def battery_of(dump: str) -> dict[str, Reading]:
    """`battery_percent`, `power_source`, `charging` and `temperature_c.battery` from `dumpsys battery`.

    Raises:
        ValueError: it is no such text, or its values were set by hand.
    """
    if "UPDATES STOPPED" in dump:
        raise ValueError("the battery's values were set by hand; on the phone: dumpsys battery reset")
    facts: dict[str, str] = {}
    for line in dump.splitlines():
        name, colon, value = line.strip().partition(":")
        if colon:
            # The first of each: makers add their own lines below.
            facts.setdefault(name, value.strip())
    if "level" not in facts:
        raise ValueError("dumpsys battery tells no level")
    if facts.get("present") == "false":
        return {name: Reading(None, "no battery") for name in ("battery_percent", "charging")} | _source(facts)
    found = {
        "battery_percent": read(lambda: 100 * int(facts["level"]) / int(facts.get("scale", "100"))),
        "charging": read(lambda: _CHARGING[int(facts["status"])]),
        **_source(facts),
    }
    if "temperature" in facts:
        found["temperature_c.battery"] = read(lambda: int(facts["temperature"]) / 10)
    return found


def _source(facts: Mapping[str, str]) -> dict[str, Reading]:
    online = next((word for key, word in _SOURCES if facts.get(key) == "true"), "Battery")
    return {"power_source": Reading(online)}


def power_mode_of(setting: str) -> str:
    """Battery saver, from `settings get global low_power`: "low-power" or "normal".

    Raises:
        ValueError: the setting was never made, or it is no number.
    """
    word = setting.strip()
    if word == "null":
        return "normal"  # never switched on since the phone was set up
    return "low-power" if int(word) else "normal"


def screen_of(dump: str) -> str:
    """ "on", "off", "dozing", ... from `dumpsys power`.

    Raises:
        ValueError: it does not tell.
    """
    found = re.search(r"Display Power: state=(\w+)", dump) or re.search(r"\bmWakefulness=(\w+)", dump)
    if not found:
        raise ValueError("dumpsys power does not tell the screen's state")
    return {"awake": "on", "asleep": "off", "doze": "dozing"}.get(found[1].lower(), found[1].lower())


def log_tail(pid: int, run: Run = run) -> str:
    """What the phone's log has of late about the end of processes, and of this one; "" where it can't be read."""
    try:
        told = run(command("logcat"), "-d", "-t", "200").splitlines()
    except OSError:
        return ""
    own = re.compile(rf"\b{pid}\b")
    kept = [line for line in told if _KILLERS.search(line) or own.search(line)]
    return "\n".join(kept[-_LOG_LINES:])[-_LOG_BYTES:]


def _cpuset_group(root: Path) -> str:
    """Which cores Android gives to this kind of process: "/foreground", "/background"; "/" is all of them."""
    return linux.cgroups(root)["cpuset"]
