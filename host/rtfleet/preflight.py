"""Is a device fit to be measured now? Decided look by look: ready, wait a moment, or give up and say why. Pure.

A reading that is missing stands among the reasons; nothing waits for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rtfleet import history
from rtfleet.records import DeviceState, Preflight, Probe

PASSES = 3
# A device that was given up a launch ago is not waited for as long again.
WAIT_AGAIN_S = 5.0


@dataclass(frozen=True)
class Limits:
    """When a device is fit, and how long to wait for it.

    Attributes:
        slower: Longest speed probe, in times of the device's usual one.
        passes: So many looks in a row must be good; three, once one was not.
        longest_wait_s: Then it is given up, and measured all the same or not, as the caller likes.
        pause_s: After a bad look; after a good one the next comes at once. A look itself takes about half a second.
    """

    slower: float = history.HEALTHY
    passes: int = PASSES
    longest_wait_s: float = 60.0
    pause_s: float = 1.0
    hottest_c: float = 80.0
    least_battery_percent: float = 20.0


@dataclass(frozen=True)
class Look:
    """What was seen of a device at one moment. None comes with a reason in `missing`.

    Attributes:
        at_s: Since the preflight began.
        hottest: Name of the hottest sensor.
        unplugged: It runs on its battery.
        pressure: The system's own word for throttling; "" where it says that there is none, or nothing.
        busy: The busiest neighbour in words; "" where nobody is.
        missing: Why readings are not there.
    """

    at_s: float
    probe_ns: int
    hottest_c: float | None = None
    hottest: str = ""
    battery_percent: float | None = None
    unplugged: bool = False
    pressure: str = ""
    busy: str = ""
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wait:
    """Look again after so long."""

    pause_s: float
    reasons: tuple[str, ...]


def limits_after(previous: Preflight | None, max_wait_s: float) -> Limits:
    """Those of the next launch on a device: one look is enough for one that was fit a launch ago."""
    if previous is None:
        return Limits(longest_wait_s=max_wait_s)
    if previous.verdict == "gave-up":
        return Limits(longest_wait_s=min(WAIT_AGAIN_S, max_wait_s))
    return Limits(passes=1, longest_wait_s=max_wait_s)


def look_of(probe: Probe, at_s: float) -> Look:
    """What `AgentClient.probe` brought, `at_s` seconds after the preflight began."""
    state = probe.state
    degrees = state.temperatures_c
    hottest = max(degrees, key=lambda name: degrees[name], default="")
    battery, pressure = _value(state, "battery_percent"), _value(state, "thermal_pressure")
    missing = [] if degrees else [_why_missing(state, "temperature_c", "the temperature")]
    if battery is None:
        missing.append(_why_missing(state, "battery_percent", "the battery"))
    return Look(
        at_s=at_s,
        probe_ns=probe.probe_ns,
        hottest_c=degrees.get(hottest),
        hottest=hottest,
        battery_percent=float(battery) if isinstance(battery, (int, float)) else None,
        unplugged=_value(state, "power_source") in (None, "Battery"),
        pressure=pressure if isinstance(pressure, str) and pressure != "none" else "",
        busy=next((f"`{one.name}` (pid {one.pid}) uses {one.core_share:.1f} cores" for one in state.busy), ""),
        missing=tuple(missing),
    )


def step(looks: Sequence[Look], usual_ns: float | None, limits: Limits | None = None) -> Wait | Preflight:
    """What to do after these looks, of which there is at least one."""
    limits = limits or Limits()
    last = looks[-1]
    wrong = objections(last, usual_ns, limits)
    unknown = (*(() if usual_ns is not None else ("its usual speed is not known yet",)), *last.missing)

    def ended(verdict: Literal["ready", "waited", "gave-up", "unknown"], reasons: tuple[str, ...] = ()) -> Preflight:
        return Preflight(verdict, last.at_s, last.probe_ns, usual_ns, reasons, unknown)

    good = [not objections(look, usual_ns, limits) for look in looks]
    passes = limits.passes if all(good) else PASSES
    if len(good) >= passes and all(good[-passes:]):
        if all(good):
            return ended("ready" if usual_ns is not None else "unknown")
        bad = [look for look, is_good in zip(looks, good, strict=True) if not is_good]
        return ended("waited", objections(bad[-1], usual_ns, limits))
    if _battery_is_low(last, limits):
        return ended("gave-up", wrong)
    if last.at_s >= limits.longest_wait_s and not all(good):
        return ended("gave-up", wrong or (f"it was not fit {passes} times in a row within {last.at_s:.0f} s",))
    return Wait(limits.pause_s if wrong else 0.0, wrong)


def healthy_ns(looks: Sequence[Look], usual_ns: float | None, limits: Limits | None = None) -> tuple[int, ...]:
    """The probes that belong into the device's history: those of looks that nothing speaks against."""
    return tuple(look.probe_ns for look in looks if not objections(look, usual_ns, limits))


def objections(look: Look, usual_ns: float | None, limits: Limits | None = None) -> tuple[str, ...]:
    """What speaks against measuring at this moment, in words."""
    return tuple(_objections(look, usual_ns, limits or Limits()))


def _objections(look: Look, usual_ns: float | None, limits: Limits) -> Iterator[str]:
    if usual_ns is not None and not history.is_healthy(look.probe_ns, usual_ns, limits.slower):
        said = f"it is {look.probe_ns / usual_ns:.2f}x slower than usual"
        yield f"{said} while {look.busy}" if look.busy else said
    if look.hottest_c is not None and look.hottest_c > limits.hottest_c:
        yield f"{look.hottest} is {look.hottest_c:.0f} °C, over {limits.hottest_c:g}"
    if look.pressure:
        yield f"it throttles ({look.pressure} heat)"
    if _battery_is_low(look, limits):
        yield f"its battery is at {look.battery_percent:.0f} %, under {limits.least_battery_percent:g}: charge it"


def _battery_is_low(look: Look, limits: Limits) -> bool:
    """On its battery and low: no wait of a minute cures that."""
    return look.unplugged and look.battery_percent is not None and look.battery_percent < limits.least_battery_percent


def _value(state: DeviceState, name: str) -> float | str | None:
    reading = state.readings.get(name)
    return reading.value if reading else None


def _why_missing(state: DeviceState, name: str, what: str) -> str:
    reading = state.readings.get(name)
    return f"{what} is not known: {reading.reason if reading and reading.reason else 'the agent told nothing'}"
