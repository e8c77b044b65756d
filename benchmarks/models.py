"""Streaming ONNX models of a wanted weight and number of inputs, for the benchmarks: no download, seeded weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper


@dataclass(frozen=True)
class Size:
    """A stack of `layers` dense layers of `width` units; `about` is its time on a core of 2022."""

    about: str
    width: int
    layers: int


SIZES = (Size("20 µs", 128, 14), Size("150 µs", 256, 36), Size("2 ms", 512, 104))
PAIRS = (1, 3, 6)
# Layers take turns with these, so that the largest model too lives in a last-level cache, not in a shared bus.
_WEIGHTS = 8


def build(size: Size, pairs: int, path: Path) -> Path:
    """Inputs x, h1, h2, … and outputs y, g1, g2, …, all [1, width]; each g is its h, decayed, plus x."""
    rng = np.random.default_rng(size.width + pairs)
    weights = [rng.normal(0, size.width**-0.5, (size.width, size.width)).astype(np.float32) for _ in range(_WEIGHTS)]
    constants = [numpy_helper.from_array(weight, f"W{index}") for index, weight in enumerate(weights)]
    if pairs > 1:
        constants.append(numpy_helper.from_array(np.float32(0.9), "decay"))
    nodes, held = [], "x"
    for pair in range(1, pairs):
        nodes.append(helper.make_node("Mul", [f"h{pair}", "decay"], [f"d{pair}"]))
        nodes.append(helper.make_node("Add", [f"d{pair}", held], [f"g{pair}"]))
        held = f"g{pair}"
    for layer in range(size.layers):
        nodes.append(helper.make_node("MatMul", [held, f"W{layer % _WEIGHTS}"], [f"m{layer}"]))
        held = "y" if layer == size.layers - 1 else f"t{layer}"
        nodes.append(helper.make_node("Tanh", [f"m{layer}"], [held]))

    def values(names: list[str]) -> list[object]:
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size.width]) for name in names]

    states = range(1, pairs)
    graph = helper.make_graph(
        nodes,
        "stack",
        values(["x", *(f"h{pair}" for pair in states)]),
        values(["y", *(f"g{pair}" for pair in states)]),
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path
