"""What a device can't run is left to others, and an error where there are none."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from dataclasses import replace
from pathlib import Path

import pytest
from invented import device

from rtfleet import events, order, plan, preparing, run_file, station
from rtfleet.export.job import Exports
from rtfleet.fleet import Device
from rtfleet.launching import Campaign
from rtfleet.order import Order
from rtfleet.records import Run, RunSettings
from rtfleet.suite import ModelEntry, Settings, Suite

PIXEL, MAC, JETSON = (Device(name, f"local:{name}") for name in ("pixel", "mac", "jetson"))
FLEET: plan.Fleet = {PIXEL: device(os="android"), MAC: device(os="macos"), JETSON: device(os="linux")}


@pytest.mark.parametrize(
    ("variant", "os", "why"),
    [
        ("coreml-fp16", "macos", ""),
        ("coreml-fp16", "linux", "Core ML runs on macOS"),
        ("coreml-shipped", "android", "Core ML runs on macOS"),
        ("tensorrt-int8", "linux", ""),
        ("tensorrt-int8", "macos", "TensorRT runs on Linux, on an NVIDIA GPU"),
        ("tensorrt-fp16", "android", "TensorRT runs on Linux, on an NVIDIA GPU"),
        ("onnx-fp32", "android", ""),
        ("tflite-fp16", "macos", ""),
        ("torch-fp32", "linux", ""),
        ("torch-int8-dynamic", "android", "PyTorch runs where a Python of the device has it, and a phone has none"),
    ],
)
def test_a_format_may_exist_on_some_systems_only(variant: str, os: str, why: str) -> None:
    assert plan.cannot_run(variant, device(os=os)) == why
    assert plan.cannot_run(variant, None) == ""


def test_a_variant_is_left_to_the_devices_that_can_run_it() -> None:
    assert set(plan.left_out("coreml-fp16", FLEET)) == {PIXEL, JETSON}
    assert set(plan.left_out("tensorrt-fp16", FLEET)) == {PIXEL, MAC}
    assert plan.left_out("onnx-fp32", FLEET) == {}


def test_where_nobody_can_run_it_nobody_leaves_it_out() -> None:
    assert plan.left_out("coreml-fp16", {PIXEL: FLEET[PIXEL], JETSON: FLEET[JETSON]}) == {}


def test_a_device_that_was_not_reached_may_be_the_one() -> None:
    assert set(plan.left_out("coreml-fp16", {PIXEL: FLEET[PIXEL], MAC: None})) == {PIXEL}


def test_the_cases_foreseen_are_those_that_will_be_measured() -> None:
    entry = ModelEntry("luna", "luna.py:hey_luna", Path(), ("onnx-fp32", "coreml-fp16"))

    found = plan.foreseen_of(entry, Settings(), (), FLEET)

    assert [case.id for case in found] == [
        "luna/onnx-fp32@pixel/paced",
        "luna/onnx-fp32@mac/paced",
        "luna/onnx-fp32@jetson/paced",
        "luna/coreml-fp16@mac/paced",
    ]


# ---- on agents -----------------------------------------------------------------------------------------------------

MODEL = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": [1, 4]}],
    "outputs": [{"name": "y", "dtype": "float32", "shape": [1], "rule": "sum"}],
}


async def _prepared(folder: Path, variants: tuple[str, ...], systems: dict[str, str]) -> tuple[Run, list[events.Event]]:
    """A model prepared for agents that say to run on these systems: what the journal has, and what was told."""
    (folder / "m.fake.json").write_text(json.dumps(MODEL))
    entry = ModelEntry("m", "m.fake.json", folder, variants, task="speaker")
    devices = tuple(Device(name, f"local:plan-{secrets.token_hex(4)}") for name in systems)
    asked = Order("run", Suite("suite", (entry,)), devices, folder / "cache")
    heading = Run("run", "2026-11-24T00:00:00Z", "0", {}, RunSettings(), (), ())
    told: list[events.Event] = []
    with run_file.Journal.create(folder / "run", heading, order.to_json(asked)) as journal:
        async with contextlib.AsyncExitStack() as stack:
            exports = await stack.enter_async_context(Exports(asked.cache, folder / "logs"))
            campaign = Campaign(asked, exports, journal, told.append, station.Roster(devices))
            handout = preparing.Handout(campaign)
            measuring = []
            for device in devices:
                connected = station.connected(asked, device, journal, station.Before(secrets.token_hex(16)))
                here = await stack.enter_async_context(connected)
                here = replace(here, facts=replace(here.facts, os=systems[device.name]))
                campaign.roster.join(here)
                handout.join(here)
                measuring.append(asyncio.create_task(_take(here)))
            await preparing.prepare_all(campaign, handout)
            joined = [case for task in measuring for case in await task]
    told += [events.CaseJoined(one.case) for one in joined]
    return run_file.read(folder / "run"), told


async def _take(here: station.Station) -> list[station.Joined]:
    """What a device would measure."""
    taken = []
    while (joined := await here.inbox.get()) is not None:
        taken.append(joined)
        here.inbox.task_done()
    return taken


def test_a_mixed_fleet_takes_one_suite(tmp_path: Path) -> None:
    systems = {"pixel": "android", "mac": "macos"}

    run, told = asyncio.run(_prepared(tmp_path, ("fake-shipped", "coreml-fp16"), systems))

    assert [one for one in told if isinstance(one, events.LeftOut)] == [
        events.LeftOut("pixel", "m", ("coreml-fp16",), "Core ML runs on macOS")
    ]
    assert {one.case.id for one in told if isinstance(one, events.CaseJoined)} == {
        "m/fake-shipped@pixel/burst",
        "m/fake-shipped@mac/burst",
    }
    # A ready file can't become Core ML: the row is the Mac's, which would have measured it, and no one else's.
    failed = {one.case.id: one.error.kind for one in run.results if one.error}
    assert failed == {"m/coreml-fp16@mac/burst": "EXPORT"}


def test_what_no_device_can_run_is_an_error_and_is_not_made(tmp_path: Path) -> None:
    run, told = asyncio.run(_prepared(tmp_path, ("coreml-fp16",), {"pixel": "android", "pi": "linux"}))

    errors = {one.case.id: one.error for one in run.results}
    assert set(errors) == {"m/coreml-fp16@pixel/burst", "m/coreml-fp16@pi/burst"}
    for error in errors.values():
        assert error is not None
        assert error.kind == "UNSUPPORTED"
        assert error.text == "Core ML runs on macOS, and no device of this run can take it"
        assert error.hint == "add such a device to fleet.toml"
    assert not [one for one in told if isinstance(one, (events.LeftOut, events.CaseJoined))]
    assert not [one for one in told if isinstance(one, events.Working) and one.step.startswith("export")]
