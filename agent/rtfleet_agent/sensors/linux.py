"""What Linux tells in /proc and /sys. Everything here is a small file; nothing needs root.

`root` is where those folders lie: a test gives a tree of its own.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from rtfleet_agent.launch import Reading
from rtfleet_agent.sensors.processes import TICK_NS, cpu_ticks
from rtfleet_agent.sensors.reading import family, first_of, read, text

T = TypeVar("T")

# On every Linux machine these are known, or a reason is given.
ALWAYS = (
    "load_1m",
    "steal_ns",
    "pressure_cpu_some_us",
    "pressure_memory_some_us",
    "pressure_io_some_us",
    "temperature_c",
    "frequency_khz",
    "governor",
    "boost",
    "throttle_count",
    "battery_percent",
    "power_source",
    "power_mode",
    "uptime_s",
    "boottime_minus_monotonic_ns",
    "boot_id",
    "cgroup",
    "cpuset",
    "cpu_quota_cores",
    "scheduler",
)
_CPUS = "sys/devices/system/cpu"
_NO_CPUFREQ = f"no cpufreq in /{_CPUS}/cpu0 (a virtual machine, or the kernel has no driver for this processor)"
_NO_HEAT = "no thermal zone and no hwmon sensor (usual in a virtual machine)"
# sched(7); the numbers are the kernel's.
_SCHEDULERS = {0: "other", 1: "fifo", 2: "rr", 3: "batch", 5: "idle", 6: "deadline"}


def readings(root: Path = Path("/")) -> dict[str, Reading]:
    """All sensors. Families (`temperature_c.*`) are there with their members, or once without a value."""
    return {
        "load_1m": read(lambda: float(text(root / "proc/loadavg").split()[0])),
        "steal_ns": read(lambda: cpu_ticks(root)[7] * TICK_NS),
        "pressure_cpu_some_us": _pressure(root, "cpu"),
        "pressure_memory_some_us": _pressure(root, "memory"),
        "pressure_io_some_us": _pressure(root, "io"),
        **family("temperature_c", _temperatures(root), _NO_HEAT),
        **family("frequency_khz", _per_cpu(root, "cpufreq/scaling_cur_freq", float), _NO_CPUFREQ),
        **family("governor", _governors(root), _NO_CPUFREQ),
        "boost": _boost(root),
        **family("throttle_count", throttle_counts(root), "the processor's driver counts no throttling"),
        **_power(root),
        "power_mode": first_of(
            root / "sys/firmware/acpi/platform_profile", reason="no platform profile in the firmware"
        ),
        "uptime_s": read(lambda: float(text(root / "proc/uptime").split()[0])),
        "boottime_minus_monotonic_ns": read(suspended_ns),
        "boot_id": read(lambda: boot_id(root)),
        "cgroup": read(lambda: cgroup(root)),
        "cpuset": read(lambda: _status(root, "Cpus_allowed_list")),
        "cpu_quota_cores": _cpu_quota(root),
        "scheduler": read(lambda: _SCHEDULERS[os.sched_getscheduler(0) & 0xFF]),
    }


def boot_id(root: Path = Path("/")) -> str:
    """Changes with every boot."""
    return text(root / "proc/sys/kernel/random/boot_id")


def oom_kills(root: Path = Path("/")) -> int:
    """How often the kernel killed for lack of memory in this cgroup; on the whole machine where that is not told."""
    for path in (*_cgroup_files(root, "memory.events"), root / "proc/vmstat"):
        try:
            for line in text(path).splitlines():
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
        except OSError:
            continue
    return 0


def suspended_ns() -> int:
    """Time spent in suspend since boot, to some microseconds."""
    first = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    boottime = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return boottime - (first + time.clock_gettime_ns(time.CLOCK_MONOTONIC)) // 2


def throttle_counts(root: Path = Path("/")) -> Iterator[tuple[str, float]]:
    """Running counts of throttling, by what counts them."""
    yield from _per_cpu(root, "thermal_throttle/core_throttle_count", float)
    with contextlib.suppress(OSError, ValueError):
        # Raspberry Pi: bits of what is and of what has been throttled since boot.
        yield "firmware_flags", float(int(text(root / "sys/devices/platform/soc/soc:firmware/get_throttled"), 16))
    # Jetson: over-current and under-voltage events that lowered the clocks (Jetson Linux Developer Guide).
    for path in sorted((root / "sys/class/hwmon").glob("hwmon*/oc*_event_cnt")):
        try:
            yield path.name.partition("_")[0], float(text(path))
        except (OSError, ValueError):
            continue


def cgroup(root: Path = Path("/")) -> str:
    """The path of this process in the unified hierarchy; that of the memory controller where there are several."""
    paths = cgroups(root)
    return paths.get("memory", paths.get("", "/"))


def cgroups(root: Path = Path("/")) -> dict[str, str]:
    """Controllers of version 1 ("" for the unified hierarchy) -> the path of this process."""
    lines = [line.split(":", 2) for line in text(root / "proc/self/cgroup").splitlines()]
    return {controllers: path for _, controllers, path in lines}


def _pressure(root: Path, resource: str) -> Reading:
    try:
        some = text(root / "proc/pressure" / resource).splitlines()[0]
        return Reading(int(some.rpartition("total=")[2]))
    except (OSError, ValueError, IndexError):
        return Reading(None, "the kernel has no pressure stall information (CONFIG_PSI, boot with psi=1)")


def _temperatures(root: Path) -> Iterator[tuple[str, float]]:
    zones = [(zone / "temp", zone / "type") for zone in _numbered(root / "sys/class/thermal", "thermal_zone")]
    chips = [(each, each.parent / "name") for each in sorted((root / "sys/class/hwmon").glob("hwmon*/temp*_input"))]
    for value, label in zones or chips:
        try:
            yield text(label), int(text(value)) / 1000
        except (OSError, ValueError):  # a zone that is switched off
            continue


def _numbered(folder: Path, stem: str) -> list[Path]:
    """Entries in the order of the number that ends their names: cpu2 before cpu10."""
    found = [path for path in folder.glob(f"{stem}*") if path.name[len(stem) :].isdecimal()]
    return sorted(found, key=lambda path: int(path.name[len(stem) :]))


def _per_cpu(root: Path, file: str, convert: Callable[[str], T]) -> Iterator[tuple[str, T]]:
    for folder in _numbered(root / _CPUS, "cpu"):
        try:
            yield folder.name, convert(text(folder / file))
        except (OSError, ValueError):
            continue


def _governors(root: Path) -> Iterator[tuple[str, str]]:
    """What sets each core's clock; "schedutil, fixed" where it was left no choice above the lowest clock that there is,
    as `jetson_clocks` does."""
    limits = {
        name: dict(_per_cpu(root, f"cpufreq/{name}", int))
        for name in ("scaling_min_freq", "scaling_max_freq", "cpuinfo_min_freq")
    }
    for core, governor in _per_cpu(root, "cpufreq/scaling_governor", str):
        least, most, lowest = (limits[name].get(core) for name in limits)
        is_fixed = None not in (least, lowest) and least == most != lowest
        yield core, f"{governor}, fixed" if is_fixed else governor


def _boost(root: Path) -> Reading:
    try:
        return Reading("on" if text(root / _CPUS / "cpufreq/boost") == "1" else "off")
    except OSError:
        pass
    try:
        return Reading("off" if text(root / _CPUS / "intel_pstate/no_turbo") == "1" else "on")
    except OSError:
        return Reading(None, "the processor's driver does not tell whether it boosts")


def _power(root: Path) -> dict[str, Reading]:
    percent, online, seen = Reading(None, "no battery"), "", False
    for supply in sorted((root / "sys/class/power_supply").glob("*")):
        try:
            kind = text(supply / "type")
            if kind == "Battery" and percent.value is None:
                percent = Reading(int(text(supply / "capacity")))
            elif kind != "Battery":
                seen = True
                online = online or (kind if text(supply / "online") == "1" else "")
        except (OSError, ValueError):
            continue
    if online or percent.value is not None:
        source = Reading(online or "Battery")
    else:
        source = Reading(None, "all power supplies are offline" if seen else "no power supply is described in /sys")
    return {"battery_percent": percent, "power_source": source}


def _cgroup_files(root: Path, name: str) -> tuple[Path, ...]:
    # In a container the path is the host's, and what is mounted is already the container's own.
    inside = root / "sys/fs/cgroup" / name
    try:
        return (root / "sys/fs/cgroup" / cgroup(root).lstrip("/") / name, inside)
    except (OSError, ValueError):
        return (inside,)


def _status(root: Path, key: str) -> str:
    for line in text(root / "proc/self/status").splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return value.strip()
    raise ValueError(f"/proc/self/status has no {key}")


def _cpu_quota(root: Path) -> Reading:
    for path in _cgroup_files(root, "cpu.max"):
        try:
            quota, period = text(path).split()
            return Reading(None, "no quota") if quota == "max" else Reading(int(quota) / int(period))
        except (OSError, ValueError):
            continue
    return Reading(None, "no cpu.max in this process's cgroup")
