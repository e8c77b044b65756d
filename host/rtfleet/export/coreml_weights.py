"""The weights in a Core ML package, read back and held against those that it was made from.

A converter may reorder rows (the gates of an LSTM), split them (those of a GRU), or scale each (a batch normalization
that is folded into a convolution). So it is each row of a module's weight that is looked for, as it is or scaled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rtfleet.errors import ExportError
from rtfleet.export.coreml import coremltools
from rtfleet.model import Array

SHORTEST_ROW = 8
"""Shorter rows resemble each other by chance: a tensor of such is looked for as it is, in one piece."""
FOLDED = 1 - 1e-6
"""Cosine of a row and the same row scaled: float16 rounding leaves more than this."""
RESEMBLES = 0.95
"""Above this it is the same row, and something is wrong with it."""
LEAST_SNR_DB = {"int8": 30.0, "palettized": 20.0}
"""Of all weights together against those of the fp16 model: 8 bits gave 44 to 48 dB, 6 bits 33 to 36."""


@dataclass(frozen=True)
class ReadBack:
    """How many weight tensors of the module were found, unchanged or scaled by row, and of how many."""

    equal: int
    scaled: int
    of: int


def program_of(package: Path) -> Any:
    """The program in a package, with its weights as arrays."""
    ct = coremltools()
    from coremltools.converters.mil.frontend.milproto.load import load

    model = ct.models.MLModel(str(package), skip_model_load=True)
    spec = model.get_spec()
    return load(spec, spec.specificationVersion, model.weights_dir)


def operations(program: Any) -> Iterator[Any]:
    """All operations, those of nested blocks included."""
    for function in program.functions.values():
        yield from _operations(function)


def _operations(block: Any) -> Iterator[Any]:
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from _operations(inner)


def weights_of(program: Any) -> dict[str, Array]:
    """Constant floats by name, quantized ones as the runtime will see them."""
    found: dict[str, Array] = {}
    for operation in operations(program):
        if operation.op_type.startswith("constexpr"):
            # The quantizers call it after the constant that it takes the place of.
            name = operation.name.removesuffix("_quantized").removesuffix("_palettized")
            found[name] = np.asarray(operation.materialized_val_inference())
        elif operation.op_type == "const" and isinstance(value := operation.outputs[0].val, np.ndarray):
            found[operation.name] = value
    return {name: value for name, value in found.items() if value.dtype.kind == "f"}


def read_back(module: Mapping[str, Array], package: Mapping[str, Array]) -> ReadBack:
    """Look for each weight of the module, a matrix or more, in the package.

    Args:
        module: Its parameters and buffers, float32.
        package: As `weights_of` tells; float16 where the program is.

    Raises:
        ExportError: a row of a weight is there, but with other numbers than rounding makes.
    """
    matrices = [_rows(value) for value in package.values() if value.ndim > 1]
    whole = [value.reshape(1, -1) for value in package.values()]
    equal = scaled = of = 0
    for name, value in module.items():
        if value.ndim < 2:
            continue
        of += 1
        if _rows(value).shape[1] < SHORTEST_ROW:
            equal += bool(_likeness(value.reshape(1, -1), whole)[1].all())
            continue
        likeness, same = _likeness(_rows(value), matrices)
        if same.all():
            equal += 1
        elif (likeness >= FOLDED).all():
            scaled += 1
        elif ((likeness > RESEMBLES) & (likeness < FOLDED)).any():
            worst = float(likeness[likeness > RESEMBLES].min())
            raise ExportError(
                f"weight '{name}' came out wrong: a row of it is {-10 * np.log10(2 * (1 - worst)):.0f} dB from the "
                "module's",
                "please report it with the model's layer",
                step="check",
            )
    return ReadBack(equal, scaled, of)


def snr_db(wanted: Mapping[str, Array], found: Mapping[str, Array]) -> float:
    """Of all weights that differ: their energy over that of the differences, in dB; infinite where none differs.

    Raises:
        ExportError: a weight is missing, or has another shape.
    """
    signal = noise = 0.0
    for name, value in wanted.items():
        if name not in found or found[name].shape != value.shape:
            raise ExportError(f"the weight '{name}' is lost in the smaller model", step="check")
        difference = found[name].astype(np.float64) - value
        if difference.any():
            signal += float(np.square(value, dtype=np.float64).sum())
            noise += float(np.square(difference).sum())
    return 10 * float(np.log10(signal / noise)) if noise else np.inf


def _rows(value: Array) -> Array:
    return value.reshape(len(value), -1)


def _likeness(rows: Array, matrices: list[Array]) -> tuple[Array, Array]:
    """Of each row: the greatest cosine with a row anywhere in the package, and whether the very row is there."""
    likeness = np.full(len(rows), -1.0)
    same = np.zeros(len(rows), bool)
    for matrix in matrices:
        for other in (matrix, matrix.T):  # a matmul may hold it the other way round
            if other.shape[1] != rows.shape[1]:
                continue
            held = {row.tobytes() for row in np.ascontiguousarray(other)}
            same |= np.array([row.tobytes() in held for row in rows.astype(other.dtype)])
            if not same.all():
                likeness = np.maximum(likeness, (_unit(rows) @ _unit(other).T).max(axis=1))
    return np.where(same, 1.0, likeness), same


def _unit(rows: Array) -> Array:
    wide = rows.astype(np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    unit: Array = np.divide(wide, length, out=np.zeros_like(wide), where=length > 0)
    return unit
