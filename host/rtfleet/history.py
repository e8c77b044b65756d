"""How fast a device usually is: its own healthy readings of the speed probe, kept between runs.

Readings are compared only with their like, so a history belongs to one device, one Python (the probe's kernel is plain
Python) and one set of cores, and holds readings of one position only: before a case, while nothing is measured.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rtfleet import cache
from rtfleet.records import DeviceFacts

KEPT = 32
# Of fewer readings the 10th percentile is luck.
LEAST = 3
# Times the usual. The median of 15 runs strays further in 7 % of blocks on a busy machine (measuring.md).
HEALTHY = 1.15
# A device that has become slower for good (a new kernel, a worn battery) is not measured against its youth for ever.
FORGOTTEN_S = 30 * 24 * 3600.0


@dataclass(frozen=True)
class Healthy:
    """A reading of the probe in its usual range; `at_s` is seconds since 1970."""

    at_s: float
    probe_ns: int


@dataclass(frozen=True)
class History:
    """The last healthy readings, old ones first."""

    readings: tuple[Healthy, ...] = ()


def file_of(folder: Path, device: DeviceFacts, cpus: tuple[int, ...] = ()) -> Path:
    """Where the history of this device lies in the cache `folder`."""
    return folder / "speed" / f"{cache.key_of(device.identity, device.python_version, list(cpus))[:32]}.json"


def read(path: Path) -> History:
    """What is kept there; empty where there is nothing, or nothing that can be read."""
    return cache.read_note(path, History) or History()


def remember(path: Path, *probes_ns: int, now_s: float | None = None) -> History:
    """Add healthy readings, if there are any, and write the history whole; a crash leaves the one before."""
    now_s = time.time() if now_s is None else now_s
    known = [one for one in read(path).readings if now_s - one.at_s < FORGOTTEN_S]
    kept = History(tuple([*known, *(Healthy(now_s, probe_ns) for probe_ns in probes_ns)][-KEPT:]))
    cache.write_note(path, kept)
    return kept


def recent(history: History, now_s: float | None = None) -> History:
    """Without the readings that are too old to compare with."""
    now_s = time.time() if now_s is None else now_s
    return replace(history, readings=tuple(one for one in history.readings if now_s - one.at_s < FORGOTTEN_S))


def usual_ns(history: History) -> float | None:
    """The 10th percentile of the readings, never the best one, which is mere luck; None of fewer than three."""
    if len(history.readings) < LEAST:
        return None
    return float(np.percentile([one.probe_ns for one in history.readings], 10))


def is_healthy(probe_ns: float, usual_ns: float, limit: float = HEALTHY) -> bool:
    """Whether the device is as fast as it usually is."""
    return probe_ns <= limit * usual_ns
