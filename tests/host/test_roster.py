"""Devices of a run as they come and go: who takes part, who is waited for, who is missed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from invented import device as facts_of

from rtfleet.errors import DeviceError
from rtfleet.fleet import Device
from rtfleet.profile import Profile
from rtfleet.station import Roster, Station

ONE, TWO, THREE = (Device(name, "adb", serial=name) for name in ("one", "two", "three"))


def station(device: Device) -> Station:
    client: Any = None  # nobody is spoken to here
    return Station(device, client, facts_of(alias=device.name), Profile("p", {}, ()))


def test_all_take_part_where_no_count_is_asked_for() -> None:
    roster = Roster([ONE, TWO])

    assert roster.join(station(ONE)) and roster.join(station(TWO))
    assert [one.device for one in roster.stations] == [ONE, TWO]


def test_as_many_as_are_wanted_take_part_and_the_rest_is_let_go() -> None:
    roster = Roster([ONE, TWO, THREE], wanted=2)

    assert [roster.join(station(device)) for device in (THREE, ONE, TWO)] == [True, True, False]
    assert roster.devices == (ONE, THREE)


def test_a_device_that_comes_back_keeps_its_place() -> None:
    roster = Roster([ONE, TWO], wanted=1)

    assert roster.join(station(ONE)) and roster.join(station(ONE))


def test_one_that_fails_is_not_missed_while_enough_others_are_left() -> None:
    roster = Roster([ONE, TWO, THREE], wanted=2)

    assert roster.lose(ONE, DeviceError("cable out")) is None
    missed = roster.lose(TWO, DeviceError("no answer"))
    assert missed is not None and missed.text == "no answer"
    assert roster.devices == (TWO, THREE)


def test_one_that_took_part_is_missed_when_it_goes() -> None:
    roster = Roster([ONE, TWO], wanted=1)
    roster.join(station(ONE))

    assert roster.lose(ONE, DeviceError("cable out")) is not None
    assert roster.stations == ()


def test_a_device_that_a_resumed_run_measured_on_has_its_place_kept() -> None:
    roster = Roster([ONE, TWO, THREE], wanted=2, kept=[THREE])

    assert [roster.join(station(device)) for device in (ONE, TWO, THREE)] == [True, False, True]
    assert roster.devices == (ONE, THREE)


def test_one_that_has_not_come_is_not_waited_for_when_enough_have() -> None:
    roster = Roster([ONE, TWO], wanted=1)
    assert not roster.spares(TWO)
    roster.join(station(ONE))

    assert roster.spares(TWO) and not roster.spares(ONE)
    assert roster.devices == (ONE,)


def test_a_run_begins_without_one_that_is_late() -> None:
    async def settled() -> list[Device]:
        roster = Roster([ONE, TWO])
        asyncio.get_running_loop().call_later(0.01, roster.join, station(TWO))
        await roster.settle(0.05)
        return [one.device for one in roster.stations]

    assert asyncio.run(settled()) == [TWO]


def test_a_run_without_any_device_says_why() -> None:
    async def settled() -> None:
        roster = Roster([ONE, TWO])
        roster.lose(ONE, DeviceError("cable out"))
        roster.lose(TWO, DeviceError("no answer"))
        await roster.settle(5)

    with pytest.raises(DeviceError, match="cable out"):
        asyncio.run(settled())
