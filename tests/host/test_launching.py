"""Parity of two devices, with real agents: what the host is asked for, and what stands in where it gives nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from builders import run_of
from invented import artifact

from rtfleet import feeds, launching, profile, run_file
from rtfleet.artifact import Artifact, Graph, Tensor, file_of
from rtfleet.client import AgentClient, LaunchOrder
from rtfleet.export.job import Exports
from rtfleet.fleet import Device
from rtfleet.launch_log import LaunchEvent
from rtfleet.launching import Campaign
from rtfleet.order import Order
from rtfleet.records import Case, CaseResult, Options
from rtfleet.run_file import Journal
from rtfleet.station import Joined, Roster, Station
from rtfleet.suite import Settings, Suite
from rtfleet.transports import Link, local

pytestmark = pytest.mark.slow

MODEL = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": [1, 4]}],
    "outputs": [{"name": "y", "dtype": "float32", "shape": [1], "rule": "sum"}],
}
PHONE, HOST = Device("phone", "local"), Device("host", "local")
# A core of its own, and an accelerator that the fake runtime lacks and may do without.
OF_THE_PHONE = Options("gpu", threads=2, cpus=((os.cpu_count() or 1) - 1,), allow_fallback=True)
OF_THE_FILE = Options(optimize=False)


class Recording(AgentClient):
    """A client that remembers what it asked for."""

    def __init__(self, link: Link, device: str) -> None:
        super().__init__(link, device)
        self.asked: list[Options] = []

    def launch(self, order: LaunchOrder) -> AsyncIterator[LaunchEvent]:
        self.asked.append(order.options)
        return super().launch(order)


@dataclass(frozen=True)
class Compared:
    """The phone's case after its parity, and the options of the launches that each agent was asked for."""

    result: CaseResult
    phone: list[Options]
    host: list[Options]


def shipped(folder: Path) -> Artifact:
    """A file that is its own original."""
    (folder / "luna.fake.json").write_text(json.dumps(MODEL))
    tensors = (Tensor("x", "float32", (1, 4)),), (Tensor("y", "float32", (1,)),)
    frames = {"x": np.ones((6, 1, 4), np.float32), feeds.STREAM_STARTS: np.zeros(1, np.int64)}
    return artifact(
        variant="fake-shipped",
        graphs=(Graph("model", (file_of(folder / "luna.fake.json"),), *tensors),),
        feeds=feeds.save(frames, folder / "feeds.npz"),
        score="y",
    )


@contextlib.asynccontextmanager
async def station(device: Device, link: Link, *, is_host: bool) -> AsyncIterator[Station]:
    async with Recording(link, device.name) as client:
        await client.acquire(secrets.token_hex(16), "a test")
        # Both are on this machine, which an agent can tell; one stands for a device that is not.
        facts = replace(await client.describe(), is_host=is_host)
        yield Station(device, client, facts, profile.match(facts))


async def compared(folder: Path, *, host_is_gone: bool = False) -> Compared:
    model = shipped(folder)
    case = Case(model.id, model.model, model.variant, PHONE.name, "burst", OF_THE_PHONE)
    order = Order("run", Suite((), Settings()), (PHONE, HOST), folder)
    name = f"launching-{secrets.token_hex(4)}"
    agent_of_host = contextlib.AsyncExitStack()
    async with (
        agent_of_host,
        Exports(folder, folder / "logs") as exports,
        local.connect(PHONE.name, folder / "phone", name) as link,
        station(PHONE, link, is_host=False) as phone,
        station(
            HOST,
            await agent_of_host.enter_async_context(local.connect(HOST.name, folder / "host", f"{name}-host")),
            is_host=True,
        ) as host,
    ):
        roster = Roster(order.devices)
        roster.join(phone)
        roster.join(host)
        if host_is_gone:
            await agent_of_host.aclose()
        with Journal.create(folder / "run", run_of()) as journal:
            journal.case(CaseResult(case, model))
            campaign = Campaign(order, exports, journal, lambda event: None, roster)
            await launching.push(campaign, phone, model)
            await launching.parity(campaign, phone, Joined(case, model, ()))
        assert isinstance(phone.client, Recording) and isinstance(host.client, Recording)
        return Compared(run_file.read(folder / "run").results[0], phone.client.asked, host.client.asked)


def test_the_host_is_asked_for_the_file_alone_and_for_nothing_of_the_devices(tmp_path: Path) -> None:
    found = asyncio.run(compared(tmp_path))

    assert (found.phone, found.host) == ([OF_THE_PHONE], [OF_THE_FILE])
    assert found.result.error is None
    assert found.result.parity_device is not None and found.result.parity_device.max_abs_error == 0


def test_a_device_is_its_own_reference_where_the_host_gives_none(tmp_path: Path) -> None:
    found = asyncio.run(compared(tmp_path, host_is_gone=True))

    assert (found.phone, found.host) == ([OF_THE_PHONE, OF_THE_FILE], [])
    assert found.result.error is None
    assert found.result.parity_device is not None and found.result.parity_device.max_abs_error == 0
