"""ONNX to a TensorRT engine, and what goes wrong on the way in words that help. Needs no GPU where the GPU is named.

fp32 is fp32: TF32, which rounds what is multiplied to ten bits and is TensorRT's default, is off. Whoever wants tensor
cores takes fp16 or int8, and sees it in the variant's name.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from rtfleet_agent.runtimes.base import (
    BadModel,
    OutOfMemory,
    RuntimeFailure,
    Shape,
    Tensor,
    UnsupportedModel,
    resolved_shape,
)
from rtfleet_agent.runtimes.onnx_bytes import metadata
from rtfleet_agent.runtimes.trt_library import IS_RTX, LOG, VERSION, trt

Ranges: TypeAlias = Mapping[str, tuple[Shape, Shape, Shape]]
"""Input -> the least, the measured and the most dims that an engine takes."""
Capability: TypeAlias = tuple[int, int]
"""A GPU's compute capability: (8, 7)."""

PROFILE = "rtfleet.profile"
"""Metadata key of the ranges that an exported file declares."""
DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}
_TAKE_INT8 = "export the model as tensorrt-int8, whose quantization is symmetric"
_WAYS_OUT = (
    (r"DynamicQuantize|Integer|^QLinear|QGemm|QAttention", f"it was quantized for ONNX Runtime; {_TAKE_INT8}"),
    (r"has type Int32 but must have", f"its biases are quantized to int32; {_TAKE_INT8}"),
    (r"zero point|shiftIsAllZeros", f"it was quantized with zero points; {_TAKE_INT8}"),
)
_OTHERWISE = "replace the operator in forward(), or measure the model in another format"


@dataclass(frozen=True)
class Plan:
    """What an engine is built to.

    Attributes:
        capability: Of the GPU. TensorRT builds for the GPU that is here; TensorRT-RTX for those that it knows by
            number also without one.
        optimize: False is the builder's lowest level. It fuses all the same: TensorRT has no graph as written.
    """

    ranges: Ranges
    capability: Capability
    optimize: bool = True


def ranges_of(model: bytes, shapes: Mapping[str, Shape]) -> Ranges:
    """The dims that an engine must take: those that the file declares, and those to measure, which it is tuned for.

    Raises:
        BadModel: bytes that are no ONNX, or ranges that can't be read.
    """
    try:
        declared = json.loads(metadata(model).get(PROFILE, "{}"))
        ranges = {name: (tuple(low), tuple(mid), tuple(high)) for name, (low, mid, high) in declared.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise BadModel(f"not a whole ONNX model, or one whose '{PROFILE}' can't be read ({error})") from error
    for name, wanted in shapes.items():
        low, _, high = ranges.get(name, (wanted, wanted, wanted))
        if len(low) != len(wanted) or len(high) != len(wanted):
            raise BadModel(f"input '{name}': '{PROFILE}' has {len(low)} dims, asked was {list(wanted)}")
        least = tuple(map(min, low, wanted))
        ranges[name] = least, tuple(wanted), tuple(map(max, high, wanted))
    return ranges


def build(path: Path, plan: Plan) -> bytes:
    """The serialized engine of an ONNX file.

    Raises:
        BadModel: no ONNX, or a damaged one.
        UnsupportedModel: what TensorRT does not parse or build, naming operator and node, and the way out.
        OutOfMemory, RuntimeFailure: the build failed for another reason than the model.
    """
    LOG.take()
    try:
        builder = trt.Builder(LOG)
    except TypeError as error:  # the binding's word for a constructor that gave nothing
        raise _not_built(path.name, LOG.take()) from error
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, LOG)
    if not parser.parse_from_file(str(path)):
        raise refusal(path.name, [_problem(parser.get_error(i)) for i in range(parser.num_errors)])
    if not network.num_outputs:
        raise BadModel(f"{path.name}: not an ONNX model: nothing is in it ({path.stat().st_size:,} bytes)")
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    if not plan.optimize:
        config.builder_optimization_level = 0
    if IS_RTX:
        _aim(config, plan.capability)
    config.add_optimization_profile(_profile(builder, network, plan.ranges))
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise _not_built(path.name, LOG.take())
    return bytes(serialized)


def unserved(capability: Capability) -> str:
    """Why this TensorRT has nothing for such a GPU; "" where it has, or only building would tell.

    TensorRT-RTX builds an engine for GPUs that it does not serve (seen on an H200), and then does not load it.
    """
    if not IS_RTX or _number(capability) in trt.ComputeCapability.__members__:
        return ""
    numbers = (name[2:] for name in trt.ComputeCapability.__members__ if name.startswith("SM"))
    served = ", ".join(f"{number[:-1]}.{number[-1]}" for number in numbers)
    return (
        f"{VERSION} does not serve GPUs of compute capability {capability[0]}.{capability[1]}, only {served}; "
        "install TensorRT itself: pip install tensorrt"
    )


def _number(capability: Capability) -> str:
    """TensorRT-RTX's name of it."""
    return "SM{}{}".format(*capability)


def _aim(config: Any, capability: Capability) -> None:
    """At that GPU, by its number."""
    if why := unserved(capability):
        raise RuntimeFailure(why)
    config.num_compute_capabilities = 1
    if not config.set_compute_capability(getattr(trt.ComputeCapability, _number(capability)), 0):
        raise RuntimeFailure(f"{VERSION} builds nothing for a GPU of compute capability {capability}")


def _profile(builder: Any, network: Any, ranges: Ranges) -> Any:
    """Also for inputs whose dims are all fixed: then it says that what is asked for fits."""
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        value = network.get_input(index)
        if value.is_shape_tensor:
            raise UnsupportedModel(
                f"input '{value.name}' gives sizes, not data, which this agent does not bind for TensorRT; "
                "make it a constant of the graph"
            )
        tensor = Tensor(value.name, value.dtype.name, tuple(value.shape))
        dims = [resolved_shape(tensor, wanted) for wanted in ranges.get(value.name, (None, None, None))]
        profile.set_shape(value.name, *dims)
    return profile


@dataclass(frozen=True)
class Problem:
    """What the parser said of one node. `operator` and `node` are "" where it is about the whole file."""

    code: str
    operator: str
    node: str
    text: str


def refusal(name: str, problems: Sequence[Problem]) -> RuntimeFailure:
    """The parser's problems in one sentence: the first by name, the others counted, and the way out."""
    if not problems:
        return BadModel(f"{name}: TensorRT can't parse it, and does not say why")
    first = problems[0]
    if first.code == "MODEL_DESERIALIZE_FAILED" or not first.operator:
        return BadModel(f"{name}: not an ONNX model that {VERSION} can read ({first.text})")
    counts = Counter(problem.operator for problem in problems)
    others = ", ".join(f"{count} {operator}" for operator, count in counts.items())
    more = f"; refused in all: {others}" if len(problems) > 1 else ""
    known = first.text not in ("", "false") and "Plugin not found" not in first.text
    said = f": {first.text}" if known else ""
    return UnsupportedModel(
        f"{name}: {VERSION} does not take the operator {first.operator} (node '{first.node}'){said}{more}; "
        f"{_way_out(first)}"
    )


def _way_out(problem: Problem) -> str:
    for pattern, way in _WAYS_OUT:
        if re.search(pattern, problem.operator) or re.search(pattern, problem.text):
            return way
    return _OTHERWISE


def _problem(error: Any) -> Problem:
    """A `ParserError` as a record. Its first line may only repeat the node's name; after the second come echoes."""
    lines = [line.strip() for line in str(error.desc()).splitlines() if line.strip()]
    text = next((line for line in lines if "Invalid Node" not in line), "")
    return Problem(error.code().name, error.node_operator(), error.node_name(), text)


def _not_built(name: str, errors: Sequence[str]) -> RuntimeFailure:
    """Why the builder gave nothing, from what it logged."""
    text = " ".join(" ".join(errors).split())
    if "nbdims_bias" in text:
        return UnsupportedModel(
            f"{name}: {VERSION} does not build one of its one-dimensional convolutions; write them as Conv2d with "
            "height 1, or take a tensorrt-* variant, for which rtfleet has rewritten them"
        )
    if re.search(r"out ?of ?memory|OutOfMemory|bad_alloc", text, re.IGNORECASE):
        return OutOfMemory(f"{name}: no memory left while the engine was built ({text[:300]})")
    if "cudaError" in text or "Cuda Runtime" in text:
        return RuntimeFailure(f"{name}: the GPU or its driver failed while the engine was built: {text[:300]}")
    return UnsupportedModel(f"{name}: {VERSION} parses it, but builds no engine: {text[:300] or 'it does not say why'}")
