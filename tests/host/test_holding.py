"""Devices that are held, and devices that are set aside: with real agents."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import pytest

from rtfleet import holding, transports
from rtfleet.client import AgentClient
from rtfleet.errors import DeviceError, LeaseHeld
from rtfleet.fleet import Device
from rtfleet.holding import Health


def emulated() -> Device:
    return Device("board", f"local:hold-{uuid.uuid4().hex[:12]}")


def test_errors_in_a_row_set_a_device_aside_and_a_result_forgets_them(tmp_path: Path) -> None:
    device = Device("board", "grpc:10.0.0.7:7400")
    for _ in range(holding.ERRORS_IN_A_ROW - 1):
        holding.after_run(tmp_path, device, "no answer")
    assert not holding.health(tmp_path, device).set_aside

    holding.after_run(tmp_path, device, "cable out")
    assert holding.health(tmp_path, device) == Health(3, "cable out")
    assert holding.health(tmp_path, device).set_aside

    holding.after_run(tmp_path, device, "")
    assert holding.health(tmp_path, device) == Health()


def test_two_fleets_may_call_two_devices_the_same(tmp_path: Path) -> None:
    holding.after_run(tmp_path, Device("board", "grpc:a:1"), "gone")

    assert holding.health(tmp_path, Device("board", "grpc:b:1")) == Health()


@pytest.mark.parametrize("text", ["", "[]", '{"errors": 1, "more": 2}', "\0"])
def test_what_is_no_health_is_a_good_one(tmp_path: Path, text: str) -> None:
    device = Device("board", "grpc:a:1")
    holding.after_run(tmp_path, device, "gone")
    (file,) = (tmp_path / "devices").iterdir()
    file.write_text(text)

    assert holding.health(tmp_path, device) == Health()


@pytest.mark.slow
def test_a_hold_says_for_how_long_it_really_is(tmp_path: Path) -> None:
    told: list[float] = []

    async def held() -> None:
        # The agent of this machine ends with the command, so that the command stays.
        async with asyncio.timeout(8):
            await holding.hold(emulated(), tmp_path, 2, "", told.append)

    with pytest.raises(TimeoutError):
        asyncio.run(held())

    assert told == [30.0], "no lease is shorter"


def test_releasing_a_device_forgets_its_errors_without_asking_it(tmp_path: Path) -> None:
    device = Device("board", "grpc:127.0.0.1:1")
    for _ in range(3):
        holding.after_run(tmp_path, device, "gone")

    said = asyncio.run(holding.release(device, tmp_path, force=False))

    assert said == "board: its 3 errors are forgotten"
    assert not holding.health(tmp_path, device).set_aside


def test_what_is_not_held_by_oneself_is_not_released(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="is not held by you") as refused:
        asyncio.run(holding.release(emulated(), tmp_path, force=False))

    assert "--force" in refused.value.hint


async def _held(cache: Path, device: Device) -> tuple[str, str, float]:
    """Who has the device while it is held, what another host is told, and for how long."""
    store = transports.connect(device, cache)
    async with store as link, AgentClient(link, "board") as client, AgentClient(link, "board") as other:
        await client.acquire("a" * 32, "ann@laptop by hand", 7200, "a new battery")
        facts = await other.describe()
        told = ""
        try:
            await other.acquire("b" * 32, "ben@desk run 1")
        except LeaseHeld as error:
            told = error.text
        other.lease_id = "b" * 32
        await other.release()
        assert (await other.describe()).lease_holder, "it takes force to end somebody else's lease"
        await other.release(force=True)
        assert not (await other.describe()).lease_holder
        return facts.lease_reason, told, facts.lease_expires_in_s


@pytest.mark.slow
def test_who_asks_for_a_held_device_is_told_why_and_force_ends_it(tmp_path: Path) -> None:
    reason, told, left_s = asyncio.run(_held(tmp_path, emulated()))

    assert reason == "a new battery"
    assert "ann@laptop by hand (a new battery)" in told
    assert 7000 < left_s <= 7200
