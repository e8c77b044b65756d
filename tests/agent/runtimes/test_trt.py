"""TensorRT on the seam. What needs a GPU is skipped without one, by the reason that the agent itself gives."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from test_ort import SHAPES, STATES, frames, info, plain_loop, saved

import tensorrt_here

tensorrt_here.needed()

from onnx import helper  # noqa: E402  # TensorRT may be missing

from rtfleet_agent.runtimes import cuda, runtime, trt, trt_library  # noqa: E402
from rtfleet_agent.runtimes.base import Graph, NoAccelerator, OperatorTime, Options, RuntimeFailure  # noqa: E402
from rtfleet_agent.runtimes.onnx_bytes import identity_model  # noqa: E402

NO_GPU = trt.describe().error
on_gpu = pytest.mark.skipif(bool(NO_GPU), reason=NO_GPU)
without_gpu = pytest.mark.skipif("no NVIDIA GPU" not in NO_GPU, reason="there is a GPU")
GPU = Options(accelerator="gpu")


@pytest.fixture(name="recurrent")
def _recurrent(tmp_path: Path) -> Graph:
    """h' = tanh(0.9 h + W x), c' = c + x, score = h' + c'."""
    rng = np.random.default_rng(3)
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["wx"]),
        helper.make_node("Mul", ["h", "decay"], ["dh"]),
        helper.make_node("Add", ["dh", "wx"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["h_out"]),
        helper.make_node("Add", ["c", "x"], ["c_out"]),
        helper.make_node("Add", ["h_out", "c_out"], ["score"]),
    ]
    given, made = ([info(name, [1, 8]) for name in names] for names in (("x", "h", "c"), ("score", "h_out", "c_out")))
    constants = {"W": rng.normal(size=(8, 8)).astype(np.float32), "decay": np.float32(0.9)}
    graph = saved(tmp_path / "recurrent.onnx", nodes, given, made, constants)
    return Graph("main", graph.path, SHAPES, STATES)


def test_the_version_names_the_flavour_and_the_library_is_hashed() -> None:
    facts = trt.describe()
    assert facts.name == "tensorrt"
    assert facts.version.startswith("TensorRT")
    assert len(facts.library_sha256) == 64
    assert "NVIDIA GPUs alone" in facts.unavailable["cpu"]
    identified = trt.describe(plugs=False)
    assert (identified.version, identified.library_sha256) == (facts.version, facts.library_sha256)
    assert (identified.accelerators, identified.error) == ((), "")


@without_gpu
def test_without_a_gpu_it_says_what_is_missing(recurrent: Graph, tmp_path: Path) -> None:
    facts = runtime("tensorrt").describe()
    assert facts.accelerators == ()
    assert "no NVIDIA GPU" in facts.error
    with pytest.raises(NoAccelerator, match="no NVIDIA GPU"):
        trt.compile(recurrent, tmp_path, GPU)
    with pytest.raises(NoAccelerator, match="no NVIDIA GPU"):
        trt.load(recurrent.path, recurrent, GPU)


def test_a_gpu_that_is_not_served_is_named_with_what_to_install(
    recurrent: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not trt_library.IS_RTX:
        pytest.skip("TensorRT itself serves all")
    monkeypatch.setattr(cuda, "gpu", lambda: cuda.Gpu("NVIDIA H200", (9, 0), "13.0"))
    why = r"NVIDIA H200: TensorRT-RTX .* compute capability 9\.0, only 7\.5, .*12\.0.*; install TensorRT itself"
    facts = trt.describe()
    assert facts.accelerators == ()
    assert re.search(why, facts.error)
    with pytest.raises(NoAccelerator, match=why):
        trt.compile(recurrent, tmp_path, GPU)
    assert not list(tmp_path.rglob("*.engine"))


@pytest.mark.parametrize("accelerator", ["cpu", "npu"])
def test_it_never_falls_back_to_what_is_no_gpu(recurrent: Graph, tmp_path: Path, accelerator: str) -> None:
    with pytest.raises(NoAccelerator, match=r"NVIDIA GPUs alone.*offers gpu"):
        trt.compile(recurrent, tmp_path, Options(accelerator))


def test_layers_become_operators_with_the_time_of_all_calls() -> None:
    times_ms = {"entry/Conv_13 + relu/Relu_14": [0.25, 0.5], "__myl_Fc_0": [1.0]}
    assert trt.operator_times(times_ms) == (
        OperatorTime("entry/Conv_13 + relu/Relu_14", "Conv+Relu", 2, 750_000, trt_library.VERSION, accelerated=True),
        OperatorTime("__myl_Fc_0", "", 1, 1_000_000, trt_library.VERSION, accelerated=True),
    )


def test_layer_times_are_collected_inference_after_inference() -> None:
    layers = trt.LayerTimes()
    for ms in (0.5, 0.25):
        layers.report_layer_time("a", ms)
    assert layers.times_ms == {"a": [0.5, 0.25]}


NAMES = {
    "Runtime": ["deserialize_cuda_engine"],
    "IProfiler": ["report_layer_time"],
    "ICudaEngine": [
        "create_execution_context", "get_tensor_dtype", "get_tensor_mode", "get_tensor_name",
        "get_tensor_profile_shape", "get_tensor_shape", "num_io_tensors",
    ],
    "IExecutionContext": [
        "execute_async_v3", "get_tensor_shape", "profiler", "set_input_shape", "set_tensor_address",
    ],
    "IRuntimeConfig": ["create_runtime_cache", "dynamic_shapes_kernel_specialization_strategy", "set_runtime_cache"],
}  # fmt: skip


@pytest.mark.parametrize(("owner", "name"), [(owner, name) for owner, names in NAMES.items() for name in names])
def test_what_only_a_gpu_would_reach_is_called_as_tensorrt_has_it(owner: str, name: str) -> None:
    assert f".{name}" in Path(trt.__file__).read_text() or f"def {name}" in Path(trt.__file__).read_text()
    assert hasattr(getattr(trt_library.trt, owner), name)


def test_tensors_of_a_block_lie_apart_and_aligned() -> None:
    tensors = {
        "audio": ((1, 320), "float32"),
        "flag": ((), "bool"),
        "none": ((0, 4), "float32"),
        "h": ((2, 65), "float16"),
    }
    offsets, size = cuda.layout(tensors)
    assert offsets == {"audio": 0, "flag": 1280, "none": 1536, "h": 1792}
    assert size == 1792 + 512
    assert cuda.layout({}) == ({}, 256)


# ---- on a GPU: written against the API, skipped where there is none -------------------------------------------------


@on_gpu
def test_an_engine_that_is_none_is_dropped_and_said_so(recurrent: Graph, tmp_path: Path) -> None:
    path = trt.compile(recurrent, tmp_path, GPU)
    path.write_bytes(b"foreign")
    with pytest.raises(RuntimeFailure, match="the next launch builds it anew"):
        trt.load(path, recurrent, GPU)
    assert not path.exists()


@on_gpu
def test_states_that_stay_on_the_device_give_the_numbers_of_a_plain_loop(recurrent: Graph, tmp_path: Path) -> None:
    session = trt.load(trt.compile(recurrent, tmp_path, GPU), recurrent, GPU)
    bound = session.bind(SHAPES, STATES)
    assert (list(bound.inputs), list(bound.outputs)) == (["x"], ["score"])
    for _ in range(2):
        bound.reset()
        for x, expected in zip(frames(51), plain_loop(recurrent, 51), strict=True):
            bound.inputs["x"][...] = x
            bound.step()
            np.testing.assert_allclose(bound.outputs["score"], expected, atol=1e-4)
    assert session.placement().accelerated_share == 1.0
    session.close()


@on_gpu
def test_run_takes_any_shape_of_the_profile_and_a_profile_launch_times_layers(tmp_path: Path) -> None:
    graph = saved(
        tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], [info("x", ["n", 4])], [info("y", ["n", 4])]
    )
    options = Options("gpu", profile=True)
    session = trt.load(graph.path, Graph("m", graph.path, {"x": (3, 4)}), options)
    values = np.arange(-6, 6, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(session.run({"x": values})["y"], np.maximum(values, 0))
    assert session.operators()
    session.close()


@on_gpu
def test_the_smallest_model_runs_without_a_cache(tmp_path: Path) -> None:
    graph = trt.one_op(tmp_path, 2, 2)
    assert graph.path.read_bytes() == identity_model(2, 2)
    bound = trt.load(graph.path, graph, GPU).bind(graph.shapes, ())
    bound.inputs["x1"][...] = 5
    bound.step()
    assert bound.outputs["y1"] == 5
