"""The gRPC service: every call of agent.proto, token or certificate before everything, errors as statuses."""

from __future__ import annotations

import contextlib
import errno
import hmac
import logging
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import grpc

from rtfleet_agent import sensors, wire
from rtfleet_agent.attendance import Attendance
from rtfleet_agent.device import Device
from rtfleet_agent.launch import Described, Failed, Inspected, Probed, WorkerRequest
from rtfleet_agent.launches import Launches
from rtfleet_agent.lease import Leases
from rtfleet_agent.refusal import Refusal, Status
from rtfleet_agent.runtimes import RUNTIMES
from rtfleet_agent.runtimes.base import RuntimeFacts
from rtfleet_agent.store import Store
from rtfleet_agent.tls import Keys, TlsFolder
from rtfleet_agent.workers import ask
from rtfleet_protos import agent_pb2 as pb
from rtfleet_protos import agent_pb2_grpc

# Each open stream holds a thread; a host has one or two.
_THREADS = 32
_LARGEST_MESSAGE_BYTES = 4 * 2**20
_DESCRIBE_TIMEOUT_S = 60.0
# Kinds that say something about the request; the rest is the agent's own trouble.
_FAULT_OF_REQUEST = {"BAD_MODEL", "UNSUPPORTED_OP", "NO_ACCELERATOR"}

_log = logging.getLogger("rtfleet-agent")


class Service(agent_pb2_grpc.AgentServicer):
    """The calls. Holds no state of its own but what the runtimes said.

    Attributes:
        attendance: Who calls, for an agent that ends when nobody does.
    """

    def __init__(self, device: Device, store: Store, leases: Leases, launches: Launches, python: str) -> None:
        self._device = device
        self._store = store
        self._leases = leases
        self._launches = launches
        self._python = python
        self.attendance = Attendance()
        # Nothing else runs on the device while a launch is measured, nor does one start beside something else.
        self._alone = threading.Lock()
        self._facts: tuple[RuntimeFacts, ...] = ()

    def Describe(self, request: pb.DescribeRequest, context: grpc.ServicerContext) -> pb.Description:
        with self._answering(context):
            return wire.description(self._device, self._runtime_facts(), self._leases.held(), self._store.free_bytes())

    def AcquireLease(self, request: pb.AcquireLeaseRequest, context: grpc.ServicerContext) -> pb.Lease:
        with self._answering(context):
            subject = _subject(context)
            holder = f"{subject} ({request.holder})" if subject else request.holder
            good_for_s = self._leases.acquire(request.lease_id, holder, request.lasts_s, request.reason)
            return pb.Lease(expires_in_s=good_for_s)

    def RenewLease(self, request: pb.RenewLeaseRequest, context: grpc.ServicerContext) -> pb.Lease:
        with self._answering(context):
            return pb.Lease(expires_in_s=self._leases.renew(request.lease_id))

    def ReleaseLease(self, request: pb.ReleaseLeaseRequest, context: grpc.ServicerContext) -> pb.ReleaseLeaseReply:
        with self._answering(context):
            self._leases.release(request.lease_id, force=request.force)
            return pb.ReleaseLeaseReply()

    def Have(self, request: pb.HaveRequest, context: grpc.ServicerContext) -> pb.HaveReply:
        with self._answering(context):
            self._leases.check(request.lease_id)
            missing = self._store.missing(request.lease_id, request.sha256)
            return pb.HaveReply(
                missing=[pb.MissingFile(sha256=each.sha256, held_bytes=each.held_bytes) for each in missing]
            )

    def Push(self, requests: Iterator[pb.PushRequest], context: grpc.ServicerContext) -> pb.PushReply:
        with self._answering(context):
            first = next(requests, None)
            if first is None or first.WhichOneof("part") != "header":
                raise Refusal("INVALID_ARGUMENT", "a push begins with its header")
            header = first.header
            self._leases.check(header.lease_id)
            incoming = self._store.receive(header.lease_id, header.sha256, header.size_bytes, header.offset_bytes)
            if incoming is None:
                return pb.PushReply(held_bytes=header.size_bytes, complete=True)
            try:
                for request in requests:
                    self._leases.check(header.lease_id)
                    incoming.write(request.chunk)
            finally:
                # Also when the stream breaks: what came stays, and the push can go on from there.
                complete = incoming.close()
            return pb.PushReply(held_bytes=incoming.held_bytes, complete=complete)

    def Inspect(self, request: pb.InspectRequest, context: grpc.ServicerContext) -> pb.InspectReply:
        with self._answering(context):
            self._leases.check(request.lease_id)
            with self._between_launches(request.lease_id, "inspect") as folder:
                answer = ask(self._python, wire.inspect_request(request, self._store, folder), folder)
            if isinstance(answer, Failed):
                raise _refusal_of(answer)
            if not isinstance(answer, Inspected):
                raise Refusal("INTERNAL", "the worker did something else where a model was to be inspected")
            return wire.inspection(answer)

    def Probe(self, request: pb.ProbeRequest, context: grpc.ServicerContext) -> pb.ProbeReply:
        with self._answering(context):
            self._leases.check(request.lease_id)
            with self._between_launches(request.lease_id, "probe") as folder:
                state, _ = sensors.before()
                # In a process of its own, as in a launch: this one's threads would wait for each other.
                answer = ask(self._python, wire.probe_request(request), folder)
            if isinstance(answer, Failed):
                raise _refusal_of(answer)
            if not isinstance(answer, Probed):
                raise Refusal("INTERNAL", "the worker did something else where the speed was to be probed")
            return pb.ProbeReply(probe_ns=answer.probe_ns, state=wire.device_state(state), cpu=answer.cpu)

    def Launch(self, request: pb.LaunchRequest, context: grpc.ServicerContext) -> Iterator[pb.Event]:
        with self._answering(context):
            launch_id = wire.launch_id(request)
            with self._alone:
                if not self._launches.known(request.lease_id, launch_id):
                    self._start(request, launch_id)
            yield from self._events(request.lease_id, launch_id, 0, context)

    def Resume(self, request: pb.ResumeRequest, context: grpc.ServicerContext) -> Iterator[pb.Event]:
        with self._answering(context):
            self._launches.find(request.lease_id, request.launch_id).acknowledge(request.after)
            yield from self._events(request.lease_id, request.launch_id, request.after, context)

    def Finish(self, request: pb.LaunchRef, context: grpc.ServicerContext) -> pb.LaunchReply:
        with self._answering(context):
            self._launches.finish(request.lease_id, request.launch_id)
            return pb.LaunchReply()

    def Cancel(self, request: pb.LaunchRef, context: grpc.ServicerContext) -> pb.LaunchReply:
        with self._answering(context):
            self._launches.cancel(request.lease_id, request.launch_id)
            return pb.LaunchReply()

    def ListLaunches(self, request: pb.ListLaunchesRequest, context: grpc.ServicerContext) -> pb.ListLaunchesReply:
        with self._answering(context):
            return pb.ListLaunchesReply(
                launches=[
                    pb.LaunchStatus(
                        launch_id=each.launch_id,
                        running=each.running,
                        events=each.events,
                        acknowledged=each.acknowledged,
                    )
                    for each in self._launches.of_lease(request.lease_id)
                ]
            )

    @contextlib.contextmanager
    def _answering(self, context: grpc.ServicerContext) -> Iterator[None]:
        with self.attendance.call(), _refusals(context):
            yield

    def _start(self, request: pb.LaunchRequest, launch_id: str) -> None:
        self._leases.check(request.lease_id)
        folder = Path(tempfile.mkdtemp(dir=self._store.work))
        try:
            worker_request = wire.launch_request(request, self._store, folder)
            self._launches.start(request.lease_id, launch_id, worker_request, folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _events(self, lease_id: str, launch_id: str, after: int, context: grpc.ServicerContext) -> Iterator[pb.Event]:
        spool = self._launches.find(lease_id, launch_id)
        gone = threading.Event()

        def leave() -> None:
            gone.set()
            spool.wake()

        # False: the call is over already.
        if context.add_callback(leave):
            for number, record in spool.follow(after, gone.is_set):
                yield wire.event(number, record)

    def _runtime_facts(self) -> tuple[RuntimeFacts, ...]:
        if self._facts:
            return self._facts
        with self._alone, self._scratch() as folder, ThreadPoolExecutor(len(RUNTIMES)) as pool:
            if self._launches.running:
                reason = "not known yet, and a launch is running; ask again after it"
                return tuple(RuntimeFacts(name, "", "", (), error=reason) for name in RUNTIMES)
            if not self._facts:
                self._facts = tuple(pool.map(lambda name: self._facts_of(name, folder), RUNTIMES))
            return self._facts

    def _facts_of(self, name: str, folder: Path) -> RuntimeFacts:
        answer = ask(self._python, WorkerRequest("DESCRIBE", name, timeout_s=_DESCRIBE_TIMEOUT_S), folder)
        if isinstance(answer, Described):
            return answer.facts
        message = answer.message if isinstance(answer, Failed) else "the worker inspected a model instead"
        return RuntimeFacts(name, "", "", (), error=message)

    @contextlib.contextmanager
    def _between_launches(self, lease_id: str, what: str) -> Iterator[Path]:
        """A folder for something short, while nothing is measured. A launch that has lost its lease is waited for."""
        with self._alone, self._scratch() as folder:
            self._launches.wait_for_lost(lease_id)
            if self._launches.running:
                raise Refusal("FAILED_PRECONDITION", f"a launch is running; {what} before or after it")
            yield folder

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self._store.work, ignore_cleanup_errors=True) as folder:
            yield Path(folder)


class TokenCheck(grpc.ServerInterceptor):
    """Lets only calls with this agent's token through, before any of their messages is read."""

    def __init__(self, token: str) -> None:
        self._wanted = f"Bearer {token}".encode()

        def refuse(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            context.abort(
                grpc.StatusCode.UNAUTHENTICATED,
                "wrong or missing token: each start of an agent has its own; "
                "send it as metadata 'authorization: Bearer TOKEN'",
            )

        # Whatever kind of call it is: a handler for streams need not read one message before it answers.
        self._refusing: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(refuse)

    def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Any], details: grpc.HandlerCallDetails
    ) -> Any:
        given = next((value for key, value in details.invocation_metadata or () if key == "authorization"), "")
        right = hmac.compare_digest(str(given).encode(), self._wanted)
        return continuation(details) if right else self._refusing


class CertificateCheck(grpc.ServerInterceptor):
    """Lets no revoked certificate through, before any message of a call is read. TLS itself refuses all others."""

    def __init__(self, tls: TlsFolder) -> None:
        self._tls = tls

    def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Any], details: grpc.HandlerCallDetails
    ) -> Any:
        handler = continuation(details)
        return handler and self._behind_check(handler)

    def _behind_check(self, handler: Any) -> grpc.RpcMethodHandler[bytes, bytes]:
        # Who calls is known only where the call is served, and there gRPC has parsed what a handler for single
        # messages is given. A handler for streams of bytes, whatever kind of call it is, parses when it wants to.
        def serve(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            if objection := self._tls.objection(_peer(context, "x509_pem_cert")):
                context.abort(grpc.StatusCode.UNAUTHENTICATED, objection)
            parsed = map(handler.request_deserializer, requests)
            given = parsed if handler.request_streaming else next(parsed)
            if handler.response_streaming:
                yield from map(
                    handler.response_serializer, (handler.unary_stream or handler.stream_stream)(given, context)
                )
            else:
                yield handler.response_serializer((handler.unary_unary or handler.stream_unary)(given, context))

        return grpc.stream_stream_rpc_method_handler(serve)


def _subject(context: grpc.ServicerContext) -> str:
    """The name in the certificate of whoever calls; "" without TLS."""
    return _peer(context, "x509_common_name").decode(errors="replace")


def _peer(context: grpc.ServicerContext, key: str) -> bytes:
    values = context.auth_context().get(key)
    return bytes(values[0]) if values else b""


class PortInUse(Exception):
    """The address can't be listened on."""


def create_server(service: Service, access: str | TlsFolder, host: str, port: int) -> tuple[grpc.Server, str]:
    """A server that is not started yet, and its address "host:port". Port 0 is any free one.

    Args:
        access: Who is let in: the token that each call must carry, or mutual TLS.

    Raises:
        PortInUse: somebody else listens there, or it is not this machine's.
    """
    target = f"[{host}]" if ":" in host else host
    _try_port(host, port, target)
    server = grpc.server(
        ThreadPoolExecutor(_THREADS, thread_name_prefix="call"),
        interceptors=[TokenCheck(access) if isinstance(access, str) else CertificateCheck(access)],
        options=[
            # Else a second agent would share the port in silence.
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", _LARGEST_MESSAGE_BYTES),
            ("grpc.max_send_message_length", _LARGEST_MESSAGE_BYTES),
            # A host whose network is gone is noticed, so that its streams do not hold threads for ever.
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            # Hosts ping their agents while a long launch says little.
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ("grpc.keepalive_permit_without_calls", 1),
        ],
    )
    agent_pb2_grpc.add_AgentServicer_to_server(service, server)
    try:
        if isinstance(access, str):
            bound = server.add_insecure_port(f"{target}:{port}")
        else:
            bound = server.add_secure_port(f"{target}:{port}", _credentials(access))
    except RuntimeError as error:
        raise PortInUse(f"can't listen on {target}:{port}") from error
    return server, f"{target}:{bound}"


def _credentials(tls: TlsFolder) -> grpc.ServerCredentials:
    """Mutual TLS with keys that are looked at in each handshake, so that renewed ones need no restart."""

    def configuration(keys: Keys) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([(keys.key, keys.certificate)], keys.authority)

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        keys = tls.renewed()
        return configuration(keys) if keys else None

    # The stubs do not know that None is "no change".
    fetcher = cast(Callable[[], grpc.ServerCertificateConfiguration], renewed)
    return grpc.dynamic_ssl_server_credentials(configuration(tls.keys), fetcher, require_client_authentication=True)


def _try_port(host: str, port: int, target: str) -> None:
    # gRPC's own message is many lines of its C++ insides.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            hint = "choose another with --port, or leave --port out for any free one"
            raise PortInUse(f"can't listen on {target}:{port}: {error.strerror}; {hint}") from error


def _refusal_of(failed: Failed) -> Refusal:
    status: Status = "INVALID_ARGUMENT" if failed.kind in _FAULT_OF_REQUEST else "INTERNAL"
    return Refusal(status, failed.message, failure_kind=failed.kind)


@contextlib.contextmanager
def _refusals(context: grpc.ServicerContext) -> Iterator[None]:
    """Ends the call with the status of a Refusal; whatever else is raised is a bug and is said to be one."""
    try:
        yield
    except Refusal as refusal:
        if refusal.failure_kind:
            context.set_trailing_metadata((("rtfleet-failure-kind", refusal.failure_kind),))
        context.abort(grpc.StatusCode[refusal.status], str(refusal))
    except (grpc.RpcError, GeneratorExit):
        raise  # the host is gone
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"the device's disk is full: {error.strerror}")
        _log.exception("a call failed")
        context.abort(grpc.StatusCode.INTERNAL, f"the agent failed: {type(error).__name__}: {error}")
