"""Records to messages and back. Beside service.py the only agent module that sees protobuf."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

import rtfleet_agent
from rtfleet_agent import launch, pipeline
from rtfleet_agent.device import Device
from rtfleet_agent.lease import Held
from rtfleet_agent.refusal import Refusal
from rtfleet_agent.runtimes import RUNTIMES
from rtfleet_agent.runtimes.base import Array, Graph, OperatorTime, Options, Placement, RuntimeFacts, State, Tensor
from rtfleet_agent.store import Store
from rtfleet_protos import agent_pb2 as pb

# A launch's id names a folder.
_LAUNCH_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DEFAULT_TIMEOUT_S = 600.0
_LARGEST_BLOCK_FRAMES = 100_000
_MOST_TOKENS = 10_000
# The worker's answer to INSPECT; loading a large model on a slow board takes a while.
_INSPECT_TIMEOUT_S = 120.0
# A start of Python and numpy on a slow board that is busy.
_PROBE_TIMEOUT_S = 30.0


def launch_id(message: pb.LaunchRequest) -> str:
    """The id, checked.

    Raises:
        Refusal: it can't name a folder.
    """
    if not _LAUNCH_ID.fullmatch(message.launch_id):
        raise Refusal(
            "INVALID_ARGUMENT", f"launch_id {message.launch_id!r} must be 1 to 128 letters, digits, '.', '_' or '-'"
        )
    return message.launch_id


def launch_request(message: pb.LaunchRequest, store: Store, folder: Path) -> launch.WorkerRequest:
    """What the worker is asked, with its files laid out in `folder`.

    Raises:
        Refusal: something in the message makes no sense, or a file is not in the store.
    """
    loop = _loop(message)
    if loop is None and len(message.graphs) != 1:
        raise Refusal("INVALID_ARGUMENT", f"graphs: a FRAME loop runs one graph, not {len(message.graphs)}")
    names = [graph.name for graph in message.graphs]
    if len(set(names)) < len(names):
        raise Refusal("INVALID_ARGUMENT", f"graphs: two are called the same among {', '.join(names)}")
    if message.block_frames > _LARGEST_BLOCK_FRAMES:
        raise Refusal("INVALID_ARGUMENT", f"block_frames: at most {_LARGEST_BLOCK_FRAMES}, not {message.block_frames}")
    if not message.feeds_sha256:
        raise Refusal("INVALID_ARGUMENT", "feeds_sha256: a launch needs feeds")
    kinds: dict[int, launch.Kind] = {pb.LATENCY: "LATENCY", pb.PARITY: "PARITY", pb.PROFILE: "PROFILE"}
    if message.kind not in kinds:
        raise Refusal("INVALID_ARGUMENT", "kind: LATENCY, PARITY or PROFILE")
    store.pin(message.lease_id, files_of(message.graphs) | {message.feeds_sha256})
    # Beside the graphs' folders, where no name that was pushed can meet it.
    store.lay_out(folder, {"feeds.npz": message.feeds_sha256})
    defaults = launch.Pace()
    return launch.WorkerRequest(
        task="LAUNCH",
        runtime=known_runtime(message.runtime),
        kind=kinds[message.kind],
        graphs=tuple(_graph(graph, store, folder / f"graph-{index}") for index, graph in enumerate(message.graphs)),
        loop=loop,
        feeds=folder / "feeds.npz",
        cache=store.cache,
        options=Options(
            accelerator=message.options.accelerator or "cpu",
            threads=message.options.threads or 1,
            cpus=tuple(message.options.cpus),
            allow_fallback=message.options.allow_fallback,
            optimize=message.options.optimize,
        ),
        pace=launch.Pace(
            hop_ns=message.hop_ns,
            warmup_frames=message.warmup_frames,
            warmup_ns=message.warmup_ns,
            min_frames=message.min_frames,
            min_duration_ns=message.min_duration_ns,
            max_frames=message.max_frames,
            max_duration_ns=message.max_duration_ns,
            block_frames=message.block_frames or defaults.block_frames,
        ),
        timeout_s=message.timeout_s if message.timeout_s > 0 else _DEFAULT_TIMEOUT_S,
        max_rss_bytes=message.max_rss_bytes,
    )


def _loop(message: pb.LaunchRequest) -> pipeline.Loop | None:
    """How the graphs make one model; None: there is one, run once a frame."""
    kind = message.WhichOneof("loop")
    if kind == "frame":
        return None
    if kind == "chain":
        if not message.chain.edges:
            raise Refusal("INVALID_ARGUMENT", "loop: a chain without edges")
        return pipeline.ChainLoop(
            tuple(
                pipeline.Edge(
                    source=edge.source,
                    output=edge.output,
                    target=edge.target,
                    input=edge.input,
                    axis=edge.axis,
                    scale=edge.scale,
                    offset=edge.offset,
                    fill=edge.fill,
                )
                for edge in message.chain.edges
            )
        )
    if kind != "seq2seq":
        raise Refusal("INVALID_ARGUMENT", "loop: this agent serves FRAME, CHAIN and SEQ2SEQ; upgrade it for others")
    asked = message.seq2seq
    if not 0 < asked.max_tokens <= _MOST_TOKENS:
        raise Refusal("INVALID_ARGUMENT", f"loop: max_tokens must be 1 to {_MOST_TOKENS}, not {asked.max_tokens}")
    return pipeline.Seq2SeqLoop(
        encoder=asked.encoder,
        decoder=asked.decoder,
        carried=tuple(pipeline.Carried(one.source, one.input) for one in asked.carried),
        caches=tuple(pipeline.Cache(one.input, one.output, tuple(one.dims), one.fixed) for one in asked.caches),
        tokens=asked.tokens,
        logits=asked.logits,
        start_token=asked.start_token,
        end_token=asked.end_token,
        max_tokens=asked.max_tokens,
        use_cache=asked.use_cache,
        samples_per_token=asked.samples_per_token,
    )


def inspect_request(message: pb.InspectRequest, store: Store, folder: Path) -> launch.WorkerRequest:
    """What the worker is asked, with the graph's files laid out in `folder`.

    Raises:
        Refusal: an unknown runtime, a bad path, or a file that is not in the store.
    """
    store.pin(message.lease_id, files_of([message.graph]))
    return launch.WorkerRequest(
        task="INSPECT",
        runtime=known_runtime(message.runtime),
        graphs=(_graph(message.graph, store, folder / "graph-0"),),
        cache=store.cache,
        timeout_s=_INSPECT_TIMEOUT_S,
    )


def known_runtime(name: str) -> str:
    """The name, if it is a runtime's.

    Raises:
        Refusal: it is not.
    """
    if name not in RUNTIMES:
        raise Refusal("INVALID_ARGUMENT", f"runtime {name!r} is not known to this agent; it has {', '.join(RUNTIMES)}")
    return name


def files_of(graphs: Iterable[pb.Graph]) -> set[str]:
    """The hashes of all files that the graphs need."""
    files = {file.sha256 for graph in graphs for file in graph.files}
    return files | {state.initial_sha256 for graph in graphs for state in graph.states if state.initial_sha256}


def description(device: Device, facts: Iterable[RuntimeFacts], held: Held | None, free_bytes: int) -> pb.Description:
    """The answer to Describe."""
    return pb.Description(
        agent_version=rtfleet_agent.__version__,
        protocol_version=rtfleet_agent.PROTOCOL_VERSION,
        oldest_protocol_served=rtfleet_agent.OLDEST_PROTOCOL_SERVED,
        identity=device.identity,
        boot_id=device.boot_id,
        os=device.os,
        os_version=device.os_version,
        model=device.model,
        soc=device.soc,
        arch=device.arch,
        cores=len(device.cores),
        memory_bytes=device.memory_bytes,
        runtimes=[_facts(each) for each in facts],
        sensors=device.sensors,
        missing_sensors=device.missing_sensors,
        lease=_lease(held),
        store_free_bytes=free_bytes,
        python_version=device.python_version,
        core_info=[
            pb.CoreInfo(index=core.index, capacity=core.capacity, max_frequency_khz=core.max_frequency_khz)
            for core in device.cores
        ],
        provisos=device.provisos,
    )


def _lease(held: Held | None) -> pb.LeaseState | None:
    if held is None:
        return None
    return pb.LeaseState(
        holder=held.holder, expires_in_s=held.expires_in_s, since_unix_s=held.since_unix_s, reason=held.reason
    )


def probe_request(message: pb.ProbeRequest) -> launch.WorkerRequest:
    """What the worker is asked."""
    options = Options(cpus=tuple(message.cpus))
    return launch.WorkerRequest("PROBE", runtime="", options=options, timeout_s=_PROBE_TIMEOUT_S)


def inspection(answer: launch.Inspected) -> pb.InspectReply:
    """The answer to Inspect."""
    return pb.InspectReply(inputs=map(_tensor, answer.inputs), outputs=map(_tensor, answer.outputs))


def event(number: int, record: launch.Event) -> pb.Event:
    """The numbered message of an event of a launch."""
    message = pb.Event(number=number)
    if isinstance(record, launch.Started):
        message.started.CopyFrom(
            pb.Started(
                pid=record.pid, at_mono_ns=record.at_mono_ns, boot_id=record.boot_id, at_unix_ns=record.at_unix_ns
            )
        )
    elif isinstance(record, launch.Loaded):
        message.loaded.CopyFrom(_loaded(record))
    elif isinstance(record, launch.Block):
        message.block.CopyFrom(
            pb.Block(
                phase=record.phase,
                probe_before_ns=record.probe_before_ns,
                probe_after_ns=record.probe_after_ns,
                cpu=record.cpu,
                started_mono_ns=record.started_mono_ns,
                latency_ns=_int64(record.latency_ns),
                lateness_ns=_int64(record.lateness_ns),
                busy=map(_busy, record.busy),
                others_core_share=record.others_core_share,
                marks=record.marks,
                first_token_ns=_int64(record.first_token_ns),
                tokens=_int64(record.tokens),
            )
        )
    elif isinstance(record, launch.DeviceState):
        message.device_state.CopyFrom(device_state(record))
    elif isinstance(record, launch.Outputs):
        columns = [_column(name, array) for name, array in record.columns.items()]
        message.outputs.CopyFrom(pb.Outputs(first_frame=record.first_frame, columns=columns))
    elif isinstance(record, launch.Operators):
        message.operators.CopyFrom(pb.Operators(operators=map(_operator, record.operators)))
    elif isinstance(record, launch.Finished):
        message.finished.CopyFrom(
            pb.Finished(
                peak_rss_bytes=record.peak_rss_bytes,
                memory_reason=record.memory_reason,
                overhead_ns=record.overhead_ns,
                overhead_reason=record.overhead_reason,
            )
        )
    elif isinstance(record, launch.Failed):
        message.failed.CopyFrom(
            pb.Failed(
                kind=record.kind,
                message=record.message,
                signal=record.signal,
                stderr=record.stderr,
            )
        )
    else:
        raise TypeError(f"{type(record).__name__} is no event of a launch")
    return message


def _graph(message: pb.Graph, store: Store, folder: Path) -> Graph:
    if not message.files:
        raise Refusal("INVALID_ARGUMENT", f"graph '{message.name}' has no files")
    if len({file.path for file in message.files}) < len(message.files):
        raise Refusal("INVALID_ARGUMENT", f"graph '{message.name}' names a file path twice")
    store.lay_out(folder, {file.path: file.sha256 for file in message.files})
    return Graph(
        name=message.name,
        path=folder / message.files[0].path,
        shapes={shape.input: tuple(shape.dims) for shape in message.shapes},
        states=tuple(_state(state, store, folder, index) for index, state in enumerate(message.states)),
    )


def _state(message: pb.StatePair, store: Store, folder: Path, index: int) -> State:
    if not message.initial_sha256:
        return State(message.input, message.output)
    name = f"state-{index}.npy"
    store.lay_out(folder.parent / f"{folder.name}-states", {name: message.initial_sha256})
    return State(message.input, message.output, folder.parent / f"{folder.name}-states" / name)


def _tensor(tensor: Tensor) -> pb.Tensor:
    return pb.Tensor(
        name=tensor.name, dtype=tensor.dtype, dims=tensor.shape, scale=tensor.scale, zero_point=tensor.zero_point
    )


def _facts(facts: RuntimeFacts) -> pb.RuntimeFacts:
    return pb.RuntimeFacts(
        name=facts.name,
        version=facts.version,
        library_sha256=facts.library_sha256,
        accelerators=facts.accelerators,
        unavailable=facts.unavailable,
        error=facts.error,
    )


def _placement(placement: Placement) -> pb.Placement:
    return pb.Placement(
        asked=placement.asked,
        ran=placement.ran,
        accelerated_share=placement.accelerated_share,
        notes=placement.notes,
        accelerated_nodes=placement.accelerated_nodes,
        nodes=placement.nodes,
    )


def _operator(time: OperatorTime) -> pb.OperatorTime:
    message = pb.OperatorTime(
        name=time.name, op_type=time.op_type, calls=time.calls, total_ns=time.total_ns, ran_on=time.ran_on
    )
    if time.accelerated is not None:
        message.accelerated = time.accelerated
    return message


def _loaded(record: launch.Loaded) -> pb.Loaded:
    return pb.Loaded(
        compile_ns=record.compile_ns,
        load_ns=record.load_ns,
        first_inference_ns=record.first_inference_ns,
        placement=_placement(record.placement),
        runtime=_facts(record.runtime),
        rss_before_load_bytes=record.rss_before_load_bytes,
        rss_after_load_bytes=record.rss_after_load_bytes,
        memory_reason=record.memory_reason,
    )


def device_state(record: launch.DeviceState) -> pb.DeviceState:
    """The device's state, in an event or in the answer to Probe."""
    return pb.DeviceState(
        after=record.when == "after",
        during=record.when == "during",
        at_mono_ns=record.at_mono_ns,
        readings={name: _reading(reading) for name, reading in record.readings.items()},
        busy=map(_busy, record.busy),
    )


def _busy(process: launch.BusyProcess) -> pb.BusyProcess:
    return pb.BusyProcess(pid=process.pid, name=process.name, core_share=process.core_share, core=process.core)


def _reading(reading: launch.Reading) -> pb.Reading:
    if reading.value is None:
        return pb.Reading(reason=reading.reason)
    if isinstance(reading.value, str):
        return pb.Reading(text=reading.value, reason=reading.reason)
    return pb.Reading(number=reading.value, reason=reading.reason)


def _int64(array: Array) -> bytes:
    return np.ascontiguousarray(array, dtype="<i8").tobytes()


def _column(name: str, array: Array) -> pb.Column:
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return pb.Column(name=name, dtype=little.dtype.str, dims=little.shape, data=little.tobytes())
