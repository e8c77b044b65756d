"""The three ONNX files for TensorRT: they follow the original in ONNX Runtime, and TensorRT-RTX builds each of them.

No engine is run here: that needs an NVIDIA GPU.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from exporting import Bench, bench, reference_of, users_folder
from onnx import TensorProto, helper, numpy_helper

import tensorrt_here
from rtfleet import parity
from rtfleet.artifact import Artifact, PreparedModel
from rtfleet.errors import ExportError
from rtfleet.export import onnx as onnx_files
from rtfleet.export import streaming, tensorrt
from rtfleet.model import Array
from rtfleet.models import ZOO

tensorrt_here.needed()

from rtfleet_agent.runtimes.base import UnsupportedModel  # noqa: E402  # TensorRT may be missing
from rtfleet_agent.runtimes.trt_build import Plan, build, ranges_of  # noqa: E402

VARIANTS = ("tensorrt-fp32", "tensorrt-fp16", "tensorrt-int8")
SM86 = (8, 6)


@pytest.fixture(name="here", scope="module")
def _here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    place = tmp_path_factory.mktemp("tensorrt")
    with bench(users_folder(place / "user"), place / "cache", place / "logs") as here:
        yield here


def file_of(artifact: Artifact) -> Path:
    (file,) = artifact.graphs[0].files
    assert file.location is not None
    return file.location


def engine_of(artifact: Artifact) -> bytes:
    """Built as the agent builds it, for the dims that are measured."""
    path = file_of(artifact)
    return build(path, Plan(ranges_of(path.read_bytes(), artifact.graphs[0].shapes), SM86))


def check_parity(prepared: PreparedModel, artifact: Artifact) -> None:
    """The file's, over whole streams, the optimizer off: int8 as written, not as this processor has it."""
    step = onnx_files.step_of(onnx_files.open_session(file_of(artifact), optimize=False))
    found = streaming.reference(step, streaming.streams_of(prepared), [*prepared.outputs])
    result = parity.compare(
        reference_of(prepared),
        found,
        score=prepared.outputs[0],
        threshold=prepared.threshold,
        against="the original model",
        optimized=False,
    )
    for owed in parity.default_budgets(artifact):
        check = parity.judge(owed, result, None)
        assert check.verdict == "PASS", f"{artifact.variant}: {check.reason}"


@pytest.mark.slow
@pytest.mark.parametrize("source", ["echo", "gru", "lstm", "spectral", "flat", "encoder"])
def test_every_variant_follows_the_original_and_is_built(here: Bench, source: str) -> None:
    prepared = here.prepare(source)
    for variant in VARIANTS:
        artifact = here.export(prepared, variant)
        tensors = (*artifact.graphs[0].inputs, *artifact.graphs[0].outputs)
        assert {tensor.dtype for tensor in tensors} == {"float32"}
        assert [file.path for file in artifact.files] == ["model.onnx"]
        check_parity(prepared, artifact)
        assert len(engine_of(artifact)) > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", [model.name for model in ZOO.values() if not model.ready])
def test_each_artifact_of_the_zoo_is_built(here: Bench, name: str, variant: str) -> None:
    """Parity is not asked: the speaker encoder's weights resist int8, which `rtfleet export` says."""
    artifact = here.export(here.prepare_zoo(name), variant)
    assert len(engine_of(artifact)) > 100_000


@pytest.mark.slow
def test_files_made_for_onnx_runtime_are_refused_with_the_way_out(here: Bench) -> None:
    dynamic = here.export(here.prepare("echo"), "onnx-int8-dynamic")
    with pytest.raises(UnsupportedModel, match=r"the operator DynamicQuantizeLinear.*tensorrt-int8"):
        engine_of(dynamic)
    recurrent = here.export(here.prepare("lstm"), "onnx-int8-dynamic")
    with pytest.raises(UnsupportedModel, match=r"the operator DynamicQuantize.*tensorrt-int8"):
        engine_of(recurrent)
    static = here.export(here.prepare("echo"), "onnx-int8-static")
    with pytest.raises(UnsupportedModel, match=r"quantized.*tensorrt-int8"):
        engine_of(static)
    flat = here.export(here.prepare("flat"), "onnx-fp32")
    with pytest.raises(UnsupportedModel, match="one-dimensional convolutions"):
        engine_of(flat)


@pytest.mark.slow
def test_int8_is_symmetric_with_float_biases_and_leaves_kept_modules_alone(here: Bench) -> None:
    graph = onnx.load(file_of(here.export(here.prepare("spectral"), "tensorrt-int8"))).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    zeros = [
        constants[node.input[2]] for node in graph.node if node.op_type.endswith("eLinear") and len(node.input) > 2
    ]
    activations = {node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    makers = {name: node.name for node in graph.node for name in node.output}

    assert zeros and all(zero.dtype == np.int8 and not zero.any() for zero in zeros)
    assert not [name for name, value in constants.items() if value.dtype == np.int32]
    assert [name for name in activations if makers[name].startswith(("body", "front"))]
    convolutions = {node.name: node for node in graph.node if node.op_type == "Conv"}
    quantized = {name for name, node in convolutions.items() if "DequantizeLinear" in makers[node.input[0]]}
    assert quantized == {name for name in convolutions if name.startswith("body")} != set()


@pytest.mark.slow
def test_a_dynamic_axis_travels_as_a_profile(here: Bench) -> None:
    for variant in VARIANTS:
        artifact = here.export(here.prepare("encoder"), variant)
        told = {entry.key: entry.value for entry in onnx.load(file_of(artifact)).metadata_props}
        assert json.loads(told[tensorrt.PROFILE]) == {"features": [[1, 1, 16], [1, 12, 16], [1, 24, 16]]}
    fixed = here.export(here.prepare("echo"), "tensorrt-fp32")
    assert not onnx.load(file_of(fixed)).metadata_props


@pytest.mark.slow
def test_a_length_that_the_network_does_not_take_is_not_promised(here: Bench) -> None:
    prepared = here.prepare("encoder")

    def takes_twelve_and_more(feeds: dict[str, Array]) -> dict[str, Array]:
        if feeds["features"].shape[1] < 12:
            raise RuntimeError("too short for the kernel")
        return {}

    assert tensorrt.profile_of(prepared, takes_twelve_and_more) == {"features": [[1, 12, 16], [1, 12, 16], [1, 24, 16]]}


# ---- the rewritings ------------------------------------------------------------------------------------------------


def convolution(kind: str, weights: Array, **attributes: object) -> onnx.ModelProto:
    node = helper.make_node(kind, ["x", "w"], ["y"], name=f"net/{kind}", **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 30])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * weights.ndim)],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def outputs_of(model: onnx.ModelProto, folder: Path) -> Array:
    onnx_files.write(model, folder / "m.onnx")
    x = np.random.default_rng(1).standard_normal((1, 4, 30)).astype(np.float32)
    return onnx_files.open_session(folder / "m.onnx").run(["y"], {"x": x})[0]


@pytest.mark.parametrize(
    ("kind", "shape", "attributes"),
    [
        ("Conv", (6, 4, 5), {}),
        ("Conv", (6, 2, 5), {"group": 2, "dilations": [2], "pads": [3, 1], "kernel_shape": [5]}),
        ("Conv", (6, 4, 5), {"strides": [3], "auto_pad": "SAME_UPPER"}),
        ("ConvTranspose", (4, 6, 5), {"strides": [2], "pads": [1, 2], "output_padding": [1]}),
        ("ConvTranspose", (4, 6, 5), {"strides": [2], "output_shape": [61], "kernel_shape": [5]}),
    ],
)
def test_a_convolution_of_height_1_gives_the_same_numbers(
    tmp_path: Path, kind: str, shape: tuple[int, ...], attributes: dict
) -> None:
    model = convolution(kind, np.random.default_rng(0).standard_normal(shape).astype(np.float32), **attributes)
    expected = outputs_of(model, tmp_path)

    tensorrt.lift_convolutions(model)

    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Unsqueeze", kind, "Squeeze"]
    assert "w" not in {tensor.name for tensor in model.graph.initializer}
    np.testing.assert_allclose(outputs_of(model, tmp_path), expected, rtol=1e-5, atol=1e-6)


def test_weights_that_two_convolutions_share_stay_shared() -> None:
    model = convolution("Conv", np.ones((4, 4, 3), np.float32))
    again = helper.make_node("Conv", ["y", "w"], ["z"], name="net/again")
    model.graph.node.append(again)

    tensorrt.lift_convolutions(model)

    assert sorted(tensor.name for tensor in model.graph.initializer) == ["rtfleet_height_axis", "w_height_1"]


def test_a_convolution_whose_weights_are_computed_is_refused_by_name() -> None:
    model = convolution("Conv", np.ones((4, 4, 3), np.float32), kernel_shape=[3])
    model.graph.node[0].input[1] = "computed"
    with pytest.raises(ExportError, match="net/Conv: TensorRT may not build") as refused:
        tensorrt.lift_convolutions(model)
    assert "Conv2d with height 1" in refused.value.hint


def test_two_dimensional_convolutions_stay_as_they_are() -> None:
    model = convolution("Conv", np.ones((4, 4, 1, 3), np.float32))
    before = model.SerializeToString(deterministic=True)
    tensorrt.lift_convolutions(model)
    assert model.SerializeToString(deterministic=True) == before


def test_a_cast_to_float16_and_back_is_left_out() -> None:
    half, full = TensorProto.FLOAT16, TensorProto.FLOAT
    nodes = [
        helper.make_node("Cast", ["n"], ["h"], to=half),
        helper.make_node("Cast", ["h"], ["f"], to=full),
        helper.make_node("Cast", ["m"], ["k"], to=half),
        helper.make_node("Cast", ["k"], ["g"], to=full),
        helper.make_node("Identity", ["k"], ["kept"]),
        helper.make_node("Add", ["f", "g"], ["y"]),
    ]
    out = [helper.make_tensor_value_info(name, full, [1]) for name in ("y", "kept")]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info(n, full, [1]) for n in "nm"], out)

    tensorrt.drop_round_trips(graph)

    assert [list(node.output) for node in graph.node] == [["f"], ["k"], ["g"], ["kept"], ["y"]]
    assert [list(node.input) for node in graph.node[:3]] == [["n"], ["m"], ["m"]]
