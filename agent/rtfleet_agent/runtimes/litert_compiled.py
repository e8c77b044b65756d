"""LiteRT on a GPU or NPU: its CompiledModel, which alone drives those.

Without a fall-back LiteRT itself refuses a graph of which some node would stay on the CPU. Why an accelerator can't be
used stands in no error, only in what its library writes to stderr: that is read there, and written on.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import interpreter as api

from rtfleet_agent.runtimes.base import (
    Array,
    Graph,
    NoAccelerator,
    OperatorTime,
    Options,
    Placement,
    RuntimeFailure,
    Shape,
    State,
    UnsupportedModel,
    initial_value,
    paired,
    requantize,
    resolved_shape,
)
from rtfleet_agent.runtimes.litert_interface import interface_of, tensor_of

# Accelerator -> the words in which its libraries say why they can't be used.
_WHY = {
    "gpu": r"(?:Couldn't load|Failed to initialize) .*",
    "npu": r"(?:Could not load|Failed to apply) .*",
}
_UNTOLD = "LiteRT gives no reason; see the worker's stderr"
_TOO_OLD = "this version of LiteRT has no CompiledModel"
_STAYS_ON_CPU = "Some ops are not accelerated"


def missing(model: bytes) -> Mapping[str, str]:
    """Accelerator -> why it can't be used here, "" where it can: found by compiling `model`, a smallest one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "smallest.tflite"
        path.write_bytes(model)
        return {name: _why_not(path, Options(accelerator=name)) for name in _WHY}


def _why_not(path: Path, options: Options) -> str:
    try:
        _compiled(path, options)
    except NoAccelerator as error:
        return error.reason
    return ""


class Session:
    """A model compiled for a GPU or NPU.

    Raises:
        NoAccelerator: there is none, or it does not take every node and nothing else may.
    """

    def __init__(self, path: Path, graph: Graph, options: Options) -> None:
        self._path = path
        self._options = options
        plain = api.Interpreter(
            model_path=str(path), experimental_op_resolver_type=api.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        )
        self.interface = interface_of(plain, graph.shapes)
        self._nodes = plain._interpreter.NumNodes()
        self.inputs = tuple(tensor_of(name, details) for name, details in self.interface.inputs.items())
        self.outputs = tuple(tensor_of(name, details) for name, details in self.interface.outputs.items())
        self._first: _Compiled | None = _compiled(path, options)
        self._adapter = self._first.adapter

    def placement(self) -> Placement:
        options = self._options
        notes = [f"adapter: {self._adapter}"] if self._adapter else []
        ran = f"LiteRT {options.accelerator.upper()}"
        if options.allow_fallback:
            notes.append("share of nodes unknown: LiteRT does not tell which it left to the CPU")
            return Placement(options.accelerator, ran, None, tuple(notes))
        return Placement(options.accelerator, ran, 1.0, tuple(notes), self._nodes, self._nodes)

    def bind(self, shapes: Mapping[str, Shape], states: Sequence[State]) -> Bound:
        return Bound(self, shapes, states)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        bound = Bound(self, {name: np.shape(values) for name, values in feeds.items()}, ())
        for name, values in feeds.items():
            bound.inputs[name][...] = values
        bound.step()
        return dict(bound.outputs)

    def operators(self) -> tuple[OperatorTime, ...]:
        if not self._options.profile:
            return ()
        raise RuntimeFailure(f"no times per operator on the {self._options.accelerator}: LiteRT has none in Python")

    def compiled(self) -> Any:
        """A fresh CompiledModel; the one that showed that it can be made is used up first."""
        first, self._first = self._first, None
        return first.model if first else _compiled(self._path, self._options).model

    def close(self) -> None:
        self._first = None


class Bound:
    """Fixed shapes; frames are copied to the accelerator's buffers and back within `step`."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]

    def __init__(self, session: Session, shapes: Mapping[str, Shape], states: Sequence[State]) -> None:
        self._session = session
        self._pairs = paired(session.inputs, session.outputs, states)
        self._held = {
            tensor.name: np.zeros(resolved_shape(tensor, shapes.get(tensor.name)), tensor.dtype)
            for tensor in session.inputs
        }
        sources = {source.name for _, source, _ in self._pairs}
        self.inputs = {name: values for name, values in self._held.items() if name not in sources}
        self._open()

    def step(self) -> None:
        try:
            for name, buffer in self._into.items():
                buffer.write(self._held[name])
            self._model.run_by_index(self._index, list(self._into.values()), list(self._out.values()))
            for name, buffer in self._out.items():
                values = self._results[name]
                values[...] = buffer.read(values.size, values.dtype.type).reshape(values.shape)
        except (RuntimeError, ValueError) as error:
            raise UnsupportedModel(f"LiteRT can't run it on this accelerator: {_one_line(error)}") from error
        for _, source, target in self._pairs:
            self._held[source.name][...] = requantize(self._results[target.name], target, source)

    def reset(self) -> None:
        """A new CompiledModel: only that resets variables inside the model."""
        self._open()

    def _open(self) -> None:
        self._model = model = self._session.compiled()
        signatures = model.get_signature_list()
        # A file without a signature is given one.
        key = self._session.interface.signature or next(iter(signatures))
        names = signatures[key]
        self._index = model.get_signature_index(key)
        for name in names["inputs"]:
            model.resize_input_tensor_by_name(key, name, self._held[name].shape, strict=False)
        self._into = {name: model.create_input_buffer_by_name(key, name) for name in names["inputs"]}
        self._out = {name: model.create_output_buffer_by_name(key, name) for name in names["outputs"]}
        told = model.get_output_tensor_details(key)
        self._results = {name: np.zeros(told[name]["shape"], told[name]["dtype"]) for name in names["outputs"]}
        ends = {target.name for _, _, target in self._pairs}
        self.outputs = {name: values for name, values in self._results.items() if name not in ends}
        for state, source, _ in self._pairs:
            values = self._held[source.name]
            values[...] = initial_value(state, source, values.shape)


@dataclass(frozen=True)
class _Compiled:
    """A CompiledModel, and the adapter that its library named."""

    model: Any
    adapter: str


def _compiled(path: Path, options: Options) -> _Compiled:
    """Raises NoAccelerator, which names only the CPU as what is here."""
    asked = options.accelerator
    try:
        from ai_edge_litert import compiled_model as litert
    except ImportError:
        raise NoAccelerator(asked, ("cpu",), _TOO_OLD) from None
    if asked not in _WHY:
        raise NoAccelerator(asked, ("cpu",), "LiteRT knows gpu and npu")
    wanted = litert.HardwareAccelerator[asked.upper()]
    if options.allow_fallback:
        wanted |= litert.HardwareAccelerator.CPU
    settings = litert.Options(wanted, cpu_options=litert.CpuOptions(num_threads=options.threads))
    said: list[str] = []
    try:
        with _stderr(said):
            model = litert.CompiledModel.from_file(str(path), options=settings)
    except (RuntimeError, ValueError) as error:
        why = _why(asked, said)
        if not why and _STAYS_ON_CPU in str(error):
            why = f"some nodes of {path.name} would have run on the CPU"
        raise NoAccelerator(asked, ("cpu",), why or _UNTOLD) from error
    # Where the CPU may help out, LiteRT is content without the accelerator.
    if why := _why(asked, said):
        raise NoAccelerator(asked, ("cpu",), why)
    found = re.search(r"Selected adapter: (.*)", "".join(said))
    return _Compiled(model, found[1] if found else "")


def _why(asked: str, said: Sequence[str]) -> str:
    """What the libraries wrote of it, each sentence once and without folders."""
    found = [re.sub(r"(?<=\s)/\S*/", "", text).rstrip(" .") for text in re.findall(_WHY[asked], "".join(said))]
    whole = [text for text in dict.fromkeys(found) if not any(text in other and text != other for other in found)]
    return "; ".join(whole)


@contextmanager
def _stderr(said: list[str]) -> Iterator[None]:
    """What native code writes to stderr in the block is in `said` afterwards, and goes where it would have gone."""
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            file.seek(0)
            written = file.read()
            os.write(kept, written)
            os.close(kept)
            said.append(written.decode(errors="replace"))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
