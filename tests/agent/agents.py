"""An agent in the test's own process on port 0, real workers of the fake runtime, and a host's side of each call."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np

from rtfleet_agent.device import read_device
from rtfleet_agent.launches import Launches
from rtfleet_agent.lease import Leases
from rtfleet_agent.service import Service, create_server
from rtfleet_agent.store import DEFAULT_QUOTA_BYTES, Store
from rtfleet_protos import agent_pb2 as pb
from rtfleet_protos import agent_pb2_grpc

TOKEN = "ab" * 32
MODEL = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": [1, 4]}],
    "outputs": [{"name": "y", "dtype": "float32", "shape": [1], "rule": "sum"}],
    "latency_us": 100,
}


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Host:
    """What a host has of one agent."""

    stub: agent_pb2_grpc.AgentStub
    address: str
    launches: Launches
    lease_id: str
    token: str = TOKEN

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token}"),)

    def call(self, name: str, message, **options):
        """A call with the token."""
        return getattr(self.stub, name)(message, metadata=self.metadata, timeout=30, **options)

    def acquire(self, lease_id: str | None = None, holder: str = "ann@laptop") -> pb.Lease:
        return self.call("AcquireLease", pb.AcquireLeaseRequest(lease_id=lease_id or self.lease_id, holder=holder))

    def push(self, data: bytes, offset: int = 0, upto: int | None = None, sha256: str = "", size: int | None = None):
        """One push, in chunks of 64 KiB; returns the reply and the hash."""
        sha256 = sha256 or hashlib.sha256(data).hexdigest()
        header = pb.PushHeader(
            lease_id=self.lease_id, sha256=sha256, size_bytes=len(data) if size is None else size, offset_bytes=offset
        )

        def parts():
            yield pb.PushRequest(header=header)
            for start in range(offset, len(data) if upto is None else upto, 65536):
                yield pb.PushRequest(chunk=data[start : min(start + 65536, upto or len(data))])

        return self.call("Push", parts()), sha256

    def have(self, *hashes: str) -> dict[str, int]:
        reply = self.call("Have", pb.HaveRequest(lease_id=self.lease_id, sha256=hashes))
        return {missing.sha256: missing.held_bytes for missing in reply.missing}

    def graph(self, **changes: object) -> pb.Graph:
        """A graph of the fake runtime, its file pushed."""
        data = json.dumps(MODEL | changes).encode()
        _, sha256 = self.push(data)
        return pb.Graph(name="main", files=[pb.File(path="main.fake.json", sha256=sha256, size_bytes=len(data))])

    def request(self, graph: pb.Graph, **fields) -> pb.LaunchRequest:
        """A short burst launch; its feeds are pushed."""
        buffer = io.BytesIO()
        np.savez(buffer, x=np.arange(24, dtype=np.float32).reshape(6, 1, 4))
        _, feeds = self.push(buffer.getvalue())
        return pb.LaunchRequest(
            **{
                "lease_id": self.lease_id,
                "launch_id": uuid.uuid4().hex,
                "kind": pb.LATENCY,
                "runtime": "fake",
                "graphs": [graph],
                "feeds_sha256": feeds,
                "frame": pb.FrameLoop(),
                "warmup_frames": 2,
                "min_frames": 50,
                "block_frames": 10,
                "timeout_s": 60,
                **fields,
            }
        )

    def launch(self, graph: pb.Graph, **fields) -> list[pb.Event]:
        """All events of a launch."""
        return list(self.call("Launch", self.request(graph, **fields)))

    def endless(self, **changes: object) -> pb.LaunchRequest:
        """A launch that ends only when it is told to."""
        return self.request(self.graph(latency_us=2000, **changes), min_frames=1_000_000)


def kinds(events) -> list[str]:
    """What the events are."""
    return [event.WhichOneof("event") for event in events]


def wait_until(true) -> None:
    """Polls for what another thread or process does."""
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


@contextlib.contextmanager
def agent(
    folder: Path, clock=time.monotonic, quota_bytes: int = DEFAULT_QUOTA_BYTES, python: str = sys.executable
) -> Iterator[Host]:
    """An agent that serves until the block ends."""
    device = read_device("emulated-test")
    store = Store(folder / "store", quota_bytes)
    leases = Leases(clock)
    launches = Launches(folder / "store" / "launches", leases, python)
    server, address = create_server(Service(device, store, leases, launches, python), TOKEN, "127.0.0.1", 0)
    server.start()
    try:
        with grpc.insecure_channel(address) as channel:
            yield Host(agent_pb2_grpc.AgentStub(channel), address, launches, uuid.uuid4().hex)
    finally:
        launches.close()
        server.stop(2).wait()
        store.close()
