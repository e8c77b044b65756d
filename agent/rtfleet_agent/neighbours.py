"""What others do while blocks are measured. The worker looks between blocks, never inside one.

A look reads a file of every process, some milliseconds, so there is one about every second; the blocks since the look
before share what it saw.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace

from rtfleet_agent import sensors
from rtfleet_agent.launch import Block

# Processes are seen in ticks of 10 ms, so this is the least time over which a share says something.
_SHORTEST_LOOK_NS = int(sensors.LOOK_S * 1e9)
# Less of a core than this says nothing on ticks of 10 ms, and every machine has it.
_LEAST_SHARE = 0.05
_SHOWN = 4
# The clocks with and without suspend are read microseconds apart; a suspend takes longer than this.
_SUSPENDED_NS = 10_000_000
# Of a Raspberry Pi's flags these bits say that it is throttled now; the rest say "since boot".
_FLAGS, _THROTTLED_NOW = "firmware_flags", 0b1111


class Neighbours:
    """Makes the first look when it is made. The worker itself is nobody's neighbour."""

    def __init__(self) -> None:
        self._worker = os.getpid()
        self._own = sensors.own_processes()
        self._suspended_ns = sensors.suspended_ns()
        self._throttles = sensors.throttle_counts()
        self._cpu_ns = time.process_time_ns()
        self._last = sensors.snapshot(fine=False)

    def suspended(self) -> bool:
        """Whether the device slept since this was asked last. Takes microseconds."""
        before_ns, self._suspended_ns = self._suspended_ns, sensors.suspended_ns()
        if before_ns is None or self._suspended_ns is None:
            return False
        return self._suspended_ns - before_ns > _SUSPENDED_NS

    def seen(self, blocks: Sequence[Block]) -> list[Block]:
        """The blocks since the last look, with what others used and whether the device throttled.

        Too soon after the last look they come back as they are: not looked at.
        """
        if time.monotonic_ns() - self._last.at_mono_ns < _SHORTEST_LOOK_NS:
            return list(blocks)
        now, cpu_ns = sensors.snapshot(fine=False), time.process_time_ns()
        share = sensors.others_core_share(self._last, now, cpu_ns - self._cpu_ns)
        found = sensors.busy_between(self._last, now, self._own, least_share=_LEAST_SHARE)
        others = tuple(each for each in found if each.pid != self._worker)[:_SHOWN]
        busy = sensors.located(others)
        throttled = ("throttled",) if self._throttled() else ()
        self._last, self._cpu_ns = now, cpu_ns
        return [replace(each, busy=busy, others_core_share=share, marks=each.marks + throttled) for each in blocks]

    def _throttled(self) -> bool:
        before, self._throttles = self._throttles, sensors.throttle_counts()
        return any(
            int(count) & _THROTTLED_NOW if name == _FLAGS else count > before.get(name, count)
            for name, count in self._throttles.items()
        )
