"""ONNX Runtime: `.onnx` and `.ort` files.

The timed path is a prebound I/O binding, run through the session's inner object: the public method checks for WebGPU
graph capture on every call, which costs 1 to 3 µs and can't matter on host memory. States swap between two buffers:
what one binding writes the other reads.
"""

from __future__ import annotations

import os

# It reports home by default since 1.29; whoever imports this module, the import below must not.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as native

from rtfleet_agent.runtimes import ort_plugs
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
    initial_value,
    paired,
    resolved_shape,
    undisturbed_total,
)
from rtfleet_agent.runtimes.onnx_bytes import identity_model

CPU = "CPUExecutionProvider"
# Operators with graphs inside, whose own operators are timed too: counted with them, time would be counted twice.
_CONTAINERS = frozenset({"If", "Loop", "Scan"})
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
} | {f"tensor({name})": name for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")}


def describe(plugs: bool = True) -> RuntimeFacts:
    """The Python module's own library computes: it holds the runtime whole."""
    found = ort_plugs.found() if plugs else ort_plugs.NOTHING
    return RuntimeFacts(
        name="onnxruntime",
        version=onnxruntime.__version__,
        library_sha256=file_sha256(Path(native.__file__)),
        accelerators=("cpu", *found.accelerators),
        unavailable=found.unavailable,
    )


def compile(graph: Graph, cache: Path, options: Options) -> Path:
    """Nothing to do: the session optimises while it loads."""
    return graph.path


def load(path: Path, graph: Graph, options: Options) -> Session:
    """A session with `options.threads` threads inside an operator and operators one after the other."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    if not options.optimize:
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if options.profile:
        settings.enable_profiling = True
        settings.profile_file_prefix = str(Path(tempfile.gettempdir()) / f"rtfleet_profile_{os.getpid()}")
    provider, named = CPU, [CPU]
    if options.accelerator != "cpu":
        plug = ort_plugs.find(options.accelerator)
        provider = plug.provider
        named = [provider, CPU] if options.allow_fallback else [provider]
        if plug.device is not None:
            settings.add_provider_for_devices([plug.device], {})
            named = []
        settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        if not options.allow_fallback:
            settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = onnxruntime.InferenceSession(str(path), settings, providers=named or None, enable_fallback=False)
    except Exception as error:
        raise _explained(error, path, options) from error
    if provider not in session.get_providers():
        # A provider whose libraries are missing is only logged and left out.
        raise NoAccelerator(options.accelerator, ("cpu",), f"{provider} did not start; see the worker's stderr")
    return Session(session, provider, options)


def one_op(folder: Path, inputs: int, outputs: int) -> Graph:
    """`Identity` per output, over tensors of one float."""
    path = folder / "one_op.onnx"
    path.write_bytes(identity_model(inputs, outputs))
    return Graph("one_op", path)


class Session:
    """A loaded graph."""

    def __init__(self, session: Any, provider: str, options: Options) -> None:
        self._session = session
        self._provider = provider
        self._options = options
        self.inputs = tuple(_tensor(node) for node in session.get_inputs())
        self.outputs = tuple(_tensor(node) for node in session.get_outputs())
        self.symbols = {node.name: tuple(node.shape) for node in (*session.get_inputs(), *session.get_outputs())}

    def placement(self) -> Placement:
        options = self._options
        notes = [f"{options.threads} intra-op threads, operators in sequence"]
        if not options.optimize:
            notes.append("graph optimisations off")
        if self._options.accelerator == "cpu":
            return Placement("cpu", CPU, 1.0, tuple(notes))
        try:
            parts = self._session.get_provider_graph_assignment_info()
        except (AttributeError, RuntimeError) as error:
            notes.append(f"share of nodes unknown: {error}")
            return Placement(options.accelerator, self._provider, None, tuple(notes))
        nodes = [part.ep_name for part in parts for _ in part.get_nodes()]
        taken = nodes.count(self._provider)
        ran = dict.fromkeys((self._provider, *sorted(nodes)) if taken else sorted(nodes))
        share = taken / len(nodes) if nodes else None
        return Placement(options.accelerator, ", ".join(ran), share, tuple(notes), taken, len(nodes))

    def bind(self, shapes: Mapping[str, Shape], states: Sequence[State]) -> Bound:
        return Bound(self, self._session, shapes, states)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        names = [tensor.name for tensor in self.outputs]
        try:
            return dict(zip(names, self._session.run(names, dict(feeds)), strict=True))
        except Exception as error:
            raise _while_running(error) from error

    def operators(self) -> tuple[OperatorTime, ...]:
        """Ends the profiling; its file is read and removed."""
        if not self._options.profile:
            return ()
        path = Path(self._session.end_profiling())
        events = json.loads(path.read_text())
        path.unlink()
        return _operator_times(events, self._provider)

    def close(self) -> None:
        self._session = None


class Bound:
    """Fixed shapes and buffers. `step` is an attribute: it is the native method itself, called with its binding."""

    def __init__(
        self, session: Session, native_session: Any, shapes: Mapping[str, Shape], states: Sequence[State]
    ) -> None:
        self._session = native_session
        self._pairs = paired(session.inputs, session.outputs, states)
        held = {
            tensor.name: np.zeros(resolved_shape(tensor, shapes.get(tensor.name)), tensor.dtype)
            for tensor in session.inputs
        }
        sources = {source.name for _, source, _ in self._pairs}
        self.inputs: Mapping[str, Array] = {name: held[name] for name in held if name not in sources}
        # Input name -> its two buffers; each binding reads one and writes the other.
        self._swapped = {name: (held[name], np.zeros_like(held[name])) for name in sources}
        ends = {target.name for _, _, target in self._pairs}
        self._plain = [tensor for tensor in session.outputs if tensor.name not in ends]
        known = _symbols(session, held)
        self.outputs: Mapping[str, Array] = {
            tensor.name: np.zeros(shape, tensor.dtype)
            for tensor in self._plain
            if (shape := _solved(session.symbols[tensor.name], known)) is not None
        }
        self.reset()
        self._fast = self._fast_step() if len(self.outputs) == len(self._plain) else None
        self.step: Callable[[], None] = self._first_step

    def reset(self) -> None:
        for state, source, _ in self._pairs:
            one, two = self._swapped[source.name]
            one[...] = two[...] = initial_value(state, source, one.shape)

    def _first_step(self) -> None:
        """The first inference explains its errors; later ones are the native method alone."""
        try:
            if self._fast is None:
                self._discover()
                self._fast = self._fast_step()
            else:
                self._fast()
        except Exception as error:
            raise _while_running(error) from error
        self.step = self._fast

    def _discover(self) -> None:
        """Outputs whose dims only a run can tell are allocated by the runtime once, then held like the others."""
        binding = self._binding(turn=0)
        names = [tensor.name for tensor in self._plain if tensor.name not in self.outputs]
        for name in names:
            binding.bind_output(name)
        self._session.run_with_iobinding(binding)
        # The binding lists its outputs in the order in which they were bound: these came last.
        values = [value.numpy().copy() for value in binding.get_outputs()[-len(names) :]]
        self.outputs = {**self.outputs, **dict(zip(names, values, strict=True))}
        for one, two in self._swapped.values():
            one[...] = two

    def _fast_step(self) -> Callable[[], None]:
        bindings = [self._binding(turn) for turn in ((0, 1) if self._pairs else (0,))]
        run, handles = _runner(self._session, bindings)
        if len(handles) == 1:
            return partial(run, handles[0], None)
        following = cycle(handles).__next__
        return lambda: run(following(), None)

    def _binding(self, turn: int) -> Any:
        binding = self._session.io_binding()
        reads = {**self.inputs, **{name: pair[turn] for name, pair in self._swapped.items()}}
        writes = {
            **self.outputs,
            **{target.name: self._swapped[source.name][1 - turn] for _, source, target in self._pairs},
        }
        for name, values in reads.items():
            binding.bind_input(name, "cpu", 0, values.dtype.type, values.shape, values.ctypes.data)
        for name, values in writes.items():
            binding.bind_output(name, "cpu", 0, values.dtype.type, values.shape, values.ctypes.data)
        return binding


def _runner(session: Any, bindings: Sequence[Any]) -> tuple[Callable[[Any, None], None], list[Any]]:
    """The cheapest way to run a binding: the inner objects where they are there, else the public method."""
    with suppress(AttributeError):
        return session._sess.run_with_iobinding, [binding._iobinding for binding in bindings]
    return session.run_with_iobinding, list(bindings)


def _symbols(session: Session, held: Mapping[str, Array]) -> dict[str, int]:
    """Symbolic dims that the inputs' shapes tell."""
    return {
        dim: size
        for name, values in held.items()
        for dim, size in zip(session.symbols[name], values.shape, strict=True)
        if isinstance(dim, str)
    }


def _solved(dims: Sequence[int | str | None], known: Mapping[str, int]) -> list[int] | None:
    """Concrete dims; None where they can't be told, also for no dims at all: that may be an unknown rank."""
    if not dims:
        return None
    sizes = [known.get(dim) if isinstance(dim, str) else dim for dim in dims]
    solved = [size for size in sizes if size is not None]
    return solved if len(solved) == len(sizes) else None


def _tensor(node: Any) -> Tensor:
    if node.type not in _DTYPES:
        raise UnsupportedModel(f"'{node.name}' is a {node.type}; only tensors of numbers and booleans can be fed")
    return Tensor(node.name, _DTYPES[node.type], tuple(dim if isinstance(dim, int) else -1 for dim in node.shape))


def _explained(error: Exception, path: Path, options: Options) -> RuntimeFailure:
    """ONNX Runtime's refusal to load, by its kind and in one sentence."""
    text = _first_line(error)
    name = path.name
    if "bad_alloc" in text or "Failed to allocate" in text:
        return OutOfMemory(f"{name}: no memory left while loading ({text})")
    if "fallback to CPU EP has been explicitly disabled" in text:
        return NoAccelerator(
            options.accelerator, describe().accelerators, f"some nodes of {name} would have run on the CPU"
        )
    if found := re.search(r"No Op registered for (\S+) with domain_version of (\d+)", text):
        return UnsupportedModel(f"{name}: operator '{found[1]}' is unknown to this runtime at opset {found[2]}")
    if found := re.search(r"(\S+)\(-?\d+\) is not a registered function/op", text):
        return UnsupportedModel(f"{name}: operator '{found[1]}' is unknown to this runtime")
    if found := re.search(r"Could not find an implementation for (\S+?)\(", text):
        return UnsupportedModel(f"{name}: operator '{found[1]}' has no kernel for its types here ({text})")
    if "opset" in text.lower() or "IR version" in text:
        return UnsupportedModel(f"{name}: made for a newer runtime than {onnxruntime.__version__} ({text})")
    if "xternal data" in text:
        return BadModel(f"{name}: {text}; external data must lie beside the model file")
    if "parsing failed" in text:
        return BadModel(f"{name}: not an ONNX model, or truncated ({path.stat().st_size:,} bytes)")
    return BadModel(f"{name}: ONNX Runtime can't load it: {text}")


def _while_running(error: Exception) -> RuntimeFailure:
    text = _first_line(error)
    if "bad_alloc" in text or "Failed to allocate" in text:
        return OutOfMemory(f"no memory left in an inference ({text})")
    return UnsupportedModel(f"the graph does not run with these inputs: {text}")


def _first_line(error: Exception) -> str:
    text = str(error).strip().split("\n")[0]
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)


def _operator_times(events: Sequence[Mapping[str, Any]], provider: str) -> tuple[OperatorTime, ...]:
    """Of all runs but the first fifth, which warm up. Times are whole microseconds, rounded both ways alike."""
    runs = sorted(int(event["ts"]) for event in events if event.get("name") == "model_run")
    warm_us = runs[len(runs) // 5] if runs else 0
    times: dict[tuple[str, str, str], list[int]] = {}
    for event in events:
        if event.get("cat") == "Node" and str(event["name"]).endswith("_kernel_time") and int(event["ts"]) >= warm_us:
            told = event["args"]
            if told.get("op_name") in _CONTAINERS:
                continue
            name = str(event["name"]).removesuffix("_kernel_time")
            key = name, str(told.get("op_name", "")), str(told.get("provider", ""))
            times.setdefault(key, []).append(int(event["dur"]) * 1000)
    return tuple(
        OperatorTime(name, kind, len(each), undisturbed_total(each), ran_on, accelerated=ran_on == provider)
        for (name, kind, ran_on), each in times.items()
    )
