"""PyTorch: TorchScript files (`.pt`), the reference row that the other runtimes are held against.

Nothing here imports torch before a model is loaded: that takes seconds and 280 MB, and an agent describes itself
whenever it starts. The timed path hands the module views of the arrays that frames are written into, as a stream in
plain PyTorch does: states go from one call to the next as the tensors that they are.
"""

from __future__ import annotations

import base64
import ctypes
import json
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

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
)

if find_spec("torch") is None:
    raise ImportError("No module named 'torch'")

TENSORS = "tensors.json"
"""In the archive: names, dtypes and shapes of inputs and outputs; TorchScript itself keeps only their order."""
_LIBRARIES = ("libtorch_cpu.so", "libtorch_cpu.dylib", "torch_cpu.dll")
_NO_NPU = "this agent runs PyTorch on the CPU and on CUDA alone"


def describe(plugs: bool = True) -> RuntimeFacts:
    """From the package's files: without importing it."""
    package = _package()
    gpu = _why_no_gpu(package)
    unavailable = {"npu": _NO_NPU} | ({"gpu": gpu} if gpu else {})
    return RuntimeFacts(
        name="torch",
        version=_stated(package, "__version__"),
        library_sha256=_library_sha256(package),
        accelerators=("cpu",) if gpu else ("cpu", "gpu"),
        unavailable=unavailable,
    )


def compile(graph: Graph, cache: Path, options: Options) -> Path:
    """Nothing to do: the executor optimises while it loads and in its first calls."""
    return graph.path


def load(path: Path, graph: Graph, options: Options) -> Session:
    """The module as it was frozen, on `options.threads` threads.

    `options.optimize` changes nothing: torch.jit.optimize_for_inference has made a small network slower (160 µs where
    65 µs were), and what is asked of this row is plain PyTorch.
    """
    device = _device(options)
    import torch

    torch.set_num_threads(options.threads)
    kept = {TENSORS: ""}
    try:
        module = torch.jit.load(str(path), map_location=device, _extra_files=kept)
    except (RuntimeError, ValueError) as error:
        raise _explained(error, path.name) from error
    if not kept[TENSORS]:
        raise BadModel(f"{path.name}: a TorchScript without {TENSORS}: it does not say how its tensors are called")
    told = json.loads(kept[TENSORS])
    inputs, outputs = (
        tuple(Tensor(name, dtype, tuple(shape)) for name, dtype, shape in told[side]) for side in ("inputs", "outputs")
    )
    return Session(module, device, inputs, outputs, options)


def one_op(folder: Path, inputs: int, outputs: int) -> Graph:
    """`relu` per output, over tensors of one float."""
    import torch

    class OneOp(torch.nn.Module):  # type: ignore[misc]  # torch is not typed here
        def forward(self, *given: Any) -> tuple[Any, ...]:
            return tuple(given[index % inputs].relu() for index in range(outputs))

    module = torch.jit.trace(OneOp().eval(), tuple(torch.zeros(1) for _ in range(inputs)), check_trace=False)
    told = {
        "inputs": [[f"x{index}", "float32", [1]] for index in range(inputs)],
        "outputs": [[f"y{index}", "float32", [1]] for index in range(outputs)],
    }
    path = folder / "one_op.pt"
    torch.jit.save(module, str(path), _extra_files={TENSORS: json.dumps(told)})
    return Graph("one_op", path)


class Session:
    """A loaded module."""

    def __init__(
        self, module: Any, device: str, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], options: Options
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self._module = module
        self._device = device
        self._options = options

    def placement(self) -> Placement:
        options = self._options
        notes = (f"{options.threads} threads", "TorchScript as traced and frozen")
        # A module lies on one device whole.
        return Placement(options.accelerator, "CUDA" if self._device == "cuda" else "CPU", 1.0, notes)

    def bind(self, shapes: Mapping[str, Shape], states: Sequence[State]) -> Bound:
        return Bound(self, self._call, self._device, shapes, states)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        import torch

        given = [torch.from_numpy(np.array(feeds[tensor.name])).to(self._device) for tensor in self.inputs]
        results = self._call(given)
        return {tensor.name: value.cpu().numpy() for tensor, value in zip(self.outputs, results, strict=True)}

    def operators(self) -> tuple[OperatorTime, ...]:
        """TorchScript keeps no times per operator."""
        return ()

    def close(self) -> None:
        self._module = None

    def _call(self, given: Sequence[Any]) -> Sequence[Any]:
        import torch

        try:
            with torch.inference_mode():
                results: Sequence[Any] = self._module(*given)
        except (RuntimeError, ValueError) as error:
            raise _while_running(error) from error
        return results


class Bound:
    """Fixed shapes. `step` is an attribute: the first call explains its errors and finds the outputs' shapes."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    step: Callable[[], None]

    def __init__(
        self,
        session: Session,
        call: Callable[[Sequence[Any]], Sequence[Any]],
        device: str,
        shapes: Mapping[str, Shape],
        states: Sequence[State],
    ) -> None:
        import torch

        self._session = session
        self._call = call
        self._device = device
        self._pairs = paired(session.inputs, session.outputs, states)
        held = {
            tensor.name: np.zeros(resolved_shape(tensor, shapes.get(tensor.name)), tensor.dtype)
            for tensor in session.inputs
        }
        sources = {source.name for _, source, _ in self._pairs}
        self._shapes = {name: held[name].shape for name in sources}
        self.inputs = {name: values for name, values in held.items() if name not in sources}
        self.outputs = {}
        places = {tensor.name: at for at, tensor in enumerate(session.inputs)}
        self._frames = {places[name]: torch.from_numpy(values) for name, values in self.inputs.items()}
        self._starts = [(places[source.name], state, source) for state, source, _ in self._pairs]
        # On the CPU the module reads the frame where it was written.
        self._given: list[Any] = [self._frames.get(at) for at in range(len(places))]
        self.reset()

    def reset(self) -> None:
        import torch

        for at, state, source in self._starts:
            value = initial_value(state, source, self._shapes[source.name])
            self._given[at] = torch.from_numpy(value).to(self._device)
        self.step = self._first_step

    def _first_step(self) -> None:
        import torch

        self._copy_in()
        results = self._call(self._given)
        by_name = dict(zip((tensor.name for tensor in self._session.outputs), results, strict=True))
        ends = {target.name for _, _, target in self._pairs}
        if not self.outputs:
            self.outputs = {name: value.cpu().numpy().copy() for name, value in by_name.items() if name not in ends}
        order = [tensor.name for tensor in self._session.outputs]
        plain = [(order.index(name), torch.from_numpy(values)) for name, values in self.outputs.items()]
        # A state that is a piece of the frame lies where the next frame will be written: it needs a copy.
        frames = {frame.untyped_storage().data_ptr() for frame in self._frames.values()}
        advances = [
            (at, order.index(target.name), by_name[target.name].untyped_storage().data_ptr() in frames)
            for (at, _, _), (_, _, target) in zip(self._starts, self._pairs, strict=True)
        ]
        self._finish(results, plain, advances)
        self.step = self._fast_step(plain, advances)

    def _fast_step(
        self, plain: Sequence[tuple[int, Any]], advances: Sequence[tuple[int, int, bool]]
    ) -> Callable[[], None]:
        call, given, finish = self._call, self._given, self._finish
        if self._device == "cpu":

            def step() -> None:
                finish(call(given), plain, advances)

            return step

        def step_there() -> None:
            self._copy_in()
            finish(call(given), plain, advances)  # copying an output to the host waits for it

        return step_there

    def _copy_in(self) -> None:
        if self._device != "cpu":
            for at, frame in self._frames.items():
                self._given[at] = frame.to(self._device)

    def _finish(
        self, results: Sequence[Any], plain: Sequence[tuple[int, Any]], advances: Sequence[tuple[int, int, bool]]
    ) -> None:
        for at, values in plain:
            values.copy_(results[at])
        for at, of, copied in advances:
            self._given[at] = results[of].clone() if copied else results[of]


# ---- what is here --------------------------------------------------------------------------------------------------


def _package() -> Path:
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        raise RuntimeFailure("torch is a folder without a package: reinstall it (pip install 'rtfleet[torch]')")
    return Path(spec.origin).parent


def _stated(package: Path, name: str) -> str:
    """A text that torch/version.py states; "" where it is None or not there."""
    try:
        text = (package / "version.py").read_text()
    except OSError:
        return ""
    found = re.search(rf"^{name}\b[^=\n]*= *'([^']*)'", text, re.MULTILINE)
    return found[1] if found else ""


def _library_sha256(package: Path) -> str:
    """Of the library that computes on the CPU: as pip wrote it down, for it has 400 MB; hashed where it did not."""
    library = next((package / "lib" / name for name in _LIBRARIES if (package / "lib" / name).exists()), None)
    if library is None:
        return ""
    try:
        record = distribution("torch").read_text("RECORD") or ""
    except PackageNotFoundError:
        record = ""
    found = re.search(rf"^torch/lib/{re.escape(library.name)},sha256=([\w-]+),", record, re.MULTILINE)
    return base64.urlsafe_b64decode(found[1] + "=").hex() if found else file_sha256(library)


def _why_no_gpu(package: Path) -> str:
    """Why CUDA can't be asked for; "" where it can."""
    if not _stated(package, "cuda"):
        return f"torch {_stated(package, '__version__')} was built without CUDA"
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "there is no NVIDIA driver (libcuda.so.1)"
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return "the NVIDIA driver finds no GPU"
    return ""


def _device(options: Options) -> str:
    """ "cpu" or "cuda". Raises NoAccelerator."""
    if options.accelerator == "cpu":
        return "cpu"
    facts = describe()
    if options.accelerator not in facts.accelerators:
        reason = facts.unavailable.get(options.accelerator, "")
        raise NoAccelerator(options.accelerator, facts.accelerators, reason)
    return "cuda"


def _explained(error: Exception, name: str) -> RuntimeFailure:
    """PyTorch's refusal to load, by its kind and in one sentence."""
    text = _first_line(error)
    if "DefaultCPUAllocator" in text or "out of memory" in text or "bad_alloc" in text:
        return OutOfMemory(f"{name}: no memory left while loading ({text})")
    if found := re.search(r"Unknown builtin op: ([\w:]+)", str(error)):
        return UnsupportedModel(f"{name}: operator '{found[1]}' is unknown to this PyTorch")
    if "PytorchStreamReader" in text or "constants.pkl" in text:
        return BadModel(f"{name}: not a TorchScript file, or truncated ({text})")
    return BadModel(f"{name}: PyTorch can't load it: {text}")


def _while_running(error: Exception) -> RuntimeFailure:
    # TorchScript's messages are a stack trace; what happened is said last.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines else type(error).__name__
    if "allocate memory" in text or "out of memory" in text:
        return OutOfMemory(f"no memory left in an inference ({text})")
    return UnsupportedModel(f"the graph does not run with these inputs: {text}")


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].split(". ")[0]
