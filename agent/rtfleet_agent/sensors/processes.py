"""Who uses the processors, from /proc of Linux and Android."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from rtfleet_agent.sensors.reading import text

TICK_NS = 10**9 // os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat after the name, counted from the state, which is field 3 of proc(5).
_PARENT, _USER, _SYSTEM, _STARTED, _CORE = 1, 11, 12, 19, 36


@dataclass(frozen=True)
class Used:
    """Processor time that a process has used so far, all its threads together."""

    name: str
    cpu_ns: int


def cpu_ticks(root: Path = Path("/")) -> list[int]:
    """The first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal, ... of all cores."""
    return [int(each) for each in text(root / "proc/stat").splitlines()[0].split()[1:]]


def busy_ns(root: Path = Path("/")) -> int | None:
    """Time that all cores together were not idle, steal and guests aside; None where /proc/stat can't be read."""
    try:
        user, nice, system, _idle, _iowait, irq, softirq = cpu_ticks(root)[:7]
    except (OSError, ValueError):
        return None
    return (user + nice + system + irq + softirq) * TICK_NS


def processes(root: Path = Path("/"), *, fine: bool = True) -> dict[tuple[int, int], Used]:
    """(pid, start time) -> processor time, of all processes that can be seen.

    Args:
        fine: To the nanosecond, of the threads that live; that takes several files a process. Else in ticks of 10 ms.
    """
    found = {}
    for pid in filter(str.isdecimal, os.listdir(root / "proc")):
        folder = root / "proc" / pid
        try:
            name, fields = _stat(folder / "stat")
            used_ns = (int(fields[_USER]) + int(fields[_SYSTEM])) * TICK_NS
            if fine:
                used_ns = max(_scheduled_ns(folder), used_ns)
            found[int(pid), int(fields[_STARTED])] = Used(name, used_ns)
        except (OSError, ValueError, IndexError):  # it ended while we looked
            continue
    return found


def core_of(pid: int, root: Path = Path("/")) -> int | None:
    """The core that the busiest thread of a process was last on: one that runs, else the one that has used most."""
    found: list[tuple[bool, int, int]] = []
    try:
        threads = os.listdir(root / "proc" / str(pid) / "task")
    except OSError:
        return None
    for thread in threads:
        try:
            _, fields = _stat(root / "proc" / str(pid) / "task" / thread / "stat")
            found.append((fields[0] == "R", int(fields[_USER]) + int(fields[_SYSTEM]), int(fields[_CORE])))
        except (OSError, ValueError, IndexError):
            continue
    return max(found)[2] if found else None


def own_processes(root: Path = Path("/")) -> frozenset[int]:
    """This process and what started it, up to init."""
    found, pid = set(), os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        try:
            pid = int(_stat(root / "proc" / str(pid) / "stat")[1][_PARENT])
        except (OSError, ValueError, IndexError):
            break
    return frozenset(found)


def _stat(path: Path) -> tuple[str, list[str]]:
    # A name may hold anything, also blanks and brackets; the last ")" ends it.
    head, _, tail = text(path).rpartition(")")
    return head.partition("(")[2], tail.split()


def _scheduled_ns(folder: Path) -> int:
    # To the nanosecond, of the threads that live: a tick of 10 ms is too coarse for 2 % of 0.2 s.
    total = 0
    for thread in os.listdir(folder / "task"):
        try:
            total += int(text(folder / "task" / thread / "schedstat").split()[0])
        except (OSError, ValueError, IndexError):
            continue
    return total
