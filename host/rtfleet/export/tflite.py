"""PyTorch to TFLite, fp32, with litert-torch. Its shapes are fixed, so a dynamic dim becomes several signatures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rtfleet.artifact import Tensor
from rtfleet.export.quantize_onnx import matches
from rtfleet.export.streaming import Step
from rtfleet.model import Array, SpeechModel

SIGNATURE = "serving_default"
"""The typical dims; another length is called `serving_2x`. They share their weights."""


def export(model: SpeechModel, folder: Path) -> tuple[Path, tuple[str, ...]]:
    """`model.tflite` in `folder`, and regular expressions on tensor names that stand for `keep_float`.

    Names are the model's own, by keyword in and by dict out. The converter's own exceptions pass.
    """
    import litert_torch

    from rtfleet.export import original

    named = _by_name(model)
    names = original.input_names(model)
    converter = litert_torch.signature(SIGNATURE, named, sample_kwargs=_samples(names, original.samples(model)))
    if longer := _longer(model):
        converter = converter.signature(
            "serving_2x", named, sample_kwargs=_samples(names, original.samples(model, sizes=longer))
        )
    path = folder / "model.tflite"
    converter.convert().export(str(path))
    normalise(path, named)
    return path, kept_names(named, model.keep_float)


def normalise(path: Path, named: Any) -> None:
    """Take the Python modules out of the tensors' names: which one holds a class depends on what was imported before.

    `rtfleet_source_luna.WakeNet_model` and `luna.WakeNet_model` become `WakeNet_model`.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    kinds = {type(module) for module in named.modules()}
    long = {f"{kind.__module__}.{kind.__qualname__}_".encode(): f"{kind.__qualname__}_".encode() for kind in kinds}
    proto = flatbuffer_utils.read_model(str(path))
    for graph in proto.subgraphs:
        for tensor in graph.tensors:
            for name, short in long.items():
                tensor.name = tensor.name.replace(name, short)
    path.write_bytes(flatbuffer_utils.convert_object_to_bytearray(proto))


def _by_name(model: SpeechModel) -> Any:
    """The module with keywords in and a dict out: the converter numbers positional arguments."""
    import torch

    from rtfleet.export import original

    inputs, outputs = original.input_names(model), original.output_names(model)

    class Named(torch.nn.Module):  # type: ignore[misc]  # torch is not typed here
        def __init__(self) -> None:
            super().__init__()
            self.model = original.module_of(model)

        def forward(self, **tensors: Any) -> dict[str, Any]:
            result = self.model(*(tensors[name] for name in inputs))
            return dict(zip(outputs, [result] if isinstance(result, torch.Tensor) else result, strict=True))

    return Named().eval()


def _samples(names: Sequence[str], samples: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(names, samples, strict=True))


def _longer(model: SpeechModel) -> dict[str, tuple[int, ...]]:
    """Twice the typical size of each dynamic dim; a typical 1 is a batch and stays. {} where nothing is dynamic."""
    sizes = {}
    for name, given in model.inputs.items():
        dims = tuple(
            2 * size if dim == -1 and size > 1 else size for dim, size in zip(given.shape, given.dims, strict=True)
        )
        if dims != given.dims:
            sizes[name] = dims
    return sizes


def kept_names(named: Any, keep_float: Sequence[str]) -> tuple[str, ...]:
    """`keep_float` in the converter's names: it calls a tensor after the calls that it came from.

    `front.stft` is `…WakeWord_model/…Front_front/…Conv2d_stft;1`: each call is type and last attribute. Containers
    that are never called (ModuleList) do not show, so anything may stand between two of them.
    """
    modules = dict(named.model.named_modules())
    found = []
    for name in modules:
        parent = name.rpartition(".")[0]
        chosen = any(matches(pattern, name) for pattern in keep_float)
        if name and chosen and not (parent and any(matches(pattern, parent) for pattern in keep_float)):
            parts = name.split(".")
            paths = [".".join(parts[: i + 1]) for i in range(len(parts))]
            calls = [_call(modules[path], path) for path in paths if not _is_container(modules[path])]
            found.append("[^;]*".join(calls))
    return tuple(found)


def _call(module: Any, path: str) -> str:
    return rf"{re.escape(type(module).__qualname__)}_{re.escape(path.rpartition('.')[2])}(?:/|(?=;))"


def _is_container(module: Any) -> bool:
    import torch

    return isinstance(module, (torch.nn.ModuleList, torch.nn.ModuleDict))


def open_interpreter(path: Path) -> Any:
    """A LiteRT interpreter on the CPU. Raises ValueError for a file that it can't load."""
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(str(path), num_threads=2)


def step_of(interpreter: Any) -> Step:
    """One inference of the typical signature."""
    runner = interpreter.get_signature_runner(SIGNATURE)

    def step(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        results: Mapping[str, Array] = runner(**{name: np.asarray(value) for name, value in feeds.items()})
        return results

    return step


def tensors_of(interpreter: Any) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Inputs and outputs of the typical signature, in no particular order."""
    runner = interpreter.get_signature_runner(SIGNATURE)
    return _described(runner.get_input_details()), _described(runner.get_output_details())


def _described(details: Mapping[str, Any]) -> tuple[Tensor, ...]:
    tensors = []
    for name, detail in details.items():
        scale, zero_point = detail["quantization"]
        shape = tuple(int(dim) for dim in detail["shape"])
        dtype = np.dtype(detail["dtype"]).name
        tensors.append(
            Tensor(name, dtype, shape, float(scale), int(zero_point)) if scale else Tensor(name, dtype, shape)
        )
    return tuple(tensors)
