"""Sustained runs: how a device holds out for minutes, and when it has had enough. Pure.

In a launch of a minute or more, slowing down is the thing measured: the curve of medians over the launch, and the
retention, which is the last window's median over the first's (1 is steady, 1.3 is 30 % slower at the end).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rtfleet.records import DeviceState, Launch, RunSettings, Scenario

SUSTAINED_S = 60.0
WINDOWS = 20
# A median of fewer frames strays too much to be a point of the curve.
LEAST_WINDOW_FRAMES = 50


def is_sustained(scenario: Scenario, settings: RunSettings) -> bool:
    """Whether slowing down is what a run measures, rather than what disturbs it."""
    return scenario == "paced" and settings.min_duration_s >= SUSTAINED_S


def curve_ns(launch: Launch) -> tuple[float, ...]:
    """Median latency of each of up to 20 windows of equally many frames; () where there are too few frames for two."""
    count = min(WINDOWS, launch.latency_ns.size // LEAST_WINDOW_FRAMES)
    if count < 2:
        return ()
    return tuple(float(np.median(window)) for window in np.array_split(launch.latency_ns, count))


def mean_curve_ns(launches: Sequence[Launch]) -> tuple[float, ...]:
    """The launches' curves, window by window their mean; as long as the shortest of them."""
    curves = [curve for curve in map(curve_ns, launches) if curve]
    return tuple(float(np.mean(window)) for window in zip(*curves, strict=False))


def retention(launch: Launch) -> float | None:
    """Median latency of the last window / of the first; None for a launch of less than a minute."""
    curve = curve_ns(launch) if _length_s(launch) >= SUSTAINED_S else ()
    return curve[-1] / curve[0] if curve else None


def heated_c(launch: Launch) -> tuple[float, float] | None:
    """The hottest sensor before the launch, and the most that any showed until its end; None where none can be read."""
    states = (launch.device_before, *launch.device_during, launch.device_after)
    degrees = [max(found.values()) for state in states if state and (found := state.temperatures_c)]
    return (degrees[0], max(degrees)) if degrees else None


def _length_s(launch: Launch) -> float:
    """From the first frame of the scenario to the last, by the blocks' clock, the last block aside as a remainder."""
    starts_ns = [block.started_mono_ns for block in launch.blocks if block.phase == "PACED"]
    if len(starts_ns) < 2:
        return 0.0
    return (starts_ns[-1] - starts_ns[0]) * len(starts_ns) / (len(starts_ns) - 1) / 1e9


def limit_reached(state: DeviceState, settings: RunSettings) -> str:
    """Why a launch must end now: the device is too hot, or its battery too low; "" where it may go on.

    What can't be read stops nothing.
    """
    degrees = state.temperatures_c
    hottest = max(degrees, key=lambda name: degrees[name], default=None)
    if hottest is not None and degrees[hottest] >= settings.max_temperature_c:
        return f"{hottest} is {degrees[hottest]:.0f} °C, the limit is {settings.max_temperature_c:g}"
    percent = _value(state, "battery_percent")
    on_battery = _value(state, "power_source") in (None, "Battery")
    if isinstance(percent, (int, float)) and on_battery and percent <= settings.min_battery_percent:
        return f"the battery is at {percent:.0f} %, the limit is {settings.min_battery_percent:g}"
    return ""


def _value(state: DeviceState, name: str) -> float | str | None:
    reading = state.readings.get(name)
    return reading.value if reading else None
