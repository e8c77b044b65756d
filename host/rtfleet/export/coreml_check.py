"""What can be told of a Core ML package where Core ML can't run it: its interface, its operators, its weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rtfleet.artifact import Graph, PreparedModel, StateFacts, Tensor
from rtfleet.errors import ExportError
from rtfleet.export import coreml, coreml_weights, external
from rtfleet.export.jobs import Made
from rtfleet.export.tensors import in_order
from rtfleet.model import Array

_DTYPES = {"FLOAT16": "float16", "FLOAT32": "float32", "INT32": "int32"}
_NAMED = 4


@dataclass(frozen=True)
class Read:
    """A package, read back from its files.

    Attributes:
        states: Core ML's own, neither inputs nor outputs.
        operators: Type -> how many; constants left out.
        weights: Floats by name, quantized ones as they are computed with.
    """

    specification: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    states: tuple[Tensor, ...]
    operators: Counter[str]
    weights: dict[str, Array]


def read(package: Path) -> Read:
    """Read a package from its files."""
    spec = coreml.coremltools().models.utils.load_spec(str(package))
    program = coreml_weights.program_of(package)
    function = program.functions["main"]
    shapes = {name: given.shape for name, given in function.inputs.items()}
    shapes |= {given.name: given.shape for given in function.outputs}

    def described(features: Sequence[Any]) -> tuple[Tensor, ...]:
        return tuple(
            Tensor(feature.name, _dtype(feature.type.multiArrayType), _dims(shapes[feature.name]))
            for feature in features
        )

    return Read(
        specification=spec.specificationVersion,
        inputs=described(spec.description.input),
        outputs=described(spec.description.output),
        states=tuple(
            Tensor(
                feature.name, _dtype(feature.type.stateType.arrayType), _dims(feature.type.stateType.arrayType.shape)
            )
            for feature in spec.description.state
        ),
        operators=Counter(
            operation.op_type
            for operation in coreml_weights.operations(program)
            if operation.op_type != "const" and not operation.op_type.startswith("constexpr")
        ),
        weights=coreml_weights.weights_of(program),
    )


def converted(package: Path, prepared: PreparedModel, module: Mapping[str, Array]) -> Made:
    """A package made from a module whose parameters and buffers are `module`.

    Raises:
        ExportError: its tensors, states or weights are not the model's.
    """
    found = read(package)
    back = coreml_weights.read_back(module, found.weights)
    said = f"{back.equal + back.scaled} of {back.of} weights read back as the module's"
    if back.scaled:
        said += f" ({back.scaled} scaled by row)"
    return _made(package, prepared, found, said)


def quantized(package: Path, base: Path, prepared: PreparedModel, precision: str) -> Made:
    """A package with smaller weights, made from the package `base`.

    Raises:
        ExportError: its tensors, states or weights are not the base's.
    """
    found = read(package)
    snr_db = coreml_weights.snr_db(read(base).weights, found.weights)
    least_db = coreml_weights.LEAST_SNR_DB[precision]
    if snr_db < least_db:
        raise ExportError(
            f"the weights are {snr_db:.0f} dB from those of fp16; {precision} should keep {least_db:g}",
            "measure coreml-fp16; some weights of this model can't be told by so few values",
            step="check",
        )
    said = "no weight is large enough to be quantized" if np.isinf(snr_db) else f"weights {snr_db:.0f} dB from fp16's"
    return _made(package, prepared, found, said)


def _made(package: Path, prepared: PreparedModel, found: Read, weights: str) -> Made:
    own = {tensor.name for tensor in found.states}
    explicit = [state for state in prepared.states if state.input not in own]
    inputs = in_order(
        found.inputs, [*(facts.name for facts in prepared.inputs), *(s.input for s in explicit)], "inputs"
    )
    outputs = in_order(found.outputs, [*prepared.outputs, *(state.output for state in explicit)], "outputs")
    _refuse_other_inputs(inputs, prepared)
    _refuse_other_states(found, prepared.states, {tensor.name: tensor for tensor in outputs})
    common = ", ".join(f"{count} {kind}" for kind, count in found.operators.most_common(_NAMED))
    print(f"operators: {dict(found.operators.most_common())}", flush=True)
    checked = f"specification {found.specification}, {found.operators.total()} operators ({common}, …), {weights}"
    return Made(Graph("model", external.files_of(package), inputs, outputs), checked=checked)


def _refuse_other_inputs(inputs: Sequence[Tensor], prepared: PreparedModel) -> None:
    wanted = {facts.name: (facts.dtype, facts.shape) for facts in prepared.inputs}
    wanted |= {state.input: (state.dtype, state.shape) for state in prepared.states}
    for tensor in inputs:
        dtype, shape = wanted[tensor.name]
        if (tensor.dtype, tensor.shape) != (coreml.DTYPES.get(dtype, dtype), shape):
            raise ExportError(
                f"input '{tensor.name}' became {tensor.dtype}{list(tensor.shape)}; the model has {dtype}{list(shape)}",
                step="check",
            )


def _refuse_other_states(found: Read, states: Sequence[StateFacts], outputs: Mapping[str, Tensor]) -> None:
    """Both ends of an explicit state are alike, and Core ML's own have the model's dims."""
    own = {tensor.name: tensor for tensor in found.states}
    for state in states:
        tensor = own.get(state.input) or outputs[state.output]
        dtype = "float16" if state.input in own else coreml.DTYPES.get(state.dtype, state.dtype)
        if (tensor.dtype, tensor.shape) != (dtype, state.shape):
            raise ExportError(
                f"state '{tensor.name}' became {tensor.dtype}{list(tensor.shape)}; the model has "
                f"{state.dtype}{list(state.shape)}",
                step="check",
            )


def _dtype(array: Any) -> str:
    return _DTYPES[array.ArrayDataType.Name(array.dataType)]


def _dims(shape: Sequence[Any]) -> tuple[int, ...]:
    """-1 for what is a symbol."""
    return tuple(int(dim) if isinstance(dim, (int, np.integer)) else -1 for dim in shape)
