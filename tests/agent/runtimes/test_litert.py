"""LiteRT on the seam, against its own public API called frame by frame."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tflite_models as models
from ai_edge_litert.interpreter import Interpreter

from rtfleet_agent.runtimes import litert
from rtfleet_agent.runtimes.base import (
    BadModel,
    Graph,
    NoAccelerator,
    OperatorTime,
    Options,
    Placement,
    RuntimeFailure,
    State,
    UnsupportedModel,
    requantize,
    undisturbed_total,
)
from rtfleet_agent.runtimes.litert_profile import BATCH_FRAMES, BATCHES, UNSEEN, operator_times

FRAMES = BATCH_FRAMES * BATCHES


def opened(path: Path, options: Options | None = None, shapes: dict | None = None) -> litert.Session:
    return litert.load(path, Graph("main", path, shapes or {}), options or Options())


def frames(count: int, dtype: str = "float32") -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.integers(-5, 6, (count, 1, 4)).astype(dtype)


def stepped(bound, values: np.ndarray, source: str, target: str = "score") -> list[list]:
    results = []
    for value in values:
        bound.inputs[source][...] = value
        bound.step()
        results.append(bound.outputs[target].ravel().tolist())
    return results


def test_a_state_is_carried_from_frame_to_frame(tmp_path: Path) -> None:
    bound = opened(models.accumulator(tmp_path / "model.tflite")).bind({}, [State("h", "h_out")])
    values = frames(101)
    assert stepped(bound, values, "audio") == [
        (values[: i + 1].sum(0) + values[i]).ravel().tolist() for i in range(101)
    ]


def test_names_are_those_of_the_signature(tmp_path: Path) -> None:
    session = opened(models.accumulator(tmp_path / "model.tflite"))
    assert sorted(tensor.name for tensor in session.inputs) == ["audio", "h"]
    assert sorted(tensor.name for tensor in session.outputs) == ["h_out", "score"]


def test_names_of_tensors_can_be_used_where_the_signature_has_others(tmp_path: Path) -> None:
    path = models.accumulator(tmp_path / "model.tflite")
    session = opened(path, shapes={"graph_audio": (1, 4), "graph_h": (1, 4)})
    bound = session.bind({}, [State("graph_h", "graph_h_out")])
    assert stepped(bound, frames(1), "graph_audio", "graph_score") == [(2 * frames(1)).ravel().tolist()]


@pytest.mark.parametrize("before", [0, 1, 8])
def test_reset_forgets_the_past(tmp_path: Path, before: int) -> None:
    bound = opened(models.accumulator(tmp_path / "model.tflite")).bind({}, [State("h", "h_out")])
    first = stepped(bound, frames(before), "audio")
    bound.reset()
    assert stepped(bound, frames(before), "audio") == first


def test_an_initial_value_comes_from_its_file_also_after_a_reset(tmp_path: Path) -> None:
    np.save(tmp_path / "h.npy", np.full((1, 4), 50, np.float32))
    state = State("h", "h_out", tmp_path / "h.npy")
    bound = opened(models.accumulator(tmp_path / "model.tflite")).bind({}, [state])
    expected = (2 * frames(1) + 50).ravel().tolist()
    assert stepped(bound, frames(1), "audio") == [expected]
    bound.reset()
    assert stepped(bound, frames(1), "audio") == [expected]


def plain_int8_loop(path: Path, values: np.ndarray) -> list[list[int]]:
    """The same, through the public API, the state requantized by the formula."""
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    x, h = (details["index"] for details in interpreter.get_input_details())
    score, h_out = (details["index"] for details in interpreter.get_output_details())
    tensors = {tensor.name: tensor for session in [opened(path)] for tensor in (*session.inputs, *session.outputs)}
    state = np.full((1, 4), tensors["h"].zero_point, np.int8)
    results = []
    for value in values:
        interpreter.set_tensor(x, value)
        interpreter.set_tensor(h, state)
        interpreter.invoke()
        results.append(interpreter.get_tensor(score).ravel().tolist())
        state = requantize(interpreter.get_tensor(h_out), tensors["h_out"], tensors["h"])
    return results


def test_an_int8_state_whose_ends_differ_in_scale_is_requantized_and_that_is_said(tmp_path: Path) -> None:
    path = models.int8_accumulator(tmp_path / "model.tflite")
    session = opened(path)
    bound = session.bind({}, [State("h", "h_out")])
    values = frames(60, "int8")
    assert stepped(bound, values, "x") == plain_int8_loop(path, values)
    assert "state h requantized between its two ends: scale 0.2, zero point 3 out" in session.placement().notes[-1]


def test_an_int8_state_on_one_grid_is_copied_and_starts_at_the_value_for_zero(tmp_path: Path) -> None:
    path = models.int8_accumulator(tmp_path / "model.tflite", out_scale=0.15, out_zero_point=-5)
    session = opened(path)
    bound = session.bind({}, [State("h", "h_out")])
    values = frames(60, "int8")
    assert stepped(bound, values, "x") == plain_int8_loop(path, values)
    assert not any("requantized" in note for note in session.placement().notes)


def test_scale_and_zero_point_are_told_of_quantized_tensors_only(tmp_path: Path) -> None:
    tensor = opened(models.int8_accumulator(tmp_path / "int8.tflite")).inputs[1]
    assert (tensor.dtype, tensor.zero_point) == ("int8", -5)
    assert tensor.scale == pytest.approx(0.15)
    assert opened(models.accumulator(tmp_path / "float.tflite")).inputs[0].scale is None


def test_state_inside_the_model_is_carried_and_only_reset_clears_it(tmp_path: Path) -> None:
    bound = opened(models.inner_state(tmp_path / "model.tflite")).bind({}, [])
    values = frames(30)
    expected = [(100 + values[: i + 1].sum(0)).ravel().tolist() for i in range(30)]
    assert stepped(bound, values, "x") == expected
    assert stepped(bound, values[:1], "x") != expected[:1]
    bound.reset()
    assert stepped(bound, values, "x") == expected


@pytest.mark.parametrize("rows", [2, 6])
def test_the_signature_whose_shapes_fit_is_taken(tmp_path: Path, rows: int) -> None:
    path = models.two_signatures(tmp_path / "model.tflite")
    session = opened(path, shapes={"x": (rows, 3)})
    bound = session.bind({"x": (rows, 3)}, [])
    bound.inputs["x"][...] = 2
    for _ in range(3):
        bound.step()
    assert bound.outputs["y"].tolist() == [[4.0] * 3] * rows
    assert f"signature t{rows}" in session.placement().notes


def test_a_dynamic_dim_is_told_and_bound(tmp_path: Path) -> None:
    session = opened(models.dynamic_batch(tmp_path / "model.tflite"))
    assert session.inputs[0].shape == (-1, 3)
    bound = session.bind({"x": (5, 3)}, [])
    bound.inputs["x"][...] = 3
    bound.step()
    bound.step()
    assert bound.outputs["y"].tolist() == [[6.0] * 3] * 5


def test_run_takes_any_shape_and_leaves_what_is_bound_alone(tmp_path: Path) -> None:
    session = opened(models.dynamic_batch(tmp_path / "model.tflite"))
    bound = session.bind({"x": (2, 3)}, [])
    bound.inputs["x"][...] = 1
    bound.step()
    for rows in (5, 1, 7):
        assert session.run({"x": np.ones((rows, 3), np.float32)})["y"].shape == (rows, 3)
    bound.step()
    assert bound.outputs["y"].tolist() == [[2.0] * 3] * 2


def test_an_output_that_moves_from_run_to_run_is_copied_out(tmp_path: Path) -> None:
    bound = opened(models.shape_from_data(tmp_path / "model.tflite")).bind({}, [])
    bound.inputs["dims"][...] = [2, 3]
    for start in (0, 10, 20):
        bound.inputs["x"][...] = np.arange(start, start + 6)
        bound.step()
        assert bound.outputs["y"].tolist() == [[start, start + 1, start + 2], [start + 3, start + 4, start + 5]]


def test_scalars_go_through(tmp_path: Path) -> None:
    bound = opened(models.rank_0(tmp_path / "model.tflite")).bind({}, [])
    for value in (1, 5, -2):
        bound.inputs["n"][...] = value
        bound.step()
        assert bound.outputs["y"] == 2 * value


def test_an_input_keeps_its_value_from_frame_to_frame(tmp_path: Path) -> None:
    bound = opened(models.accumulator(tmp_path / "model.tflite")).bind({}, [State("h", "h_out")])
    bound.inputs["audio"][...] = 1
    for _ in range(50):
        bound.step()
    assert bound.outputs["score"].tolist() == [[51.0] * 4]


def test_a_state_whose_ends_differ_in_shape_is_refused(tmp_path: Path) -> None:
    model = models.TfliteModel().graph().tensor("h", [1, 4]).tensor("h_out", [1, 8]).tensor("w", [1, 8])
    model.tensor("axis", [1, 4], constant=np.zeros(4, np.float32))
    model.op(models.OPS.CONCATENATION, ["h", "axis"], ["h_out"], models.schema.ConcatenationOptionsT())
    session = opened(model.io(["h"], ["h_out"]).save(tmp_path / "model.tflite"))
    with pytest.raises(UnsupportedModel, match=r"state 'h' is float32 \[1, 4\], but its output 'h_out'"):
        session.bind({}, [State("h", "h_out")])


def test_a_custom_operator_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=r"odd\.tflite: custom operator 'Frobnicate'"):
        opened(models.custom_op(tmp_path / "odd.tflite")).bind({}, [])


@pytest.mark.parametrize("content", [b"", b"garbage" * 40])
def test_a_file_that_is_no_model_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.tflite"
    path.write_bytes(content)
    with pytest.raises(BadModel, match=r"broken\.tflite: not a TFLite model"):
        opened(path)


def test_a_truncated_model_is_named(tmp_path: Path) -> None:
    path = models.accumulator(tmp_path / "short.tflite")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(BadModel, match=r"short\.tflite"):
        opened(path)


def test_an_accelerator_that_is_not_here_is_refused_with_what_is(tmp_path: Path) -> None:
    missing = litert.describe().unavailable
    for accelerator in missing:
        with pytest.raises(NoAccelerator, match="offers cpu") as refused:
            opened(models.accumulator(tmp_path / "model.tflite"), Options(accelerator=accelerator))
        # In the libraries' own words, not in numbers of source lines.
        assert "Failed to" in str(refused.value) and "Failed to" in missing[accelerator]


def test_where_it_may_the_cpu_does_it_and_that_is_said(tmp_path: Path) -> None:
    for accelerator in litert.describe().unavailable:
        asked = Options(accelerator=accelerator, allow_fallback=True)
        placement = placed(models.accumulator(tmp_path / "model.tflite"), asked)
        assert (placement.asked, placement.ran, placement.accelerated_share) == (accelerator, "XNNPACK", 0.0)
        assert f"fell back to the CPU: no {accelerator} could be used" in placement.notes


def on_gpu() -> Options:
    if "gpu" not in litert.describe().accelerators:
        pytest.skip("LiteRT finds no GPU here")
    return Options(accelerator="gpu")


def test_on_a_gpu_a_state_is_carried_and_reset(tmp_path: Path) -> None:
    session = opened(models.accumulator(tmp_path / "model.tflite"), on_gpu())
    bound = session.bind({}, [State("h", "h_out")])
    values = frames(20)
    first = stepped(bound, values, "audio")
    bound.reset()
    assert stepped(bound, values, "audio") == first
    assert first == [(values[: i + 1].sum(0) + values[i]).ravel().tolist() for i in range(20)]
    placement = session.placement()
    assert (placement.ran, placement.accelerated_nodes, placement.nodes) == ("LiteRT GPU", 2, 2)
    assert placement.notes[0].startswith("adapter: ")


def test_a_gpu_that_would_leave_nodes_to_the_cpu_is_refused_unless_it_may(tmp_path: Path) -> None:
    path = models.inner_state(tmp_path / "model.tflite")
    with pytest.raises(NoAccelerator, match=r"some nodes of model\.tflite would have run on the CPU"):
        opened(path, on_gpu())
    placement = placed(path, replace(on_gpu(), allow_fallback=True))
    assert placement.accelerated_share is None and "share of nodes unknown" in placement.notes[-1]


def test_any_shape_runs_on_a_gpu(tmp_path: Path) -> None:
    session = opened(models.dynamic_batch(tmp_path / "model.tflite"), on_gpu())
    for rows in (2, 5):
        assert session.run({"x": np.ones((rows, 3), np.float32)})["y"].tolist() == [[2.0] * 3] * rows


def placed(path: Path, options: Options | None = None) -> Placement:
    session = opened(path, options)
    session.bind({}, [])
    return session.placement()


def test_placement_tells_the_delegate_that_ran_and_its_nodes(tmp_path: Path) -> None:
    path = models.accumulator(tmp_path / "model.tflite")
    with_xnnpack, plain = placed(path), placed(path, Options(optimize=False))
    assert (with_xnnpack.ran, with_xnnpack.accelerated_share) == ("XNNPACK", 1.0)
    assert (with_xnnpack.accelerated_nodes, with_xnnpack.nodes) == (2, 2)
    assert (plain.ran, plain.accelerated_share) == ("built-in kernels", 0.0)
    assert (plain.accelerated_nodes, plain.nodes) == (0, 2)
    assert "no default delegates" in plain.notes


def test_a_graph_that_xnnpack_takes_partly_has_a_share(tmp_path: Path) -> None:
    # CALL_ONCE is no operator of XNNPACK's; the variable's are.
    placement = placed(models.inner_state(tmp_path / "model.tflite"))
    assert placement.ran == "XNNPACK" and placement.nodes == 5
    assert placement.accelerated_share == placement.accelerated_nodes / 5 < 1


def test_the_share_of_another_subgraph_is_unknown_and_that_is_said(tmp_path: Path) -> None:
    session = opened(models.two_signatures(tmp_path / "model.tflite"), shapes={"x": (6, 3)})
    session.bind({"x": (6, 3)}, [])
    assert session.placement().accelerated_share is None
    assert any("share of nodes unknown: LiteRT lists" in note for note in session.placement().notes)


def profiled(path: Path, options: Options) -> dict[str, OperatorTime]:
    session = opened(path, options)
    session.bind({}, []).step()
    return {one.name: one for one in session.operators()}


@pytest.mark.parametrize("optimize", [True, False])
def test_a_profile_tells_the_operators_and_what_ran_them(tmp_path: Path, optimize: bool) -> None:
    found = profiled(models.accumulator(tmp_path / "model.tflite"), Options(profile=True, optimize=optimize))
    operators = [one for one in found.values() if one.op_type]
    # XNNPACK counts its operators itself; without it they are the file's nodes.
    assert {one.ran_on for one in operators} == {"XNNPACK" if optimize else "built-in kernels"}
    assert {one.accelerated for one in operators} == {optimize}
    assert {one.calls for one in operators} == {FRAMES}
    assert [one.op_type for one in operators] == (["Add (ND)"] * 2 if optimize else ["ADD"] * 2)


def test_a_profile_of_a_part_that_xnnpack_leaves_names_both(tmp_path: Path) -> None:
    found = profiled(models.inner_state(tmp_path / "model.tflite"), Options(profile=True))
    assert found["CALL_ONCE #0"].ran_on == "built-in kernels"
    assert any(one.ran_on == "XNNPACK" for one in found.values())


def test_what_is_too_short_for_the_profiler_is_no_operator(tmp_path: Path) -> None:
    found = profiled(models.accumulator(tmp_path / "model.tflite"), Options(profile=True))
    assert found[UNSEEN].accelerated is None and found[UNSEEN].op_type == ""


def test_one_call_that_was_interrupted_makes_no_operator_the_slowest() -> None:
    assert undisturbed_total([1000] * 39 + [16_000_000]) == 40_000
    assert undisturbed_total([0, 1000] * 20) == pytest.approx(20_000, rel=0.1)
    assert (undisturbed_total([3000]), undisturbed_total([])) == (3000, 0)


def test_a_profile_takes_the_shapes_that_were_bound(tmp_path: Path) -> None:
    session = opened(models.dynamic_batch(tmp_path / "model.tflite"), Options(profile=True))
    session.bind({"x": (50, 3)}, []).step()
    assert any(one.calls == FRAMES for one in session.operators())


def test_without_a_profile_there_are_no_operator_times(tmp_path: Path) -> None:
    session = opened(models.accumulator(tmp_path / "model.tflite"))
    session.bind({}, []).step()
    assert session.operators() == ()


def test_a_profiler_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailure, match=r"no times per operator: this LiteRT has no nothing\.so"):
        operator_times(tmp_path / "nothing.so", tmp_path / "model.tflite", "", 0, {}, Options())


def test_the_facts_name_version_and_library() -> None:
    facts = litert.describe()
    assert facts.version[0].isdigit()
    assert len(facts.library_sha256) == 64
    assert facts.accelerators[0] == "cpu"
    assert {*facts.accelerators, *facts.unavailable} == {"cpu", "gpu", "npu"}


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (6, 6), (2, 5), (5, 2)])
def test_the_one_op_model_has_the_inputs_and_outputs_asked(tmp_path: Path, inputs: int, outputs: int) -> None:
    graph = litert.one_op(tmp_path, inputs, outputs)
    session = litert.load(graph.path, graph, Options())
    assert (len(session.inputs), len(session.outputs)) == (inputs, outputs)
    bound = session.bind({}, [State("x0", "y0")])
    bound.step()
    bound.step()
    assert len(bound.outputs) == outputs - 1


class PublicOnly:
    """An interpreter without the inner object."""

    def __init__(self, path: Path) -> None:
        interpreter = Interpreter(str(path))
        interpreter.allocate_tensors()
        self.set_tensor, self.invoke, self.get_tensor = (
            interpreter.set_tensor,
            interpreter.invoke,
            interpreter.get_tensor,
        )


def test_without_the_inner_object_the_public_calls_carry_the_frames(tmp_path: Path) -> None:
    path = models.accumulator(tmp_path / "model.tflite")
    calls = litert.Calls(PublicOnly(path), opened(path).interface)
    held = {name: calls.input_memory(name, (1, 4)) for name in ("audio", "h")}
    held["audio"][...], held["h"][...] = 2, 30
    for action in (*calls.before_invoke(held), calls.invoke):
        action()
    assert calls.read("score").tolist() == [[34.0] * 4]
    assert calls.output_addresses() == {}


@pytest.fixture(name="micro_wake_word", scope="module")
def _micro_wake_word(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of models that pymicro-wakeword ships."""
    folder = tmp_path_factory.mktemp("micro")
    fetch = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), "pymicro-wakeword==2.5.0"]
    if subprocess.run(fetch, check=False, capture_output=True).returncode:
        pytest.skip("pymicro-wakeword 2.5.0 can't be fetched")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder)
    return folder / "pymicro_wakeword" / "models"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "taken", "nodes"), [("okay_nabu", 56, 61), ("alexa", 43, 45)])
def test_of_a_micro_wake_word_xnnpack_leaves_what_the_profiler_sees_elsewhere(
    micro_wake_word: Path, name: str, taken: int, nodes: int
) -> None:
    path = micro_wake_word / f"{name}.tflite"
    session = opened(path, Options(profile=True))
    session.bind({}, []).step()
    placement = session.placement()
    left = [one for one in session.operators() if one.ran_on == "built-in kernels"]
    assert (placement.accelerated_nodes, placement.nodes) == (taken, nodes)
    assert len(left) == nodes - taken


@pytest.mark.slow
def test_a_shipped_wake_word_with_state_inside_repeats_itself_only_after_a_reset(micro_wake_word: Path) -> None:
    bound = opened(micro_wake_word / "alexa.tflite").bind({}, [])
    values = np.random.default_rng(0).integers(-128, -60, (200, 1, 3, 40)).astype(np.int8)
    first = stepped(bound, values, "input_audio", "dense_1")
    again = stepped(bound, values, "input_audio", "dense_1")
    bound.reset()
    assert stepped(bound, values, "input_audio", "dense_1") == first
    assert again[0] != first[0]
