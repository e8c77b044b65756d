"""The process of one launch: a request on stdin, events on stdout, a fresh process each time.

stdin: the request on the first line; a later line `finish` ends the launch after the block in hand; end of file means
that the agent is gone. What libraries print goes to stderr, never between the events. This process never imports grpc.
"""

from __future__ import annotations

import os

# ONNX Runtime reports home by default since 1.29; this must stand before anything can import it.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import select
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from rtfleet_agent import pipeline, process, sensors
from rtfleet_agent.feeds import Feeds, fit, read_arrays
from rtfleet_agent.launch import (
    Block,
    Described,
    Event,
    Failed,
    FailureKind,
    Finished,
    Inspected,
    Loaded,
    Operators,
    Outputs,
    Probed,
    Started,
    WorkerRequest,
    read_request,
    write_event,
)
from rtfleet_agent.measure import burst_p50_ns, frames_of, measure, now_ns, quiet_collector, timed, wall_ns
from rtfleet_agent.neighbours import Neighbours
from rtfleet_agent.pipeline import Pipeline, Transcriber
from rtfleet_agent.probe import probe_ns
from rtfleet_agent.runtimes import runtime
from rtfleet_agent.runtimes.base import (
    Array,
    BadModel,
    BadOutput,
    Bound,
    Graph,
    Options,
    Runtime,
    RuntimeFacts,
    RuntimeFailure,
    Session,
    State,
)

_SEND_EVERY_NS = 1_000_000_000
# Often enough to see a device get hot and to stop in time; what a look costs comes between two blocks.
_STATE_EVERY_NS = 10_000_000_000
_OUTPUTS_BYTES = 1 << 20
# The service kills a worker that takes too long; this is for one whose service died while native code hung.
_ALARM_GRACE_S = 30.0


class Commands:
    """The lines after the request."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._finish = False

    def finish(self) -> bool:
        """Whether `finish` has come. Ends the process where the agent is gone."""
        while select.select([self._pipe], [], [], 0)[0]:
            line = self._pipe.readline()
            if not line:
                sys.exit("the agent is gone: end of file on stdin")
            if line.strip() == b"finish":
                self._finish = True
        return self._finish


def main() -> None:
    """Answer the one request on stdin."""
    process.settle()
    # Ctrl-C in a terminal reaches every process of the group; when a worker ends is the agent's affair.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    events = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    pipe = os.fdopen(os.dup(0), "rb", buffering=0)  # unbuffered, so that select() sees every line still to come
    try:
        request = read_request(pipe)
        signal.setitimer(signal.ITIMER_REAL, request.timeout_s + _ALARM_GRACE_S)
        for event in _answer(request, Commands(pipe)):
            write_event(events, event)
    except BrokenPipeError:
        sys.exit("the agent is gone: nobody reads the events")
    except Exception as error:
        # Whole on stderr, which the service keeps; one sentence for people.
        traceback.print_exc()
        write_event(events, _failed(error))


def _failed(error: Exception) -> Failed:
    if isinstance(error, RuntimeFailure):
        return Failed(_kind(error.kind), str(error))
    if isinstance(error, MemoryError) or "bad_alloc" in str(error):
        return Failed("OUT_OF_MEMORY", f"no memory left for this launch: {error or 'allocation refused'}")
    return Failed("INTERNAL", f"the worker failed: {type(error).__name__}: {error}")


def _kind(kind: str) -> FailureKind:
    known: dict[str, FailureKind] = {
        "BAD_MODEL": "BAD_MODEL",
        "UNSUPPORTED_OP": "UNSUPPORTED_OP",
        "BAD_OUTPUT": "BAD_OUTPUT",
        "NO_ACCELERATOR": "NO_ACCELERATOR",
        "OUT_OF_MEMORY": "OUT_OF_MEMORY",
    }
    return known.get(kind, "INTERNAL")


def _answer(request: WorkerRequest, commands: Commands) -> Iterator[Event]:
    if request.task == "DESCRIBE":
        yield Described(_describe(request.runtime))
        return
    if request.task == "PROBE":
        process.pin(request.options.cpus)
        yield Probed(probe_ns(), process.current_cpu())
        return
    if not request.graphs:
        raise RuntimeFailure(f"the request to {request.task} names no graph")
    if request.task == "INSPECT":
        process.limit_growth(request.max_rss_bytes)
        graph = request.graphs[0]
        session = runtime(request.runtime).load(_existing(graph), graph, request.options)
        yield Inspected(session.inputs, session.outputs)
        session.close()
    else:
        yield from _launch(request, commands)


def _describe(name: str) -> RuntimeFacts:
    try:
        return runtime(name).describe()
    except RuntimeFailure as error:
        return RuntimeFacts(name, version="", library_sha256="", accelerators=(), error=str(error))


def _launch(request: WorkerRequest, commands: Commands) -> Iterator[Event]:
    yield Started(os.getpid(), now_ns(), sensors.boot_id(), wall_ns())
    options = replace(request.options, profile=request.kind == "PROFILE")
    process.pin(options.cpus)
    module = runtime(request.runtime)
    facts = module.describe(plugs=False)
    arrays = read_arrays(request.feeds)

    process.forget_peak()
    rss_before = process.resident_bytes()
    process.limit_growth(request.max_rss_bytes)
    cache = request.cache or _existing(request.graphs[0]).parent
    paths, compile_ns = timed(lambda: [_compiled(module, graph, cache, options) for graph in request.graphs])
    (session, bound), load_ns = timed(lambda: _load(module, paths, request, options))
    feeds = fit(arrays, bound.inputs)
    _write(bound, {name: values[0] for name, values in feeds.columns.items()} | dict(feeds.constants))
    _, first_inference_ns = timed(bound.step)
    yield Loaded(
        compile_ns=compile_ns,
        load_ns=load_ns,
        first_inference_ns=first_inference_ns,
        placement=session.placement(),
        runtime=facts,
        rss_before_load_bytes=rss_before,
        rss_after_load_bytes=process.resident_bytes(),
        memory_reason="" if rss_before is not None else process.MEMORY_REASON,
    )
    process.check_resident(request.max_rss_bytes)

    if request.kind == "PARITY":
        yield from _parity(bound, feeds, commands)
    else:
        yield from _latency(request, bound, feeds, commands)
    if request.kind == "PROFILE":
        yield Operators(tuple(session.operators()))
    peak = process.peak_resident_bytes()
    process.check_resident(request.max_rss_bytes)
    inputs, outputs = len(session.inputs), len(session.outputs)
    states = sum(len(graph.states) for graph in request.graphs)
    session.close()
    del session, bound
    overhead_ns, overhead_reason = None, "only launches that measure latency have one"
    if request.kind == "LATENCY":
        overhead_ns, overhead_reason = _overhead(module, options, inputs, outputs, states)
    yield Finished(
        peak_rss_bytes=peak,
        memory_reason="" if peak is not None else process.MEMORY_REASON,
        overhead_ns=overhead_ns,
        overhead_reason=overhead_reason,
    )


def _compiled(module: Runtime, graph: Graph, cache: Path, options: Options) -> Path:
    _existing(graph)
    return module.compile(graph, cache, options)


def _load(
    module: Runtime, paths: Sequence[Path], request: WorkerRequest, options: Options
) -> tuple[Session | Pipeline, Bound]:
    graphs = request.graphs
    sessions = [module.load(path, graph, options) for path, graph in zip(paths, graphs, strict=True)]
    if request.loop is None:
        return sessions[0], sessions[0].bind(graphs[0].shapes, graphs[0].states)
    return pipeline.assemble(graphs, sessions, request.loop, now_ns)


def _latency(request: WorkerRequest, bound: Bound, feeds: Feeds, commands: Commands) -> Iterator[Event]:
    """Blocks, sent between blocks: the first measured one at once, then at most one batch a second.

    The neighbours are looked at before each batch: what a look costs comes between the same two blocks as the sending.
    """
    frames = frames_of(bound.inputs, feeds.columns)
    if isinstance(bound, Transcriber):
        bound.taken()  # the first inference was none of these
    waiting: list[Block] = []
    neighbours = Neighbours()
    sent_ns = state_ns = now_ns()
    seen_measured = False
    done = 0
    with quiet_collector():
        closing = request.kind == "LATENCY"
        for block in measure(frames, bound.step, request.pace, commands.finish, closing=closing):
            done += len(block.latency_ns)
            if isinstance(bound, Transcriber):
                first_token_ns, tokens = bound.taken()
                block = replace(block, first_token_ns=first_token_ns, tokens=tokens)
            _check_outputs(bound.outputs, done - 1, feeds.frames)
            process.check_resident(request.max_rss_bytes)
            waiting.append(replace(block, marks=("suspend",)) if neighbours.suspended() else block)
            first_measured = block.phase != "WARMUP" and not seen_measured
            seen_measured = seen_measured or first_measured
            if first_measured or now_ns() - sent_ns >= _SEND_EVERY_NS:
                yield from neighbours.seen(waiting)
                waiting.clear()
                sent_ns = now_ns()
            if now_ns() - state_ns >= _STATE_EVERY_NS:
                yield sensors.during()
                state_ns = now_ns()
    yield from neighbours.seen(waiting)


def _parity(bound: Bound, feeds: Feeds, commands: Commands) -> Iterator[Event]:
    """Every frame of the feeds once, states reset where a stream starts. NaN is for the host to judge, who can't see
    it in tokens."""
    rows: list[dict[str, Array]] = []
    size = first = 0
    for frame in range(feeds.frames):
        if frame in feeds.stream_starts:
            bound.reset()
            _write(bound, feeds.constants)
        _write(bound, {name: values[frame] for name, values in feeds.columns.items()})
        bound.step()
        if isinstance(bound, Transcriber):
            bound.taken()
        row = {name: values.copy() for name, values in bound.outputs.items()}
        row_bytes = sum(values.nbytes for values in row.values())
        if rows and size + row_bytes > _OUTPUTS_BYTES:
            yield _outputs(first, rows)
            rows, size, first = [], 0, frame
            commands.finish()  # a launch of many minutes notices that its agent is gone
        rows.append(row)
        size += row_bytes
    yield _outputs(first, rows)


def _outputs(first: int, rows: list[dict[str, Array]]) -> Outputs:
    return Outputs(first, {name: np.stack([row[name] for row in rows]) for name in rows[0]})


def _overhead(module: Runtime, options: Options, inputs: int, outputs: int, states: int) -> tuple[int | None, str]:
    """p50 of the loop around the smallest model of this runtime, or None and why."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            graph = module.one_op(Path(folder), max(inputs, 1), max(outputs, 1))
            session = module.load(graph.path, graph, options)
            pairs = zip(session.inputs[:states], session.outputs[:states], strict=False)
            bound = session.bind(graph.shapes, [State(source.name, target.name) for source, target in pairs])
            bound.step()
            rows = {name: np.stack([values, values]) for name, values in bound.inputs.items()}
            overhead_ns = burst_p50_ns(frames_of(bound.inputs, rows), bound.step)
            session.close()
            return overhead_ns, ""
    except Exception as error:
        traceback.print_exc()
        return None, f"the one-op model did not run: {error}"


def _write(bound: Bound, values: Mapping[str, Array]) -> None:
    for name, value in values.items():
        bound.inputs[name][...] = value


def _check_outputs(outputs: Mapping[str, Array], inference: int, frames: int) -> None:
    for name, values in outputs.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            what = "NaN" if np.isnan(values).any() else "infinite"
            raise BadOutput(
                f"output '{name}' is {what} after inference {inference} (frame {inference % frames} of the feeds)"
            )


def _existing(graph: Graph) -> Path:
    if not graph.path.is_file():
        raise BadModel(f"graph '{graph.name}': no file {graph.path.name} was laid out")
    return graph.path


if __name__ == "__main__":
    main()
