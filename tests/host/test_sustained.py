"""How a device holds out: the curve of a long launch, its retention, and when a launch must end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from invented import MS, launch, state

from rtfleet import sustained
from rtfleet.records import Block, Launch, RunSettings


def long(latency_ms: np.ndarray, hop_ms: float = 80) -> Launch:
    """A paced launch whose blocks of 50 frames carry the clock."""
    starts = range(0, latency_ms.size, 50)
    blocks = tuple(
        Block("PACED", first, 50, 20_000, 20_000, 0, started_mono_ns=1 + round(first * hop_ms * MS)) for first in starts
    )
    return replace(launch(latency_ms), blocks=blocks)


def test_retention_is_the_last_windows_median_over_the_firsts() -> None:
    slowing = long(np.linspace(1.0, 2.0, 1000))

    curve = sustained.curve_ns(slowing)

    assert len(curve) == sustained.WINDOWS and list(curve) == sorted(curve)
    assert sustained.retention(slowing) == pytest.approx(curve[-1] / curve[0])
    assert sustained.retention(slowing) == pytest.approx(1.93, abs=0.02)


def test_less_than_a_minute_has_no_retention() -> None:
    assert sustained.retention(long(np.linspace(1.0, 2.0, 1000), hop_ms=20)) is None


def test_windows_of_too_few_frames_are_no_curve() -> None:
    assert sustained.curve_ns(launch(np.ones(99))) == ()


def test_how_hot_it_got_is_the_most_that_any_sensor_showed() -> None:
    heated = launch(
        np.ones(99),
        device_before=state(temperature_c__cpu=40.0, temperature_c__gpu=45.0),
        device_during=(state(10, temperature_c__cpu=71.0), state(20, load_1m=1.0)),
        device_after=state(30, temperature_c__cpu=64.0),
    )

    assert sustained.heated_c(heated) == (45.0, 71.0)
    assert sustained.heated_c(launch(np.ones(99), device_before=state(load_1m=1.0))) is None


@pytest.mark.parametrize(
    ("readings", "why"),
    [
        ({"temperature_c__cpu": 94.0}, ""),
        ({"temperature_c__cpu": 60.0, "temperature_c__gpu": 96.0}, "temperature_c.gpu is 96 °C, the limit is 95"),
        ({"battery_percent": 14}, "the battery is at 14 %, the limit is 15"),
        ({"battery_percent": 14, "power_source": "Battery"}, "the battery is at 14 %, the limit is 15"),
        ({"battery_percent": 14, "power_source": "USB"}, ""),
        ({"governor": "powersave"}, ""),
    ],
)
def test_a_launch_ends_where_it_is_too_hot_or_the_battery_too_low(readings: dict[str, float | str], why: str) -> None:
    assert sustained.limit_reached(state(**readings), RunSettings()) == why
