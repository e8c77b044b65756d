"""PyTorch itself as a file: the reference rows `torch-fp32` and `torch-int8-dynamic`.

TorchScript, traced: torch.export has no dynamically quantized modules, and an agent runs no Python of a model's. The
trace is frozen, so that one class without a history is left of the user's modules, and what remains of this process
and this machine in the archive is taken out: the same export has the same bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rtfleet.artifact import Tensor
from rtfleet.errors import ExportError
from rtfleet.export.quantize_onnx import matches
from rtfleet.export.streaming import Step
from rtfleet.model import Array, SpeechModel

TENSORS = "tensors.json"
"""In the archive: names, dtypes and shapes of inputs and outputs, which TorchScript does not keep."""
_WRITTEN_ANEW = ("version", "byteorder", ".data/serialization_id")
_MANGLED = re.compile(rb"[./]___torch_mangle_\d+")


def export(model: SpeechModel, folder: Path, *, int8: bool) -> Path:
    """`model.pt` in `folder`; with `int8` every Linear and LSTM outside `keep_float` is quantized dynamically.

    Raises:
        ExportError: there is nothing to quantize. The tracer's own exceptions pass.
    """
    import torch

    from rtfleet.export import original

    module = original.module_of(model)
    if int8:
        module = _quantized(module, model)
    samples = original.samples(model)
    with torch.no_grad():
        traced = torch.jit.trace(_tuple_of(module), samples, check_trace=False)
        frozen = torch.jit.freeze(traced, optimize_numerics=False)
        results = frozen(*samples)
    outputs = [
        Tensor(name, str(value.dtype).removeprefix("torch."), tuple(value.shape))
        for name, value in zip(original.output_names(model), results, strict=True)
    ]
    path = folder / "model.pt"
    torch.jit.save(frozen, str(path), _extra_files={TENSORS: _told(original.inputs_of(model), outputs)})
    _normalise(path)
    return path


def _quantized(module: Any, model: SpeechModel) -> Any:
    import torch

    chosen = {
        name: torch.ao.quantization.default_dynamic_qconfig
        for name, part in module.named_modules()
        if isinstance(part, (torch.nn.Linear, torch.nn.LSTM))
        and not any(matches(pattern, name) for pattern in model.keep_float)
    }
    if not chosen:
        raise ExportError(
            "there is nothing to quantize: dynamic quantization of PyTorch takes Linear and LSTM, and it has none",
            "convolutions become int8 in the onnx- and tflite- variants",
            step="quantize_dynamic",
        )
    return torch.ao.quantization.quantize_dynamic(module, chosen, dtype=torch.qint8)


def _tuple_of(module: Any) -> Any:
    """The module with a tuple out whatever it gives, under a name that is always the same."""
    import torch

    class Model(torch.nn.Module):  # type: ignore[misc]  # torch is not typed here
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, *tensors: Any) -> tuple[Any, ...]:
            result = self.inner(*tensors)
            return (result,) if isinstance(result, torch.Tensor) else tuple(result)

    return Model().eval()


def _told(inputs: tuple[Tensor, ...], outputs: list[Tensor]) -> str:
    def rows(tensors: Any) -> list[list[Any]]:
        return [[tensor.name, tensor.dtype, list(tensor.shape)] for tensor in tensors]

    return json.dumps({"inputs": rows(inputs), "outputs": rows(outputs)}, sort_keys=True)


def _normalise(path: Path) -> None:
    """Take out the numbers that classes get by what was traced before, and the places of the code that was traced."""
    import torch

    reader = torch._C.PyTorchFileReader(str(path))
    records = {
        _MANGLED.sub(b"", name.encode()).decode(): reader.get_record(name)
        for name in reader.get_all_records()
        if name not in _WRITTEN_ANEW and not name.endswith(".debug_pkl")
    }
    version = int(reader.get_record("version"))
    writer = torch._C.PyTorchFileWriter(str(path))  # the archive's inner folder is called after the file
    writer.set_min_version(version)
    for name, value in sorted(records.items()):
        content = _MANGLED.sub(b"", value) if name.endswith((".py", "data.pkl")) else value
        writer.write_record(name, content, len(content))
    writer.write_end_of_file()


def open_module(path: Path) -> tuple[Any, tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The module, its inputs and its outputs in their order. Raises RuntimeError for a file that it can't load."""
    import torch

    kept = {TENSORS: ""}
    module = torch.jit.load(str(path), _extra_files=kept)
    told = json.loads(kept[TENSORS])
    inputs, outputs = (
        tuple(Tensor(name, dtype, tuple(shape)) for name, dtype, shape in told[side]) for side in ("inputs", "outputs")
    )
    return module, inputs, outputs


def step_of(module: Any, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> Step:
    """One inference of the module."""
    import torch

    def step(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        with torch.inference_mode():
            results = module(*(torch.from_numpy(np.array(feeds[tensor.name])) for tensor in inputs))
        return {tensor.name: value.numpy() for tensor, value in zip(outputs, results, strict=True)}

    return step
