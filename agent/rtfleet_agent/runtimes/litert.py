"""LiteRT: `.tflite` files through its Interpreter, which costs less per call than CompiledModel below 50 µs.

The timed path holds live views of the interpreter's own tensors and calls the inner object's Invoke(): the public
`invoke()` refuses to run while a view is alive. Where the inner object is not there, the public calls copy instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ai_edge_litert
import numpy as np
from ai_edge_litert import interpreter as api

from rtfleet_agent.runtimes import litert_compiled
from rtfleet_agent.runtimes.base import (
    Array,
    BadModel,
    Graph,
    NoAccelerator,
    OperatorTime,
    Options,
    OutOfMemory,
    Placement,
    RuntimeFacts,
    RuntimeFailure,
    Shape,
    State,
    Tensor,
    UnsupportedModel,
    file_sha256,
    flat_bytes,
    initial_value,
    paired,
    requantize,
    resolved_shape,
)
from rtfleet_agent.runtimes.litert_interface import Interface, interface_of, tensor_of
from rtfleet_agent.runtimes.litert_profile import operator_times
from rtfleet_agent.runtimes.tflite_bytes import relu_model
from rtfleet_agent.runtimes.tflite_nodes import DELEGATE, Node, split


def describe(plugs: bool = True) -> RuntimeFacts:
    """The wheel's one large library computes; older wheels have it in the wrapper itself.

    Whether a GPU or NPU is here is found out by trying: an accelerator's library says so only then.
    """
    missing = litert_compiled.missing(relu_model(1, 1)) if plugs else {}
    folder = Path(api.__file__).parent
    library = folder / "libpywrap_litert_common.so"
    if not library.exists():
        library = max(folder.glob("*interpreter_wrapper*.so"), key=lambda path: path.stat().st_size)
    return RuntimeFacts(
        name="litert",
        version=str(getattr(ai_edge_litert, "__version__", "unknown")),
        library_sha256=file_sha256(library),
        accelerators=("cpu", *(name for name, why in missing.items() if not why)),
        unavailable={name: why for name, why in missing.items() if why},
    )


def compile(graph: Graph, cache: Path, options: Options) -> Path:
    """Nothing to do: kernels are chosen and weights packed while the tensors are allocated."""
    return graph.path


def load(path: Path, graph: Graph, options: Options) -> Session | litert_compiled.Session:
    """On the CPU an interpreter with `options.threads` threads; tensors are allocated by `bind`, for its shapes."""
    if options.accelerator != "cpu":
        try:
            return litert_compiled.Session(path, graph, options)
        except NoAccelerator as error:
            if not options.allow_fallback:
                here = ("cpu", *(name for name, why in litert_compiled.missing(relu_model(1, 1)).items() if not why))
                raise NoAccelerator(options.accelerator, here, error.reason) from error
        except (RuntimeError, ValueError) as error:
            raise _explained(error, path.name) from error
    return Session(path, graph, options)


def one_op(folder: Path, inputs: int, outputs: int) -> Graph:
    """`RELU` per output, over tensors of one float."""
    path = folder / "one_op.tflite"
    path.write_bytes(relu_model(inputs, outputs))
    return Graph("one_op", path)


class Session:
    """A loaded model."""

    def __init__(self, path: Path, graph: Graph, options: Options) -> None:
        self._path = path
        self._options = options
        self._fresh: Any = self._new()
        self._runner: Any = None
        self._bound: Bound | None = None
        self.interface = interface_of(self._fresh, graph.shapes)
        self.inputs = tuple(tensor_of(name, details) for name, details in self.interface.inputs.items())
        self.outputs = tuple(tensor_of(name, details) for name, details in self.interface.outputs.items())

    def placement(self) -> Placement:
        options = self._options
        notes = [f"{options.threads} threads"]
        if not options.optimize:
            notes.append("no default delegates")
        if self.interface.signature:
            notes.append(f"signature {self.interface.signature}")
        if self._bound is None:
            notes.append("share of nodes unknown: delegates are chosen when shapes are bound")
            return Placement(options.accelerator, "unknown", None, tuple(notes))
        notes += self._bound.notes
        if options.accelerator != "cpu":
            notes.append(f"fell back to the CPU: no {options.accelerator} could be used")
            return Placement(options.accelerator, self._bound.ran(), 0.0, tuple(notes))
        if self.interface.subgraph:
            notes.append("share of nodes unknown: LiteRT lists the nodes of a file's first subgraph only")
            return Placement(options.accelerator, self._bound.ran(), None, tuple(notes))
        taken, left = map(len, split(self._bound.nodes()))
        share = taken / (taken + left) if taken + left else None
        return Placement(options.accelerator, self._bound.ran(), share, tuple(notes), taken, taken + left)

    def bind(self, shapes: Mapping[str, Shape], states: Sequence[State]) -> Bound:
        self._bound = Bound(self, shapes, states)
        return self._bound

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """In an interpreter of its own: another shape would move the tensors that a `Bound` has views of."""
        self._runner = self._runner or self._new()
        self.allocate(self._runner, {name: np.shape(values) for name, values in feeds.items()})
        calls = Calls(self._runner, self.interface)
        try:
            for name, values in feeds.items():
                calls.write(name, np.asarray(values))
            calls.invoke()
        except (RuntimeError, ValueError) as error:
            raise _explained(error, self._path.name) from error
        return {name: calls.read(name).copy() for name in self.interface.outputs}

    def operators(self) -> tuple[OperatorTime, ...]:
        """Of inferences of their own, on the last frame: the Interpreter has no times per operator in Python."""
        if not self._options.profile or self._bound is None:
            return ()
        library = Path(api.__file__).parent / "libLiteRt.so"
        called = self.interface
        return operator_times(library, self._path, called.signature, called.subgraph, self._bound.held(), self._options)

    def close(self) -> None:
        self._fresh = self._runner = self._bound = None

    def interpreter(self, shapes: Mapping[str, Shape]) -> Any:
        """A fresh one with its tensors allocated; the one that answered for names and dtypes is used up first."""
        fresh, self._fresh = self._fresh or self._new(), None
        self.allocate(fresh, shapes)
        return fresh

    def allocate(self, interpreter: Any, shapes: Mapping[str, Shape]) -> None:
        """Tensors for these shapes. Resized first: one front end does not allocate with the shapes in its file."""
        subgraph = self.interface.subgraph
        try:
            for name, shape in shapes.items():
                details = self.interface.inputs[name]
                if tuple(details["shape"]) != tuple(shape) or interpreter is self._runner:
                    _resize(interpreter, int(details["index"]), shape, subgraph)
            if subgraph:
                interpreter._interpreter.AllocateTensors(subgraph)
            else:
                interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise _explained(error, self._path.name) from error

    def explained(self, error: Exception) -> RuntimeFailure:
        return _explained(error, self._path.name)

    def _new(self) -> Any:
        kind = api.OpResolverType
        resolver = kind.BUILTIN if self._options.optimize else kind.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        try:
            return api.Interpreter(
                model_path=str(self._path),
                num_threads=self._options.threads,
                experimental_op_resolver_type=resolver,
            )
        except (RuntimeError, ValueError) as error:
            raise _explained(error, self._path.name) from error


class Bound:
    """Fixed shapes; `inputs` and `outputs` are the interpreter's own memory where it can be held.

    `step` is an attribute: without states it is the inner object's Invoke itself.
    """

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    step: Callable[[], None]

    def __init__(self, session: Session, shapes: Mapping[str, Shape], states: Sequence[State]) -> None:
        self._session = session
        self._pairs = paired(session.inputs, session.outputs, states)
        self._shapes = {tensor.name: resolved_shape(tensor, shapes.get(tensor.name)) for tensor in session.inputs}
        self.notes = tuple(
            f"state {source.name} requantized between its two ends: scale {target.scale:.6g}, zero point "
            f"{target.zero_point} out; scale {source.scale:.6g}, zero point {source.zero_point} in"
            for _, source, target in self._pairs
            if _differ(source, target)
        )
        self._open()

    def reset(self) -> None:
        """A new interpreter: only that resets resource variables inside the model, and it resets all else too."""
        self._open()

    def ran(self) -> str:
        """XNNPACK where it took nodes of the primary subgraph."""
        delegated = any(node.op_type == DELEGATE for node in self.nodes())
        return "XNNPACK" if delegated else "built-in kernels"

    def nodes(self) -> list[Node]:
        """The primary subgraph's, with those of delegates behind them."""
        inner = self._interpreter._interpreter
        return [
            Node(inner.NodeName(index), tuple(inner.NodeInputs(index)), tuple(inner.NodeOutputs(index)))
            for index in range(inner.NumNodes())
        ]

    def held(self) -> Mapping[str, Array]:
        """All inputs as they are now, states too."""
        return self._held

    def _open(self) -> None:
        self._interpreter = self._session.interpreter(self._shapes)
        self._calls = Calls(self._interpreter, self._session.interface)
        held = {name: self._calls.input_memory(name, shape) for name, shape in self._shapes.items()}
        for state, source, _ in self._pairs:
            held[source.name][...] = initial_value(state, source, self._shapes[source.name])
        self._held = held
        sources = {source.name for _, source, _ in self._pairs}
        self.inputs = {name: values for name, values in held.items() if name not in sources}
        self.outputs = {}
        self.step = self._first_step

    def _first_step(self) -> None:
        """The first inference explains its errors and shows where the outputs lie; later ones are bare."""
        calls = self._calls
        lie = calls.output_addresses()
        before = calls.before_invoke(self._held)
        try:
            for action in (*before, calls.invoke):
                action()
        except (RuntimeError, ValueError) as error:
            raise self._session.explained(error) from error
        views: dict[str, Array] = {}
        after: list[Callable[[], None]] = []
        for name in self._session.interface.outputs:
            values = calls.read(name)
            if lie.get(name) == values.ctypes.data:
                views[name] = values
            else:  # the runtime allocates it anew in each inference: its memory can't be held
                views[name] = values.copy()
                after.append(partial(_copy_out, calls, name, views[name]))
        advances = [
            _advance(self._held[source.name], views[target.name], source, target) for _, source, target in self._pairs
        ]
        for advance in advances:
            advance()
        ends = {target.name for _, _, target in self._pairs}
        self.outputs = {name: values for name, values in views.items() if name not in ends}
        self.step = _in_order([*before, calls.invoke, *after, *advances])


class Calls:
    """The interpreter's inner object, which lets views live, or else its public methods, which copy."""

    def __init__(self, interpreter: Any, interface: Interface) -> None:
        self._interface = interface
        self._copied: list[str] = []
        self._public = interpreter
        inner = getattr(interpreter, "_interpreter", None)
        self._inner = inner if hasattr(inner, "Invoke") and hasattr(inner, "tensor") else None
        self.invoke: Callable[[], None] = (
            interpreter.invoke if self._inner is None else partial(self._inner.Invoke, interface.subgraph)
        )

    def input_memory(self, name: str, shape: Shape) -> Array:
        """Where a frame is written: the interpreter's own memory, unless that can't be seen (`before_invoke`)."""
        values = self._view(self._interface.inputs[name])
        if values is None:
            self._copied.append(name)
            return np.zeros(shape, self._interface.inputs[name]["dtype"])
        return values

    def before_invoke(self, held: Mapping[str, Array]) -> list[Callable[[], None]]:
        """What carries inputs that are not the interpreter's memory into it."""
        return [partial(self.write, name, held[name]) for name in self._copied]

    def write(self, name: str, values: Array) -> None:
        index = int(self._interface.inputs[name]["index"])
        if self._inner is None:
            self._public.set_tensor(index, values)
        else:
            self._inner.SetTensor(index, values, self._interface.subgraph)

    def read(self, name: str) -> Array:
        """A view where there can be one, else a copy."""
        details = self._interface.outputs[name]
        values = self._view(details)
        if values is not None:
            return values
        index = int(details["index"])
        if self._inner is None:
            return np.asarray(self._public.get_tensor(index))
        return np.asarray(self._inner.GetTensor(index, self._interface.subgraph))

    def output_addresses(self) -> dict[str, int]:
        """Where each output lies before the first inference; missing for those that have no memory to be seen."""
        views = {name: self._view(details) for name, details in self._interface.outputs.items()}
        return {name: values.ctypes.data for name, values in views.items() if values is not None}

    def _view(self, details: Mapping[str, Any]) -> Array | None:
        """None without the inner object, before the memory is there, and at rank 0: numpy makes that a copy."""
        if self._inner is None:
            return None
        try:
            values = self._inner.tensor(self._inner, int(details["index"]), self._interface.subgraph)
        except (RuntimeError, ValueError):
            return None
        return values if isinstance(values, np.ndarray) else None


def _in_order(actions: Sequence[Callable[[], None]]) -> Callable[[], None]:
    if len(actions) == 1:
        return actions[0]

    def step() -> None:
        for action in actions:
            action()

    return step


def _copy_out(calls: Calls, name: str, held: Array) -> None:
    held[...] = calls.read(name)


def _advance(into: Array, out: Array, source: Tensor, target: Tensor) -> Callable[[], None]:
    """What makes the state that came `out` the one that goes `into` the next frame."""
    if not _differ(source, target):
        return partial(flat_bytes(into).__setitem__, slice(None), flat_bytes(out))
    if out.dtype.itemsize == 1:
        # All 256 answers beforehand: the same numbers as requantize(), at a fraction of its time.
        every = np.arange(256, dtype=np.uint8).view(out.dtype)
        table = requantize(every, target, source)
        return partial(np.take, table, out.view(np.uint8), out=into, mode="clip")

    def requantized() -> None:
        into[...] = requantize(out, target, source)

    return requantized


def _differ(source: Tensor, target: Tensor) -> bool:
    known = source.scale is not None and target.scale is not None
    return known and (source.scale, source.zero_point) != (target.scale, target.zero_point)


def _resize(interpreter: Any, index: int, shape: Shape, subgraph: int) -> None:
    if subgraph:
        interpreter._interpreter.ResizeInputTensor(index, np.array(shape, np.int32), False, subgraph)
    else:
        interpreter.resize_tensor_input(index, shape)


def _explained(error: Exception, name: str) -> RuntimeFailure:
    """LiteRT's refusal, by its kind and in one sentence."""
    text = " ".join(str(error).split())
    if "bad_alloc" in text:
        return OutOfMemory(f"{name}: no memory left ({text})")
    if found := re.search(r"unresolved custom op: ([^\s.]+)", text):
        return UnsupportedModel(f"{name}: custom operator '{found[1]}' is unknown to this runtime")
    if found := re.search(r"builtin opcode '(\w+)' version '(\d+)'", text):
        return UnsupportedModel(f"{name}: operator '{found[1]}' of version {found[2]} is newer than this runtime")
    if found := re.search(r"builtin_code out of range: (\d+)", text):
        return UnsupportedModel(f"{name}: operator number {found[1]} is newer than this runtime")
    if "Select TensorFlow op" in text:
        return UnsupportedModel(f"{name}: {text}")
    if any(words in text for words in ("not a valid Flatbuffer", "identifier", "mmap", "Could not open", "empty")):
        return BadModel(f"{name}: not a TFLite model, or truncated ({text})")
    return UnsupportedModel(f"{name}: LiteRT can't run it with these shapes: {text}")
