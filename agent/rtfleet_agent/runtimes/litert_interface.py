"""How a TFLite model is called: its signatures and tensors, as the Interpreter tells them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rtfleet_agent.runtimes.base import Shape, Tensor, UnsupportedModel


@dataclass(frozen=True)
class Interface:
    """How a model is called: name -> the interpreter's details of the tensor, in one subgraph."""

    signature: str
    subgraph: int
    inputs: Mapping[str, Mapping[str, Any]]
    outputs: Mapping[str, Mapping[str, Any]]


def interface_of(interpreter: Any, shapes: Mapping[str, Shape]) -> Interface:
    """The way of calling that has inputs of these names and shapes: `serving_default` first, tensor names last."""
    signatures = sorted(interpreter.get_signature_list(), key=lambda name: name != "serving_default")
    ways = []
    for signature in signatures:
        runner = interpreter.get_signature_runner(signature)
        subgraph = int(getattr(runner, "_subgraph_index", 0))
        ways.append(Interface(signature, subgraph, runner.get_input_details(), runner.get_output_details()))
    ways.append(
        Interface(
            "",
            0,
            {details["name"]: details for details in interpreter.get_input_details()},
            {details["name"]: details for details in interpreter.get_output_details()},
        )
    )
    return next((way for way in ways if _takes(way, shapes)), ways[0])


def tensor_of(name: str, details: Mapping[str, Any]) -> Tensor:
    """Raises UnsupportedModel for a tensor that can't be fed."""
    dtype = np.dtype(details["dtype"])
    if dtype.kind not in "fiub":
        raise UnsupportedModel(f"'{name}' is a tensor of {dtype}; only numbers and booleans can be fed")
    quantization = details["quantization_parameters"]
    scales, zero_points = quantization["scales"], quantization["zero_points"]
    if dtype.kind == "f" or len(scales) != 1 or not scales[0]:
        return Tensor(name, dtype.name, _dims(details))
    return Tensor(name, dtype.name, _dims(details), float(scales[0]), int(zero_points[0]))


def _takes(way: Interface, shapes: Mapping[str, Shape]) -> bool:
    if not set(shapes) <= set(way.inputs):
        return False
    for name, shape in shapes.items():
        dims = _dims(way.inputs[name])
        if len(dims) != len(shape) or any(own not in (-1, dim) for own, dim in zip(dims, shape, strict=True)):
            return False
    return True


def _dims(details: Mapping[str, Any]) -> tuple[int, ...]:
    signature = tuple(int(dim) for dim in details["shape_signature"])
    return signature or tuple(int(dim) for dim in details["shape"])
