"""An agent that nobody wants any more ends by itself, and one that somebody wants does not."""

from __future__ import annotations

import contextlib
import json
import signal
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from agents import Host

from rtfleet_agent.attendance import Attendance
from rtfleet_agent.lease import Leases
from rtfleet_agent.refusal import Refusal
from rtfleet_protos import agent_pb2 as pb
from rtfleet_protos.agent_pb2_grpc import AgentStub

LEASE_ID = "a-secret-of-128-bits-at-least"


@contextlib.contextmanager
def lingering(folder: Path, linger_s: str, *more: str) -> Iterator[tuple[subprocess.Popen[bytes], Any, Any]]:
    """An agent, what its state file says, and a stub and its metadata."""
    command = [sys.executable, "-m", "rtfleet_agent", "serve", "--as", f"linger-{uuid.uuid4().hex[:8]}"]
    command += ["--store", str(folder / "store"), "--linger-s", linger_s, "--state-file", str(folder / "state.json")]
    command += more
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout and process.stdout.readline()
            state = json.loads(_written(folder / "state.json"))
            with grpc.insecure_channel(state["address"]) as channel:
                yield process, state, AgentStub(channel)
        finally:
            process.kill()


def _written(path: Path) -> str:
    while not path.exists():
        pass
    return path.read_text()


def metadata(state: Any) -> Any:
    return (("authorization", f"Bearer {state['token']}"),)


def test_one_that_nobody_calls_ends_and_takes_its_state_file_along(tmp_path: Path) -> None:
    with lingering(tmp_path, "0.2") as (process, state, _):
        assert process.wait(30) == 0
    assert state["pid"] == process.pid and not (tmp_path / "state.json").exists()


def test_its_state_file_is_for_its_user_alone_and_lets_in(tmp_path: Path) -> None:
    with lingering(tmp_path, "600") as (_, state, stub):
        assert stat.S_IMODE((tmp_path / "state.json").stat().st_mode) == 0o600
        stub.AcquireLease(pb.AcquireLeaseRequest(lease_id=LEASE_ID), metadata=metadata(state), timeout=30)


def test_one_that_is_leased_stays_until_it_is_free(tmp_path: Path) -> None:
    with lingering(tmp_path, "0.2") as (process, state, stub):
        stub.AcquireLease(pb.AcquireLeaseRequest(lease_id=LEASE_ID, lasts_s=600), metadata=metadata(state), timeout=30)
        process.send_signal(signal.SIGUSR1)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)
        stub.ReleaseLease(pb.ReleaseLeaseRequest(lease_id=LEASE_ID), metadata=metadata(state), timeout=30)
        assert process.wait(30) == 0


def test_one_that_nobody_can_find_any_more_ends_when_it_is_free(tmp_path: Path) -> None:
    with lingering(tmp_path, "600") as (process, state, stub):
        stub.AcquireLease(pb.AcquireLeaseRequest(lease_id=LEASE_ID, lasts_s=600), metadata=metadata(state), timeout=30)
        (tmp_path / "state.json").unlink()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2.5)
        stub.ReleaseLease(pb.ReleaseLeaseRequest(lease_id=LEASE_ID), metadata=metadata(state), timeout=30)
        assert process.wait(30) == 0


def test_one_that_still_measures_for_a_host_that_is_away_is_not_ended_by_whoever_looked(tmp_path: Path) -> None:
    with lingering(tmp_path, "600", "--lease-s", "0.3") as (process, state, stub):
        host = Host(stub, state["address"], None, LEASE_ID, state["token"])  # type: ignore[arg-type]
        host.acquire()
        request = host.endless()
        stream = host.call("Launch", request)
        next(event for event in stream if event.WhichOneof("event") == "block")
        stream.cancel()
        time.sleep(1)  # its lease has run out
        process.send_signal(signal.SIGUSR1)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)
        host.call("Cancel", pb.LaunchRef(lease_id=LEASE_ID, launch_id=request.launch_id))
        process.send_signal(signal.SIGUSR1)
        assert process.wait(30) == 0


def test_one_that_is_free_ends_when_it_is_told_to(tmp_path: Path) -> None:
    with lingering(tmp_path, "600") as (process, _, _stub):
        process.send_signal(signal.SIGUSR1)
        assert process.wait(30) == 0


def test_a_device_whose_agent_is_ending_gives_no_lease(tmp_path: Path) -> None:
    leases = Leases()
    leases.acquire(LEASE_ID, "one")
    assert not leases.retire()
    leases.release(LEASE_ID)
    assert leases.retire()
    with pytest.raises(Refusal, match="just ending"):
        leases.acquire(LEASE_ID, "another")


def test_whoever_calls_keeps_it_from_being_idle() -> None:
    now = [0.0]
    attendance = Attendance(lambda: now[0])
    now[0] = 5.0
    assert attendance.idle_s == 5.0
    with attendance.call():
        now[0] = 9.0
        assert attendance.idle_s == 0.0
    now[0] = 10.0
    assert attendance.idle_s == 1.0
