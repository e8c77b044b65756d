"""What a Core ML package says of itself: read from its specification, so also where Core ML can't run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtfleet_agent.runtimes.base import BadModel, RuntimeFailure, Shape, Tensor, UnsupportedModel

# coremltools imports these where it finds them, for converters that an agent never calls: 18 s instead of 1.
_CONVERTERS = ("sklearn", "tensorflow", "torch", "transformers", "xgboost")
_DTYPES = {"FLOAT16": "float16", "FLOAT32": "float32", "DOUBLE": "float64", "INT8": "int8", "INT32": "int32"}
# Specification version -> the first macOS that runs it.
_MACOS = {4: "10.15", 5: "11", 6: "12", 7: "13", 8: "14", 9: "15", 10: "26"}


@dataclass(frozen=True)
class Interface:
    """How a model is called.

    Attributes:
        states: Core ML's own: they live in a state object, and are neither inputs nor outputs.
        needs_macos: The oldest that runs this specification version.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    states: tuple[Tensor, ...]
    needs_macos: str


def coremltools() -> Any:
    """The package, imported without what its converters are for.

    Raises:
        RuntimeFailure: it is not installed.
    """
    absent = [name for name in _CONVERTERS if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]  # an import of it says that it is not installed
    try:
        import coremltools
    except ImportError as error:
        raise RuntimeFailure(
            f"Core ML models are read with coremltools ({error}): pip install 'rtfleet[coreml]'"
        ) from error
    finally:
        for name in absent:
            del sys.modules[name]
    return coremltools


def package_of(path: Path) -> Path:
    """The package of a graph's first file, `x.mlpackage/Manifest.json`.

    Raises:
        BadModel: the file is not that.
    """
    if path.name != "Manifest.json" or path.parent.suffix != ".mlpackage":
        raise BadModel(f"{path.name}: a Core ML model is a folder x.mlpackage, and its Manifest.json the first file")
    return path.parent


def read(package: Path) -> Interface:
    """A package's tensors.

    Raises:
        BadModel: not a package, or a damaged one.
        UnsupportedModel: it takes or gives something else than tensors, or has several functions.
    """
    ct = coremltools()
    try:
        spec = ct.models.utils.load_spec(str(package))
    except Exception as error:  # of coremltools and of protobuf, without a common class
        raise BadModel(f"{package.name}: not a Core ML package, or damaged ({error})") from error
    told = spec.description
    if told.functions:
        names = ", ".join(function.name for function in told.functions)
        raise UnsupportedModel(f"{package.name} has several functions ({names}): save the one to measure alone")
    made = _made_shapes(spec)
    return Interface(
        inputs=tuple(_tensor(feature, made) for feature in told.input),
        outputs=tuple(_tensor(feature, made) for feature in told.output),
        states=tuple(_array(feature.name, feature.type.stateType.arrayType, made) for feature in told.state),
        needs_macos=_MACOS.get(spec.specificationVersion, "10.13"),
    )


def _tensor(feature: Any, made: dict[str, Shape]) -> Tensor:
    kind = feature.type.WhichOneof("Type")
    if kind != "multiArrayType":
        raise UnsupportedModel(f"'{feature.name}' is a {kind.removesuffix('Type')}; only tensors can be fed and judged")
    return _array(feature.name, feature.type.multiArrayType, made)


def _array(name: str, array: Any, made: dict[str, Shape]) -> Tensor:
    dtype = array.ArrayDataType.Name(array.dataType)
    if dtype not in _DTYPES:
        raise UnsupportedModel(f"'{name}' is a tensor of {dtype}; only numbers can be fed")
    shape = tuple(int(dim) for dim in array.shape) or made.get(name, ())
    flexible = array.WhichOneof("ShapeFlexibility")
    if flexible == "shapeRange":
        ranges = [(size.lowerBound, size.upperBound) for size in array.shapeRange.sizeRanges]
        shape = tuple(int(low) if low == high else -1 for low, high in ranges)
    elif flexible == "enumeratedShapes":
        shapes = [tuple(map(int, each.shape)) for each in array.enumeratedShapes.shapes]
        shape = tuple(dims[0] if len(set(dims)) == 1 else -1 for dims in zip(*shapes, strict=True))
    return Tensor(name, _DTYPES[dtype], shape)


def _made_shapes(spec: Any) -> dict[str, Shape]:
    """Shapes of what a program's operators make: the description leaves out those of dynamic outputs."""
    if spec.WhichOneof("Type") != "mlProgram":
        return {}
    blocks = [block for f in spec.mlProgram.functions.values() for block in f.block_specializations.values()]
    outputs = [output for block in blocks for operation in block.operations for output in operation.outputs]
    return {output.name: _dims(output.type.tensorType.dimensions) for output in outputs}


def _dims(dimensions: Sequence[Any]) -> Shape:
    return tuple(int(dim.constant.size) if dim.WhichOneof("dimension") == "constant" else -1 for dim in dimensions)
