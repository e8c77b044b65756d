"""One agent, as the host speaks to it. The only host module that sees protobuf; RPC errors become `errors.py`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import numpy as np

from rtfleet import launch_log as log
from rtfleet.artifact import File, Graph, Tensor
from rtfleet.errors import DeviceError, LeaseHeld
from rtfleet.loop import Chain, Loop
from rtfleet.operators import Operators, OperatorTime
from rtfleet.records import (
    BusyProcess,
    CoreFacts,
    DeviceFacts,
    DeviceState,
    Kind,
    Nanoseconds,
    Options,
    Phase,
    Placement,
    Probe,
    Reading,
    RuntimeFacts,
)
from rtfleet.transports import Link
from rtfleet_protos import agent_pb2 as pb
from rtfleet_protos.agent_pb2_grpc import AgentStub

PROTOCOL_VERSION = 1
OLDEST_PROTOCOL_SPOKEN = 1
CHUNK_BYTES = 1 << 20
CALL_TIMEOUT_S = 30.0
# Describe asks every runtime in a process of its own; on a small board their imports take a while.
DESCRIBE_TIMEOUT_S = 120.0
# The agent gives its worker 30 s.
PROBE_TIMEOUT_S = 60.0

T = TypeVar("T")


@dataclass(frozen=True)
class LaunchOrder:
    """A launch as the host asks for it; the fields of the wire's LaunchRequest.

    Attributes:
        hop_ns: 0 is back to back.
        min_frames: With `min_duration_ns`, what ends the launch; `block_frames` lie between two speed probes.
    """

    launch_id: str
    kind: Kind
    runtime: str
    graphs: tuple[Graph, ...]
    feeds_sha256: str
    options: Options
    hop_ns: int
    min_frames: int
    min_duration_ns: int
    block_frames: int
    timeout_s: float
    loop: Loop | None = None
    warmup_frames: int = 50
    warmup_ns: int = 500_000_000


class AgentClient:
    """A connection to one agent. Close it with `close()`, or use it as an async context manager."""

    def __init__(self, link: Link, device: str) -> None:
        self.device = device
        self.lease_id = ""
        self._metadata = (("authorization", f"Bearer {link.token}"),)
        self._channel = grpc.aio.insecure_channel(link.address, options=[("grpc.enable_http_proxy", 0)])
        self._stub: Any = AgentStub(self._channel)

    async def __aenter__(self) -> AgentClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; the agent goes on."""
        await self._channel.close()

    async def _call(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise self._error(error) from error

    def _error(self, error: grpc.aio.AioRpcError) -> DeviceError:
        code, detail = error.code(), error.details() or ""
        where = f"device '{self.device}': "
        if code == grpc.StatusCode.UNAUTHENTICATED:
            return DeviceError(
                f"{where}the agent refused the token ({detail})", "use this agent start's own token", retryable=False
            )
        if code == grpc.StatusCode.UNAVAILABLE:
            return DeviceError(
                f"{where}the agent does not answer ({detail})", "see whether it still runs", "UNAVAILABLE"
            )
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeviceError(f"{where}the agent did not answer in time", "see whether it hangs", "UNAVAILABLE")
        if code == grpc.StatusCode.RESOURCE_EXHAUSTED:
            return DeviceError(f"{where}{detail}", log.HINTS["NO_DISK"], "NO_DISK", retryable=False)
        if code == grpc.StatusCode.FAILED_PRECONDITION:
            return LeaseHeld(f"{where}{detail}", "wait for the lease to end, or take another device", "LEASE")
        if code == grpc.StatusCode.INVALID_ARGUMENT:
            return DeviceError(f"{where}{detail}", log.HINTS["BAD_MODEL"], "BAD_MODEL", retryable=False)
        return DeviceError(f"{where}{detail or code.name}", kind=code.name)

    # ---- identity and lease ----------------------------------------------------------------------------------------

    async def describe(self, *, is_host: bool = False) -> DeviceFacts:
        """What the device is.

        Raises:
            DeviceError: no answer, or an agent too old or too new for this host, with the command that upgrades.
        """
        request = self._stub.Describe(pb.DescribeRequest(), metadata=self._metadata, timeout=DESCRIBE_TIMEOUT_S)
        reply: pb.Description = await self._call(request)
        if reply.protocol_version < OLDEST_PROTOCOL_SPOKEN:
            raise DeviceError(
                f"device '{self.device}': its agent {reply.agent_version} speaks protocol {reply.protocol_version}, "
                f"this host needs {OLDEST_PROTOCOL_SPOKEN} or newer",
                "on the device: pip install --upgrade rtfleet",
                retryable=False,
            )
        if reply.oldest_protocol_served > PROTOCOL_VERSION:
            raise DeviceError(
                f"device '{self.device}': its agent {reply.agent_version} serves protocol "
                f"{reply.oldest_protocol_served} or newer, this host speaks {PROTOCOL_VERSION}",
                "on this machine: pip install --upgrade 'rtfleet[host]'",
                retryable=False,
            )
        return DeviceFacts(
            alias=self.device,
            identity=reply.identity,
            os=reply.os,
            os_version=reply.os_version,
            model=reply.model,
            soc=reply.soc,
            arch=reply.arch,
            cores=reply.cores,
            memory_bytes=reply.memory_bytes,
            boot_id=reply.boot_id,
            agent_version=reply.agent_version,
            protocol_version=reply.protocol_version,
            python_version=reply.python_version,
            runtimes=tuple(map(_runtime_facts, reply.runtimes)),
            sensors=tuple(reply.sensors),
            missing_sensors=dict(reply.missing_sensors),
            store_free_bytes=reply.store_free_bytes,
            lease_holder=reply.lease.holder,
            lease_expires_in_s=reply.lease.expires_in_s,
            is_host=is_host,
            cores_info=tuple(
                CoreFacts(core.index, _optional(core, "capacity"), _optional(core, "max_frequency_khz"))
                for core in reply.core_info
            ),
        )

    async def acquire(self, lease_id: str, holder: str) -> float:
        """Take the device for `lease_id`; seconds until it must be renewed. Raises LeaseHeld."""
        request = pb.AcquireLeaseRequest(lease_id=lease_id, holder=holder)
        reply = await self._call(self._stub.AcquireLease(request, metadata=self._metadata, timeout=CALL_TIMEOUT_S))
        self.lease_id = lease_id
        return float(reply.expires_in_s)

    async def renew(self) -> float:
        """Keep the lease; seconds until it must be renewed again."""
        request = pb.RenewLeaseRequest(lease_id=self.lease_id)
        reply = await self._call(self._stub.RenewLease(request, metadata=self._metadata, timeout=CALL_TIMEOUT_S))
        return float(reply.expires_in_s)

    async def release(self) -> None:
        """Give the device back."""
        request = pb.ReleaseLeaseRequest(lease_id=self.lease_id)
        await self._call(self._stub.ReleaseLease(request, metadata=self._metadata, timeout=CALL_TIMEOUT_S))

    @contextlib.asynccontextmanager
    async def leased(self, lease_id: str, holder: str) -> AsyncIterator[None]:
        """The device is held, and renewed, until the block ends. Raises LeaseHeld."""
        expires_in_s = await self.acquire(lease_id, holder)
        renewer = asyncio.create_task(self._keep_renewing(expires_in_s))
        try:
            yield
        finally:
            renewer.cancel()
            with contextlib.suppress(DeviceError):
                await self.release()

    async def _keep_renewing(self, expires_in_s: float) -> None:
        while True:
            await asyncio.sleep(expires_in_s / 3)
            # An agent that does not answer is noticed by the launch itself, which then says so.
            with contextlib.suppress(DeviceError):
                await self.renew()

    # ---- files -----------------------------------------------------------------------------------------------------

    async def push(self, files: Sequence[File]) -> int:
        """Send what the agent lacks; the bytes that were sent. Each file needs its `location`."""
        by_hash = {file.sha256: file for file in files}
        request = pb.HaveRequest(lease_id=self.lease_id, sha256=list(by_hash))
        reply: pb.HaveReply = await self._call(
            self._stub.Have(request, metadata=self._metadata, timeout=CALL_TIMEOUT_S)
        )
        sent_bytes = 0
        for missing in reply.missing:
            file = by_hash[missing.sha256]
            await self._call(self._stub.Push(self._chunks(file, missing.held_bytes), metadata=self._metadata))
            sent_bytes += file.size_bytes - missing.held_bytes
        return sent_bytes

    async def _chunks(self, file: File, offset_bytes: int) -> AsyncIterator[pb.PushRequest]:
        assert file.location is not None
        yield pb.PushRequest(
            header=pb.PushHeader(
                lease_id=self.lease_id, sha256=file.sha256, size_bytes=file.size_bytes, offset_bytes=offset_bytes
            )
        )
        with file.location.open("rb") as stream:
            stream.seek(offset_bytes)
            while chunk := stream.read(CHUNK_BYTES):
                yield pb.PushRequest(chunk=chunk)

    # ---- models and launches ---------------------------------------------------------------------------------------

    async def inspect(self, runtime: str, graph: Graph) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Inputs and outputs of a graph whose files the agent has, as the runtime sees them."""
        request = pb.InspectRequest(lease_id=self.lease_id, runtime=runtime, graph=_graph(graph))
        reply = await self._call(self._stub.Inspect(request, metadata=self._metadata, timeout=DESCRIBE_TIMEOUT_S))
        return tuple(map(_tensor, reply.inputs)), tuple(map(_tensor, reply.outputs))

    async def probe(self, cpus: Sequence[int] = ()) -> Probe:
        """How fast the device is right now on these cores (none: the scheduler's choice), and its state.

        Raises:
            DeviceError: a launch runs, or the lease is not held.
        """
        request = pb.ProbeRequest(lease_id=self.lease_id, cpus=cpus)
        reply: pb.ProbeReply = await self._call(
            self._stub.Probe(request, metadata=self._metadata, timeout=PROBE_TIMEOUT_S)
        )
        return Probe(reply.probe_ns, _device_state(reply.state), None if reply.cpu < 0 else reply.cpu)

    async def launch(self, order: LaunchOrder) -> AsyncIterator[log.LaunchEvent]:
        """Start a launch and yield its events. A line that breaks is taken up again where it was.

        What the agent refuses as the model's fault ends as `Failed`, like what its worker finds: the device goes on.
        Whoever is cancelled while waiting here cancels the launch too.

        Raises:
            DeviceError: the agent refused, or is gone.
        """
        try:
            async for event in self._launch(order):
                yield event
        except asyncio.CancelledError:
            with contextlib.suppress(DeviceError):
                await asyncio.shield(self.cancel(order.launch_id))
            raise

    async def _launch(self, order: LaunchOrder) -> AsyncIterator[log.LaunchEvent]:
        stream = self._stub.Launch(_launch_request(order, self.lease_id), metadata=self._metadata)
        number, tries = 0, 0
        while True:
            try:
                async for message in stream:
                    number, tries = message.number, 0
                    event = _event(message)
                    if event is not None:
                        yield event
                return
            except grpc.aio.AioRpcError as error:
                if error.code() == grpc.StatusCode.INVALID_ARGUMENT:
                    yield log.Failed("BAD_MODEL", error.details() or "", "", "")
                    return
                tries += 1
                if error.code() != grpc.StatusCode.UNAVAILABLE or tries > 3:
                    raise self._error(error) from error
                await asyncio.sleep(0.3 * tries)
                stream = self._resume(order.launch_id, number)

    def _resume(self, launch_id: str, after: int) -> Any:
        request = pb.ResumeRequest(lease_id=self.lease_id, launch_id=launch_id, after=after)
        return self._stub.Resume(request, metadata=self._metadata)

    async def held_events(self, launch_id: str) -> list[log.LaunchEvent]:
        """All events of a launch that this lease started before, to its end; [] where the agent has none of it."""
        try:
            return [event async for message in self._resume(launch_id, 0) if (event := _event(message)) is not None]
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return []
            raise self._error(error) from error

    async def acknowledge(self, launch_id: str) -> None:
        """Tell the agent that all events of a finished launch are safe, so that it may forget them."""
        try:
            async for _ in self._resume(launch_id, 2**63 - 1):
                pass
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:  # it has nothing of one that it refused
                raise self._error(error) from error

    async def finish(self, launch_id: str) -> None:
        """End the launch after the block in hand."""
        request = pb.LaunchRef(lease_id=self.lease_id, launch_id=launch_id)
        await self._call(self._stub.Finish(request, metadata=self._metadata, timeout=CALL_TIMEOUT_S))

    async def cancel(self, launch_id: str) -> None:
        """End the launch at once."""
        request = pb.LaunchRef(lease_id=self.lease_id, launch_id=launch_id)
        await self._call(self._stub.Cancel(request, metadata=self._metadata, timeout=CALL_TIMEOUT_S))


# ---- conversions ---------------------------------------------------------------------------------------------------


def _graph(graph: Graph) -> pb.Graph:
    return pb.Graph(
        name=graph.name,
        files=[pb.File(path=file.path, sha256=file.sha256, size_bytes=file.size_bytes) for file in graph.files],
        shapes=[pb.Shape(input=name, dims=dims) for name, dims in graph.shapes.items()],
        states=[
            pb.StatePair(
                input=state.input, output=state.output, initial_sha256=state.initial.sha256 if state.initial else ""
            )
            for state in graph.states
        ],
    )


def _loop(loop: Loop | None) -> dict[str, Any]:
    """The field of the request's loop and its message."""
    if loop is None:
        return {"frame": pb.FrameLoop()}
    if isinstance(loop, Chain):
        return {"chain": pb.ChainLoop(edges=[pb.Edge(**vars(edge)) for edge in loop.edges])}
    carried = [pb.Carried(source=one.source, input=one.input) for one in loop.carried]
    caches = [pb.Cache(input=one.input, output=one.output, dims=one.shape, fixed=one.fixed) for one in loop.caches]
    plain = {name: value for name, value in vars(loop).items() if name not in ("carried", "caches")}
    return {"seq2seq": pb.Seq2SeqLoop(carried=carried, caches=caches, **plain)}


def _launch_request(order: LaunchOrder, lease_id: str) -> pb.LaunchRequest:
    return pb.LaunchRequest(
        lease_id=lease_id,
        launch_id=order.launch_id,
        kind=order.kind,
        runtime=order.runtime,
        graphs=list(map(_graph, order.graphs)),
        feeds_sha256=order.feeds_sha256,
        **_loop(order.loop),
        options=pb.Options(
            accelerator=order.options.accelerator,
            threads=order.options.threads,
            cpus=order.options.cpus,
            allow_fallback=order.options.allow_fallback,
            optimize=order.options.optimize,
        ),
        hop_ns=order.hop_ns,
        warmup_frames=order.warmup_frames,
        warmup_ns=order.warmup_ns,
        min_frames=order.min_frames,
        min_duration_ns=order.min_duration_ns,
        block_frames=order.block_frames,
        timeout_s=order.timeout_s,
    )


def _runtime_facts(facts: pb.RuntimeFacts) -> RuntimeFacts:
    return RuntimeFacts(
        name=facts.name,
        version=facts.version,
        library_sha256=facts.library_sha256,
        accelerators=tuple(facts.accelerators),
        unavailable=dict(facts.unavailable),
        error=facts.error,
    )


def _tensor(tensor: pb.Tensor) -> Tensor:
    return Tensor(
        name=tensor.name,
        dtype=tensor.dtype,
        shape=tuple(tensor.dims),
        scale=_optional(tensor, "scale"),
        zero_point=_optional(tensor, "zero_point"),
    )


def _optional(message: Any, name: str) -> Any:
    return getattr(message, name) if message.HasField(name) else None


def _nanoseconds(column: bytes) -> Nanoseconds:
    return np.frombuffer(column, "<i8").astype(np.int64)


_PHASES: Mapping[int, Phase] = {pb.WARMUP: "WARMUP", pb.PACED: "PACED", pb.BURST: "BURST"}


def _event(message: pb.Event) -> log.LaunchEvent | None:
    """A wire event as a record; None for one that this host does not know (a newer agent may tell more)."""
    kind = message.WhichOneof("event")
    body: Any = getattr(message, kind) if kind else None
    if kind == "started":
        return log.Started(body.at_mono_ns, body.at_unix_ns, body.boot_id)
    if kind == "loaded":
        placed = body.placement
        return log.Loaded(
            compile_ns=body.compile_ns,
            load_ns=body.load_ns,
            first_inference_ns=body.first_inference_ns,
            placement=_placement(placed),
            runtime=_runtime_facts(body.runtime),
            rss_before_load_bytes=_optional(body, "rss_before_load_bytes"),
            rss_after_load_bytes=_optional(body, "rss_after_load_bytes"),
            memory_reason=body.memory_reason,
        )
    if kind == "block":
        return log.Frames(
            phase=_PHASES[body.phase],
            probe_before_ns=body.probe_before_ns,
            probe_after_ns=body.probe_after_ns,
            cpu=None if body.cpu < 0 else body.cpu,
            started_mono_ns=body.started_mono_ns,
            latency_ns=_nanoseconds(body.latency_ns),
            lateness_ns=_nanoseconds(body.lateness_ns),
            marks=tuple(body.marks),
            busy=tuple(map(_busy, body.busy)),
            others_core_share=_optional(body, "others_core_share"),
            first_token_ns=_nanoseconds(body.first_token_ns),
            tokens=_nanoseconds(body.tokens),
        )
    if kind == "device_state":
        return log.Conditions("after" if body.after else "during" if body.during else "before", _device_state(body))
    if kind == "outputs":
        columns = {
            column.name: np.frombuffer(column.data, column.dtype).reshape(tuple(column.dims)) for column in body.columns
        }
        return log.Outputs(body.first_frame, columns)
    if kind == "operators":
        times = map(_operator_time, body.operators)
        return Operators(tuple(sorted(times, key=lambda one: one.total_ns, reverse=True)))
    if kind == "finished":
        return log.Finished(_optional(body, "peak_rss_bytes"), body.memory_reason, _optional(body, "overhead_ns"))
    if kind == "failed":
        return log.Failed(pb.FailureKind.Name(body.kind), body.message, body.signal, body.stderr)
    return None


def _placement(placed: pb.Placement) -> Placement:
    return Placement(
        asked=placed.asked,
        ran=placed.ran,
        accelerated_share=_optional(placed, "accelerated_share"),
        notes=tuple(placed.notes),
        accelerated_nodes=_optional(placed, "accelerated_nodes"),
        nodes=_optional(placed, "nodes"),
    )


def _operator_time(time: pb.OperatorTime) -> OperatorTime:
    return OperatorTime(time.name, time.op_type, time.calls, time.total_ns, time.ran_on, _optional(time, "accelerated"))


def _device_state(state: pb.DeviceState) -> DeviceState:
    readings = {name: _reading(reading) for name, reading in sorted(state.readings.items())}
    return DeviceState(state.at_mono_ns, readings, tuple(map(_busy, state.busy)))


def _busy(process: pb.BusyProcess) -> BusyProcess:
    return BusyProcess(process.pid, process.name, process.core_share, _optional(process, "core"))


def _reading(reading: pb.Reading) -> Reading:
    kind = reading.WhichOneof("value")
    return Reading(getattr(reading, kind) if kind else None, reading.reason)
