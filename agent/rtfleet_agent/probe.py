"""The speed probe: how fast is the machine right now?

One kernel, always the same, in plain Python so that no library's build can change it. It touches a few hundred bytes,
so it tells clock speed and a busy sibling, not the state of the caches. Readings are compared only with readings of
the same scenario, cpu set and position in a launch.
"""

from __future__ import annotations

import time

RUNS = 15
SETTLING_RUNS = 5
STEPS = 400  # about 20 µs on a laptop core of 2024


def _kernel() -> int:
    value = 1
    for _ in range(STEPS):
        value = (value * 1103515245 + 12345) & 0x7FFFFFFF
    return value


def probe_ns() -> int:
    """Median of `RUNS` runs in a row, after `SETTLING_RUNS` that are dropped: the first after a sleep are slow."""
    clock = time.monotonic_ns
    times = []
    for _ in range(SETTLING_RUNS + RUNS):
        start = clock()
        _kernel()
        times.append(clock() - start)
    return sorted(times[SETTLING_RUNS:])[RUNS // 2]
