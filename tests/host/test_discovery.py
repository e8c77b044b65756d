"""What is there beside the fleet's devices, and which of it a flag means."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtfleet import discovery
from rtfleet.errors import UsageError
from rtfleet.fleet import Device
from rtfleet.transports import adb_server
from rtfleet.transports.adb_server import Phone, Server

HERE = Server("127.0.0.1", 5037, is_here=True)
PIXEL = Phone("3A041FDJH001", "device", "Pixel_8")
NEW = Phone("R5CT1234567", "unauthorized")


@pytest.fixture(autouse=True)
def _usual_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("ADB_SERVER_SOCKET", "ANDROID_ADB_SERVER_PORT"):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize("listed", [[PIXEL], [PIXEL, NEW], [NEW]])
def test_the_phone_of_a_device_without_a_serial_is_listed_once(listed: list[Phone]) -> None:
    found = discovery.named(listed, [Device("mine", "adb")], HERE)

    assert not found.devices
    assert len(found.notes) == len(listed) - 1


def test_beside_two_phones_that_can_be_used_a_device_without_a_serial_is_neither() -> None:
    found = discovery.named([PIXEL, Phone("R5CT1234567", "device", "SM_S918B")], [Device("mine", "adb")], HERE)

    assert [device.name for device in found.devices] == ["pixel-8-h001", "sm-s918b-4567"]


@pytest.mark.parametrize("name", ["", "localhost", "localhost:5037", "127.0.0.1:5037", "[::1]:5037"])
def test_a_phone_of_this_machine_s_server_is_listed_once_by_whichever_name(name: str) -> None:
    mine = Device("mine", "adb", serial=PIXEL.serial, adb_server=name)

    assert not discovery.named([PIXEL], [mine], HERE).devices
    far = Device("mine", "adb", serial=PIXEL.serial, adb_server="lab-host:5037")
    assert discovery.named([PIXEL], [far], HERE).devices


def test_one_device_is_meant_where_a_label_names_two(tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.toml"
    fleet.write_text("".join(f"[device.{name}]\nconnect = 'local:{name}'\nlabels = ['x']\n" for name in "ab"))

    assert [device.name for device in discovery.one(fleet, "a").devices] == ["a"]
    for wanted in ("label:x", "auto"):
        with pytest.raises(UsageError, match=f"{wanted}: there are 2 such devices") as refused:
            discovery.one(fleet, wanted)
        assert refused.value.hint == "name one: a, b"


@pytest.mark.parametrize(
    ("variable", "value"),
    [("ANDROID_ADB_SERVER_PORT", "abc"), ("ANDROID_ADB_SERVER_PORT", "99999"), ("ADB_SERVER_SOCKET", "tcp:99999")],
)
def test_a_variable_of_adb_that_names_no_port_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(UsageError, match=f"{variable}: .* is no port"):
        adb_server.server_of("")
