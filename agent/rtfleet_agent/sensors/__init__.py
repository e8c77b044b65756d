"""What could disturb a launch: clocks, heat, load, power, suspend. One module an operating system.

Units stand in the readings' names. A reading that can't be had is there with its reason.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from rtfleet_agent.launch import BusyProcess, DeviceState, Reading
from rtfleet_agent.sensors import linux

_ON_LINUX = platform.system() == "Linux"
# How long processes are observed before a launch. Long enough for a share of 2 % to stand out, short enough that a
# suite of a hundred launches does not notice.
_LOOK_S = 0.2
_BUSY_SHARE = 0.02
# The agent and what started it (a shell, the host itself) always do a little.
_OWN_BUSY_SHARE = 0.05
_SHOWN = 8


@dataclass(frozen=True)
class Snapshot:
    """Processor time used up to a moment.

    Attributes:
        busy_ns: Of all cores together, whoever used them; None where it can't be read.
        processes: (pid, start time) -> (name, nanoseconds so far). Start time, because pids come back.
    """

    at_mono_ns: int
    busy_ns: int | None = None
    processes: Mapping[tuple[int, int], tuple[str, int]] = field(default_factory=dict)


def snapshot() -> Snapshot:
    """Now."""
    if _ON_LINUX:
        return Snapshot(time.monotonic_ns(), linux.busy_ns(), linux.processes())
    return Snapshot(time.monotonic_ns())


def readings() -> dict[str, Reading]:
    """All sensors of this device, also those that can't be read."""
    if _ON_LINUX:
        return linux.readings()
    reason = f"rtfleet has no sensors for {platform.system()} yet"
    return {name: Reading(None, reason) for name in linux.ALWAYS}


def before() -> tuple[DeviceState, Snapshot]:
    """The device before a launch, and the snapshot that `after` goes on from. Takes 0.2 s."""
    start = snapshot()
    time.sleep(_LOOK_S)
    end = snapshot()
    return _state("before", start, end, worker_cpu_ns=0), end


def after(start: Snapshot, worker_cpu_ns: int) -> DeviceState:
    """The device after a launch; busy processes are those of the whole launch since `start`."""
    return _state("after", start, snapshot(), worker_cpu_ns)


def oom_kills() -> int:
    """How often the kernel has killed for lack of memory around here; 0 where it does not tell."""
    return linux.oom_kills() if _ON_LINUX else 0


def _state(when: Literal["before", "after"], start: Snapshot, end: Snapshot, worker_cpu_ns: int) -> DeviceState:
    elapsed_ns = max(1, end.at_mono_ns - start.at_mono_ns)
    if start.busy_ns is None or end.busy_ns is None:
        others = Reading(None, "the system does not tell how busy its cores are")
    else:
        # Also sees processes that began and ended in between, which no list of processes can show.
        others = Reading(max(0.0, (end.busy_ns - start.busy_ns - worker_cpu_ns) / elapsed_ns))
    return DeviceState(
        when=when,
        at_mono_ns=end.at_mono_ns,
        readings={**readings(), "others_core_share": others},
        busy=busy_between(start, end, linux.own_processes() if _ON_LINUX else frozenset()),
    )


def busy_between(start: Snapshot, end: Snapshot, own: frozenset[int]) -> tuple[BusyProcess, ...]:
    """Processes that took 2 % of a core or more, the busiest first, at most eight.

    Those whose pid is in `own` are named from 5 % on. One that began in between counts with all that it used.
    """
    elapsed_ns = max(1, end.at_mono_ns - start.at_mono_ns)
    found = []
    for (pid, began), (name, used_ns) in end.processes.items():
        share = (used_ns - start.processes.get((pid, began), ("", 0))[1]) / elapsed_ns
        if share >= (_OWN_BUSY_SHARE if pid in own else _BUSY_SHARE):
            found.append(BusyProcess(pid, name, share))
    return tuple(sorted(found, key=lambda process: -process.core_share)[:_SHOWN])
