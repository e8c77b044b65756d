"""What Linux tells in /proc and /sys. Everything here is a small file; nothing needs root."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rtfleet_agent.launch import Reading

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
)
_TICK_NS = 10**9 // os.sysconf("SC_CLK_TCK")
_CPUS = "/sys/devices/system/cpu"


def readings() -> dict[str, Reading]:
    """All sensors. Families (`temperature_c.*`) are there with their members, or once without a value."""
    return {
        "load_1m": _read(lambda: os.getloadavg()[0]),
        "steal_ns": _read(lambda: _cpu_ticks()[7] * _TICK_NS),
        "pressure_cpu_some_us": _pressure("cpu"),
        "pressure_memory_some_us": _pressure("memory"),
        "pressure_io_some_us": _pressure("io"),
        **_family("temperature_c", _temperatures(), "no thermal zone and no hwmon sensor (usual in a virtual machine)"),
        **_family("frequency_khz", _per_cpu("cpufreq/scaling_cur_freq", float), _NO_CPUFREQ),
        **_family("governor", _per_cpu("cpufreq/scaling_governor", str), _NO_CPUFREQ),
        "boost": _boost(),
        **_family("throttle_count", _throttles(), "the processor's driver counts no throttling"),
        **_power(),
        "power_mode": _first_of("/sys/firmware/acpi/platform_profile", reason="no platform profile in the firmware"),
        "uptime_s": _read(lambda: float(_text("/proc/uptime").split()[0])),
        "boottime_minus_monotonic_ns": _read(_suspended_ns),
        "boot_id": _read(boot_id),
        "cgroup": _read(_cgroup),
        "cpuset": _read(lambda: _status("Cpus_allowed_list")),
        "cpu_quota_cores": _cpu_quota(),
    }


def boot_id() -> str:
    """Changes with every boot."""
    return _text("/proc/sys/kernel/random/boot_id")


def busy_ns() -> int | None:
    """Time that all cores together were not idle, steal and guests aside; None where /proc/stat can't be read."""
    try:
        user, nice, system, _idle, _iowait, irq, softirq = _cpu_ticks()[:7]
    except (OSError, ValueError):
        return None
    return (user + nice + system + irq + softirq) * _TICK_NS


def processes() -> dict[tuple[int, int], tuple[str, int]]:
    """(pid, start time) -> (name, nanoseconds of processor time), of all processes that can be seen."""
    found = {}
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            head, _, tail = _text(f"/proc/{pid}/stat").rpartition(")")
            fields = tail.split()
            used_ns = max(_scheduled_ns(pid), (int(fields[11]) + int(fields[12])) * _TICK_NS)
        except (OSError, ValueError, IndexError):  # it ended while we looked
            continue
        found[int(pid), int(fields[19])] = (head.partition("(")[2], used_ns)
    return found


def own_processes() -> frozenset[int]:
    """The agent and what started it, up to init."""
    found, pid = set(), os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        try:
            pid = int(_text(f"/proc/{pid}/stat").rpartition(")")[2].split()[1])
        except OSError:
            break
    return frozenset(found)


def oom_kills() -> int:
    """How often the kernel killed for lack of memory in this cgroup; on the whole machine where that is not told."""
    for path in (*_cgroup_files("memory.events"), "/proc/vmstat"):
        try:
            for line in _text(path).splitlines():
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
        except OSError:
            continue
    return 0


def _scheduled_ns(pid: str) -> int:
    # To the nanosecond, of the threads that live: a tick of 10 ms is too coarse for 2 % of 0.2 s.
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        try:
            total += int(_text(f"/proc/{pid}/task/{thread}/schedstat").split()[0])
        except (OSError, ValueError, IndexError):
            continue
    return total


_NO_CPUFREQ = f"no cpufreq in {_CPUS}/cpu0 (a virtual machine, or the kernel has no driver for this processor)"


def _text(path: str) -> str:
    return Path(path).read_text(errors="replace").strip()


def _read(get: Callable[[], float | str]) -> Reading:
    try:
        return Reading(get())
    except (OSError, ValueError, IndexError) as error:
        return Reading(None, str(error) or type(error).__name__)


def _suspended_ns() -> int:
    """Time spent in suspend since boot, to some microseconds."""
    first = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    boottime = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return boottime - (first + time.clock_gettime_ns(time.CLOCK_MONOTONIC)) // 2


def _first_of(*paths: str, reason: str) -> Reading:
    for path in paths:
        try:
            return Reading(_text(path))
        except OSError:
            continue
    return Reading(None, reason)


def _family(name: str, members: Iterator[tuple[str, float | str]], reason: str) -> dict[str, Reading]:
    found = {f"{name}.{member}": Reading(value) for member, value in members}
    return found or {name: Reading(None, reason)}


def _cpu_ticks() -> list[int]:
    return [int(each) for each in _text("/proc/stat").splitlines()[0].split()[1:]]


def _pressure(resource: str) -> Reading:
    try:
        some = _text(f"/proc/pressure/{resource}").splitlines()[0]
        return Reading(int(some.rpartition("total=")[2]))
    except (OSError, ValueError, IndexError):
        return Reading(None, "the kernel has no pressure stall information (CONFIG_PSI, boot with psi=1)")


def _temperatures() -> Iterator[tuple[str, float]]:
    seen: dict[str, int] = {}
    zones = [(zone / "temp", zone / "type") for zone in sorted(Path("/sys/class/thermal").glob("thermal_zone*"))]
    chips = [(each, each.parent / "name") for each in sorted(Path("/sys/class/hwmon").glob("hwmon*/temp*_input"))]
    for value, label in zones or chips:
        try:
            name, degrees = _text(str(label)), int(_text(str(value))) / 1000
        except (OSError, ValueError):  # a zone that is switched off
            continue
        seen[name] = seen.get(name, 0) + 1
        yield name if seen[name] == 1 else f"{name}.{seen[name]}", degrees


def _per_cpu(file: str, convert: Callable[[str], float | str]) -> Iterator[tuple[str, float | str]]:
    for index in range(os.cpu_count() or 1):
        try:
            yield f"cpu{index}", convert(_text(f"{_CPUS}/cpu{index}/{file}"))
        except (OSError, ValueError):
            continue


def _boost() -> Reading:
    try:
        return Reading("on" if _text(f"{_CPUS}/cpufreq/boost") == "1" else "off")
    except OSError:
        pass
    try:
        return Reading("off" if _text(f"{_CPUS}/intel_pstate/no_turbo") == "1" else "on")
    except OSError:
        return Reading(None, "the processor's driver does not tell whether it boosts")


def _throttles() -> Iterator[tuple[str, float | str]]:
    yield from _per_cpu("thermal_throttle/core_throttle_count", float)
    try:  # Raspberry Pi: bits of what is and of what has been throttled since boot
        yield "firmware_flags", float(int(_text("/sys/devices/platform/soc/soc:firmware/get_throttled"), 16))
    except (OSError, ValueError):
        return


def _power() -> dict[str, Reading]:
    percent, online, seen = Reading(None, "no battery"), "", False
    for supply in sorted(Path("/sys/class/power_supply").glob("*")):
        try:
            kind = _text(str(supply / "type"))
            if kind == "Battery" and percent.value is None:
                percent = Reading(int(_text(str(supply / "capacity"))))
            elif kind != "Battery":
                seen = True
                online = online or (kind if _text(str(supply / "online")) == "1" else "")
        except (OSError, ValueError):
            continue
    if online or percent.value is not None:
        source = Reading(online or "Battery")
    else:
        source = Reading(None, "all power supplies are offline" if seen else "no power supply is described in /sys")
    return {"battery_percent": percent, "power_source": source}


def _cgroup() -> str:
    """The path of this process in the unified hierarchy; that of the memory controller where there are several."""
    paths = dict(line.split(":", 2)[1:] for line in _text("/proc/self/cgroup").splitlines())
    return paths.get("memory", paths.get("", "/"))


def _cgroup_files(name: str) -> tuple[str, ...]:
    # In a container the path is the host's, and what is mounted is already the container's own.
    inside = f"/sys/fs/cgroup/{name}"
    try:
        return (f"/sys/fs/cgroup{_cgroup()}/{name}", inside)
    except (OSError, ValueError):
        return (inside,)


def _status(key: str) -> str:
    for line in _text("/proc/self/status").splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return value.strip()
    raise ValueError(f"/proc/self/status has no {key}")


def _cpu_quota() -> Reading:
    for path in _cgroup_files("cpu.max"):
        try:
            quota, period = _text(path).split()
            return Reading(None, "no quota") if quota == "max" else Reading(int(quota) / int(period))
        except (OSError, ValueError):
            continue
    return Reading(None, "no cpu.max in this process's cgroup")
