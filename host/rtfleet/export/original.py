"""The original: a PyTorch module as its author wrote it. Only the export subprocess imports this."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from rtfleet.artifact import Tensor
from rtfleet.errors import ExportError
from rtfleet.export.streaming import Step
from rtfleet.model import Array, SpeechModel, zeros_of

THREADS = 2
"""For the original model and the converters; a fixed number also fixes the order of its sums."""


def module_of(model: SpeechModel) -> torch.nn.Module:
    """The module, in eval mode and with gradients off. Raises ExportError for a source of another kind."""
    if not isinstance(model.source, torch.nn.Module):
        raise ExportError(
            f"a {type(model.source).__name__} can't be exported",
            "give a torch.nn.Module as the SpeechModel's source, or a ready .onnx, .tflite or .mlpackage",
            step="source",
        )
    torch.set_num_threads(THREADS)
    return model.source.eval().requires_grad_(False)


def input_names(model: SpeechModel) -> list[str]:
    """In the order of `forward`: inputs, then states."""
    return [*model.inputs, *(state.input for state in model.states)]


def output_names(model: SpeechModel) -> list[str]:
    """In the order of `forward`'s result: outputs, then state outputs."""
    return [*model.outputs, *(state.output for state in model.states)]


def inputs_of(model: SpeechModel) -> tuple[Tensor, ...]:
    """All inputs as the model declares them; -1 is dynamic."""
    inputs = [Tensor(name, given.dtype, tuple(given.shape)) for name, given in model.inputs.items()]
    return (*inputs, *(Tensor(state.input, state.dtype, zeros_of(state).shape) for state in model.states))


def samples(model: SpeechModel, *, sizes: Mapping[str, tuple[int, ...]] | None = None) -> tuple[torch.Tensor, ...]:
    """Arguments to trace `forward` with. `sizes` replaces the typical dims of some inputs."""
    generator = np.random.default_rng(0)
    arrays: list[Array] = []
    for name, given in model.inputs.items():
        dims = (sizes or {}).get(name, given.dims)
        if given.constant is not None:
            arrays.append(np.full(dims, given.constant, given.dtype))
        elif np.issubdtype(np.dtype(given.dtype), np.floating):
            arrays.append((0.1 * generator.standard_normal(dims)).astype(given.dtype))
        else:
            arrays.append(np.zeros(dims, given.dtype))
    arrays += [zeros_of(state) for state in model.states]
    return tuple(torch.from_numpy(np.array(array)) for array in arrays)


def step_of(model: SpeechModel) -> Step:
    """One inference of the original. Raises ExportError where it does not give what it declares."""
    module, names = module_of(model), input_names(model)
    wanted = output_names(model)

    def step(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        with torch.inference_mode():
            result = module(*(torch.from_numpy(np.array(feeds[name])) for name in names))
        results = [result] if isinstance(result, torch.Tensor) else list(result)
        if len(results) != len(wanted):
            raise ExportError(
                f"forward() returned {len(results)} tensors; {len(wanted)} are declared: {', '.join(wanted)}",
                "it returns the outputs, then the state outputs, in the order of `outputs` and `states`",
                step="forward",
            )
        return {name: tensor.numpy() for name, tensor in zip(wanted, results, strict=True)}

    return step


def weights_of(model: SpeechModel) -> dict[str, Array]:
    """All parameters and buffers by name."""
    return {name: value.detach().cpu().numpy() for name, value in _named(model).items()}


def weights_digest(model: SpeechModel) -> str:
    """sha256 of all parameters and buffers, in the order of their names."""
    named = _named(model)
    digest = hashlib.sha256()
    for name in sorted(named):
        value = named[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _named(model: SpeechModel) -> dict[str, Any]:
    module = module_of(model)
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
