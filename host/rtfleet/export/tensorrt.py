"""An fp32 ONNX file to the three that TensorRT is given. The engine is built on the device: it fits one GPU alone.

Networks are strongly typed, so precision is what the file says. Choices, each from what TensorRT-RTX 1.7 builds:
- Inputs, outputs and states stay float32, also in fp16 and int8, and are cast inside: one feed serves all precisions,
  and a state is as exact between two frames as the network made it.
- fp16: a Cast to float16 and back is left out. A position that was counted in float16 is wrong beyond 2048, and the
  builder refuses it.
- int8: QDQ without zero points and with float biases, the only one that is parsed. `keep_float` and what has no integer
  kernel (LSTM, GRU) hold int8 weights that become float when the engine is built, as in `quantize_onnx`.
- Convolutions in one dimension become two-dimensional of height 1: others are parsed, but not all are built (seen: one
  with a number added to its output, as before a logarithm).
- The ranges of dynamic dims travel in the file's own metadata ("rtfleet.profile"), where every user of the file finds
  them; the request says only which dims are measured.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rtfleet.artifact import PreparedModel
from rtfleet.errors import ExportError
from rtfleet.export import onnx, quantize_onnx, streaming
from rtfleet.export.jobs import Quantize
from rtfleet.export.streaming import Step

PROFILE = "rtfleet.profile"
"""Metadata key: JSON, input -> [least, typical, most] dims, of all inputs with a dynamic dim."""
LONGEST = 2
"""The most of a dynamic dim, in typical ones: the length of TFLite's second signature."""
_CONVOLUTIONS = ("Conv", "ConvTranspose")
_HEIGHT_AXIS = 2
# What a height of 1 adds to an attribute of a one-dimensional convolution.
_LIFTED: dict[str, Callable[[list[int]], list[int]]] = {
    "kernel_shape": lambda given: [1, *given],
    "strides": lambda given: [1, *given],
    "dilations": lambda given: [1, *given],
    "pads": lambda given: [0, given[0], 0, given[1]],
    "output_padding": lambda given: [0, *given],
    "output_shape": lambda given: [1, *given],
}
_FLOAT, _FLOAT16 = 1, 10
"""TensorProto's numbers."""


def export(job: Quantize, calibration_frames: int) -> Path:
    """`model.onnx` in the job's `out`, of the precision that its variant names.

    Raises:
        ExportError: a one-dimensional convolution that can't be made two-dimensional. The quantizers' own exceptions
            pass.
    """
    import onnx as package

    out = job.out / "model.onnx"
    with tempfile.TemporaryDirectory() as scratch:
        flat = Path(scratch) / "flat.onnx"
        proto = package.load(job.base)
        lift_convolutions(proto)
        onnx.normalise(proto)
        onnx.write(proto, flat)
        step = onnx.step_of(onnx.open_session(flat))
        profile = profile_of(job.prepared, step)
        if job.variant == "tensorrt-fp16":
            quantize_onnx.to_fp16(flat, out)
        elif job.variant == "tensorrt-int8":
            samples = streaming.calibration(step, streaming.streams_of(job.prepared), calibration_frames)
            quantize_onnx.to_int8_static(flat, out, job.kept, samples, symmetric=True)
        else:
            flat.rename(out)
    proto = package.load(out)
    drop_round_trips(proto.graph)
    onnx.normalise(proto)
    if profile:
        proto.metadata_props.add(key=PROFILE, value=json.dumps(profile, sort_keys=True))
    onnx.write(proto, out)
    return out


def profile_of(prepared: PreparedModel, step: Step) -> dict[str, list[list[int]]]:
    """Least, typical and most dims of each input with a dynamic one; {} where all are fixed.

    A model says only what is typical. The least is 1 and the most twice the typical where the network takes that of
    all dynamic dims at once, which is tried; else the typical.
    """
    dynamic = {facts.name: facts for facts in prepared.inputs if -1 in facts.shape}
    typical = {name: list(facts.dims) for name, facts in dynamic.items()}

    def with_dims(dim_of: Callable[[int], int]) -> dict[str, list[int]]:
        dims = {
            name: [dim_of(dim) if own == -1 else dim for own, dim in zip(facts.shape, facts.dims, strict=True)]
            for name, facts in dynamic.items()
        }
        return dims if _runs(step, prepared, dims) else typical

    if not dynamic:
        return {}
    least, most = with_dims(lambda _: 1), with_dims(lambda dim: LONGEST * dim)
    return {name: [least[name], typical[name], most[name]] for name in dynamic}


def _runs(step: Step, prepared: PreparedModel, dims: Mapping[str, list[int]]) -> bool:
    feeds = streaming.streams_of(prepared).first()
    try:
        step({name: np.resize(value, dims.get(name, np.shape(value))) for name, value in feeds.items()})
    except Exception as error:  # ONNX Runtime raises one kind for all that it refuses
        print(f"not in the profile: {dims}: {error!r}")
        return False
    return True


def lift_convolutions(proto: Any) -> None:
    """One-dimensional convolutions become two-dimensional of height 1, between an Unsqueeze and a Squeeze.

    Raises:
        ExportError: one whose weights are no constants of the file.
    """
    from onnx import numpy_helper

    for graph in onnx.graphs_of(proto.graph):
        weights = {tensor.name: tensor for tensor in graph.initializer}
        lifted: dict[str, str] = {}
        nodes = []
        for node in graph.node:
            weight = weights.get(node.input[1]) if node.op_type in _CONVOLUTIONS else None
            if node.op_type in _CONVOLUTIONS and weight is None and _may_have_one_dimension(node):
                raise ExportError(
                    f"{node.name}: TensorRT may not build a one-dimensional convolution, and the weights of this one "
                    "are computed, so that it can't be made two-dimensional",
                    "write it as Conv2d with height 1, or with weights that are parameters",
                    step="tensorrt",
                )
            if weight is None or len(weight.dims) != 3:
                nodes.append(node)
                continue
            if weight.name not in lifted:
                value = np.expand_dims(numpy_helper.to_array(weight), _HEIGHT_AXIS)
                lifted[weight.name] = f"{weight.name}_height_1"
                graph.initializer.append(numpy_helper.from_array(value, lifted[weight.name]))
            nodes += _lifted(node, lifted[weight.name])
        if not lifted:
            continue
        graph.initializer.append(numpy_helper.from_array(np.array([_HEIGHT_AXIS], np.int64), _AXIS))
        del graph.node[:]
        graph.node.extend(nodes)
        _drop_unread(graph, set(lifted))


_AXIS = "rtfleet_height_axis"


def _may_have_one_dimension(node: Any) -> bool:
    """Whether its attributes leave that open: exporters always write the kernel's shape."""
    given = {entry.name: list(entry.ints) for entry in node.attribute}
    return len(given.get("kernel_shape", [0])) == 1


def _lifted(node: Any, weight: str) -> list[Any]:
    from onnx import helper

    source, target = node.input[0], node.output[0]
    node.input[0], node.input[1], node.output[0] = f"{node.name}/high", weight, f"{node.name}/out"
    for entry in node.attribute:
        if entry.name in _LIFTED:
            dims = _LIFTED[entry.name](list(entry.ints))
            del entry.ints[:]
            entry.ints.extend(dims)
    return [
        helper.make_node("Unsqueeze", [source, _AXIS], [node.input[0]], name=f"{node.name}/Unsqueeze"),
        node,
        helper.make_node("Squeeze", [node.output[0], _AXIS], [target], name=f"{node.name}/Squeeze"),
    ]


def _drop_unread(graph: Any, names: set[str]) -> None:
    """Initializers of these names that no node reads any more."""
    read = {name for inner in onnx.graphs_of(graph) for node in inner.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name not in names or tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def drop_round_trips(graph: Any) -> None:
    """A Cast to float32 of a Cast to float16 reads what the first one read."""
    makers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        maker = makers.get(node.input[0]) if _casts_to(node, _FLOAT) else None
        if maker is not None and _casts_to(maker, _FLOAT16):
            node.input[0] = maker.input[0]
    read = {name for inner in onnx.graphs_of(graph) for node in inner.node for name in node.input}
    read |= {value.name for value in graph.output}
    for node in list(graph.node):
        if node.op_type == "Cast" and node.output[0] not in read:
            graph.node.remove(node)


def _casts_to(node: Any, type: int) -> bool:
    return node.op_type == "Cast" and any(entry.name == "to" and entry.i == type for entry in node.attribute)
