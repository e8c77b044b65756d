"""An fp32 ONNX file to fp16 or int8, with the quantizers of ONNX Runtime. No torch here.

Choices, each from a measurement:
- fp16 by `onnxruntime.transformers.float16`: onnxconverter_common's breaks a state that feeds a Concat.
- int8-dynamic with unsigned weights, int8-static with 7-bit ones (`reduce_range`): full-range signed weights saturate
  on an x86 without VNNI, an error of 0.5 where there should be 0.04. One bit of the weights costs 0.001, and the file
  is right on every CPU.
- Activations of `keep_float` modules stay float: quantizing a spectral front end cost a wake word 19 of 25 detections.
- Weights that no integer kernel takes (kept modules, GRU, LSTM in static) are stored as int8 all the same and made
  float when the file is loaded: the size of int8, the numbers of float.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rtfleet.errors import ExportError
from rtfleet.export.onnx import graphs_of, normalise, write
from rtfleet.model import Array

INTEGER_OPS = ["Conv", "ConvTranspose", "Gemm", "MatMul"]
"""What gains by integers. Elementwise operators between them would only add roundings of states and scores."""
WEIGHT_INPUTS = {"Conv": (1,), "ConvTranspose": (1,), "Gemm": (1,), "MatMul": (0, 1), "GRU": (1, 2), "LSTM": (1, 2)}
CHANNEL_AXIS = {"Conv": 0, "ConvTranspose": 1, "Gemm": 0, "MatMul": 1, "GRU": 1, "LSTM": 1}
"""Axis of output channels in a weight. (Gemm's depends on transB.)"""
SYMMETRIC = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False, "DedicatedQDQPair": True}
SMALLEST_WEIGHT = 512
"""Elements; below, scales and nodes cost more bytes than they save."""


def refuse_quantized(path: Path) -> None:
    """Raises ExportError for a file that is quantized already: nothing can be made of it but worse copies."""
    import onnx

    kinds = {
        node.op_type for graph in graphs_of(onnx.load(path, load_external_data=False).graph) for node in graph.node
    }
    if integers := sorted(kind for kind in kinds if "uantize" in kind or "Integer" in kind or "QLinear" in kind):
        raise ExportError(
            f"{path.name} is quantized already ({', '.join(integers)})",
            "give the fp32 file that it was made of",
            step="source",
        )


def to_fp16(base: Path, out: Path) -> None:
    """float16 weights and arithmetic; inputs, outputs and states stay float32."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    proto = convert_float_to_float16(onnx.load(base), keep_io_types=True)
    _sort(proto.graph)  # its casts of inputs come last
    normalise(proto)
    write(proto, out)


def to_int8_dynamic(base: Path, out: Path, keep_float: Sequence[str]) -> None:
    """int8 weights; activations are quantized by the runtime, anew in each inference."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as scratch:
        source = _preprocessed(base, Path(scratch))
        quantized = Path(scratch) / "quantized.onnx"
        quantize_dynamic(source, quantized, weight_type=QuantType.QUInt8, nodes_to_exclude=_kept(source, keep_float))
        _finish(quantized, out)


def to_int8_static(
    base: Path,
    out: Path,
    keep_float: Sequence[str],
    samples: Sequence[Mapping[str, Array]],
    *,
    symmetric: bool = False,
) -> None:
    """int8 weights and activations, whose ranges are the least and greatest values seen over `samples`.

    `symmetric` is what TensorRT takes: no zero points, float biases, a pair of QDQ for each reader. Its kernels do not
    saturate, so the weights have all eight bits.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    with tempfile.TemporaryDirectory() as scratch:
        source = _preprocessed(base, Path(scratch))
        quantized = Path(scratch) / "quantized.onnx"
        quantize_static(
            source,
            quantized,
            _reader(samples),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=INTEGER_OPS,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=not symmetric,
            extra_options=SYMMETRIC if symmetric else None,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=_kept(source, keep_float),
        )
        _finish(quantized, out)


def _preprocessed(base: Path, scratch: Path) -> Path:
    """With shapes inferred and constants folded, which the quantizers need; as it is where that fails (torch.stft)."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    made = scratch / "preprocessed.onnx"
    for symbolic in (False, True):
        try:
            quant_pre_process(base, made, skip_symbolic_shape=symbolic)
        except Exception as error:  # it raises whatever its visitors run into
            print(f"quant_pre_process({symbolic=}): {error!r}")
        else:
            return made
    shutil.copyfile(base, made)
    return made


def _reader(samples: Sequence[Mapping[str, Array]]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is not typed here
        """The samples, one after another."""

        def __init__(self) -> None:
            self.left = iter(samples)

        def get_next(self) -> dict[str, Array] | None:
            sample = next(self.left, None)
            return None if sample is None else {name: np.asarray(value) for name, value in sample.items()}

    return Reader()


def matches(pattern: str, scope: str) -> bool:
    """Whether a `keep_float` pattern holds for a module or one that it lies in: "front" does for "front.stft"."""
    parts = scope.split(".")
    return any(re.fullmatch(pattern, ".".join(parts[: i + 1])) for i in range(len(parts)))


def _kept(path: Path, keep_float: Sequence[str]) -> list[str]:
    """Names of the nodes whose activations stay float."""
    import onnx

    names = [node.name for node in onnx.load(path).graph.node]
    return [
        name
        for name in names
        if any(matches(pattern, name.partition("/")[0]) or re.fullmatch(pattern, name) for pattern in keep_float)
    ]


def _finish(quantized: Path, out: Path) -> None:
    import onnx

    proto = onnx.load(quantized)
    _sort(proto.graph)
    for graph in graphs_of(proto.graph):
        _weights_to_int8(graph)
    normalise(proto)
    write(proto, out)


def _sort(graph: Any) -> None:
    """Each node after all that it and its inner graphs read: ONNX Runtime's own sort forgets what an If reads."""
    waiting = list(graph.node)
    missing = {name for node in waiting for name in node.output}
    ordered: list[Any] = []
    while waiting:
        left = []
        for node in waiting:
            if missing.isdisjoint(_reads(node)):
                ordered.append(node)
                missing.difference_update(node.output)
            else:
                left.append(node)
        if len(left) == len(waiting):
            break  # a circle, which the checker names
        waiting = left
    del graph.node[:]
    graph.node.extend([*ordered, *waiting])


def _reads(node: Any) -> set[str]:
    inner = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return {
        *node.input,
        *(name for graph in inner for one in graphs_of(graph) for each in one.node for name in each.input),
    }


def _weights_to_int8(graph: Any) -> None:
    """Float weights that are left become int8 with a DequantizeLinear, one scale an output channel."""
    from onnx import TensorProto, helper, numpy_helper

    stored = {tensor.name: tensor for tensor in graph.initializer}
    axes: dict[str, int] = {}
    for node in graph.node:
        for i in WEIGHT_INPUTS.get(node.op_type, ()):
            name = node.input[i] if i < len(node.input) else ""
            if name in stored and stored[name].data_type == TensorProto.FLOAT:
                transposed = any(entry.name == "transB" and entry.i for entry in node.attribute)
                axes[name] = 1 if node.op_type == "Gemm" and not transposed else CHANNEL_AXIS[node.op_type]
    made = []
    for name, axis in sorted(axes.items()):
        value = numpy_helper.to_array(stored[name])
        if value.size < SMALLEST_WEIGHT or axis >= value.ndim or _read_otherwise(graph, name):
            continue
        other = tuple(i for i in range(value.ndim) if i != axis)
        scale = np.maximum(np.abs(value).max(axis=other, keepdims=True), 1e-12) / 127
        rounded = np.clip(np.round(value / scale), -127, 127).astype(np.int8)
        graph.initializer.remove(stored[name])
        graph.initializer.extend(
            [
                numpy_helper.from_array(rounded, f"{name}_int8"),
                numpy_helper.from_array(scale.reshape(-1).astype(np.float32), f"{name}_scale"),
                numpy_helper.from_array(np.zeros(scale.size, np.int8), f"{name}_zero"),
            ]
        )
        parts = [f"{name}_int8", f"{name}_scale", f"{name}_zero"]
        made.append(helper.make_node("DequantizeLinear", parts, [name], name=f"{name}/DequantizeLinear", axis=axis))
    nodes = [*made, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _read_otherwise(graph: Any, name: str) -> bool:
    """Whether an inner graph or an output also reads the value: then it stays as it is."""
    inner = any(name in node.input for other in list(graphs_of(graph))[1:] for node in other.node)
    return inner or any(name == value.name for value in graph.output)
