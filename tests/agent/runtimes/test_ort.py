"""ONNX Runtime on the seam: the same numbers as its own `run()`, whatever way the buffers go."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnxruntime.capi import onnxruntime_pybind11_state as native

from rtfleet_agent.runtimes import ort
from rtfleet_agent.runtimes.base import (
    BadModel,
    Graph,
    NoAccelerator,
    Options,
    RuntimeFailure,
    State,
    UnsupportedModel,
)


def info(name: str, dims: list | None, dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, dims)


def saved(
    path: Path, nodes: list, inputs: list, outputs: list, constants: dict | None = None, opset: int = 17
) -> Graph:
    initializers = [onnx.numpy_helper.from_array(value, name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(nodes, "test", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("my.ops", 1)]
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
    return Graph("main", path)


@pytest.fixture(name="recurrent")
def _recurrent(tmp_path: Path) -> Graph:
    """h' = tanh(0.9 h + W x), c' = c + x: `score` sums both, so it depends on every frame since the start."""
    rng = np.random.default_rng(3)
    return saved(
        tmp_path / "recurrent.onnx",
        [
            helper.make_node("MatMul", ["x", "W"], ["wx"]),
            helper.make_node("Mul", ["h", "decay"], ["dh"]),
            helper.make_node("Add", ["dh", "wx"], ["sum"]),
            helper.make_node("Tanh", ["sum"], ["h_out"]),
            helper.make_node("Add", ["c", "x"], ["c_out"]),
            helper.make_node("Add", ["h_out", "c_out"], ["score"]),
        ],
        [info("x", ["batch", 8]), info("h", ["batch", 8]), info("c", ["batch", 8])],
        [info("score", ["batch", 8]), info("h_out", ["batch", 8]), info("c_out", ["batch", 8])],
        {"W": rng.normal(size=(8, 8)).astype(np.float32), "decay": np.float32(0.9)},
    )


SHAPES = {"x": (1, 8), "h": (1, 8), "c": (1, 8)}
STATES = (State("h", "h_out"), State("c", "c_out"))


def frames(count: int) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(count, 1, 8)).astype(np.float32)


def plain_loop(graph: Graph, count: int) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(graph.path, providers=["CPUExecutionProvider"])
    h = c = np.zeros((1, 8), np.float32)
    scores = []
    for x in frames(count):
        score, h, c = session.run(["score", "h_out", "c_out"], {"x": x, "h": h, "c": c})
        scores.append(score)
    return scores


def stepped(bound, count: int) -> list[np.ndarray]:
    scores = []
    for x in frames(count):
        bound.inputs["x"][...] = x
        bound.step()
        scores.append(bound.outputs["score"].copy())
    return scores


def test_swapped_state_buffers_give_the_bits_of_a_plain_run_loop(recurrent: Graph) -> None:
    bound = ort.load(recurrent.path, recurrent, Options()).bind(SHAPES, STATES)
    assert np.array_equal(stepped(bound, 101), plain_loop(recurrent, 101))


def test_states_are_not_among_the_buffers(recurrent: Graph) -> None:
    bound = ort.load(recurrent.path, recurrent, Options()).bind(SHAPES, STATES)
    assert list(bound.inputs) == ["x"]
    assert list(bound.outputs) == ["score"]


@pytest.mark.parametrize("before", [0, 1, 2, 7])
def test_reset_forgets_the_past_in_either_turn_of_the_buffers(recurrent: Graph, before: int) -> None:
    bound = ort.load(recurrent.path, recurrent, Options()).bind(SHAPES, STATES)
    stepped(bound, before)
    bound.reset()
    assert np.array_equal(stepped(bound, 9), plain_loop(recurrent, 9))


def test_an_output_that_only_a_run_can_size_is_held_afterwards_and_its_state_goes_on(tmp_path: Path) -> None:
    graph = saved(
        tmp_path / "model.onnx",
        [
            helper.make_node("Add", ["h", "x"], ["h_out"]),
            helper.make_node("Compress", ["h_out", "mask"], ["score"], axis=1),
        ],
        [info("x", [1, 8]), info("h", [1, 8])],
        [info("h_out", [1, 8]), info("score", None)],
        {"mask": np.array([True] * 3 + [False] * 5)},
    )
    bound = ort.load(graph.path, graph, Options()).bind({}, [State("h", "h_out")])
    assert np.allclose(stepped(bound, 5)[-1], frames(5).sum(axis=0)[:, :3], atol=1e-5)
    held = bound.outputs["score"]
    stepped(bound, 1)
    assert bound.outputs["score"] is held


def test_an_initial_value_comes_from_its_file(recurrent: Graph, tmp_path: Path) -> None:
    np.save(tmp_path / "c.npy", np.full((1, 8), 100, np.float32))
    states = (STATES[0], State("c", "c_out", tmp_path / "c.npy"))
    bound = ort.load(recurrent.path, recurrent, Options()).bind(SHAPES, states)
    assert np.allclose(stepped(bound, 3)[-1], plain_loop(recurrent, 3)[-1] + 100, atol=1e-4)


def test_an_initial_value_of_another_shape_is_refused(recurrent: Graph, tmp_path: Path) -> None:
    np.save(tmp_path / "c.npy", np.zeros((8,), np.float32))
    session = ort.load(recurrent.path, recurrent, Options())
    with pytest.raises(BadModel, match=r"state 'c' is float32 \[8\], the graph takes float32 \[1, 8\]"):
        session.bind(SHAPES, [STATES[0], State("c", "c_out", tmp_path / "c.npy")])


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "uint8", "int16", "int32", "int64", "bool"])
def test_every_dtype_and_rank_0_go_through(tmp_path: Path, dtype: str) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = saved(
        tmp_path / "model.onnx",
        [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Identity", ["n"], ["m"])],
        [info("x", ["b", 3], kind), info("n", [], kind)],
        [info("y", ["b", 3], kind), info("m", [], kind)],
    )
    bound = ort.load(graph.path, graph, Options()).bind({"x": (2, 3)}, [])
    bound.inputs["x"][...] = np.array([[1, 0, 1], [0, 1, 1]])
    bound.inputs["n"][...] = 1
    bound.step()
    bound.step()
    assert bound.outputs["y"].dtype == np.dtype(dtype)
    assert bound.outputs["y"].tolist() == bound.inputs["x"].tolist()
    assert bound.outputs["m"] == 1


def test_tensors_are_told_with_dynamic_dims_as_minus_one(recurrent: Graph) -> None:
    tensor = ort.load(recurrent.path, recurrent, Options()).inputs[0]
    assert (tensor.name, tensor.dtype, tensor.shape) == ("x", "float32", (-1, 8))


def test_run_takes_any_shape(recurrent: Graph) -> None:
    session = ort.load(recurrent.path, recurrent, Options())
    feeds = {name: np.ones((5, 8), np.float32) for name in SHAPES}
    assert session.run(feeds)["score"].shape == (5, 8)


def test_a_dynamic_input_without_a_shape_is_refused_with_what_to_type(recurrent: Graph) -> None:
    session = ort.load(recurrent.path, recurrent, Options())
    with pytest.raises(UnsupportedModel, match=r"inputs = \{ x = \[1, 8\] \}"):
        session.bind({}, [])


def test_a_shape_that_the_graph_does_not_take_is_refused(recurrent: Graph) -> None:
    session = ort.load(recurrent.path, recurrent, Options())
    with pytest.raises(UnsupportedModel, match=r"input 'x' is \[-1, 8\] in the graph, asked was \[1, 9\]"):
        session.bind({**SHAPES, "x": (1, 9)}, STATES)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (State("hh", "h_out"), "state input 'hh' is no input"),
        (State("h", "nope"), "state output 'nope' is no output"),
    ],
)
def test_a_state_that_the_graph_does_not_have_is_named(recurrent: Graph, state: State, words: str) -> None:
    session = ort.load(recurrent.path, recurrent, Options())
    with pytest.raises(UnsupportedModel, match=words):
        session.bind(SHAPES, [state])


def test_a_state_whose_ends_differ_is_refused(tmp_path: Path) -> None:
    graph = saved(
        tmp_path / "model.onnx",
        [helper.make_node("Cast", ["h"], ["h_out"], to=TensorProto.FLOAT16)],
        [info("h", [1, 4])],
        [info("h_out", [1, 4], TensorProto.FLOAT16)],
    )
    session = ort.load(graph.path, graph, Options())
    with pytest.raises(UnsupportedModel, match="what comes out can't go in again"):
        session.bind({}, [State("h", "h_out")])


def test_a_graph_that_does_not_run_says_so_at_its_first_step(tmp_path: Path) -> None:
    graph = saved(
        tmp_path / "model.onnx",
        [helper.make_node("Reshape", ["x", "five"], ["y"])],
        [info("x", ["n"])],
        [info("y", ["m"])],
        {"five": np.array([5])},
    )
    bound = ort.load(graph.path, graph, Options()).bind({"x": (4,)}, [])
    with pytest.raises(UnsupportedModel, match="does not run with these inputs"):
        bound.step()


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, b'{"a": 1}'])
def test_a_file_that_is_no_model_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(BadModel, match=r"broken\.onnx"):
        ort.load(path, Graph("main", path), Options())


def test_a_truncated_model_is_named(recurrent: Graph) -> None:
    recurrent.path.write_bytes(recurrent.path.read_bytes()[:200])
    with pytest.raises(BadModel, match=r"recurrent\.onnx: not an ONNX model, or truncated \(200 bytes\)"):
        ort.load(recurrent.path, recurrent, Options())


@pytest.mark.parametrize("domain", ["", "my.ops"])
def test_an_unknown_operator_is_named(tmp_path: Path, domain: str) -> None:
    node = helper.make_node("Frobnicate", ["x"], ["y"], domain=domain)
    graph = saved(tmp_path / "odd.onnx", [node], [info("x", [1])], [info("y", [1])])
    with pytest.raises(UnsupportedModel, match=r"odd\.onnx: operator '.*Frobnicate'"):
        ort.load(graph.path, graph, Options())


@pytest.mark.parametrize("location", ["../weights.bin", "/weights.bin", "missing.bin"])
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "weights.bin").write_bytes(bytes(16))
    graph = saved(
        folder / "model.onnx",
        [helper.make_node("Add", ["x", "w"], ["y"])],
        [info("x", [4])],
        [info("y", [4])],
        {"w": np.zeros(4, np.float32)},
    )
    model = onnx.load(graph.path)
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    graph.path.write_bytes(model.SerializeToString())
    with pytest.raises(BadModel, match=r"model\.onnx: .*xternal data"):
        ort.load(graph.path, graph, Options())


def test_an_ort_file_loads_too(recurrent: Graph, tmp_path: Path) -> None:
    settings = onnxruntime.SessionOptions()
    settings.optimized_model_filepath = str(tmp_path / "model.ort")
    onnxruntime.InferenceSession(recurrent.path, settings, providers=["CPUExecutionProvider"])
    graph = Graph("main", tmp_path / "model.ort")
    bound = ort.load(graph.path, graph, Options()).bind(SHAPES, STATES)
    assert np.allclose(stepped(bound, 20), plain_loop(recurrent, 20), atol=1e-5)


@pytest.mark.parametrize("accelerator", ["npu", "TensorrtExecutionProvider"])
def test_an_accelerator_that_is_not_here_is_refused_with_what_is(recurrent: Graph, accelerator: str) -> None:
    with pytest.raises(NoAccelerator, match="offers cpu"):
        ort.load(recurrent.path, recurrent, Options(accelerator=accelerator))


def test_nodes_that_would_fall_back_to_the_cpu_are_refused_unless_allowed(recurrent: Graph) -> None:
    # AzureExecutionProvider is in every CPU build and takes no node of such a graph.
    asked = Options(accelerator="AzureExecutionProvider")
    if "AzureExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this build has no provider but the CPU's")
    with pytest.raises(NoAccelerator, match=r"some nodes of recurrent\.onnx"):
        ort.load(recurrent.path, recurrent, asked)
    allowed = Options(accelerator="AzureExecutionProvider", allow_fallback=True)
    placement = ort.load(recurrent.path, recurrent, allowed).placement()
    assert (placement.ran, placement.accelerated_share) == ("CPUExecutionProvider", 0.0)


def test_placement_on_the_cpu_names_threads_and_what_was_turned_off(recurrent: Graph) -> None:
    placement = ort.load(recurrent.path, recurrent, Options(threads=2, optimize=False)).placement()
    assert (placement.ran, placement.accelerated_share) == ("CPUExecutionProvider", 1.0)
    assert "2 intra-op threads" in placement.notes[0]
    assert placement.notes[1] == "graph optimisations off"


def test_the_facts_name_version_and_library(recurrent: Graph) -> None:
    facts = ort.describe()
    assert facts.version == onnxruntime.__version__
    assert len(facts.library_sha256) == 64
    assert facts.accelerators[0] == "cpu"
    assert "onnxruntime" in facts.unavailable["npu"]


def test_the_facts_of_a_launch_load_no_plug_in(recurrent: Graph) -> None:
    program = (
        "from rtfleet_agent.runtimes import ort; import sys; print(ort.describe(plugs=False)); print(*sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "accelerators=('cpu',)" in told
    assert not re.search(r"\bonnxruntime_ep_\w+", told)


PLUG_IN = """
def get_library_path():
    return {library!r}
"""


@pytest.mark.parametrize(
    ("library", "said"),
    [
        ("/nowhere/libluna.so", "onnxruntime-ep-luna 7.1 can't be loaded: /nowhere/libluna.so: cannot open"),
        (str(Path(native.__file__)), "onnxruntime-ep-luna 7.1 can't be loaded: "),
    ],
)
def test_a_plug_in_is_found_by_its_package_and_why_it_gives_nothing_is_said(
    tmp_path: Path, library: str, said: str
) -> None:
    package, facts = tmp_path / "onnxruntime_ep_luna", tmp_path / "onnxruntime_ep_luna-7.1.dist-info"
    for folder in (package, facts):
        folder.mkdir()
    (package / "__init__.py").write_text(PLUG_IN.format(library=library))
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-ep-luna\nVersion: 7.1\n")
    (facts / "RECORD").write_text("onnxruntime_ep_luna/__init__.py,,\n")
    program = "from rtfleet_agent.runtimes import ort; print(ort.describe().unavailable['gpu'])"
    paths = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={**os.environ, **paths}
    )
    assert "onnxruntime lists CPUExecutionProvider (CPU)" in told.stdout and said in told.stdout


def test_a_provider_is_given_as_the_device_that_the_runtime_lists(recurrent: Graph) -> None:
    # The CPU's own stands in that list too: the same way as of any plug-in's.
    asked = Options(accelerator="CPUExecutionProvider", allow_fallback=True)
    session = ort.load(recurrent.path, recurrent, asked)
    assert np.allclose(stepped(session.bind(SHAPES, STATES), 9), plain_loop(recurrent, 9), atol=1e-5)
    placement = session.placement()
    assert (placement.ran, placement.accelerated_share) == ("CPUExecutionProvider", 1.0)
    assert placement.nodes == placement.accelerated_nodes > 0


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (6, 6), (2, 5), (40, 1)])
def test_the_one_op_model_has_the_inputs_and_outputs_asked(tmp_path: Path, inputs: int, outputs: int) -> None:
    graph = ort.one_op(tmp_path, inputs, outputs)
    onnx.checker.check_model(str(graph.path))
    session = ort.load(graph.path, graph, Options())
    assert (len(session.inputs), len(session.outputs)) == (inputs, outputs)
    bound = session.bind({}, [State("x0", "y0")])
    bound.step()
    assert len(bound.outputs) == outputs - 1


def test_a_profile_tells_the_time_of_each_operator(recurrent: Graph) -> None:
    session = ort.load(recurrent.path, recurrent, Options(profile=True, optimize=False))
    stepped(session.bind(SHAPES, STATES), 10)
    found = {operator.op_type: operator for operator in session.operators()}
    # The first fifth warms up.
    assert found["MatMul"].calls == 8
    assert (found["MatMul"].ran_on, found["MatMul"].accelerated) == ("CPUExecutionProvider", True)


def test_what_runs_inside_a_branch_is_timed_once(tmp_path: Path) -> None:
    then = helper.make_graph([helper.make_node("Tanh", ["x"], ["a"])], "then", [], [info("a", [1, 64])])
    other = helper.make_graph([helper.make_node("Neg", ["x"], ["b"])], "else", [], [info("b", [1, 64])])
    branch = helper.make_node("If", ["yes"], ["y"], then_branch=then, else_branch=other)
    inputs = [info("x", [1, 64]), info("yes", [1], TensorProto.BOOL)]
    graph = saved(tmp_path / "branch.onnx", [branch], inputs, [info("y", [1, 64])])
    session = ort.load(graph.path, graph, Options(profile=True))
    for _ in range(20):
        session.run({"x": np.ones((1, 64), np.float32), "yes": np.array([True])})

    assert {operator.op_type for operator in session.operators()} == {"Tanh"}


def test_without_a_profile_there_are_no_operator_times(recurrent: Graph) -> None:
    assert ort.load(recurrent.path, recurrent, Options()).operators() == ()


def test_all_refusals_have_a_kind_for_the_wire() -> None:
    assert {error.kind for error in RuntimeFailure.__subclasses__()} == {
        "BAD_MODEL", "UNSUPPORTED_OP", "BAD_OUTPUT", "OUT_OF_MEMORY", "NO_ACCELERATOR",
    }  # fmt: skip
