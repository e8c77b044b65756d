"""A launch as plain records: what the worker is asked, what it answers, and their way through its pipe.

One message is a JSON line, then the raw bytes of its columns, so that a million nanoseconds cross without a parser.
The worker never imports grpc, and the service never parses a model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias

import numpy as np

from rtfleet_agent.pipeline import Cache, Carried, ChainLoop, Edge, Loop, Seq2SeqLoop
from rtfleet_agent.runtimes.base import Array, Graph, OperatorTime, Options, Placement, RuntimeFacts, State, Tensor

Kind: TypeAlias = Literal["LATENCY", "PARITY", "PROFILE"]
Phase: TypeAlias = Literal["WARMUP", "PACED", "BURST"]
FailureKind: TypeAlias = Literal[
    "BAD_MODEL",
    "UNSUPPORTED_OP",
    "BAD_OUTPUT",
    "NO_ACCELERATOR",
    "OUT_OF_MEMORY",
    "NO_DISK",
    "KILLED",
    "TIMEOUT",
    "LEASE_LOST",
    "INTERNAL",
]

# A frame index in the feeds file under this key starts a new stream: PARITY resets the states there.
STREAM_STARTS = "@stream_starts"


@dataclass(frozen=True)
class Pace:
    """How frames follow each other and when a launch has enough of them.

    Attributes:
        hop_ns: Time from one frame to the next; 0 is back to back.
        warmup_frames: Least number of warm-up frames; `warmup_ns` must have passed too.
        min_frames: A launch ends once it has these and `min_duration_ns`, after whole blocks and at least five.
        max_frames: Hard end; 0 is none. `max_duration_ns` likewise.
        block_frames: Frames between two readings of the speed probe.
    """

    hop_ns: int = 0
    warmup_frames: int = 50
    warmup_ns: int = 500_000_000
    min_frames: int = 1301
    min_duration_ns: int = 0
    max_frames: int = 0
    max_duration_ns: int = 0
    block_frames: int = 100


@dataclass(frozen=True)
class WorkerRequest:
    """All that a worker needs. Paths are on this device; no manifest is read and no pushed code is executed.

    Attributes:
        task: LAUNCH measures; INSPECT answers with the tensors of `graphs[0]`; DESCRIBE with the runtime's facts;
            PROBE with one reading of the speed probe on `options.cpus`.
        loop: How several graphs make one model; None: there is one.
        feeds: An `.npz` file: per input an array with a leading frame axis, or one constant of the input's own rank.
        cache: Folder for compiled models and engines.
        timeout_s: The service kills a worker that takes longer.
        max_rss_bytes: The worker limits its own address space growth to this where it can; 0 is no limit.
    """

    task: Literal["LAUNCH", "INSPECT", "DESCRIBE", "PROBE"]
    runtime: str
    kind: Kind = "LATENCY"
    graphs: tuple[Graph, ...] = ()
    loop: Loop | None = None
    feeds: Path | None = None
    cache: Path | None = None
    options: Options = field(default_factory=Options)
    pace: Pace = field(default_factory=Pace)
    timeout_s: float = 600.0
    max_rss_bytes: int = 0


@dataclass(frozen=True)
class Started:
    """The worker process is up. `pid` is its own; `at_mono_ns` is CLOCK_MONOTONIC of the device."""

    pid: int
    at_mono_ns: int
    boot_id: str = ""
    at_unix_ns: int = 0


@dataclass(frozen=True)
class Loaded:
    """The model is ready: one inference was done.

    Attributes:
        rss_before_load_bytes: VmRSS with the runtime imported, before the model; None with `memory_reason`.
        rss_after_load_bytes: VmRSS after the first inference.
    """

    compile_ns: int
    load_ns: int
    first_inference_ns: int
    placement: Placement
    runtime: RuntimeFacts
    rss_before_load_bytes: int | None
    rss_after_load_bytes: int | None
    memory_reason: str = ""


def _none() -> Array:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class Block:
    """Frames between two readings of the speed probe.

    Attributes:
        probe_before_ns: Median of 15 runs of the probe's kernel right before the first frame; `probe_after_ns` after.
        cpu: The core that the worker was on at the block's end; -1 where unknown.
        started_mono_ns: When the first frame was due (paced) or started (burst).
        latency_ns: int64 [frames], from the frame handed in to its outputs readable.
        lateness_ns: int64 [frames], start minus due; empty in a burst.
        busy: Others that used processor time while it ran, over about a second with the blocks around it.
        others_core_share: Cores that everybody but the worker used then; None where nobody looked.
        marks: What disturbed it: "suspend", "throttled".
        first_token_ns: int64 [frames] of a model that gives tokens: from the clip handed in to the first; else empty.
        tokens: int64 [frames], how many the clip has; else empty.
    """

    phase: Phase
    probe_before_ns: int
    probe_after_ns: int
    cpu: int
    started_mono_ns: int
    latency_ns: Array
    lateness_ns: Array
    busy: tuple[BusyProcess, ...] = ()
    others_core_share: float | None = None
    marks: tuple[str, ...] = ()
    first_token_ns: Array = field(default_factory=_none)
    tokens: Array = field(default_factory=_none)


@dataclass(frozen=True)
class Reading:
    """One sensor. `value` None means that it can't be read, and `reason` says why."""

    value: float | str | None
    reason: str = ""


@dataclass(frozen=True)
class BusyProcess:
    """Somebody else's process and the share of one core that it took over the time observed.

    Attributes:
        core: The core that its busiest thread was last seen on; None where nobody looked.
    """

    pid: int
    name: str
    core_share: float
    core: int | None = None


@dataclass(frozen=True)
class DeviceState:
    """What could disturb a launch, before it, between two of its blocks or after it.

    Units stand in the readings' names. "during" has only readings that can be had, and no processes: blocks tell those.
    """

    when: Literal["before", "during", "after"]
    at_mono_ns: int
    readings: Mapping[str, Reading] = field(default_factory=dict)
    busy: tuple[BusyProcess, ...] = ()


@dataclass(frozen=True, eq=False)
class Outputs:
    """Outputs of consecutive frames of a PARITY launch: name -> [frames, *dims] in the graph's own dtype."""

    first_frame: int
    columns: Mapping[str, Array]


@dataclass(frozen=True)
class Operators:
    """Times per operator of a PROFILE launch, summed over its frames."""

    operators: tuple[OperatorTime, ...]


@dataclass(frozen=True)
class Finished:
    """The launch ran to its end.

    Attributes:
        peak_rss_bytes: VmHWM at the end of the last block; None with `memory_reason`.
        overhead_ns: p50 of the same loop around a one-op model with as many inputs and outputs on the same runtime.
            Measured after the last block and after `peak_rss_bytes` was read, so that it can disturb neither.
            None with `overhead_reason`.
    """

    peak_rss_bytes: int | None
    memory_reason: str = ""
    overhead_ns: int | None = None
    overhead_reason: str = ""


@dataclass(frozen=True)
class Failed:
    """The launch gave no result. `stderr` is the worker's last 64 KiB."""

    kind: FailureKind
    message: str
    signal: str = ""
    stderr: str = ""


@dataclass(frozen=True)
class Inspected:
    """Answer to INSPECT."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True)
class Described:
    """Answer to DESCRIBE."""

    facts: RuntimeFacts


@dataclass(frozen=True)
class Probed:
    """Answer to PROBE: the speed probe's median, and the core that it ran on (-1 where unknown)."""

    probe_ns: int
    cpu: int


Answer: TypeAlias = Inspected | Described | Probed
Event: TypeAlias = Started | Loaded | Block | DeviceState | Outputs | Operators | Finished | Failed | Answer


def write_request(pipe: BinaryIO, request: WorkerRequest) -> None:
    """One JSON line."""
    pipe.write(json.dumps(asdict(request), default=str).encode() + b"\n")
    pipe.flush()


def read_request(pipe: BinaryIO) -> WorkerRequest:
    """The request on the first line of `pipe`; what follows it there are commands (`finish`)."""
    raw = json.loads(pipe.readline())
    graphs = tuple(
        Graph(
            name=graph["name"],
            path=Path(graph["path"]),
            shapes={name: tuple(shape) for name, shape in graph["shapes"].items()},
            states=tuple(
                State(state["input"], state["output"], Path(state["initial"]) if state["initial"] else None)
                for state in graph["states"]
            ),
        )
        for graph in raw["graphs"]
    )
    options = Options(**{**raw["options"], "cpus": tuple(raw["options"]["cpus"])})
    return WorkerRequest(
        **{
            **raw,
            "graphs": graphs,
            "loop": _loop(raw["loop"]),
            "options": options,
            "pace": Pace(**raw["pace"]),
            "feeds": Path(raw["feeds"]) if raw["feeds"] else None,
            "cache": Path(raw["cache"]) if raw["cache"] else None,
        }
    )


def _loop(raw: Mapping[str, Any] | None) -> Loop | None:
    if raw is None:
        return None
    if "edges" in raw:
        return ChainLoop(tuple(Edge(**edge) for edge in raw["edges"]))
    caches = tuple(Cache(**{**cache, "shape": tuple(cache["shape"])}) for cache in raw["caches"])
    return Seq2SeqLoop(**{**raw, "carried": tuple(Carried(**one) for one in raw["carried"]), "caches": caches})


def write_event(pipe: BinaryIO, event: Event) -> None:
    """One JSON line `{"event", "fields", "columns": [[field, key, dtype, shape], ...]}`, then the columns' bytes."""
    columns: list[tuple[str, str, Array]] = []
    plain: dict[str, Any] = {}
    for item in fields(event):
        value = getattr(event, item.name)
        if isinstance(value, np.ndarray):
            columns.append((item.name, "", value))
        elif isinstance(event, Outputs) and item.name == "columns":
            columns += [("columns", name, np.asarray(array)) for name, array in value.items()]
        else:
            plain[item.name] = value
    head = {
        "event": type(event).__name__,
        "fields": plain,
        "columns": [[owner, key, array.dtype.str, list(array.shape)] for owner, key, array in columns],
    }
    pipe.write(json.dumps(head, default=_plain).encode() + b"\n")
    for _, _, array in columns:
        pipe.write(np.ascontiguousarray(array).tobytes())
    pipe.flush()


def read_event(pipe: BinaryIO) -> Event | None:
    """The next event, or None at the end of the pipe (also in the middle of a message: its writer died)."""
    line = pipe.readline()
    if not line.endswith(b"\n"):
        return None
    head = json.loads(line)
    values: dict[str, Any] = dict(head["fields"])
    if head["event"] == "Outputs":
        values["columns"] = {}
    for owner, key, dtype, shape in head["columns"]:
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        data = pipe.read(size)
        if len(data) < size:
            return None
        array = np.frombuffer(data, dtype=dtype).reshape(shape)
        if key:
            values[owner][key] = array
        else:
            values[owner] = array
    return _EVENTS[head["event"]](values)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.generic):
        return value.item()
    return asdict(value)


def _tensor(raw: Mapping[str, Any]) -> Tensor:
    return Tensor(**{**raw, "shape": tuple(raw["shape"])})


def _facts(raw: Mapping[str, Any]) -> RuntimeFacts:
    return RuntimeFacts(**{**raw, "accelerators": tuple(raw["accelerators"])})


def _loaded(raw: Mapping[str, Any]) -> Loaded:
    placement = Placement(**{**raw["placement"], "notes": tuple(raw["placement"]["notes"])})
    return Loaded(**{**raw, "placement": placement, "runtime": _facts(raw["runtime"])})


def _device_state(raw: Mapping[str, Any]) -> DeviceState:
    return DeviceState(
        when=raw["when"],
        at_mono_ns=raw["at_mono_ns"],
        readings={name: Reading(**reading) for name, reading in raw["readings"].items()},
        busy=_busy(raw["busy"]),
    )


def _busy(raw: Sequence[Mapping[str, Any]]) -> tuple[BusyProcess, ...]:
    return tuple(BusyProcess(**process) for process in raw)


def _inspected(raw: Mapping[str, Any]) -> Inspected:
    return Inspected(tuple(map(_tensor, raw["inputs"])), tuple(map(_tensor, raw["outputs"])))


_EVENTS: dict[str, Callable[[dict[str, Any]], Event]] = {
    "Started": lambda raw: Started(**raw),
    "Loaded": _loaded,
    # A spool of an agent before this one has blocks without the last two.
    "Block": lambda raw: Block(
        **{**raw, "busy": _busy(raw.get("busy", ())), "marks": tuple(raw.get("marks", ()))},
    ),
    "DeviceState": _device_state,
    "Outputs": lambda raw: Outputs(**raw),
    "Operators": lambda raw: Operators(tuple(OperatorTime(**operator) for operator in raw["operators"])),
    "Finished": lambda raw: Finished(**raw),
    "Failed": lambda raw: Failed(**raw),
    "Inspected": _inspected,
    "Described": lambda raw: Described(_facts(raw["facts"])),
    "Probed": lambda raw: Probed(**raw),
}
