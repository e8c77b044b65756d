"""TensorRT: `.onnx` files as engines that are built on the device, on an NVIDIA GPU. No engine has run on one yet.

The timed path is one copy in, one inference, one copy out, all in one stream, and the wait for it. Host memory is
pinned. States stay on the device: two contexts over the same engine, each with its addresses bound once; what one
writes the other reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from rtfleet_agent.runtimes import cuda, trt_cache
from rtfleet_agent.runtimes.base import (
    Array,
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
)
from rtfleet_agent.runtimes.onnx_bytes import identity_model
from rtfleet_agent.runtimes.trt_build import DTYPES, Plan, build, ranges_of, unserved
from rtfleet_agent.runtimes.trt_library import LOG, VERSION, library, trt

_ONLY_GPU = "TensorRT computes on NVIDIA GPUs alone; tensorrt-* variants are measured with accelerator gpu"


def describe(plugs: bool = True) -> RuntimeFacts:
    """Usable where there is a GPU. Its version names the flavour, so that the two are never taken for one."""
    path = library()
    error = _no_gpu() if plugs else ""
    return RuntimeFacts(
        name="tensorrt",
        version=VERSION,
        library_sha256=file_sha256(path) if path else "",
        accelerators=("gpu",) if plugs and not error else (),
        unavailable={"cpu": _ONLY_GPU, "npu": "engines for a Jetson's DLA are not built"}
        | ({"gpu": error} if error else {}),
        error=error,
    )


def compile(graph: Graph, cache: Path, options: Options) -> Path:
    """The engine's file: of an earlier launch where nothing that it follows from has changed, else built now."""
    gpu = _gpu(options)
    plan = _plan(graph.path, graph.shapes, gpu, options)
    recipe = trt_cache.Recipe(file_sha256(graph.path), VERSION, gpu.name, plan)
    return trt_cache.engine(cache, recipe, lambda: build(graph.path, plan))


def load(path: Path, graph: Graph, options: Options) -> Session:
    """A session over an engine of `compile`. Of an `.onnx` the engine is built now, and kept nowhere."""
    gpu = _gpu(options)
    fresh = path.suffix == ".onnx"
    serialized = build(path, _plan(path, graph.shapes, gpu, options)) if fresh else path.read_bytes()
    LOG.take()
    engine = _runtime().deserialize_cuda_engine(serialized)
    if engine is None and fresh:
        raise failure(f"{VERSION} does not load the engine that it built of {path.name}")
    if engine is None:
        trt_cache.forget(path)
        raise failure(f"{VERSION} does not load {path.name}, which was dropped: the next launch builds it anew")
    return Session(engine, gpu, options)


def one_op(folder: Path, inputs: int, outputs: int) -> Graph:
    """`Identity` per output, over tensors of one float."""
    path = folder / "one_op.onnx"
    path.write_bytes(identity_model(inputs, outputs))
    return Graph("one_op", path)


def _no_gpu() -> str:
    """Why there is none that this TensorRT serves; "" where there is."""
    try:
        gpu = cuda.gpu()
    except cuda.NoGpu as error:
        return str(error)
    why = unserved(gpu.capability)
    return f"{gpu.name}: {why}" if why else ""


def _gpu(options: Options) -> cuda.Gpu:
    if options.accelerator != "gpu":
        raise NoAccelerator(options.accelerator, ("gpu",), _ONLY_GPU)
    if why := _no_gpu():
        raise NoAccelerator("gpu", ("nothing",), why)
    return cuda.gpu()


def _plan(path: Path, shapes: Mapping[str, Shape], gpu: cuda.Gpu, options: Options) -> Plan:
    return Plan(ranges_of(path.read_bytes(), shapes), gpu.capability, options.optimize)


@cache
def _runtime() -> Any:
    """One a process: it must outlive its engines."""
    return trt.Runtime(LOG)


class Session:
    """A loaded engine."""

    def __init__(self, engine: Any, gpu: cuda.Gpu, options: Options) -> None:
        self._engine = engine
        self._gpu = gpu
        self._options = options
        self._layers = LayerTimes() if options.profile else None
        self._bounds: list[Bound] = []
        self._runner: tuple[dict[str, Shape], Bound] | None = None
        self._configuration = _configuration(engine)
        self.stream = cuda.Stream()
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        mode = trt.TensorIOMode
        self.inputs = tuple(_tensor(engine, name) for name in names if engine.get_tensor_mode(name) == mode.INPUT)
        self.outputs = tuple(_tensor(engine, name) for name in names if engine.get_tensor_mode(name) == mode.OUTPUT)

    def placement(self) -> Placement:
        gpu = self._gpu
        notes = ["TF32 off", f"CUDA {gpu.driver}, compute capability {gpu.capability[0]}.{gpu.capability[1]}"]
        if not self._options.optimize:
            notes.append("builder level 0; layers are fused all the same")
        return Placement(self._options.accelerator, f"{VERSION} on {gpu.name}", 1.0, tuple(notes))

    def bind(self, shapes: Mapping[str, Shape], states: Sequence[State]) -> Bound:
        bound = Bound(self, shapes, states)
        self._bounds.append(bound)
        return bound

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Buffers are kept for as long as the shapes are the same."""
        shapes = {name: tuple(np.shape(values)) for name, values in feeds.items()}
        if self._runner is None or self._runner[0] != shapes:
            if self._runner is not None:
                self._bounds.remove(self._runner[1])
                self._runner[1].close()
            self._runner = shapes, self.bind(shapes, ())
        bound = self._runner[1]
        for name, values in feeds.items():
            bound.inputs[name][...] = values
        bound.step()
        return {name: values.copy() for name, values in bound.outputs.items()}

    def operators(self) -> tuple[OperatorTime, ...]:
        """Of layers: TensorRT fuses operators, and names a layer after those in it."""
        return operator_times(self._layers.times_ms) if self._layers else ()

    def close(self) -> None:
        for bound in self._bounds:
            bound.close()
        self._bounds, self._runner = [], None
        self.stream.close()
        self._configuration = self._engine = None

    def context(self, shapes: Mapping[str, Shape]) -> Any:
        """A fresh execution context for these shapes. Raises UnsupportedModel, OutOfMemory, RuntimeFailure."""
        LOG.take()
        made = self._engine.create_execution_context(*(() if self._configuration is None else (self._configuration,)))
        if made is None:
            raise failure("no execution context")
        for name, shape in shapes.items():
            if not made.set_input_shape(name, shape):
                least, _, most = (list(dims) for dims in self._engine.get_tensor_profile_shape(name, 0))
                raise UnsupportedModel(
                    f"input '{name}' is {list(shape)}, and the engine was built for {least} to {most}"
                )
        if self._layers:
            made.profiler = self._layers
        return made


class Bound:
    """Fixed shapes and buffers. `step` is an attribute, made of native calls bound to their arguments."""

    def __init__(self, session: Session, shapes: Mapping[str, Shape], states: Sequence[State]) -> None:
        self._stream = stream = session.stream
        self._pairs = paired(session.inputs, session.outputs, states)
        dims = {tensor.name: resolved_shape(tensor, shapes.get(tensor.name)) for tensor in session.inputs}
        self._contexts = [session.context(dims) for _ in range(2 if self._pairs else 1)]
        dims |= {tensor.name: _output_shape(self._contexts[0], tensor.name) for tensor in session.outputs}
        sources = [source for _, source, _ in self._pairs]
        targets = [target for _, _, target in self._pairs]

        def mirror(tensors: Sequence[Tensor]) -> cuda.Mirror:
            return cuda.Mirror({tensor.name: (dims[tensor.name], tensor.dtype) for tensor in tensors}, stream)

        self._in = mirror([tensor for tensor in session.inputs if tensor not in sources])
        self._out = mirror([tensor for tensor in session.outputs if tensor not in targets])
        # Each turn's states; the host side of the first holds the initial values.
        self._states = [mirror(sources) for _ in self._contexts]
        for state, source, target in self._pairs:
            if dims[source.name] != dims[target.name]:
                raise UnsupportedModel(
                    f"state '{source.name}' is {list(dims[source.name])}, but comes out as {list(dims[target.name])}"
                )
            self._states[0].host[source.name][...] = initial_value(state, source, dims[source.name])
        for turn, context in enumerate(self._contexts):
            read, written = self._states[turn].device, self._states[turn - 1].device
            ends = {target.name: written[source.name] for _, source, target in self._pairs}
            for name, address in {**self._in.device, **self._out.device, **read, **ends}.items():
                if not context.set_tensor_address(name, address):
                    raise failure(f"tensor '{name}' can't be bound")
        self.inputs: Mapping[str, Array] = self._in.host
        self.outputs: Mapping[str, Array] = self._out.host
        self.step: Callable[[], None]
        self.reset()

    def reset(self) -> None:
        cuda.check("the copy of the states", self._states[0].upload())
        self._stream.wait()
        self.step = self._steps()

    def close(self) -> None:
        self.inputs = self.outputs = {}
        self._contexts = []
        for mirror in (self._in, self._out, *self._states):
            mirror.close()

    def _steps(self) -> Callable[[], None]:
        """From the first turn on."""
        handle, synchronize = self._stream.handle, self._stream.synchronize
        copy_in, copy_out = self._in.upload, self._out.download
        next_turn = cycle([partial(context.execute_async_v3, handle) for context in self._contexts]).__next__

        def step() -> None:
            # Copies and waits give CUDA's error code, the inference whether it was taken.
            if copy_in() or not next_turn()() or copy_out() or synchronize():
                self._stream.wait()
                raise failure("an inference failed")

        return step


def failure(what: str) -> RuntimeFailure:
    """What went wrong, with what TensorRT logged about it."""
    text = " ".join(" ".join(LOG.take()).split())[:300]
    kind = OutOfMemory if re.search(r"out of memory|OutOfMemory", text) else RuntimeFailure
    return kind(f"{what}: {text or 'TensorRT does not say why'}")


class LayerTimes(trt.IProfiler):  # type: ignore[misc]  # TensorRT is not typed here
    """What TensorRT's profiler tells: layer -> milliseconds of each inference."""

    def __init__(self) -> None:
        trt.IProfiler.__init__(self)
        self.times_ms: dict[str, list[float]] = {}

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        """Called by TensorRT for each layer after an inference."""
        self.times_ms.setdefault(layer_name, []).append(ms)


def operator_times(times_ms: Mapping[str, Sequence[float]]) -> tuple[OperatorTime, ...]:
    """Per layer."""
    return tuple(
        OperatorTime(name, _operators_in(name), len(times), round(sum(times) * 1e6), VERSION, accelerated=True)
        for name, times in times_ms.items()
    )


def _operators_in(layer: str) -> str:
    """Those that its name tells: "entry/Conv_13 + relu/Relu_14" is a Conv+Relu."""
    return "+".join(re.findall(r"/([A-Za-z]+)_\d+", layer))


def _configuration(engine: Any) -> Any | None:
    """TensorRT-RTX makes kernels for the shapes in use: at once, never behind the back of a timed frame, and once for
    both contexts. Else None."""
    if not hasattr(trt, "DynamicShapesKernelSpecializationStrategy"):
        return None
    configuration = engine.create_runtime_config()
    configuration.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
    configuration.set_runtime_cache(configuration.create_runtime_cache())
    return configuration


def _tensor(engine: Any, name: str) -> Tensor:
    dtype = DTYPES.get(engine.get_tensor_dtype(name).name)
    if dtype is None:
        raise UnsupportedModel(f"'{name}' is a tensor of {engine.get_tensor_dtype(name).name}, which numpy has not")
    return Tensor(name, dtype, tuple(engine.get_tensor_shape(name)))


def _output_shape(context: Any, name: str) -> Shape:
    shape = tuple(context.get_tensor_shape(name))
    if -1 in shape:
        raise UnsupportedModel(f"output '{name}' gets its size from the data, which this agent does not bind")
    return shape
