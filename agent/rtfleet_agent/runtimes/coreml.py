"""Core ML: `.mlpackage` folders, compiled and run on macOS through coremltools.

Everything up to Core ML itself is tested on Linux; nothing here was yet seen on a Mac. So only public calls of
coremltools are made, though its inner object would save a check in each frame.

A model's state is either explicit (what comes out as `h_out` goes in again as `h`: the array itself, no copy) or Core
ML's own: one state object lives across the frames, and `reset` makes a new one.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rtfleet_agent.runtimes import coreml_plan, coreml_spec, kept
from rtfleet_agent.runtimes.base import (
    Array,
    BadModel,
    Graph,
    NoAccelerator,
    OperatorTime,
    Options,
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
from rtfleet_agent.sensors import macos

COMPILED = ".mlmodelc"
# What we call an accelerator -> coremltools' ComputeUnit. Core ML knows no GPU or Neural Engine without the CPU: what
# it then gives to the CPU its compute plan tells (`coreml_plan.py`).
UNITS = {"cpu": "CPU_ONLY", "gpu": "CPU_AND_GPU", "npu": "CPU_AND_NE"}
_MISSING = {
    name: f"Core ML lists no {coreml_plan.WORDS[name]} on this Mac (it lists them from macOS 14 on)"
    for name in ("gpu", "npu")
}

Predict = Callable[[dict[str, Array], Any], Mapping[str, Array]]
"""One inference: all inputs by name, and Core ML's state object or None -> all outputs by name."""


def describe(plugs: bool = True) -> RuntimeFacts:
    """The framework is part of the system, whose build stands in the version; the hash is that of coremltools' way
    into it. Both decide."""
    if not _on_macos():
        return RuntimeFacts("coreml", version="", library_sha256="", accelerators=(), error=str(_not_here()))
    ct = coreml_spec.coremltools()
    here = _accelerators()
    return RuntimeFacts(
        name="coreml",
        version=_version(ct),
        library_sha256=file_sha256(next(Path(ct.__file__).parent.glob("libcoremlpython*.so"))),
        accelerators=here,
        unavailable={name: why for name, why in _MISSING.items() if name not in here},
    )


def compile(graph: Graph, cache: Path, options: Options) -> Path:
    """The compiled model, which stays in `cache`: where it lies there already, its time is that of finding it.

    Raises:
        UnsupportedModel: not a Mac, or one whose macOS is too old for this model.
        BadModel: Core ML refuses to compile it.
    """
    package = coreml_spec.package_of(graph.path)
    if not _on_macos():
        raise _not_here()
    ct = coreml_spec.coremltools()
    refuse_old_macos(package.name, coreml_spec.read(package).needs_macos, platform.mac_ver()[0])
    target = cache / "coreml" / f"{content_key(package, _version(ct))}{COMPILED}"
    if target.is_dir():
        kept.used(target)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        _compiled(ct, package, Path(folder)).rename(target)
    kept.make_room(target.parent.glob(f"*{COMPILED}"), target, shutil.rmtree)
    return target


def load(path: Path, graph: Graph, options: Options) -> Session:
    """A compiled model on the compute units asked for. A package that is not compiled can be read, on any system;
    `bind` compiles it."""
    return Session(path, coreml_spec.read(coreml_spec.package_of(graph.path)), options)


def one_op(folder: Path, inputs: int, outputs: int) -> Graph:
    """`identity` per output, over tensors of one float."""
    ct = coreml_spec.coremltools()
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.mil import Function, Program

    program = Program()
    names = [f"x{index}" for index in range(inputs)]
    target = ct.target.iOS15  # the first that has programs
    with Function({name: Builder.placeholder(shape=(1,)) for name in names}, opset_version=target) as function:
        function.set_outputs(
            [Builder.identity(x=function.inputs[names[index % inputs]], name=f"y{index}") for index in range(outputs)]
        )
    program.add_function("main", function)
    made = ct.convert(
        program,
        convert_to="mlprogram",
        compute_precision=ct.precision.FLOAT32,
        minimum_deployment_target=target,
        skip_model_load=True,
    )
    package = folder / "one_op.mlpackage"
    made.save(str(package))
    return Graph("one_op", package / "Manifest.json")


class Session:
    """A model that can be asked for its tensors anywhere, and bound on a Mac."""

    def __init__(self, path: Path, interface: coreml_spec.Interface, options: Options) -> None:
        self.inputs = interface.inputs
        self.outputs = interface.outputs
        self._interface = interface
        self._path = path
        self._options = options
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._model = self._load() if path.suffix == COMPILED else None

    def placement(self) -> Placement:
        """What Core ML plans to run where; asked for here, not while the model loads, whose time is taken.

        Raises:
            NoAccelerator: some operators would run elsewhere, and no fall-back is allowed.
        """
        asked, allowed = self._options.accelerator, self._options.allow_fallback
        notes = ["threads are Core ML's own choice"]
        if not self._options.optimize:
            notes.append("Core ML's optimizations can't be switched off")
        if self._interface.states:
            notes.append("state inside Core ML: " + ", ".join(state.name for state in self._interface.states))
        if asked == "cpu":
            return Placement(asked, coreml_plan.WORDS[asked], 1.0, tuple(notes))
        try:
            operators = coreml_plan.planned(self._plan())
        except Exception as error:  # of coremltools, without a class of its own; macOS before 14.4 has no plan
            if not allowed:
                raise NoAccelerator(asked, _accelerators(), f"where the model ran can't be told ({error})") from error
            notes.append(f"share of operators unknown: {error}")
            return Placement(asked, "unknown", None, tuple(notes))
        if not allowed and (why := coreml_plan.elsewhere(asked, operators)):
            raise NoAccelerator(asked, _accelerators(), why)
        foretold = coreml_plan.placement(asked, operators)
        return Placement(asked, foretold.ran, foretold.accelerated_share, (*notes, *foretold.notes))

    def bind(self, shapes: Mapping[str, Shape], states: Sequence[State]) -> Bound:
        model = self._model = self._model or self._load()
        return Bound(self._interface, shapes, states, model.predict, model.make_state)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        model = self._model = self._model or self._load()
        state = model.make_state() if self._interface.states else None
        return _predicted(model.predict, dict(feeds), state, self.outputs)

    def operators(self) -> tuple[OperatorTime, ...]:
        """Core ML tells estimates of operators, no times."""
        return ()

    def close(self) -> None:
        self._model = None
        if self._temporary is not None:
            self._temporary.cleanup()

    def _load(self) -> Any:
        if not _on_macos():
            raise _not_here()
        asked, here = self._options.accelerator, _accelerators()
        if asked not in here:
            raise NoAccelerator(asked, here, _MISSING.get(asked, "Core ML has none of that name"))
        ct = coreml_spec.coremltools()
        if self._path.suffix != COMPILED:
            self._temporary = tempfile.TemporaryDirectory()
            self._path = _compiled(ct, coreml_spec.package_of(self._path), Path(self._temporary.name))
        try:
            return ct.models.CompiledMLModel(str(self._path), compute_units=units(asked))
        except RuntimeError as error:
            raise UnsupportedModel(f"Core ML can't load the compiled model: {_first_line(error)}") from error

    def _plan(self) -> Any:
        coreml_spec.coremltools()
        from coremltools.models.compute_plan import MLComputePlan

        return MLComputePlan.load_from_path(str(self._path), compute_units=units(self._options.accelerator))


class Bound:
    """Fixed shapes: arrays that frames are written into, and the arrays that the last inference gave."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]

    def __init__(
        self,
        interface: coreml_spec.Interface,
        shapes: Mapping[str, Shape],
        states: Sequence[State],
        predict: Predict,
        make_state: Callable[[], Any],
    ) -> None:
        self._interface = interface
        self._predict = predict
        self._make_state = make_state
        self._pairs = paired(interface.inputs, interface.outputs, states)
        self._held: dict[str, Array] = {
            tensor.name: np.zeros(resolved_shape(tensor, shapes.get(tensor.name)), tensor.dtype)
            for tensor in interface.inputs
        }
        self._shapes = {name: values.shape for name, values in self._held.items()}
        sources = {source.name for _, source, _ in self._pairs}
        self.inputs = {name: values for name, values in self._held.items() if name not in sources}
        self.outputs = {}
        self.reset()

    def step(self) -> None:
        # A dict of its own each time: coremltools puts other arrays into the one that it is given.
        given = _predicted(self._predict, dict(self._held), self._state, self._interface.outputs)
        for _, source, target in self._pairs:
            self._held[source.name] = given.pop(target.name)
        self.outputs = given

    def reset(self) -> None:
        for state, source, _ in self._pairs:
            self._held[source.name] = initial_value(state, source, self._shapes[source.name])
        self._state = self._make_state() if self._interface.states else None


def units(accelerator: str) -> Any:
    """The `coremltools.ComputeUnit` of an accelerator."""
    return coreml_spec.coremltools().ComputeUnit[UNITS[accelerator]]


def content_key(package: Path, version: str) -> str:
    """What a compiled model follows from: the package's files, and what compiled it."""
    digest = hashlib.sha256(version.encode())
    for path in sorted(path for path in package.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(package).as_posix()} {file_sha256(path)}\n".encode())
    return digest.hexdigest()


def refuse_old_macos(name: str, needed: str, here: str) -> None:
    """Raises UnsupportedModel where this macOS does not know the model's specification."""
    if tuple(map(int, here.split("."))) < tuple(map(int, needed.split("."))):
        raise UnsupportedModel(f"{name} needs macOS {needed} or newer; this Mac has {here}")


def _predicted(predict: Predict, feeds: dict[str, Array], state: Any, outputs: Sequence[Tensor]) -> dict[str, Array]:
    try:
        given = predict(feeds, state)
    except RuntimeError as error:
        raise UnsupportedModel(f"the model does not run with these inputs: {_first_line(error)}") from error
    return {tensor.name: np.asarray(given[tensor.name], tensor.dtype) for tensor in outputs}


def _compiled(ct: Any, package: Path, folder: Path) -> Path:
    try:
        return Path(ct.models.utils.compile_model(str(package), destination_path=str(folder / f"model{COMPILED}")))
    except RuntimeError as error:
        raise BadModel(f"{package.name}: Core ML can't compile it: {_first_line(error)}") from error


def _accelerators() -> tuple[str, ...]:
    """Those that Core ML lists, "cpu" first."""
    try:
        devices = coreml_spec.coremltools().models.MLModel.get_available_compute_devices()
    except (AttributeError, RuntimeError):  # no Core ML, or one that has no list yet
        devices = ()
    kinds = {coreml_plan.kind_of(device) for device in devices}
    return ("cpu", *(name for name in ("gpu", "npu") if name in kinds))


def _version(ct: Any) -> str:
    return f"macOS {platform.mac_ver()[0]} ({macos.sysctl('kern.osversion')}), coremltools {ct.__version__}"


def _on_macos() -> bool:
    return platform.system() == "Darwin"


def _not_here() -> RuntimeFailure:
    return UnsupportedModel(f"Core ML runs on macOS; this device is {platform.system().lower()}")


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
