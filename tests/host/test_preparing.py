"""Who looks into a model's file while devices come and go."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import run_of
from invented import device as facts_of

from rtfleet import preparing
from rtfleet.errors import DeviceError
from rtfleet.export.job import Exports
from rtfleet.fleet import Device
from rtfleet.launching import Campaign
from rtfleet.order import Order
from rtfleet.profile import Profile
from rtfleet.run_file import Journal
from rtfleet.station import Roster, Station
from rtfleet.suite import Suite

PHONE = Device("phone", "adb")


class Client:
    """Says which of several it is, in the place of a signature."""

    def __init__(self, name: str, *, closed: bool = False) -> None:
        self.name = name
        self.closed = closed

    async def push(self, files: object) -> int:
        assert not self.closed
        return 0

    async def inspect(self, runtime: str, graph: object) -> tuple[str, str]:
        assert not self.closed
        return self.name, runtime


def station(client: Any) -> Station:
    return Station(PHONE, client, replace(facts_of(alias="phone"), is_host=False), Profile("p", {}, ()))


def campaign_of(folder: Path) -> Campaign:
    order = Order("run", Suite("run", ()), (PHONE,), folder)
    journal = Journal.create(folder / "run", run_of())
    return Campaign(order, Exports(folder, folder / "logs"), journal, lambda event: None, Roster(order.devices))


def looked_into(campaign: Campaign, folder: Path, *, meanwhile: Any) -> Any:
    (folder / "luna.tflite").write_bytes(b"")

    async def both() -> Any:
        asyncio.get_running_loop().call_later(0.05, meanwhile)
        return await preparing.inspector_of(campaign)("litert", folder / "luna.tflite")

    with campaign.journal:
        return asyncio.run(both())


def test_a_phone_that_went_away_looks_into_a_file_when_it_is_back(tmp_path: Path) -> None:
    campaign = campaign_of(tmp_path)
    campaign.roster.join(station(Client("first", closed=True)))

    def back() -> None:
        campaign.roster.join(station(Client("second")))

    assert looked_into(campaign, tmp_path, meanwhile=back) == ("second", "litert")


def test_a_file_that_no_device_is_left_for_has_an_error(tmp_path: Path) -> None:
    campaign = campaign_of(tmp_path)
    campaign.roster.join(station(Client("first", closed=True)))

    def lost() -> None:
        campaign.roster.lose(PHONE, DeviceError("cable out"))

    with pytest.raises(DeviceError, match=r"no device is left that could look into luna.tflite"):
        looked_into(campaign, tmp_path, meanwhile=lost)
