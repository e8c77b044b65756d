"""What a runtime is, as the agent sees it.

A runtime is a module with four functions:

    def describe(plugs: bool = True) -> RuntimeFacts                      # what is here, and why the rest is not
    def compile(graph: Graph, cache: Path, options: Options) -> Path      # graph.path where there is nothing to do
    def load(path: Path, graph: Graph, options: Options) -> Session       # raises the errors below
    def one_op(folder: Path, inputs: int, outputs: int) -> Graph          # the smallest model, to time the harness

The timed region is: copy one frame into `bound.inputs`, then `bound.step()`. The clock stays outside, so that no two
runtimes can be timed in two ways.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    """One input or output of a graph.

    Attributes:
        name: As the runtime calls it.
        dtype: A numpy dtype name.
        shape: Its dims; -1 is dynamic.
        scale: Real value of one step of a quantized tensor, per tensor; None where it is not quantized.
        zero_point: The integer that stands for 0.0; None where it is not quantized.
    """

    name: str
    dtype: str
    shape: Shape
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True)
class State:
    """A pair of tensors that carries a stream: `output` of one frame is `input` of the next.

    Attributes:
        initial: A `.npy` file with the first value in the graph's own dtype; None is the value that stands for 0.0.
    """

    input: str
    output: str
    initial: Path | None = None


@dataclass(frozen=True)
class Graph:
    """A model file laid out on the device.

    Attributes:
        path: The file that the runtime is given; further files of the model lie beside it.
        shapes: Concrete dims of each input, states included.
        states: The state pairs, none of which appear in `Bound.inputs` or `Bound.outputs`.
    """

    name: str
    path: Path
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    states: tuple[State, ...] = ()


@dataclass(frozen=True)
class Options:
    """How a graph is run.

    Attributes:
        accelerator: "cpu", "gpu", "npu", or a plug's own name where the runtime has several of a kind.
        cpus: Empty: the scheduler's choice.
        allow_fallback: Nodes that the accelerator refuses may run on the CPU.
        optimize: False is the graph as written, without fusing and without default delegates: for parity.
        profile: Times per operator are collected. Set by the worker for a PROFILE launch; not on the wire.
    """

    accelerator: str = "cpu"
    threads: int = 1
    cpus: tuple[int, ...] = ()
    allow_fallback: bool = False
    optimize: bool = True
    profile: bool = False


@dataclass(frozen=True)
class RuntimeFacts:
    """What stands with every number.

    Attributes:
        library_sha256: Of the shared library that computes; two builds of one version have differed 3.3x in speed.
        accelerators: Those that can be asked for here, "cpu" first.
        unavailable: Accelerator -> why it can't be asked for here.
        error: Why this runtime can't be used at all, with the remedy; "" where it can.
    """

    name: str
    version: str
    library_sha256: str
    accelerators: tuple[str, ...]
    unavailable: Mapping[str, str] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class Placement:
    """Where a graph ran.

    Attributes:
        asked: The accelerator asked for.
        ran: What ran, in the runtime's own words ("CPUExecutionProvider", "XNNPACK"); what the share counts first.
        accelerated_share: Fraction of nodes on the accelerator asked for, on a CPU on the delegate that speeds it up;
            None where the runtime does not tell.
        notes: What a reader of the number must know ("state h requantized between its two ends"), and why a
            share is unknown ("share of nodes unknown: ...").
        accelerated_nodes, nodes: The counts behind the share, where they are known.
    """

    asked: str
    ran: str
    accelerated_share: float | None = None
    notes: tuple[str, ...] = ()
    accelerated_nodes: int | None = None
    nodes: int | None = None


@dataclass(frozen=True)
class OperatorTime:
    """Time of one operator in a PROFILE launch, summed over its calls.

    Attributes:
        total_ns: As `undisturbed_total` has it.
        ran_on: What ran it, in the runtime's own words.
        accelerated: That is what `Placement.accelerated_share` counts; None where it is not known.
    """

    name: str
    op_type: str
    calls: int
    total_ns: int
    ran_on: str = ""
    accelerated: bool | None = None


class RuntimeFailure(Exception):
    """A runtime can't do what it was asked. `kind` is the failure kind on the wire."""

    kind = "INTERNAL"


class BadModel(RuntimeFailure):
    """The file is not a model of this runtime, or is damaged."""

    kind = "BAD_MODEL"


class UnsupportedModel(RuntimeFailure):
    """The model is sound, but has an operator or a shape that this runtime does not run."""

    kind = "UNSUPPORTED_OP"


class BadOutput(RuntimeFailure):
    """An output is NaN or infinite."""

    kind = "BAD_OUTPUT"


class OutOfMemory(RuntimeFailure):
    """The device or the launch's own limit has no room for it."""

    kind = "OUT_OF_MEMORY"


class NoAccelerator(RuntimeFailure):
    """The accelerator asked for is not here. `available` is what is."""

    kind = "NO_ACCELERATOR"

    def __init__(self, asked: str, available: Sequence[str], reason: str = "") -> None:
        self.available = tuple(available)
        self.reason = reason
        super().__init__(
            f"accelerator '{asked}' is not available here{': ' + reason if reason else ''}; "
            f"this runtime offers {', '.join(self.available)}"
        )


class Bound(Protocol):
    """One graph with fixed shapes and its buffers: the timed path.

    Attributes:
        inputs: Host memory that a frame is written into; states are not here.
        outputs: Host memory, valid from one `step()` to the next; states are not here.
    """

    @property
    def inputs(self) -> Mapping[str, Array]: ...
    @property
    def outputs(self) -> Mapping[str, Array]: ...

    def step(self) -> None:
        """Copy in, infer, advance the states, copy out, synchronise."""

    def reset(self) -> None:
        """States to their initial value. Where the state lives inside the model: a new interpreter.

        The arrays in `inputs` and `outputs` may be other objects afterwards.
        """


class Session(Protocol):
    """A loaded graph."""

    @property
    def inputs(self) -> tuple[Tensor, ...]: ...
    @property
    def outputs(self) -> tuple[Tensor, ...]: ...

    def placement(self) -> Placement: ...

    def bind(self, shapes: Mapping[str, Shape], states: Sequence[State]) -> Bound:
        """Fix the shapes and pair the states.

        Raises:
            UnsupportedModel: a shape that the graph does not take, or a state pair that differs in dtype or shape.
        """

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Any shape; a result may be fed back."""

    def operators(self) -> Sequence[OperatorTime]:
        """Times of a PROFILE launch; () elsewhere."""

    def close(self) -> None: ...


class Runtime(Protocol):
    """The module itself."""

    def describe(self, plugs: bool = True) -> RuntimeFacts:
        """`plugs` False: only what identifies the runtime. No accelerator's library gets into this process."""

    def compile(self, graph: Graph, cache: Path, options: Options) -> Path: ...
    def load(self, path: Path, graph: Graph, options: Options) -> Session: ...
    def one_op(self, folder: Path, inputs: int, outputs: int) -> Graph: ...


def undisturbed_total(times: Sequence[int]) -> int:
    """The sum of an operator's calls, the longest twentieth of which is taken for the mean of the others.

    A worker that is preempted for 10 ms within one call of 1 µs would make that operator the slowest of all.
    """
    calm = sorted(times)[: len(times) - len(times) // 20]
    return round(sum(calm) / len(calm) * len(times)) if calm else 0


def requantize(values: Array, source: Tensor, target: Tensor) -> Array:
    """The same real values on another integer grid: round to nearest even, saturate.

    real = (q - zero_point) * scale, the affine scheme of ONNX QuantizeLinear and of the TFLite specification.
    """
    if source.scale is None or target.scale is None:
        return values
    real = (values.astype(np.float32) - np.float32(source.zero_point or 0)) * np.float32(source.scale)
    steps = np.rint(real / np.float32(target.scale)) + np.float32(target.zero_point or 0)
    info = np.iinfo(target.dtype)
    result: Array = np.clip(steps, info.min, info.max).astype(target.dtype)
    return result


def resolved_shape(tensor: Tensor, wanted: Shape | None) -> Shape:
    """The concrete dims of an input: those wanted, or its own where all are fixed.

    Raises:
        UnsupportedModel: a dim that stays open, or one that the graph fixes otherwise.
    """
    if wanted is None:
        wanted = tensor.shape
        if -1 in wanted:
            raise UnsupportedModel(
                f"input '{tensor.name}' has dynamic dims {list(tensor.shape)}: say its shape, as in "
                f"inputs = {{ {tensor.name} = {[1 if dim == -1 else dim for dim in tensor.shape]} }}"
            )
    fits = len(wanted) == len(tensor.shape) and all(
        own in (-1, dim) for own, dim in zip(tensor.shape, wanted, strict=True)
    )
    if not fits:
        raise UnsupportedModel(f"input '{tensor.name}' is {list(tensor.shape)} in the graph, asked was {list(wanted)}")
    return tuple(wanted)


def paired(
    inputs: Sequence[Tensor], outputs: Sequence[Tensor], states: Sequence[State]
) -> tuple[tuple[State, Tensor, Tensor], ...]:
    """Each state with its input and its output.

    Raises:
        UnsupportedModel: a name that the graph does not have or that is used twice, or ends that differ in dtype or
            in a fixed dim.
    """
    sources = {tensor.name: tensor for tensor in inputs}
    targets = {tensor.name: tensor for tensor in outputs}
    pairs: list[tuple[State, Tensor, Tensor]] = []
    for state in states:
        if state.input not in sources:
            raise UnsupportedModel(f"state input '{state.input}' is no input; the graph has {', '.join(sources)}")
        if state.output not in targets:
            raise UnsupportedModel(f"state output '{state.output}' is no output; the graph has {', '.join(targets)}")
        source, target = sources.pop(state.input), targets.pop(state.output)
        same = len(source.shape) == len(target.shape) and all(
            -1 in dims or dims[0] == dims[1] for dims in zip(source.shape, target.shape, strict=True)
        )
        if source.dtype != target.dtype or not same:
            raise UnsupportedModel(
                f"state '{state.input}' is {source.dtype} {list(source.shape)}, but its output '{state.output}' is "
                f"{target.dtype} {list(target.shape)}: what comes out can't go in again"
            )
        pairs.append((state, source, target))
    return tuple(pairs)


def initial_value(state: State, tensor: Tensor, shape: Shape) -> Array:
    """The first value of a state, of `tensor`'s dtype and `shape`.

    Raises:
        BadModel: the file's array has another dtype or shape.
    """
    if state.initial is None:
        return np.full(shape, tensor.zero_point or 0, tensor.dtype)
    try:
        value: Array = np.load(state.initial, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadModel(f"initial value of state '{state.input}': not a readable .npy ({error})") from error
    if value.dtype != np.dtype(tensor.dtype) or value.shape != tuple(shape):
        raise BadModel(
            f"initial value of state '{state.input}' is {value.dtype} {list(value.shape)}, "
            f"the graph takes {tensor.dtype} {list(shape)}"
        )
    return value


def file_sha256(path: Path) -> str:
    """In pieces, so that hashing a library takes no memory of its size."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def flat_bytes(values: Array) -> memoryview:
    """The memory of a contiguous array as bytes; writing to the view writes to the array."""
    if not values.flags.c_contiguous:
        raise ValueError("only a contiguous array can be seen as flat bytes")
    return values.reshape(-1).view(np.uint8).data
