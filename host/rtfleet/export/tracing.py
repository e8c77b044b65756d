"""A module traced for a converter, and the proof that the trace is the module.

A trace has one way through `forward()`: where that decides by values or fixes a length, the trace silently does what
the example did. So it is run over the model's frames, and at another length where one is dynamic, before anything is
made of it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from rtfleet import feeds
from rtfleet.artifact import PreparedModel
from rtfleet.errors import ExportError
from rtfleet.export import original, streaming
from rtfleet.model import Array, SpeechModel

CLOSE = 1e-4
"""Of the greatest value: the same kernels give the same numbers but for the order of some sums."""


def traced(model: SpeechModel, prepared: PreparedModel) -> Any:
    """The module as TorchScript.

    Raises:
        ExportError: the trace gives other numbers than the module, on its frames or at another length.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # it also warns of sizes that are no fault
        trace = torch.jit.trace(original.module_of(model), original.samples(model), check_trace=False)
    step = original.step_of(replace(model, source=trace))
    assert prepared.reference is not None and prepared.reference.location is not None
    outputs = streaming.reference(step, streaming.streams_of(prepared), prepared.outputs)
    if not _alike(feeds.load(prepared.reference.location), outputs):
        raise ExportError(
            "forward() decides by the values of tensors, which no exported graph can",
            "use torch.where in place of `if` on a tensor",
            step="torch.jit.trace",
        )
    if sizes := _longer(model):
        names = original.input_names(model)
        given = {name: value.numpy() for name, value in zip(names, original.samples(model, sizes=sizes), strict=True)}
        wanted = original.step_of(model)(given)
        try:
            found = step(given)
        except RuntimeError:  # TorchScript's own, for shapes that do not fit
            found = {name: np.zeros(0) for name in wanted}
        if not _alike(wanted, found):
            raise ExportError(
                "a dim declared as -1 is fixed by the trace",
                "give the dim a number, or take sizes from tensor.shape instead of constants in forward()",
                step="torch.jit.trace",
            )
    return trace


def with_own_states(model: SpeechModel, trace: Any) -> Any:
    """The trace with its states as buffers that it updates in place, which is what Core ML takes for its own state."""
    inputs, outputs, states = len(model.inputs), len(model.outputs), model.states

    class Stateful(torch.nn.Module):  # type: ignore[misc]  # torch is not typed here
        def __init__(self) -> None:
            super().__init__()
            self.traced_model = trace
            for state in states:
                self.register_buffer(state.input, torch.zeros(state.shape))

        def forward(self, *given: Any) -> Any:
            held = [getattr(self, state.input) for state in states]
            result = self.traced_model(*given, *held)
            for buffer, value in zip(held, result[outputs:], strict=True):
                buffer[:] = value
            return result[:outputs]

    stateful = Stateful().eval()
    return torch.jit.trace(stateful, original.samples(model)[:inputs], check_trace=False)


def _longer(model: SpeechModel) -> dict[str, tuple[int, ...]]:
    """Twice the typical size of each dynamic dim; {} where nothing is dynamic."""
    return {
        name: tuple(2 * size if dim == -1 else size for dim, size in zip(given.shape, given.dims, strict=True))
        for name, given in model.inputs.items()
        if -1 in given.shape
    }


def _alike(wanted: Mapping[str, Array], found: Mapping[str, Array]) -> bool:
    return all(
        found[name].shape == values.shape
        and np.allclose(found[name], values, rtol=0.0, atol=CLOSE * (float(np.abs(values).max(initial=0.0)) or 1.0))
        for name, values in wanted.items()
    )
