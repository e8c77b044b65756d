"""One agent, as the host speaks to it; RPC errors become `errors.py`. Only wire.py sees protobuf beside it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Container, Iterator, Sequence
from typing import Any, BinaryIO, TypeVar

import grpc

from rtfleet import launch_log as log
from rtfleet import wire
from rtfleet.artifact import File, Graph, Tensor
from rtfleet.errors import DeviceError, LeaseHeld, UsageError
from rtfleet.launch_order import LaunchOrder
from rtfleet.records import (
    CoreFacts,
    DeviceFacts,
    Probe,
)
from rtfleet.this_machine import is_this_machine
from rtfleet.transports import Link
from rtfleet_protos import agent_pb2 as pb
from rtfleet_protos.agent_pb2_grpc import AgentStub

PROTOCOL_VERSION = 1
OLDEST_PROTOCOL_SPOKEN = 1
CHUNK_BYTES = 1 << 20
CALL_TIMEOUT_S = 30.0
LEAVE_TIMEOUT_S = 5.0
# Describe asks every runtime in a process of its own; on a small board their imports take a while.
DESCRIBE_TIMEOUT_S = 120.0
# The agent gives its worker 30 s.
PROBE_TIMEOUT_S = 60.0

T = TypeVar("T")


def new_lease() -> str:
    """The secret of a lease that was never asked for before."""
    return secrets.token_hex(16)


class AgentClient:
    """A connection to one agent. Close it with `close()`, or use it as an async context manager.

    Attributes:
        closed: Nothing can be asked over it any more.
    """

    def __init__(self, link: Link, device: str) -> None:
        self.device = device
        self.lease_id = ""
        self.closed = False
        self._metadata = (("authorization", f"Bearer {link.token}"),) if link.token else ()
        self._channel = _channel(link)
        self._agent: Any = AgentStub(self._channel)

    async def __aenter__(self) -> AgentClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; the agent goes on."""
        self.closed = True
        await self._channel.close()

    @property
    def _stub(self) -> Any:
        if self.closed:
            raise self._hung_up()
        return self._agent

    async def _call(self, call: Awaitable[T]) -> T:
        try:
            with self._open():
                return await call
        except grpc.aio.AioRpcError as error:
            raise self._error(error) from error

    async def _messages(self, stream: AsyncIterable[T]) -> AsyncIterator[T]:
        with self._open():
            async for message in stream:
                yield message

    @contextlib.contextmanager
    def _open(self) -> Iterator[None]:
        """Only whoever is cancelled is told so: grpc says it also when another closes the connection meanwhile."""
        try:
            yield
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and not task.cancelling():
                raise self._hung_up() from None
            raise

    def _hung_up(self) -> DeviceError:
        return DeviceError(
            f"device '{self.device}': its connection was closed meanwhile", "see why it went away", "UNAVAILABLE"
        )

    def _error(self, error: grpc.aio.AioRpcError) -> DeviceError:
        code, detail = error.code(), error.details() or ""
        where = f"device '{self.device}': "
        if code == grpc.StatusCode.UNAUTHENTICATED:
            if self._metadata:
                text, hint = f"the agent refused the token ({detail})", "use this agent start's own token"
            else:
                text, hint = f"the agent refused this host: {detail}", "rtfleet pki issue makes a new certificate"
            return DeviceError(f"{where}{text}", hint, retryable=False)
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
        if code == grpc.StatusCode.PERMISSION_DENIED:
            return LeaseHeld(f"{where}{detail}", "see who needs it now: rtfleet devices; then --resume", "LEASE_ENDED")
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
            runtimes=tuple(map(wire.runtime_facts, reply.runtimes)),
            sensors=tuple(reply.sensors),
            missing_sensors=dict(reply.missing_sensors),
            store_free_bytes=reply.store_free_bytes,
            lease_holder=reply.lease.holder,
            lease_expires_in_s=reply.lease.expires_in_s,
            lease_since_unix_s=reply.lease.since_unix_s,
            lease_reason=reply.lease.reason,
            is_host=is_host or is_this_machine(reply.boot_id),
            cores_info=tuple(
                CoreFacts(core.index, wire.optional(core, "capacity"), wire.optional(core, "max_frequency_khz"))
                for core in reply.core_info
            ),
            provisos=tuple(reply.provisos),
        )

    async def acquire(self, lease_id: str, holder: str, lasts_s: float = 0.0, reason: str = "") -> float:
        """Take the device for `lease_id`; seconds until it must be renewed. Raises LeaseHeld.

        Args:
            lasts_s: It is good for at least so long without being renewed; 0 is the agent's usual time.
            reason: Why it is held, for those who ask for it meanwhile.
        """
        request = pb.AcquireLeaseRequest(lease_id=lease_id, holder=holder, lasts_s=lasts_s, reason=reason)
        reply = await self._call(self._stub.AcquireLease(request, metadata=self._metadata, timeout=CALL_TIMEOUT_S))
        self.lease_id = lease_id
        return float(reply.expires_in_s)

    async def renew(self) -> float:
        """Keep the lease; seconds until it must be renewed again."""
        request = pb.RenewLeaseRequest(lease_id=self.lease_id)
        reply = await self._call(self._stub.RenewLease(request, metadata=self._metadata, timeout=CALL_TIMEOUT_S))
        return float(reply.expires_in_s)

    async def release(self, *, force: bool = False) -> None:
        """Give the device back; `force`: whoever holds it."""
        request = pb.ReleaseLeaseRequest(lease_id=self.lease_id, force=force)
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
            # What does not answer now loses the lease soon; a host that is interrupted does not wait for it.
            with contextlib.suppress(DeviceError, TimeoutError):
                async with asyncio.timeout(LEAVE_TIMEOUT_S):
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
            # More than all of it is none of it, and the agent throws that away.
            held_bytes = missing.held_bytes if missing.held_bytes <= file.size_bytes else 0
            await self._push(file, held_bytes)
            sent_bytes += file.size_bytes - held_bytes
        return sent_bytes

    async def _push(self, file: File, offset_bytes: int) -> None:
        """A file from its `offset_bytes` on. Raises UsageError where it can't be read."""
        assert file.location is not None
        # grpc keeps to itself what goes wrong in the parts that it is given.
        broken: list[OSError] = []
        try:
            with file.location.open("rb") as stream:
                stream.seek(offset_bytes)
                parts = self._parts(file, offset_bytes, stream, broken)
                try:
                    await self._call(self._stub.Push(parts, metadata=self._metadata))
                except DeviceError:
                    if broken:
                        raise broken[0] from None
                    raise
        except OSError as error:
            raise UsageError(
                f"{file.location}: can't be read: {error.strerror}", "it was there before: put it back, then --resume"
            ) from None

    async def _parts(
        self, file: File, offset_bytes: int, stream: BinaryIO, broken: list[OSError]
    ) -> AsyncIterator[pb.PushRequest]:
        yield pb.PushRequest(
            header=pb.PushHeader(
                lease_id=self.lease_id, sha256=file.sha256, size_bytes=file.size_bytes, offset_bytes=offset_bytes
            )
        )
        try:
            while chunk := stream.read(CHUNK_BYTES):
                yield pb.PushRequest(chunk=chunk)
        except OSError as error:
            broken.append(error)
            raise

    # ---- models and launches ---------------------------------------------------------------------------------------

    async def inspect(self, runtime: str, graph: Graph) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Inputs and outputs of a graph whose files the agent has, as the runtime sees them."""
        request = pb.InspectRequest(lease_id=self.lease_id, runtime=runtime, graph=wire.graph(graph))
        reply = await self._call(self._stub.Inspect(request, metadata=self._metadata, timeout=DESCRIBE_TIMEOUT_S))
        return tuple(map(wire.tensor, reply.inputs)), tuple(map(wire.tensor, reply.outputs))

    async def probe(self, cpus: Sequence[int] = ()) -> Probe:
        """How fast the device is right now on these cores (none: the scheduler's choice), and its state.

        Raises:
            DeviceError: a launch runs, or the lease is not held.
        """
        request = pb.ProbeRequest(lease_id=self.lease_id, cpus=cpus)
        reply: pb.ProbeReply = await self._call(
            self._stub.Probe(request, metadata=self._metadata, timeout=PROBE_TIMEOUT_S)
        )
        return Probe(reply.probe_ns, wire.device_state(reply.state), None if reply.cpu < 0 else reply.cpu)

    async def launch(self, order: LaunchOrder) -> AsyncIterator[log.LaunchEvent]:
        """Start a launch and yield its events. A line that breaks is taken up again where it was.

        What the agent refuses as the model's fault ends as `Failed`, like what its worker finds: the device goes on.
        Whoever is cancelled while waiting here cancels the launch too.

        Raises:
            DeviceError: the agent refused, or is gone.
        """
        async with self._cancelling(order.launch_id):
            async for event in self._launch(order):
                yield event

    @contextlib.asynccontextmanager
    async def _cancelling(self, launch_id: str) -> AsyncIterator[None]:
        try:
            yield
        except asyncio.CancelledError:
            with contextlib.suppress(DeviceError):
                await asyncio.shield(self.cancel(launch_id))
            raise

    async def _launch(self, order: LaunchOrder) -> AsyncIterator[log.LaunchEvent]:
        stream = self._stub.Launch(wire.launch_request(order, self.lease_id), metadata=self._metadata)
        number, tries = 0, 0
        while True:
            try:
                async for message in self._messages(stream):
                    number, tries = message.number, 0
                    event = wire.event(message)
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

    async def held_events(self, launch_id: str) -> AsyncIterator[log.LaunchEvent]:
        """All events of a launch that this lease started before, to its end; none where the agent has none of it.

        Whoever is cancelled while waiting here cancels the launch too.
        """
        try:
            async with self._cancelling(launch_id):
                async for message in self._messages(self._resume(launch_id, 0)):
                    if (event := wire.event(message)) is not None:
                        yield event
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:
                raise self._error(error) from error

    async def acknowledge(self, launch_id: str) -> None:
        """Tell the agent that all events of a finished launch are safe, so that it may forget them."""
        try:
            async for _ in self._messages(self._resume(launch_id, 2**63 - 1)):
                pass
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:  # it has nothing of one that it refused
                raise self._error(error) from error

    async def cancel_running(self, but: Container[str]) -> None:
        """End what this lease still has running there: nobody looks at it any more.

        Args:
            but: Ids of launches that are still to be taken up.
        """
        request = pb.ListLaunchesRequest(lease_id=self.lease_id)
        reply: pb.ListLaunchesReply = await self._call(
            self._stub.ListLaunches(request, metadata=self._metadata, timeout=CALL_TIMEOUT_S)
        )
        for one in reply.launches:
            if one.running and one.launch_id not in but:
                await self.cancel(one.launch_id)
                await self.acknowledge(one.launch_id)

    async def finish(self, launch_id: str) -> None:
        """End the launch after the block in hand."""
        request = pb.LaunchRef(lease_id=self.lease_id, launch_id=launch_id)
        await self._call(self._stub.Finish(request, metadata=self._metadata, timeout=CALL_TIMEOUT_S))

    async def cancel(self, launch_id: str) -> None:
        """End the launch at once."""
        request = pb.LaunchRef(lease_id=self.lease_id, launch_id=launch_id)
        await self._call(self._stub.Cancel(request, metadata=self._metadata, timeout=LEAVE_TIMEOUT_S))


def _channel(link: Link) -> grpc.aio.Channel:
    options: list[tuple[str, Any]] = [("grpc.enable_http_proxy", 0)]
    if not link.is_host:
        # A device that is gone without a word is noticed also in a long launch that says little.
        options += [
            ("grpc.keepalive_time_ms", 20_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.keepalive_permit_without_calls", 1),
        ]
    if link.tls is None:
        return grpc.aio.insecure_channel(link.address, options=options)
    options.append(("grpc.ssl_target_name_override", link.tls.agent_name))
    credentials = grpc.ssl_channel_credentials(link.tls.authority, link.tls.key, link.tls.certificate)
    return grpc.aio.secure_channel(link.address, credentials, options=options)
