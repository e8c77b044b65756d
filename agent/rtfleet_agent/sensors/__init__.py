"""What could disturb a launch: clocks, heat, load, power, suspend. One module an operating system.

Units stand in the readings' names. A reading that can't be had is there with its reason; what is the same thing on two
systems has the same name and the same words on both.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias

from rtfleet_agent.launch import BusyProcess, DeviceState, Reading
from rtfleet_agent.sensors import android, jetson, linux, macos, processes
from rtfleet_agent.sensors.processes import Used

System: TypeAlias = Literal["linux", "jetson", "android", "macos", "other"]

_HAS_PROC = sys.platform in ("linux", "android")
# How long processes are observed before a launch. Long enough for a share of 2 % to stand out, short enough that a
# suite of a hundred launches does not notice.
LOOK_S = 0.2
_BUSY_SHARE = 0.02
# The agent and what started it (a shell, the host itself) always do a little.
_OWN_BUSY_SHARE = 0.05
_SHOWN = 8


@dataclass(frozen=True)
class Snapshot:
    """Processor time used up to a moment.

    Attributes:
        busy_ns: Of all cores together, whoever used them; None where it can't be read.
        processes: (pid, start time) -> what it has used so far. Start time, because pids come back.
    """

    at_mono_ns: int
    busy_ns: int | None = None
    processes: Mapping[tuple[int, int], Used] = field(default_factory=dict)


def system(root: Path = Path("/")) -> System:
    """Whose sensors these are. A phone's Python says "linux" of itself, as a Jetson's does."""
    if sys.platform == "darwin":
        return "macos"
    if not _HAS_PROC:
        return "other"
    if android.is_android(root):
        return "android"
    return "jetson" if jetson.is_jetson(root) else "linux"


def readings(root: Path = Path("/")) -> dict[str, Reading]:
    """All sensors of this device, also those that can't be read."""
    kind = system(root)
    if kind == "android":
        return android.readings(root)
    if kind == "jetson":
        return jetson.readings(root)
    if kind == "linux":
        return linux.readings(root)
    if kind == "macos":
        return macos.readings()
    return {name: Reading(None, f"rtfleet has no sensors for {sys.platform} yet") for name in linux.ALWAYS}


def log_tail(pid: int) -> str:
    """What the system's log says about the end of a process; "" where it is not asked for that."""
    return android.log_tail(pid) if system() == "android" else ""


def snapshot(*, fine: bool = True) -> Snapshot:
    """Now. `fine` as in `processes.processes`."""
    if _HAS_PROC:
        return Snapshot(time.monotonic_ns(), processes.busy_ns(), processes.processes(fine=fine))
    return Snapshot(time.monotonic_ns())


def before() -> tuple[DeviceState, Snapshot]:
    """The device before a launch, and the snapshot that `after` goes on from. Takes 0.2 s."""
    start = snapshot()
    time.sleep(LOOK_S)
    end = snapshot()
    return _state("before", start, end, worker_cpu_ns=0), end


def during() -> DeviceState:
    """The device between two blocks of a launch: what can be read, without a look at its processes."""
    at_mono_ns = time.monotonic_ns()
    found = {name: reading for name, reading in readings().items() if reading.value is not None}
    return DeviceState("during", at_mono_ns, found)


def after(start: Snapshot, worker_cpu_ns: int) -> DeviceState:
    """The device after a launch; busy processes are those of the whole launch since `start`."""
    return _state("after", start, snapshot(), worker_cpu_ns)


def oom_kills() -> int:
    """How often the kernel has killed for lack of memory around here; 0 where it does not tell."""
    return linux.oom_kills() if _HAS_PROC else 0


def boot_id() -> str:
    """Changes with every boot; "" where nothing tells."""
    try:
        return linux.boot_id() if _HAS_PROC else macos.boot_id()
    except OSError:
        return ""


def suspended_ns() -> int | None:
    """Time spent in suspend since boot; None where nothing tells. Microseconds to ask."""
    try:
        return linux.suspended_ns() if _HAS_PROC else macos.suspended_ns()
    except (OSError, ValueError):
        return None


def throttle_counts() -> dict[str, float]:
    """Running counts of throttling; {} where nothing counts it, or only a command would tell."""
    return dict(linux.throttle_counts()) if _HAS_PROC else {}


def own_processes() -> frozenset[int]:
    """This process and what started it, up to init."""
    return processes.own_processes() if _HAS_PROC else frozenset()


def _state(when: Literal["before", "after"], start: Snapshot, end: Snapshot, worker_cpu_ns: int) -> DeviceState:
    share = others_core_share(start, end, worker_cpu_ns)
    reason = "" if share is not None else "the system does not tell how busy its cores are"
    return DeviceState(
        when=when,
        at_mono_ns=end.at_mono_ns,
        readings={**readings(), "others_core_share": Reading(share, reason)},
        busy=busy_between(start, end, own_processes()),
    )


def others_core_share(start: Snapshot, end: Snapshot, worker_cpu_ns: int) -> float | None:
    """Cores that everybody but the worker used; None where the system does not tell.

    Also sees processes that began and ended in between, which no list of processes can show.
    """
    if start.busy_ns is None or end.busy_ns is None:
        return None
    elapsed_ns = max(1, end.at_mono_ns - start.at_mono_ns)
    return max(0.0, (end.busy_ns - start.busy_ns - worker_cpu_ns) / elapsed_ns)


def busy_between(
    start: Snapshot, end: Snapshot, own: frozenset[int], *, least_share: float = _BUSY_SHARE
) -> tuple[BusyProcess, ...]:
    """Processes that took `least_share` of a core or more, the busiest first, at most eight.

    Those whose pid is in `own` are named from 5 % on. One that began in between counts with all that it used.
    """
    elapsed_ns = max(1, end.at_mono_ns - start.at_mono_ns)
    found = []
    for (pid, began), used in end.processes.items():
        earlier = start.processes.get((pid, began))
        share = (used.cpu_ns - (earlier.cpu_ns if earlier else 0)) / elapsed_ns
        if share >= (_OWN_BUSY_SHARE if pid in own else least_share):
            found.append(BusyProcess(pid, used.name, share))
    return tuple(sorted(found, key=lambda process: -process.core_share)[:_SHOWN])


def located(busy: tuple[BusyProcess, ...]) -> tuple[BusyProcess, ...]:
    """The same processes with the core that each was last seen on."""
    return tuple(replace(each, core=processes.core_of(each.pid)) for each in busy) if _HAS_PROC else busy
