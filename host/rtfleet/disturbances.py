"""What disturbed a launch, and which way: a disturbance is one-sided, and so is what it may change in a verdict.

One that can only *slow* (a busy neighbour, heat, low clocks) can't be why a limit held, so a PASS stands "despite" it
and a FAIL becomes INCONCLUSIVE. One that can only *flatter* (fixed clocks, real-time priority) can't be why a limit
was broken, so a FAIL stands and a PASS becomes INCONCLUSIVE. Each names its cause in words that a person can act on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from rtfleet import cores, might_have_been, neighbours, sustained
from rtfleet.neighbours import BUSY_SHARE
from rtfleet.records import Case, DeviceFacts, DeviceState, Launch, Reading, RunSettings

# A percentile asks about one frame in a hundred; so much stolen time can be that frame.
STEAL_SHARE = 0.01
# A block whose probe took this many times the case's usual was run by a slower machine; single probes stray less.
SLOW_PROBE = 1.3
# One probe before a launch says how fast the device was to within this.
UNFIT_MARGIN = 1.25
# Throttled clocks have gone down to a third, and a neighbour leaves a core its half: what takes a typical frame more
# than this times its limit is too slow without them.
TYPICAL = 4.0
# firmware_flags of a Raspberry Pi: these bits say "now", the rest "since boot".
_THROTTLED_NOW = 0b1111


@dataclass(frozen=True)
class Disturbance:
    """Something that moved a launch's numbers one way.

    Attributes:
        code: Stable, for machines; the same as the warning's.
        text: The cause, to stand after "despite" or "while": "busy neighbours: 1.8 cores, make (pid 7) 1.6".
        hint: What to do about it.
        factor: By how much it slowed at most, where that is known: it excuses no more than that.
        typical: By how much it slowed a typical frame at most, where no factor is known; single ones may be hit by any.
        blocks: Indices of the blocks that it disturbed, where that is known: it excuses nothing but these.
    """

    code: str
    effect: Literal["slows", "flatters"]
    text: str
    hint: str
    factor: float | None = None
    typical: float = TYPICAL
    blocks: tuple[int, ...] = ()


def of_launch(
    launch: Launch, case: Case, device: DeviceFacts | None, settings: RunSettings, usual_probe_ns: float | None = None
) -> tuple[Disturbance, ...]:
    """All that disturbed one launch. `usual_probe_ns` as from `usual_probe`."""
    count = device.cores if device else 0
    found = [
        unfit(launch),
        busy(launch, count, case.options.cpus),
        steal(launch, count),
        quota(launch, case.options.threads),
    ]
    if not sustained.is_sustained(case.scenario, settings):
        # In a sustained run throttling is what is measured, not what disturbs it.
        found += [throttled(launch), slow_machine(launch, usual_probe_ns)]
    found += [low_power(launch), fixed_clocks(launch), real_time(launch), pinned(case, device)]
    return tuple(one for one in found if one is not None)


def slowing(disturbed: Sequence[Disturbance]) -> list[Disturbance]:
    """Those that can only have slowed a launch."""
    return [one for one in disturbed if one.effect == "slows"]


def excuse(
    launch: Launch, disturbed: Sequence[Disturbance], still_fails: Callable[[Launch], bool]
) -> Disturbance | None:
    """What may be why a launch failed; None where nothing slowed it, or not by so much.

    A machine that was 1.4x slower does not excuse a model that takes ten times its limit: the launch is judged again as
    it might have been without the disturbance, and no excuse is what leaves it failing.
    """
    slowed = slowing(disturbed)
    for one in slowed:
        if not any(still_fails(might) for might in _might_have_been(launch, one)):
            return one
    return _together(slowed) if len(slowed) > 1 and not still_fails(_without_all(launch, slowed)) else None


def _together(slowed: Sequence[Disturbance]) -> Disturbance:
    """Several of which none explains a failure by itself: to name one alone would be a cause too small for it."""
    text = " and ".join(one.text for one in slowed)
    return replace(slowed[0], text=text, hint="; ".join(dict.fromkeys(one.hint for one in slowed)))


def _without_all(launch: Launch, slowed: Sequence[Disturbance]) -> Launch:
    """Factors first: blocks that are left out move the indices of the rest."""
    for one in sorted(slowed, key=lambda one: (one.factor is None, not one.blocks)):
        if one.factor is not None:
            launch = might_have_been.faster(launch, one.factor)
        elif one.blocks and (quiet := might_have_been.without(launch, one.blocks)).latency_ns.size:
            launch = quiet
        else:
            launch = might_have_been.calm(launch, (), one.typical)
    return launch


def _might_have_been(launch: Launch, one: Disturbance) -> Iterator[Launch]:
    if one.factor is not None:
        yield might_have_been.faster(launch, one.factor)
        return
    if one.blocks:
        quiet = might_have_been.without(launch, one.blocks)
        if quiet.latency_ns.size:
            yield quiet
    yield might_have_been.calm(launch, one.blocks, one.typical)


def flattering(disturbed: Sequence[Disturbance]) -> list[Disturbance]:
    """Those that can only have flattered it."""
    return [one for one in disturbed if one.effect == "flatters"]


def busy(launch: Launch, count: int, cpus: Sequence[int] = ()) -> Disturbance | None:
    """Others that took a good part of the device while blocks ran; else just before the launch, or during all of it."""
    if seen := neighbours.busy(launch, count, cpus):
        return Disturbance(
            "busy",
            "slows",
            f"a busy neighbour: {seen.text}",
            seen.hint,
            typical=TYPICAL * max(1.0, seen.core_share / max(count, 1)),
            blocks=seen.blocks,
        )
    worst = max(_states(launch), key=_others, default=None)
    if worst is None or _others(worst) < BUSY_SHARE * max(count, 1):
        return None
    named = ", ".join(f"{one.name} (pid {one.pid}) {one.core_share:.1f}" for one in worst.busy[:2])
    return Disturbance(
        "busy",
        "slows",
        f"busy neighbours: {_others(worst):.1f} cores" + (f", {named}" if named else ""),
        "stop them, or pin them to other cores, and measure again",
        typical=TYPICAL * max(1.0, _others(worst) / max(count, 1)),
    )


def _others(state: DeviceState) -> float:
    """Cores that others used: by the system's count, which also sees what has ended, or by the processes named."""
    counted = _value(state, "others_core_share")
    named = sum(one.core_share for one in state.busy)
    return max(named, counted) if isinstance(counted, float) else named


def unfit(launch: Launch) -> Disturbance | None:
    """A preflight that gave up. Its probe tells how much slower than usual the device was; heat alone excuses less."""
    fit = launch.preflight
    if fit is None or fit.verdict != "gave-up":
        return None
    slower = fit.probe_ns / fit.usual_ns if fit.usual_ns else 1.0
    return Disturbance(
        "unfit",
        "slows",
        f"a device that was not fit: {'; '.join(fit.reasons)}",
        "see to that and measure again; a device that is slower for good is known to be so after a month",
        factor=UNFIT_MARGIN * max(1.0, slower),
    )


def steal(launch: Launch, count: int) -> Disturbance | None:
    """Time that a hypervisor gave to somebody else, as a share of all cores."""
    moved, before, after = moved_by(launch, "steal_ns"), launch.device_before, launch.device_after
    if not moved or before is None or after is None or after.at_mono_ns <= before.at_mono_ns:
        return None
    share = moved / (after.at_mono_ns - before.at_mono_ns) / max(count, 1)
    if share < STEAL_SHARE:
        return None
    return Disturbance(
        "steal",
        "slows",
        f"stolen time: the hypervisor gave {share:.1%} of the processor time to others",
        "measure on a machine that is not shared, or when its neighbours are quiet",
    )


def quota(launch: Launch, threads: int) -> Disturbance | None:
    """A container's limit below what the launch's threads could use: it stops them for part of each period."""
    limit = _value(launch.device_before, "cpu_quota_cores")
    if not isinstance(limit, float) or limit >= threads + 1:
        return None
    return Disturbance(
        "quota",
        "slows",
        f"a quota of {limit:g} cores for the agent's cgroup",
        "raise the container's cpu limit and measure again",
    )


def throttled(launch: Launch) -> Disturbance | None:
    """The device slowed itself down because of heat or power."""
    hint = "let the device cool down, give it air and a proper power supply, and measure again"
    marked = sum("throttled" in block.marks for block in launch.blocks)
    if marked:
        return Disturbance("throttled", "slows", f"throttling in {marked} of {len(launch.blocks)} blocks", hint)
    for state in _states(launch):
        pressure, limit = _value(state, "thermal_pressure"), _value(state, "cpu_speed_limit_percent")
        if isinstance(pressure, str) and pressure != "none":
            return Disturbance("throttled", "slows", f"throttling (the system tells {pressure} heat)", hint)
        if isinstance(limit, float) and limit < 100:
            return Disturbance("throttled", "slows", f"throttling (the clock is limited to {limit:g} %)", hint)
    for name in _family(launch, "throttle_count"):
        now = _value(launch.device_after, name)
        flags = int(now) & _THROTTLED_NOW if name.endswith("firmware_flags") and isinstance(now, float) else 0
        if flags or (moved_by(launch, name) or 0) > 0:
            return Disturbance(
                "throttled",
                "slows",
                f"throttling ({name} moved while it ran)",
                hint,
            )
    return None


def slow_machine(launch: Launch, usual_probe_ns: float | None) -> Disturbance | None:
    """Most blocks ran while the speed probe was slower than is usual for this case."""
    probes = probe_readings([launch])
    if not usual_probe_ns or not probes.size:
        return None
    median, most = (float(ns) / usual_probe_ns for ns in np.percentile(probes, (50, 90)))
    if median < SLOW_PROBE:
        return None
    return Disturbance(
        "slow-machine",
        "slows",
        f"a slow machine: the speed probe took {median:.2f}x its usual time in half the blocks",
        "something else slows it (heat, a neighbour, another virtual machine): measure again when it is quiet",
        factor=most,
    )


def low_power(launch: Launch) -> Disturbance | None:
    """A power mode below what the device can do."""
    mode = _value(launch.device_before, "power_mode")
    if mode not in ("low-power", "quiet", "cool"):
        return None
    return Disturbance("low-power", "slows", f"the power mode {mode}", "choose balanced and measure again")


def fixed_clocks(launch: Launch) -> Disturbance | None:
    """Clocks kept at their highest, as no user's device keeps them."""
    governors = {name: str(_value(launch.device_before, name)) for name in _family(launch, "governor")}
    fixed = [f"{name} is {told}" for name, told in governors.items() if re.fullmatch("performance|.*, fixed", told)]
    # Heat takes the ceiling down to the floor: then they are anything but high.
    if not fixed or throttled(launch):
        return None
    return Disturbance(
        "fixed-clocks",
        "flatters",
        f"fixed clocks ({fixed[0]})",
        "let the clocks be as users have them (schedutil, powersave, no jetson_clocks) and measure again",
    )


def real_time(launch: Launch) -> Disturbance | None:
    """A scheduling class that an app does not get."""
    scheduler = _value(launch.device_before, "scheduler")
    if scheduler not in ("fifo", "rr", "deadline"):
        return None
    return Disturbance(
        "real-time",
        "flatters",
        f"real-time priority ({scheduler})",
        "start the agent without it (no chrt), as an app would run",
    )


def pinned(case: Case, device: DeviceFacts | None) -> Disturbance | None:
    """Pinned to others than the little cores of a chip whose cores differ."""
    if not case.options.cpus or device is None:
        return None
    flatters = cores.flatters(case.options.cpus, device.cores_info)
    # Where nothing tells the cores apart, an ARM chip may still have big ones.
    if flatters is False or (flatters is None and not device.arch.lower().startswith(("arm", "aarch"))):
        return None
    cpus = ", ".join(map(str, case.options.cpus))
    return Disturbance(
        "pinned",
        "flatters",
        f"pinning to cpu {cpus}, which the device's scheduler may not give to an app",
        "leave --cpus out to judge what users get",
    )


def probe_readings(launches: Iterable[Launch]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The speed probe before each of the scenario's own blocks, in ns: one position, so that they can be compared."""
    readings = [
        block.probe_before_ns
        for launch in launches
        for block in launch.blocks
        if block.phase == ("PACED" if launch.lateness_ns.size else "BURST") and block.probe_before_ns > 0
    ]
    return np.array(readings, np.float64)


def usual_probe(launches: Sequence[Launch]) -> float | None:
    """The 10th percentile of the case's own probes: never the best one, which is mere luck. None without readings."""
    probes = probe_readings(launches)
    return float(np.percentile(probes, 10)) if probes.size else None


# ---- reading the device's state ------------------------------------------------------------------------------------


def _states(launch: Launch) -> Iterator[DeviceState]:
    yield from (state for state in (launch.device_before, launch.device_after) if state is not None)


def moved_by(launch: Launch, name: str) -> float | None:
    """How far a running count moved from before to after; None where it can't be read."""
    before, after = _value(launch.device_before, name), _value(launch.device_after, name)
    return after - before if isinstance(before, float) and isinstance(after, float) else None


def _family(launch: Launch, stem: str) -> list[str]:
    """Readings of one kind: "governor.cpu0", "governor.cpu1", ..."""
    return sorted({name for state in _states(launch) for name in state.readings if name.split(".")[0] == stem})


def _value(state: DeviceState | None, name: str) -> float | str | None:
    value = state.readings.get(name, Reading(None)).value if state else None
    return float(value) if isinstance(value, int) else value
