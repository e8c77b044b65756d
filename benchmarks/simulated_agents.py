"""Agents that only say what a device would say, hundreds in one process: what is measured is the controller.

    python benchmarks/simulated_agents.py FOLDER COUNT SECONDS

They speak the real protocol over mutual TLS, each on a port of its own. A launch tells a block of 100 frames every
second for SECONDS, which are made up; nothing computes. FOLDER holds a folder `device-NNN` of certificates for each.
The first line of stdout is a JSON list of ports.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from rtfleet_protos import agent_pb2 as pb
from rtfleet_protos import agent_pb2_grpc

FRAMES = 100
LATENCY_NS = 2_000_000


class SimulatedAgent(agent_pb2_grpc.AgentServicer):
    """One device. It has whatever file it is asked for, and measures what it was told to."""

    def __init__(self, name: str, seconds: int) -> None:
        self.name, self.seconds = name, seconds
        self.random = np.random.default_rng(int(name.rpartition("-")[2]))

    async def Describe(self, request: Any, context: Any) -> Any:
        fake = pb.RuntimeFacts(name="fake", version="1", library_sha256="0" * 64, accelerators=["cpu"])
        return pb.Description(
            agent_version="simulated", protocol_version=1, oldest_protocol_served=1, identity=self.name,
            boot_id=self.name, os="linux", os_version="0", model="simulated", arch="none", cores=4,
            memory_bytes=1 << 30, runtimes=[fake], store_free_bytes=1 << 30,
        )  # fmt: skip

    async def AcquireLease(self, request: Any, context: Any) -> Any:
        return pb.Lease(expires_in_s=30)

    async def RenewLease(self, request: Any, context: Any) -> Any:
        return pb.Lease(expires_in_s=30)

    async def ReleaseLease(self, request: Any, context: Any) -> Any:
        return pb.ReleaseLeaseReply()

    async def Have(self, request: Any, context: Any) -> Any:
        return pb.HaveReply()

    async def Inspect(self, request: Any, context: Any) -> Any:
        return pb.InspectReply(
            inputs=[pb.Tensor(name="x", dtype="float32", dims=[1, 320])],
            outputs=[pb.Tensor(name="y", dtype="float32", dims=[1])],
        )

    async def ListLaunches(self, request: Any, context: Any) -> Any:
        return pb.ListLaunchesReply()

    async def Probe(self, request: Any, context: Any) -> Any:
        return pb.ProbeReply(probe_ns=30_000, cpu=0, state=pb.DeviceState(at_mono_ns=time.monotonic_ns()))

    async def Launch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        number = 0

        def event(**what: Any) -> Any:
            nonlocal number
            number += 1
            return pb.Event(number=number, **what)

        yield event(started=pb.Started(pid=1, at_mono_ns=1, boot_id=self.name, at_unix_ns=time.time_ns()))
        yield event(loaded=pb.Loaded(load_ns=1, first_inference_ns=1, rss_before_load_bytes=1, rss_after_load_bytes=2))
        if request.kind == pb.PARITY:
            column = pb.Column(name="y", dtype="<f4", dims=[10, 1], data=bytes(40))
            yield event(outputs=pb.Outputs(columns=[column]))
        else:
            clock = asyncio.get_running_loop().time
            began_s = clock()
            for block, phase in enumerate((pb.WARMUP, *[pb.PACED] * self.seconds, pb.BURST), start=1):
                # By the device's own clock: it waits for nobody who reads.
                await asyncio.sleep(began_s + block - clock())
                yield event(block=self._block(phase, request.hop_ns))
        yield event(finished=pb.Finished(peak_rss_bytes=3, overhead_ns=1000))

    def _block(self, phase: int, hop_ns: int) -> Any:
        latency_ns = self.random.normal(LATENCY_NS, LATENCY_NS / 50, FRAMES).astype("<i8")
        lateness_ns = b"" if phase == pb.BURST else np.full(FRAMES, 50_000, "<i8").tobytes()
        return pb.Block(
            phase=phase, probe_before_ns=30_000, probe_after_ns=30_000, cpu=0,
            started_mono_ns=time.monotonic_ns(), latency_ns=latency_ns.tobytes(), lateness_ns=lateness_ns,
        )  # fmt: skip

    async def Resume(self, request: Any, context: Any) -> AsyncIterator[Any]:
        return
        yield

    async def Finish(self, request: Any, context: Any) -> Any:
        return pb.LaunchReply()

    async def Cancel(self, request: Any, context: Any) -> Any:
        return pb.LaunchReply()


async def serve(folder: Path, count: int, seconds: int) -> None:
    """All of them, until this process is killed."""
    servers, ports = [], []
    for number in range(count):
        name = f"device-{number:03}"
        pem = {file: (folder / name / file).read_bytes() for file in ("ca.pem", "cert.pem", "key.pem")}
        credentials = grpc.ssl_server_credentials([(pem["key.pem"], pem["cert.pem"])], pem["ca.pem"], True)
        server = grpc.aio.server()
        agent_pb2_grpc.add_AgentServicer_to_server(SimulatedAgent(name, seconds), server)
        ports.append(server.add_secure_port("127.0.0.1:0", credentials))
        await server.start()
        servers.append(server)
    print(json.dumps(ports), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
