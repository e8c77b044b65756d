"""A device's own history of speed, and whether it is fit to be measured now."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from invented import device, state

from rtfleet import history
from rtfleet.history import Healthy, History
from rtfleet.preflight import Limits, Look, Wait, healthy_ns, limits_after, look_of, step
from rtfleet.records import BusyProcess, DeviceState, Preflight, Probe, Reading

USUAL_NS = 20_000.0
GOOD = Look(at_s=0.0, probe_ns=20_500, hottest_c=50.0, hottest="temperature_c.cpu", battery_percent=80.0)
SLOW = replace(GOOD, probe_ns=30_000)
DAY_S = 24 * 3600.0


def at(*looks: Look, every_s: float = 1.0) -> list[Look]:
    """These looks, a second apart."""
    return [replace(look, at_s=number * every_s) for number, look in enumerate(looks)]


# ---- the history ---------------------------------------------------------------------------------------------------


def test_the_last_32_readings_are_kept(tmp_path: Path) -> None:
    file = history.file_of(tmp_path, device())
    for number in range(40):
        history.remember(file, 20_000 + number, now_s=1000.0 + number)

    kept = history.read(file).readings
    assert len(kept) == 32
    assert kept[-1] == Healthy(1039.0, 20_039)
    assert kept[0].probe_ns == 20_008


def test_the_usual_speed_is_the_10th_percentile_and_never_one_lucky_reading() -> None:
    readings = tuple(Healthy(0, ns) for ns in [10_000, *[20_000] * 19])

    assert history.usual_ns(History(readings)) == 20_000
    assert history.usual_ns(History(readings[:2])) is None
    assert history.is_healthy(22_900, 20_000) and not history.is_healthy(23_100, 20_000)


def test_devices_pythons_and_cores_have_histories_of_their_own(tmp_path: Path) -> None:
    files = {
        history.file_of(tmp_path, device()),
        history.file_of(tmp_path, device(identity="other")),
        history.file_of(tmp_path, device(python_version="3.13.0")),
        history.file_of(tmp_path, device(), (0,)),
    }

    assert len(files) == 4
    assert history.file_of(tmp_path, device(alias="another name", boot_id="another boot")) in files


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1, "note": {"readings": [{"at_s": "x"}]}}'])
def test_a_damaged_history_is_an_empty_one(tmp_path: Path, text: str) -> None:
    file = history.file_of(tmp_path, device())
    file.parent.mkdir(parents=True)
    file.write_text(text)

    assert history.read(file) == History()
    assert len(history.remember(file, 20_000).readings) == 1


def test_old_readings_are_forgotten(tmp_path: Path) -> None:
    file = history.file_of(tmp_path, device())
    history.remember(file, 10_000, 10_000, now_s=0.0)

    kept = history.remember(file, 20_000, now_s=31 * DAY_S)

    assert [one.probe_ns for one in kept.readings] == [20_000]
    assert history.recent(kept, now_s=62 * DAY_S) == History()


# ---- one look ------------------------------------------------------------------------------------------------------


def test_a_look_is_what_the_agent_told() -> None:
    told = state(temperature_c__cpu=51.0, temperature_c__gpu=48.0, battery_percent=17, thermal_pressure="light")
    busy = replace(told, busy=(BusyProcess(7, "make", 0.93),))

    assert look_of(Probe(21_000, busy), 2.5) == Look(
        at_s=2.5,
        probe_ns=21_000,
        hottest_c=51.0,
        hottest="temperature_c.cpu",
        battery_percent=17.0,
        unplugged=True,
        pressure="light",
        busy="`make` (pid 7) uses 0.9 cores",
    )


def test_readings_that_are_not_there_are_there_as_reasons() -> None:
    told = DeviceState(0, {"temperature_c": Reading(None, "no thermal zone"), "power_source": Reading("Mains")})

    look = look_of(Probe(21_000, told), 0.0)

    assert (look.hottest_c, look.battery_percent, look.unplugged) == (None, None, False)
    assert look.missing == (
        "the temperature is not known: no thermal zone",
        "the battery is not known: the agent told nothing",
    )


# ---- the decision --------------------------------------------------------------------------------------------------


def test_three_good_looks_in_a_row_are_ready_without_a_pause() -> None:
    assert step(at(GOOD), USUAL_NS) == step(at(GOOD, GOOD), USUAL_NS) == Wait(0.0, ())
    assert step(at(GOOD, GOOD, GOOD), USUAL_NS) == Preflight("ready", 2.0, 20_500, USUAL_NS)


def test_a_slow_device_is_waited_for_and_says_so() -> None:
    busy = replace(SLOW, busy="`make` (pid 7) uses 0.9 cores")
    why = ("it is 1.50x slower than usual while `make` (pid 7) uses 0.9 cores",)

    assert step(at(GOOD, GOOD, busy), USUAL_NS) == Wait(1.0, why)
    assert step(at(busy, GOOD, GOOD), USUAL_NS) == Wait(0.0, ())
    assert step(at(busy, GOOD, GOOD, GOOD), USUAL_NS) == Preflight("waited", 3.0, 20_500, USUAL_NS, why)


def test_a_wait_has_an_end() -> None:
    never = step(at(*[SLOW] * 61), USUAL_NS)
    now_and_then = step(at(*[GOOD, GOOD, SLOW] * 20, GOOD), USUAL_NS)

    assert never == Preflight("gave-up", 60.0, 30_000, USUAL_NS, ("it is 1.50x slower than usual",))
    assert isinstance(now_and_then, Preflight) and now_and_then.verdict == "gave-up"
    assert now_and_then.reasons == ("it was not fit 3 times in a row within 60 s",)


@pytest.mark.parametrize(
    ("look", "why"),
    [
        (replace(GOOD, hottest_c=91.4), "temperature_c.cpu is 91 °C, over 80"),
        (replace(GOOD, pressure="severe"), "it throttles (severe heat)"),
    ],
)
def test_heat_is_waited_out(look: Look, why: str) -> None:
    assert step([look], USUAL_NS) == Wait(1.0, (why,))


def test_no_wait_charges_a_battery() -> None:
    low = replace(GOOD, battery_percent=12.0, unplugged=True)

    assert step([low], USUAL_NS) == Preflight(
        "gave-up", 0.0, 20_500, USUAL_NS, ("its battery is at 12 %, under 20: charge it",)
    )
    assert step([replace(low, unplugged=False)], USUAL_NS) == Wait(0.0, ())


def test_without_a_history_the_speed_is_unknown_and_nothing_waits_for_it() -> None:
    ended = step(at(SLOW, SLOW, SLOW), None)

    assert ended == Preflight("unknown", 2.0, 30_000, None, (), ("its usual speed is not known yet",))


def test_what_is_not_known_does_not_hold_up_and_is_said() -> None:
    blind = replace(GOOD, hottest_c=None, battery_percent=None, missing=("the temperature is not known: none here",))

    ended = step(at(blind, blind, blind), USUAL_NS)

    assert ended == Preflight("ready", 2.0, 20_500, USUAL_NS, (), ("the temperature is not known: none here",))


def test_only_healthy_readings_enter_the_history() -> None:
    hot = replace(GOOD, probe_ns=21_000, hottest_c=99.0)

    assert healthy_ns([SLOW, GOOD, hot], USUAL_NS) == (20_500,)
    assert healthy_ns([SLOW, GOOD, hot], None) == (30_000, 20_500)


def test_a_device_that_was_fit_a_launch_ago_needs_one_look_and_three_once_it_is_not() -> None:
    limits = limits_after(Preflight("ready", 0.0, 20_500, USUAL_NS), 60.0)

    assert step(at(GOOD), USUAL_NS, limits) == Preflight("ready", 0.0, 20_500, USUAL_NS)
    assert isinstance(step(at(SLOW, GOOD), USUAL_NS, limits), Wait)
    assert isinstance(step(at(SLOW, GOOD, GOOD, GOOD), USUAL_NS, limits), Preflight)


def test_a_device_that_was_given_up_is_not_waited_for_as_long_again() -> None:
    again = limits_after(Preflight("gave-up", 60.0, 30_000, USUAL_NS), 60.0)
    never = limits_after(None, 0.0)

    assert isinstance(step(at(*[SLOW] * 5), USUAL_NS, again), Wait)
    assert isinstance(step(at(*[SLOW] * 6), USUAL_NS, again), Preflight)
    assert isinstance(step(at(SLOW), USUAL_NS, never), Preflight)


def test_a_wait_of_nothing_still_takes_its_three_looks_of_a_fit_device() -> None:
    never = limits_after(None, 0.0)

    assert isinstance(step(at(GOOD, GOOD), USUAL_NS, never), Wait)
    assert step(at(GOOD, GOOD, GOOD), USUAL_NS, never) == Preflight("ready", 2.0, 20_500, USUAL_NS)


def test_the_limits_are_the_caller_s() -> None:
    strict = Limits(slower=1.01, passes=1, longest_wait_s=0.0)

    ended = step([GOOD], USUAL_NS, strict)

    assert isinstance(ended, Preflight) and ended.verdict == "gave-up"
    assert step([replace(GOOD, probe_ns=20_100)], USUAL_NS, strict) == Preflight("ready", 0.0, 20_100, USUAL_NS)
