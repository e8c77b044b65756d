"""Records to messages and back. Beside client.py the only host module that sees protobuf."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rtfleet import launch_log as log
from rtfleet.artifact import Graph, Tensor
from rtfleet.launch_order import LaunchOrder
from rtfleet.loop import Chain, Loop
from rtfleet.operators import Operators, OperatorTime
from rtfleet.records import BusyProcess, DeviceState, Nanoseconds, Phase, Placement, Reading, RuntimeFacts
from rtfleet_protos import agent_pb2 as pb


def graph(graph: Graph) -> pb.Graph:
    """A graph whose files the agent has, or gets."""
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


def launch_request(order: LaunchOrder, lease_id: str) -> pb.LaunchRequest:
    """The request for a launch."""
    return pb.LaunchRequest(
        lease_id=lease_id,
        launch_id=order.launch_id,
        kind=order.kind,
        runtime=order.runtime,
        graphs=list(map(graph, order.graphs)),
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


def runtime_facts(facts: pb.RuntimeFacts) -> RuntimeFacts:
    """A runtime of the device."""
    return RuntimeFacts(
        name=facts.name,
        version=facts.version,
        library_sha256=facts.library_sha256,
        accelerators=tuple(facts.accelerators),
        unavailable=dict(facts.unavailable),
        error=facts.error,
    )


def tensor(tensor: pb.Tensor) -> Tensor:
    """An input or output as the runtime sees it."""
    return Tensor(
        name=tensor.name,
        dtype=tensor.dtype,
        shape=tuple(tensor.dims),
        scale=optional(tensor, "scale"),
        zero_point=optional(tensor, "zero_point"),
    )


def optional(message: Any, name: str) -> Any:
    """A field that may be unset; None where it is."""
    return getattr(message, name) if message.HasField(name) else None


def _nanoseconds(column: bytes) -> Nanoseconds:
    return np.frombuffer(column, "<i8").astype(np.int64)


_PHASES: Mapping[int, Phase] = {pb.WARMUP: "WARMUP", pb.PACED: "PACED", pb.BURST: "BURST"}


def event(message: pb.Event) -> log.LaunchEvent | None:
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
            runtime=runtime_facts(body.runtime),
            rss_before_load_bytes=optional(body, "rss_before_load_bytes"),
            rss_after_load_bytes=optional(body, "rss_after_load_bytes"),
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
            others_core_share=optional(body, "others_core_share"),
            first_token_ns=_nanoseconds(body.first_token_ns),
            tokens=_nanoseconds(body.tokens),
        )
    if kind == "device_state":
        return log.Conditions("after" if body.after else "during" if body.during else "before", device_state(body))
    if kind == "outputs":
        columns = {
            column.name: np.frombuffer(column.data, column.dtype).reshape(tuple(column.dims)) for column in body.columns
        }
        return log.Outputs(body.first_frame, columns)
    if kind == "operators":
        times = map(_operator_time, body.operators)
        return Operators(tuple(sorted(times, key=lambda one: one.total_ns, reverse=True)))
    if kind == "finished":
        return log.Finished(optional(body, "peak_rss_bytes"), body.memory_reason, optional(body, "overhead_ns"))
    if kind == "failed":
        return log.Failed(pb.FailureKind.Name(body.kind), body.message, body.signal, body.stderr)
    return None


def _placement(placed: pb.Placement) -> Placement:
    return Placement(
        asked=placed.asked,
        ran=placed.ran,
        accelerated_share=optional(placed, "accelerated_share"),
        notes=tuple(placed.notes),
        accelerated_nodes=optional(placed, "accelerated_nodes"),
        nodes=optional(placed, "nodes"),
    )


def _operator_time(time: pb.OperatorTime) -> OperatorTime:
    return OperatorTime(time.name, time.op_type, time.calls, time.total_ns, time.ran_on, optional(time, "accelerated"))


def device_state(state: pb.DeviceState) -> DeviceState:
    """The state of the device, in an event or in the answer to Probe."""
    readings = {name: _reading(reading) for name, reading in sorted(state.readings.items())}
    return DeviceState(state.at_mono_ns, readings, tuple(map(_busy, state.busy)))


def _busy(process: pb.BusyProcess) -> BusyProcess:
    return BusyProcess(process.pid, process.name, process.core_share, optional(process, "core"))


def _reading(reading: pb.Reading) -> Reading:
    kind = reading.WhichOneof("value")
    return Reading(getattr(reading, kind) if kind else None, reading.reason)
