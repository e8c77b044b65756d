"""Parsing and building for real, through TensorRT-RTX and for a GPU that is not here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tensorrt_here

tensorrt_here.needed()

from rtfleet_agent.runtimes.base import BadModel, UnsupportedModel  # noqa: E402  # TensorRT may be missing
from rtfleet_agent.runtimes.onnx_bytes import identity_model, metadata  # noqa: E402
from rtfleet_agent.runtimes.trt_build import PROFILE, Plan, Problem, build, ranges_of, refusal  # noqa: E402

SM86 = (8, 6)
F32 = np.float32


def saved(
    path: Path, nodes: list, dims: list[int | str], constants: dict, declared: str = "", more: tuple = ()
) -> Path:
    """A graph from `x` of these dims to `y`."""
    values = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims), *more]
    graph = helper.make_graph(nodes, "g", given, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], values)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("my.ops", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    if declared:
        model.metadata_props.add(key=PROFILE, value=declared)
    path.write_bytes(model.SerializeToString())
    return path


def built(path: Path, shapes: dict | None = None, **more: bool) -> bytes:
    return build(path, Plan(ranges_of(path.read_bytes(), shapes or {}), SM86, **more))


def node(kind: str, given: str, made: str = "y", **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, given.split(), made.split(), name=f"net/{kind}", **attributes)


def test_the_smallest_model_is_built_for_a_gpu_that_is_not_here(tmp_path: Path) -> None:
    path = tmp_path / "one_op.onnx"
    path.write_bytes(identity_model(2, 3))
    assert len(built(path)) > 10_000


def test_a_dynamic_input_is_built_for_the_ranges_that_the_file_declares(tmp_path: Path) -> None:
    declared = json.dumps({"x": [[1, 8], [1, 16], [1, 32]]})
    path = saved(tmp_path / "m.onnx", [node("Relu", "x")], [1, "t"], {}, declared)

    assert ranges_of(path.read_bytes(), {"x": (1, 20)}) == {"x": ((1, 8), (1, 20), (1, 32))}
    assert built(path, {"x": (1, 20)})


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [((1, 4), ((1, 4), (1, 4), (1, 32))), ((1, 90), ((1, 8), (1, 90), (1, 90)))],
)
def test_dims_to_measure_that_lie_outside_widen_the_ranges(tmp_path: Path, wanted: tuple, expected: tuple) -> None:
    declared = json.dumps({"x": [[1, 8], [1, 16], [1, 32]]})
    path = saved(tmp_path / "m.onnx", [node("Relu", "x")], [1, "t"], {}, declared)
    assert ranges_of(path.read_bytes(), {"x": wanted}) == {"x": expected}


def test_a_file_that_declares_nothing_is_built_for_what_is_measured(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx", [node("Relu", "x")], [1, "t"], {})
    assert ranges_of(path.read_bytes(), {"x": (1, 20)}) == {"x": ((1, 20), (1, 20), (1, 20))}
    with pytest.raises(UnsupportedModel, match=r"input 'x' has dynamic dims \[1, -1\]: say its shape"):
        built(path)
    with pytest.raises(UnsupportedModel, match=r"input 'x' is \[1, -1\] in the graph, asked was \[2, 20\]"):
        built(path, {"x": (2, 20)})


@pytest.mark.parametrize("declared", ["[1, 2]", '{"x": [[1, 8], [1, 16]]}', '{"x": 3}', "{"])
def test_a_profile_that_can_t_be_read_is_a_bad_model(tmp_path: Path, declared: str) -> None:
    path = saved(tmp_path / "m.onnx", [node("Relu", "x")], [1, "t"], {}, declared)
    with pytest.raises(BadModel, match=PROFILE):
        ranges_of(path.read_bytes(), {})


def test_a_profile_of_another_rank_is_a_bad_model(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx", [node("Relu", "x")], [1, "t"], {}, json.dumps({"x": [[1], [1], [1]]}))
    with pytest.raises(BadModel, match="1 dims, asked was"):
        ranges_of(path.read_bytes(), {"x": (1, 20)})


def test_metadata_is_read_as_the_onnx_package_reads_it(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx", [node("Add", "x w")], [1, 64], {"w": np.ones((1, 64), F32)}, "größer")
    model = onnx.load(path)
    model.metadata_props.add(key="other", value="")
    assert metadata(model.SerializeToString()) == {PROFILE: "größer", "other": ""}


# ---- what is refused -----------------------------------------------------------------------------------------------


def test_a_dynamically_quantized_file_is_refused_by_operator_and_node_with_the_way_out(tmp_path: Path) -> None:
    nodes = [
        node("DynamicQuantizeLinear", "x", "q s z"),
        node("MatMulInteger", "q w z", "i"),
        node("Cast", "i", "f", to=TensorProto.FLOAT),
        node("Mul", "f s"),
    ]
    path = saved(tmp_path / "dynamic.onnx", nodes, [1, 8], {"w": np.ones((8, 8), np.uint8)})
    with pytest.raises(UnsupportedModel) as refused:
        built(path)
    text = str(refused.value)
    assert "does not take the operator DynamicQuantizeLinear (node 'net/DynamicQuantizeLinear')" in text
    assert "1 DynamicQuantizeLinear, 1 MatMulInteger" in text
    assert "export the model as tensorrt-int8" in text


def test_zero_points_are_refused_with_the_way_out(tmp_path: Path) -> None:
    nodes = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z")]
    path = saved(tmp_path / "asymmetric.onnx", nodes, [1, 8], {"s": F32(0.1), "z": np.int8(3)})
    with pytest.raises(UnsupportedModel, match=r"QuantizeLinear.*quantized with zero points; .* tensorrt-int8"):
        built(path)


def test_int32_biases_are_refused_with_the_way_out(tmp_path: Path) -> None:
    nodes = [node("DequantizeLinear", "b s z", "bias"), node("Add", "x bias")]
    constants = {"b": np.arange(8, dtype=np.int32), "s": F32(0.1), "z": np.int32(0)}
    path = saved(tmp_path / "biases.onnx", nodes, [1, 8], constants)
    with pytest.raises(UnsupportedModel, match=r"DequantizeLinear.*biases are quantized to int32; .* tensorrt-int8"):
        built(path)


def test_an_operator_that_nobody_knows_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "custom.onnx", [node("Sparkle", "x", domain="my.ops")], [1, 8], {})
    with pytest.raises(UnsupportedModel, match=r"the operator Sparkle \(node 'net/Sparkle'\); replace the operator"):
        built(path)


def test_a_one_dimensional_convolution_that_is_not_built_is_told_the_way_round(tmp_path: Path) -> None:
    nodes = [node("Conv", "x w", "c"), node("Add", "c floor")]
    constants = {"w": np.ones((8, 8, 3), F32), "floor": F32(1e-3)}
    path = saved(tmp_path / "flat.onnx", nodes, [1, 8, 20], constants)
    with pytest.raises(UnsupportedModel, match="one-dimensional convolutions; write them as Conv2d with height 1"):
        built(path)


def test_an_input_of_sizes_is_refused(tmp_path: Path) -> None:
    sizes = helper.make_tensor_value_info("sizes", TensorProto.INT64, [2])
    path = saved(tmp_path / "sizes.onnx", [node("Reshape", "x sizes")], [2, 8], {}, more=(sizes,))
    with pytest.raises(UnsupportedModel, match="input 'sizes' gives sizes, not data"):
        built(path)


@pytest.mark.parametrize("content", [b"", b"hello, this is no model", identity_model(1, 1)[:-9]])
def test_what_is_no_model_is_a_bad_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(BadModel, match="not a"):
        built(path)


def test_a_problem_of_the_whole_file_is_a_bad_model() -> None:
    problem = Problem("MODEL_DESERIALIZE_FAILED", "", "", "Failed to parse")
    assert "Failed to parse" in str(refusal("m.onnx", [problem]))
    assert isinstance(refusal("m.onnx", [problem]), BadModel)
    assert isinstance(refusal("m.onnx", []), BadModel)
