"""What the worker asks of the operating system about itself: memory, cores, and how it dies."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path

from rtfleet_agent.runtimes.base import OutOfMemory, RuntimeFailure

_PR_SET_PDEATHSIG = 1
_PR_SET_TIMERSLACK = 29
_SIGKILL = 9

_STATUS = Path("/proc/self/status")
MEMORY_REASON = f"{sys.platform} has no /proc/self/status to read VmRSS and VmHWM from"

try:
    _libc: ctypes.CDLL | None = ctypes.CDLL(None)
except (OSError, TypeError):
    _libc = None
_sched_getcpu = getattr(_libc, "sched_getcpu", None)


def current_cpu() -> int:
    """The core that this thread is on; -1 where the system does not tell."""
    return int(_sched_getcpu()) if _sched_getcpu else -1


def settle() -> None:
    """Die with the agent, and wake from sleep as close to the deadline as the kernel can (default slack: 50 µs).

    The kernel sends the signal when the *thread* that started this process ends: an agent must start workers from a
    thread that outlives them.
    """
    if sys.platform == "linux" and _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
        _libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)


def pin(cpus: tuple[int, ...]) -> None:
    """This process on these cores.

    Raises:
        RuntimeFailure: a core that is not here, or a system without affinity.
    """
    if not cpus:
        return
    if not hasattr(os, "sched_setaffinity"):
        raise RuntimeFailure(
            f"cpus = {list(cpus)} can't be honoured: {sys.platform} has no core affinity; leave it out"
        )
    here = os.sched_getaffinity(0)
    if missing := sorted(set(cpus) - here):
        raise RuntimeFailure(
            f"cpus {missing} can't be used: this process may run on {sorted(here)} of {os.cpu_count()} cores"
        )
    os.sched_setaffinity(0, cpus)


def resident_bytes() -> int | None:
    """VmRSS: what the process holds now; None where the system has no such figure (`MEMORY_REASON`)."""
    return _status_bytes("VmRSS")


def peak_resident_bytes() -> int | None:
    """VmHWM: the most that the process ever held. getrusage would report its parent's peak."""
    return _status_bytes("VmHWM")


def forget_peak() -> None:
    """Let VmHWM start again from now, so that unpacking the feeds is not taken for the model's memory."""
    with suppress(OSError):  # refused in some containers: the peak is then an upper estimate
        Path("/proc/self/clear_refs").write_text("5")


def limit_growth(max_rss_bytes: int) -> None:
    """Let private memory grow by at most this much, so that a model too large fails here and not the whole device.

    RLIMIT_DATA counts what may be written, touched or not; `check_resident` holds the exact limit between blocks.
    """
    if not max_rss_bytes or sys.platform != "linux":
        return
    import resource

    now = _status_bytes("VmData") or 0
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = now + max_rss_bytes
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def check_resident(max_rss_bytes: int) -> None:
    """
    Raises:
        OutOfMemory: the peak is over the limit; 0 is no limit.
    """
    peak = peak_resident_bytes()
    if max_rss_bytes and peak is not None and peak > max_rss_bytes:
        raise OutOfMemory(
            f"the worker's peak memory is {peak:,} bytes, over this launch's limit max_rss_bytes = {max_rss_bytes:,}; "
            "raise the limit or take a smaller variant"
        )


def _status_bytes(key: str) -> int | None:
    try:
        text = _STATUS.read_text()
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    return None
