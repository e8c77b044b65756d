"""What others do while blocks run, as the worker sees it between them, and how fast the device is before any."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from agents import Host, agent, kinds

from rtfleet_agent.launch import Block, BusyProcess, read_event, write_event
from rtfleet_agent.neighbours import Neighbours
from rtfleet_protos import agent_pb2 as pb

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(name="host")
def _host(tmp_path: Path) -> Iterator[Host]:
    with agent(tmp_path) as host:
        host.acquire()
        yield host


@contextmanager
def busy_loop(core: int) -> Iterator[subprocess.Popen]:
    """A process that keeps this core busy."""
    code = f"import os; os.sched_setaffinity(0, [{core}]); print(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as neighbour:
        try:
            neighbour.stdout.readline()
            yield neighbour
        finally:
            neighbour.kill()


def block(**changes: object) -> Block:
    column = np.arange(3, dtype=np.int64)
    return Block(**({"phase": "BURST", "probe_before_ns": 1, "probe_after_ns": 2, "cpu": 0, "started_mono_ns": 3,
                     "latency_ns": column, "lateness_ns": column[:0]} | changes))  # fmt: skip


def test_blocks_name_who_was_busy_and_on_which_core(host: Host) -> None:
    core = max(os.sched_getaffinity(0))
    with busy_loop(core) as neighbour:
        events = host.launch(host.graph(), hop_ns=10_000_000, warmup_ns=300_000_000, min_frames=100, block_frames=20)

    blocks = [event.block for event in events if event.WhichOneof("event") == "block"]
    named = [each for part in blocks for each in part.busy if each.pid == neighbour.pid]
    assert named, "no block names the busy loop"
    assert named[0].core == core and named[0].core_share > 0
    assert any(part.others_core_share > 0 for part in blocks)
    started = next(event.started for event in events if event.WhichOneof("event") == "started")
    assert started.pid not in [each.pid for part in blocks for each in part.busy], "the worker is nobody's neighbour"


def test_blocks_too_close_to_the_last_look_say_that_nobody_looked() -> None:
    assert Neighbours().seen([block(marks=("suspend",))])[0].others_core_share is None


def test_a_look_is_shared_by_the_blocks_before_it_and_keeps_their_marks() -> None:
    neighbours = Neighbours()
    time.sleep(0.25)

    first, second = neighbours.seen([block(marks=("suspend",)), block()])

    assert first.others_core_share == second.others_core_share is not None
    assert (first.marks, second.marks) == (("suspend",), ())
    assert not neighbours.suspended()


def test_a_block_crosses_the_pipe_with_what_was_seen(tmp_path: Path) -> None:
    seen = block(busy=(BusyProcess(7, "stress", 0.8, 1),), others_core_share=0.9, marks=("throttled",))
    with (tmp_path / "pipe").open("wb") as pipe:
        write_event(pipe, seen)
    with (tmp_path / "pipe").open("rb") as pipe:
        read = read_event(pipe)

    assert isinstance(read, Block)
    assert (read.busy, read.others_core_share, read.marks) == (seen.busy, seen.others_core_share, seen.marks)


def test_a_probe_tells_the_speed_and_the_state(host: Host) -> None:
    core = min(os.sched_getaffinity(0))
    reply = host.call("Probe", pb.ProbeRequest(lease_id=host.lease_id, cpus=[core]))

    assert reply.probe_ns > 0 and reply.cpu == core
    assert "load_1m" in reply.state.readings and reply.state.at_mono_ns > 0


def test_a_probe_needs_the_lease_and_cores_that_are_here(host: Host) -> None:
    with pytest.raises(grpc.RpcError) as stranger:
        host.call("Probe", pb.ProbeRequest(lease_id="another secret of a host"))
    with pytest.raises(grpc.RpcError) as nowhere:
        host.call("Probe", pb.ProbeRequest(lease_id=host.lease_id, cpus=[4095]))

    assert stranger.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "4095" in nowhere.value.details()


def test_no_probe_runs_beside_a_launch(host: Host) -> None:
    stream = host.call("Launch", host.endless())
    first = next(stream)
    with pytest.raises(grpc.RpcError) as refused:
        host.call("Probe", pb.ProbeRequest(lease_id=host.lease_id))
    host.launches.close()

    assert kinds([first]) == ["device_state"]
    assert (
        refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION and "a launch is running" in refused.value.details()
    )
    assert kinds(stream)[-1] == "failed"
