"""The host's side of the wire, against a real agent on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rtfleet import launch_log
from rtfleet.artifact import File, Graph, file_of
from rtfleet.client import AgentClient
from rtfleet.errors import DeviceError, UsageError
from rtfleet.launch_order import LaunchOrder
from rtfleet.loop import Chain
from rtfleet.records import DeviceFacts, Launch, Options, Probe
from rtfleet.transports import local

MODEL = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": [1, 4]}],
    "outputs": [{"name": "y", "dtype": "float32", "shape": [1], "rule": "sum"}],
    "latency_us": 100,
}


@contextlib.asynccontextmanager
async def leased(store: Path, emulated: str) -> AsyncIterator[AgentClient]:
    """An agent of one's own, held until the block ends."""
    async with (
        local.connect("board", store, emulated) as link,
        AgentClient(link, "board") as client,
        client.leased("a secret of this test's own", "test"),
    ):
        yield client


def _order(folder: Path, seconds: int = 0) -> LaunchOrder:
    """A launch of a model, and of feeds, that lie in `folder` then."""
    (folder / "main.fake.json").write_text(json.dumps(MODEL))
    np.savez(folder / "feeds.npz", x=np.zeros((6, 1, 4), np.float32))
    model, feeds = file_of(folder / "main.fake.json"), file_of(folder / "feeds.npz")
    return LaunchOrder(
        launch_id="one", kind="LATENCY", runtime="fake", graphs=(Graph("main", (model,), (), ()),),
        feeds_sha256=feeds.sha256, options=Options(), hop_ns=10_000_000, min_frames=100,
        min_duration_ns=seconds * 10**9, block_frames=20, timeout_s=60, warmup_ns=300_000_000,
    )  # fmt: skip


async def _talk(folder: Path, seconds: int = 0) -> tuple[DeviceFacts, Probe, Launch]:
    """Describe, probe, and one launch of a second, or of so many."""
    order = _order(folder, seconds)
    model, feeds = order.graphs[0].files[0], file_of(folder / "feeds.npz")
    async with local.connect("board", folder / "store", "client-test") as link, AgentClient(link, "board") as client:
        facts = await client.describe()
        await client.acquire("a secret of this test's own", "test")
        probe = await client.probe()
        await client.push([model, feeds])
        events = [event async for event in client.launch(order)]
    launch = launch_log.launch_of(
        events, launch_id="one", kind="LATENCY", round_=1, paced=True, feeds_sha256=feeds.sha256
    )
    return facts, probe, launch


@pytest.mark.slow
def test_what_an_agent_tells_of_cores_speed_and_neighbours_arrives(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as neighbour:
        try:
            facts, probe, launch = asyncio.run(_talk(tmp_path))
        finally:
            neighbour.kill()

    assert [core.index for core in facts.cores_info] == list(range(os.cpu_count() or 1))
    assert probe.probe_ns > 0 and "load_1m" in probe.state.readings
    named = [process for block in launch.blocks for process in block.busy if process.pid == neighbour.pid]
    assert named and named[0].core in range(os.cpu_count() or 1)
    assert any(block.others_core_share for block in launch.blocks)
    assert not any("suspend" in block.marks for block in launch.blocks)


@pytest.mark.slow
def test_a_launch_that_the_agent_refuses_as_the_models_fault_ends_as_failed(tmp_path: Path) -> None:
    """It is that case's error; the device goes on."""

    async def asked() -> list[launch_log.LaunchEvent]:
        order = replace(_order(tmp_path), loop=Chain(()))
        link = local.connect("board", tmp_path / "store", f"client-test-{os.getpid()}")
        async with link as agent, AgentClient(agent, "board") as client:
            await client.acquire("a secret of this test's own", "test")
            events = [event async for event in client.launch(order)]
            await client.acknowledge(order.launch_id)
            return events

    (failed,) = asyncio.run(asked())

    assert isinstance(failed, launch_log.Failed)
    assert (failed.kind, failed.message) == ("BAD_MODEL", "loop: a chain without edges")


@pytest.mark.slow
def test_a_long_launch_tells_the_devices_state_while_it_runs(tmp_path: Path) -> None:
    _, _, launch = asyncio.run(_talk(tmp_path, seconds=11))

    assert launch.device_before and launch.device_after and len(launch.device_during) == 1
    (during,) = launch.device_during
    assert launch.device_before.at_mono_ns < during.at_mono_ns < launch.device_after.at_mono_ns
    assert "load_1m" in during.readings and all(one.value is not None for one in during.readings.values())


@pytest.mark.slow
def test_a_model_that_is_gone_before_it_is_pushed_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(b"model")
    model = file_of(path)
    path.unlink()

    async def push() -> None:
        async with leased(tmp_path / "store", "gone-test") as client:
            await client.push([model])

    with pytest.raises(UsageError, match=r"model\.bin: can't be read: No such file"):
        asyncio.run(push())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it takes a file that can be opened and not read")
def test_a_model_that_can_not_be_read_to_its_end_is_named(tmp_path: Path) -> None:
    broken = File("model.bin", "0" * 64, 1000, Path("/proc/self/mem"))

    async def push() -> None:
        async with leased(tmp_path / "store", "broken-test") as client:
            await client.push([broken])

    with pytest.raises(UsageError, match="/proc/self/mem: can't be read: Input/output error"):
        asyncio.run(push())


@pytest.mark.slow
def test_whoever_speaks_over_a_line_that_another_closes_is_told_so_and_not_cancelled(tmp_path: Path) -> None:
    order = replace(_order(tmp_path), min_frames=10**6)

    async def speak() -> None:
        async with local.connect("board", tmp_path / "store", "closed-test") as link:
            client = AgentClient(link, "board")
            await client.acquire("a secret of this test's own", "test")
            await client.push([order.graphs[0].files[0], file_of(tmp_path / "feeds.npz")])
            began = asyncio.Event()

            async def listen() -> None:
                async for event in client.launch(order):
                    if isinstance(event, launch_log.Frames):
                        began.set()

            listening = asyncio.create_task(listen())
            await began.wait()
            asking = asyncio.create_task(client.describe())
            await asyncio.sleep(0)
            await client.close()
            for waiting in (listening, asking, asyncio.create_task(client.probe())):
                with pytest.raises(DeviceError, match="'board': its connection was closed"):
                    await waiting

    asyncio.run(speak())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("held", "sent", "error"),
    [
        (lambda data: data[:300_000], 700_000, ""),
        (lambda data: data, 0, ""),
        (lambda data: data + b"more", 1_000_000, ""),
        (lambda data: data[:299_999] + bytes([data[299_999] ^ 1]), 0, "the bytes hash to"),
    ],
    ids=["a part", "all", "too much", "other bytes"],
)
def test_a_push_goes_on_from_what_is_there_and_counts_only_by_its_hash(
    tmp_path: Path, held: Callable[[bytes], bytes], sent: int, error: str
) -> None:
    path, store = tmp_path / "model.bin", tmp_path / "store"
    path.write_bytes(os.urandom(1_000_000))
    model = file_of(path)
    (store / "partial").mkdir(parents=True)
    (store / "partial" / model.sha256).write_bytes(held(path.read_bytes()))

    async def push() -> None:
        async with leased(store, "push-test") as client:
            if error:
                with pytest.raises(DeviceError, match=error):
                    await client.push([model])
            else:
                assert await client.push([model]) == sent
            assert await client.push([model]) == (1_000_000 if error else 0)

    asyncio.run(push())
    assert (store / "files" / model.sha256[:2] / model.sha256).read_bytes() == path.read_bytes()
    assert not list((store / "partial").iterdir())
