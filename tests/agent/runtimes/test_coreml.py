"""Core ML on the seam, up to the last call that a system without Core ML allows.

What only a Mac can do (compile, load, predict, plan) is held against coremltools' own signatures and types, and against
a function that stands where Core ML's prediction would.
"""

from __future__ import annotations

import inspect
import platform
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from coreml_models import CT, Package
from coremltools.models import CompiledMLModel, MLModel, compute_device, compute_plan
from coremltools.models.model import MLState

from rtfleet_agent import workers
from rtfleet_agent.launch import Failed, Inspected, WorkerRequest
from rtfleet_agent.runtimes import coreml, coreml_plan, coreml_spec
from rtfleet_agent.runtimes.base import (
    BadModel,
    Graph,
    NoAccelerator,
    Options,
    State,
    Tensor,
    UnsupportedModel,
)
from rtfleet_agent.runtimes.coreml_plan import Planned

pytestmark = pytest.mark.filterwarnings(  # coremltools leaves temporary folders to the garbage collector
    "ignore:Implicitly cleaning up:ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
elsewhere = pytest.mark.skipif(platform.system() == "Darwin", reason="here Core ML runs")


def graph_of(package: Path) -> Graph:
    return Graph("main", package / "Manifest.json")


def streaming() -> Package:
    return Package().input("audio", [1, 4]).input("h", [1, 4]).output("score", [1, 4]).output("h_out", [1, 4])


# ---- what a package says of itself ---------------------------------------------------------------------------------


def test_tensors_are_told_with_dtypes_and_dynamic_dims(tmp_path: Path) -> None:
    package = (
        Package(version=9)
        .input("audio", [1, 320])
        .input("features", [1, 12, 16], "FLOAT16", ranges=[(1, 1), (1, 400), (16, 16)])
        .input("mask", [1, 12], "INT32", shapes=[[1, 12], [1, 24]])
        .output("score", [1], "DOUBLE")
        .state("h", [1, 48])
        .save(tmp_path / "m.mlpackage")
    )
    found = coreml_spec.read(package)
    assert found.inputs == (
        Tensor("audio", "float32", (1, 320)),
        Tensor("features", "float16", (1, -1, 16)),
        Tensor("mask", "int32", (1, -1)),
    )
    assert found.outputs == (Tensor("score", "float64", (1,)),)
    assert found.states == (Tensor("h", "float16", (1, 48)),)
    assert found.needs_macos == "15"


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (3, 2), (2, 5)])
def test_the_one_op_model_has_the_inputs_and_outputs_asked(tmp_path: Path, inputs: int, outputs: int) -> None:
    graph = coreml.one_op(tmp_path, inputs, outputs)
    session = coreml.load(graph.path, graph, Options())
    assert session.inputs == tuple(Tensor(f"x{index}", "float32", (1,)) for index in range(inputs))
    assert session.outputs == tuple(Tensor(f"y{index}", "float32", (1,)) for index in range(outputs))
    spec = CT.models.utils.load_spec(str(graph.path.parent))
    operations = spec.mlProgram.functions["main"].block_specializations["CoreML5"].operations
    assert Counter(operation.type for operation in operations) == {"identity": max(inputs, outputs)}


def test_the_first_file_must_be_a_package_s_manifest(tmp_path: Path) -> None:
    for path in (tmp_path / "model.mlmodel", tmp_path / "folder" / "Manifest.json"):
        with pytest.raises(BadModel, match=r"folder x\.mlpackage, and its Manifest\.json the first file"):
            coreml.load(path, Graph("main", path), Options())


@pytest.mark.parametrize("file", ["Manifest.json", "Data/com.apple.CoreML/model.mlmodel"])
def test_a_damaged_package_is_named(tmp_path: Path, file: str) -> None:
    package = streaming().save(tmp_path / "odd.mlpackage")
    (package / file).write_bytes(b"\xff garbage \xff" * 20)
    with pytest.raises(BadModel, match=r"odd\.mlpackage: not a Core ML package, or damaged"):
        coreml_spec.read(package)


def test_an_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="'picture' is a image; only tensors"):
        coreml_spec.read(Package().image("picture").save(tmp_path / "m.mlpackage"))


def test_a_model_of_several_functions_is_refused_with_their_names(tmp_path: Path) -> None:
    package = streaming()
    for name in ("encode", "decode"):
        package.spec.description.functions.add().name = name
    with pytest.raises(UnsupportedModel, match=r"several functions \(encode, decode\)"):
        coreml_spec.read(package.save(tmp_path / "m.mlpackage"))


def run(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_reading_loads_none_of_the_converters_packages_and_leaves_them_to_others() -> None:
    program = "import sys\nfrom rtfleet_agent.runtimes import coreml_spec\ncoreml_spec.coremltools()\n"
    loaded = run(program + "print(*sys.modules)").split()
    assert "coremltools" in loaded
    assert not {"torch", "tensorflow", "sklearn", "google.cloud"} & set(loaded)


def test_a_missing_package_names_the_extra_that_installs_it() -> None:
    told = run(
        "import sys\nsys.modules['coremltools'] = None\n"
        "from rtfleet_agent.runtimes import coreml_spec\n"
        "try: coreml_spec.coremltools()\n"
        "except coreml_spec.RuntimeFailure as error: print(error)"
    )
    assert "pip install 'rtfleet[coreml]'" in told


# ---- where Core ML is not ------------------------------------------------------------------------------------------

SENTENCE = f"Core ML runs on macOS; this device is {platform.system().lower()}"


@elsewhere
def test_the_facts_say_why_it_can_t_be_used() -> None:
    facts = coreml.describe()
    assert (facts.name, facts.accelerators, facts.error) == ("coreml", (), SENTENCE)


@elsewhere
def test_compiling_binding_and_running_are_refused_in_one_sentence(tmp_path: Path) -> None:
    graph = graph_of(streaming().save(tmp_path / "m.mlpackage"))
    session = coreml.load(graph.path, graph, Options())
    for refused in (
        lambda: coreml.compile(graph, tmp_path, Options()),
        lambda: coreml.load(tmp_path / "m.mlmodelc", graph, Options()),
        lambda: session.bind({}, [State("h", "h_out")]),
        lambda: session.run({}),
    ):
        with pytest.raises(UnsupportedModel) as raised:
            refused()
        assert str(raised.value) == SENTENCE
    session.close()


@elsewhere
def test_the_calls_that_need_a_mac_reach_coremltools_which_says_so(tmp_path: Path) -> None:
    package = streaming().save(tmp_path / "m.mlpackage")
    with pytest.raises(Exception, match=r"only support on macOS 10\.13"):
        coreml._compiled(CT, package, tmp_path)
    with pytest.raises(Exception, match=r"only support on macOS 10\.13"):
        CompiledMLModel(str(tmp_path / "m.mlmodelc"), compute_units=coreml.units("npu"))
    with pytest.raises(ValueError, match="MLComputePlan is not supported"):
        compute_plan.MLComputePlan.load_from_path(str(tmp_path / "m.mlmodelc"), compute_units=coreml.units("npu"))


def feeds(folder: Path) -> Path:
    np.savez(folder / "feeds.npz", audio=np.zeros((5, 1, 4), np.float32))
    return folder / "feeds.npz"


def test_a_worker_reads_a_package_anywhere(tmp_path: Path) -> None:
    graph = graph_of(streaming().save(tmp_path / "m.mlpackage"))
    answer = workers.ask(sys.executable, WorkerRequest("INSPECT", "coreml", graphs=(graph,)), tmp_path)
    assert isinstance(answer, Inspected), answer
    assert [tensor.name for tensor in (*answer.inputs, *answer.outputs)] == ["audio", "h", "score", "h_out"]


@elsewhere
def test_a_launch_fails_with_the_sentence_and_nothing_else(tmp_path: Path) -> None:
    graph = graph_of(streaming().save(tmp_path / "m.mlpackage"))
    request = WorkerRequest("LAUNCH", "coreml", graphs=(graph,), feeds=feeds(tmp_path), cache=tmp_path)
    answer = workers.ask(sys.executable, request, tmp_path)
    assert isinstance(answer, Failed)
    assert (answer.kind, answer.message) == ("UNSUPPORTED_OP", SENTENCE)


# ---- what is called on a Mac ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("accelerator", "unit"), [("cpu", "CPU_ONLY"), ("gpu", "CPU_AND_GPU"), ("npu", "CPU_AND_NE")])
def test_an_accelerator_is_a_compute_unit(accelerator: str, unit: str) -> None:
    assert coreml.units(accelerator) is getattr(CT.ComputeUnit, unit)


@pytest.mark.parametrize(
    ("call", "parameters"),
    [
        (CompiledMLModel.__init__, {"path", "compute_units"}),
        (CompiledMLModel.predict, {"data", "state"}),
        (CompiledMLModel.make_state, set()),
        (CT.models.utils.compile_model, {"model", "destination_path"}),
        (compute_plan.MLComputePlan.load_from_path, {"path", "compute_units"}),
        (compute_plan.MLComputePlan.get_compute_device_usage_for_mlprogram_operation, {"operation"}),
        (compute_plan.MLComputePlan.get_compute_device_usage_for_neuralnetwork_layer, {"layer"}),
        (compute_plan.MLComputePlan.get_estimated_cost_for_mlprogram_operation, {"operation"}),
        (MLModel.get_available_compute_devices, set()),
        (MLState.read_state, {"name"}),
    ],
)
def test_coremltools_has_the_calls_that_are_made(call, parameters: set[str]) -> None:
    assert parameters <= set(inspect.signature(call).parameters)


@pytest.mark.parametrize(("needed", "here"), [("14", "14.0"), ("14", "15.3.1"), ("10.15", "11.0"), ("13", "26.0")])
def test_a_macos_that_knows_the_specification_is_taken(needed: str, here: str) -> None:
    coreml.refuse_old_macos("m.mlpackage", needed, here)


@pytest.mark.parametrize(("needed", "here"), [("15", "14.7"), ("26", "15.0"), ("11", "10.15.7")])
def test_an_older_macos_is_refused_with_both_versions(needed: str, here: str) -> None:
    with pytest.raises(UnsupportedModel, match=f"m.mlpackage needs macOS {needed} or newer; this Mac has {here}"):
        coreml.refuse_old_macos("m.mlpackage", needed, here)


def test_a_compiled_model_is_kept_by_content_and_by_what_compiled_it(tmp_path: Path) -> None:
    one = streaming().save(tmp_path / "m.mlpackage")
    manifest = (one / "Manifest.json").read_bytes()
    key = coreml.content_key(one, "macOS 15.3 (24D60), coremltools 9.0")
    assert coreml.content_key(one, "macOS 15.4 (24E248), coremltools 9.0") != key
    (one / "Manifest.json").write_bytes(manifest + b"\n")
    assert coreml.content_key(one, "macOS 15.3 (24D60), coremltools 9.0") != key
    (one / "Manifest.json").write_bytes(manifest)
    assert coreml.content_key(one, "macOS 15.3 (24D60), coremltools 9.0") == key


# ---- a bound model: a function stands where Core ML's prediction would ---------------------------------------------


class Accumulator:
    """As `CompiledMLModel`: it counts what it is given, and replaces float16 arrays in the dict as coremltools does."""

    def __init__(self, dtype: type = np.float32) -> None:
        self.dtype = dtype
        self.states: list[list[float]] = []

    def predict(self, data: dict, state: list[float] | None = None) -> dict[str, np.ndarray]:
        MLModel._update_float16_multiarray_input_to_float32(data)
        h = data["h"] if state is None else np.array(state, np.float32)
        total = h + data["audio"]
        if state is not None:
            state[:] = total.ravel().tolist()
        return {"score": (total + data["audio"]).astype(self.dtype), "h_out": total.astype(self.dtype), "more": total}

    def make_state(self) -> list[float]:
        self.states.append([0.0] * 4)
        return self.states[-1]


def interface_of(package: Package, folder: Path) -> coreml_spec.Interface:
    return coreml_spec.read(package.save(folder / "m.mlpackage"))


def stepped(bound: coreml.Bound, values: np.ndarray) -> list[list[float]]:
    scores = []
    for value in values:
        bound.inputs["audio"][...] = value
        bound.step()
        scores.append(bound.outputs["score"].ravel().tolist())
    return scores


FRAMES = np.random.default_rng(1).integers(-5, 6, (40, 1, 4)).astype(np.float32)
SUMS = [(FRAMES[: i + 1].sum(0) + FRAMES[i]).ravel() for i in range(len(FRAMES))]


@pytest.mark.parametrize("dtype", ["FLOAT32", "FLOAT16"])
def test_an_explicit_state_is_carried_and_reset(tmp_path: Path, dtype: str) -> None:
    package = Package().input("audio", [1, 4], dtype).input("h", [1, 4], dtype)
    interface = interface_of(package.output("score", [1, 4], dtype).output("h_out", [1, 4], dtype), tmp_path)
    model = Accumulator(np.float16 if dtype == "FLOAT16" else np.float32)
    bound = coreml.Bound(interface, {}, [State("h", "h_out")], model.predict, model.make_state)
    assert stepped(bound, FRAMES) == [sums.tolist() for sums in SUMS]
    assert set(bound.inputs) == {"audio"} and set(bound.outputs) == {"score"}
    bound.reset()
    assert stepped(bound, FRAMES[:3]) == [sums.tolist() for sums in SUMS[:3]]
    assert model.states == [], "no state object for a model without states of Core ML's own"


def test_an_initial_value_comes_from_its_file_also_after_a_reset(tmp_path: Path) -> None:
    np.save(tmp_path / "h.npy", np.full((1, 4), 50, np.float32))
    model = Accumulator()
    state = State("h", "h_out", tmp_path / "h.npy")
    bound = coreml.Bound(interface_of(streaming(), tmp_path), {}, [state], model.predict, model.make_state)
    for _ in range(2):
        assert stepped(bound, FRAMES[:3]) == [(sums + 50).tolist() for sums in SUMS[:3]]
        bound.reset()


def test_core_ml_s_own_state_is_one_object_until_a_reset(tmp_path: Path) -> None:
    package = Package(version=9).input("audio", [1, 4]).output("score", [1, 4]).state("h", [4])
    model = Accumulator()
    bound = coreml.Bound(interface_of(package, tmp_path), {}, [], model.predict, model.make_state)
    assert stepped(bound, FRAMES) == [sums.tolist() for sums in SUMS]
    assert len(model.states) == 1
    bound.reset()
    assert stepped(bound, FRAMES[:3]) == [sums.tolist() for sums in SUMS[:3]]
    assert len(model.states) == 2


def test_a_state_whose_ends_differ_is_refused(tmp_path: Path) -> None:
    package = Package().input("h", [1, 4]).output("h_out", [1, 4], "FLOAT16")
    interface, model = interface_of(package, tmp_path), Accumulator()
    with pytest.raises(UnsupportedModel, match="state 'h' is float32"):
        coreml.Bound(interface, {}, [State("h", "h_out")], model.predict, model.make_state)


def test_dynamic_dims_are_bound_to_what_is_measured(tmp_path: Path) -> None:
    ranges = [(1, 1), (1, 400)]
    package = Package().input("audio", [1, 12], ranges=ranges).input("h", [1, 1]).output("score", [1, 12])
    interface, model = interface_of(package, tmp_path), Accumulator()
    bound = coreml.Bound(interface, {"audio": (1, 24)}, [], model.predict, model.make_state)
    bound.step()
    assert bound.outputs["score"].shape == (1, 24)
    with pytest.raises(UnsupportedModel, match="'audio' has dynamic dims"):
        coreml.Bound(interface, {}, [], model.predict, model.make_state)


def test_what_core_ml_says_of_a_failed_inference_is_passed_on(tmp_path: Path) -> None:
    def predict(data: dict, state: object) -> dict:
        raise RuntimeError("Error Domain=com.apple.CoreML: shape (1 x 4) is not in range\nstack")

    bound = coreml.Bound(interface_of(streaming(), tmp_path), {}, [], predict, list)
    with pytest.raises(UnsupportedModel, match=r"does not run with these inputs: .* is not in range$"):
        bound.step()


# ---- the compute plan ----------------------------------------------------------------------------------------------

DEVICES = {
    "cpu": compute_device.MLCPUComputeDevice,
    "gpu": compute_device.MLGPUComputeDevice,
    "npu": compute_device.MLNeuralEngineComputeDevice,
}


def device(kind: str):
    """A device of coremltools' own class, which only Core ML can fill."""
    return object.__new__(DEVICES[kind])


class Plan:
    """The methods of `MLComputePlan`, over coremltools' own records: operator -> (device or None, cost or None)."""

    def __init__(self, *told: tuple[str, str | None, float | None], nested: bool = False) -> None:
        self._told = told
        kinds = [
            compute_plan.MLModelStructureProgramOperation({}, name, [], [], index)
            for index, (name, _, _) in enumerate(told)
        ]
        if nested:
            inner = compute_plan.MLModelStructureProgramBlock([], kinds[1:], [])
            kinds = [compute_plan.MLModelStructureProgramOperation({}, told[0][0], [], [inner], 0)]
        block = compute_plan.MLModelStructureProgramBlock([], kinds, [])
        program = compute_plan.MLModelStructureProgram(
            {"main": compute_plan.MLModelStructureProgramFunction([], block)}
        )
        self.model_structure = compute_plan.MLModelStructure(None, program, None)

    def get_compute_device_usage_for_mlprogram_operation(self, operation):
        kind = self._told[operation.__proxy__][1]
        return None if kind is None else compute_plan.MLComputePlanDeviceUsage(device(kind), [device("cpu")])

    def get_estimated_cost_for_mlprogram_operation(self, operation):
        cost = self._told[operation.__proxy__][2]
        return None if cost is None else compute_plan.MLComputePlanCost(cost)


MIXED = (
    ("const", None, None),
    ("ios17.cast", "cpu", 0.01),
    ("ios17.conv", "npu", 0.5),
    ("ios17.linear", "npu", 0.3),
    ("ios17.gather", "cpu", 0.19),
    ("ios17.relu", "npu", None),
)


@pytest.mark.parametrize("nested", [False, True])
def test_the_plan_is_read_with_its_blocks_and_without_constants(nested: bool) -> None:
    found = coreml_plan.planned(Plan(("while_loop", "cpu", 0.1), *MIXED, nested=nested))
    assert [operator.op_type for operator in found] == ["while_loop", *(name for name, kind, _ in MIXED if kind)]
    assert found[2] == Planned("ios17.conv", "npu", 0.5)


def test_layers_of_an_old_network_are_read_too() -> None:
    layers = [compute_plan.MLModelStructureNeuralNetworkLayer(name, "convolution", [], [], None) for name in "ab"]
    structure = compute_plan.MLModelStructure(compute_plan.MLModelStructureNeuralNetwork(layers), None, None)
    usages = {"a": compute_plan.MLComputePlanDeviceUsage(device("gpu"), []), "b": None}
    plan = SimpleNamespace(
        model_structure=structure,
        get_compute_device_usage_for_neuralnetwork_layer=lambda layer: usages[layer.name],
    )
    assert coreml_plan.planned(plan) == (Planned("convolution", "gpu", None),)


def test_the_share_counts_operators_and_a_note_weighs_them() -> None:
    placement = coreml_plan.placement("npu", coreml_plan.planned(Plan(*MIXED)))
    assert (placement.asked, placement.ran, placement.accelerated_share) == ("npu", "Neural Engine, CPU", 0.75)
    assert "81% of the estimated work on the Neural Engine" in placement.notes


def test_what_runs_elsewhere_is_told_for_the_refusal() -> None:
    operators = coreml_plan.planned(Plan(*MIXED))
    assert coreml_plan.elsewhere("npu", operators) == "1 of 4 operators would run elsewhere (ios17.gather)"
    assert coreml_plan.elsewhere("gpu", operators).startswith("4 of 4 operators would run elsewhere (")
    assert coreml_plan.elsewhere("npu", [one for one in operators if one.device == "npu"]) == ""
    assert "names a device for no operator" in coreml_plan.elsewhere("npu", ())


def test_a_plan_without_operators_leaves_the_share_unknown() -> None:
    assert coreml_plan.placement("npu", ()).accelerated_share is None


@elsewhere
@pytest.mark.parametrize("allowed", [True, False])
def test_without_a_plan_an_accelerator_is_unknown_where_a_fall_back_is_allowed_and_refused_else(
    tmp_path: Path, allowed: bool
) -> None:
    graph = graph_of(streaming().save(tmp_path / "m.mlpackage"))
    session = coreml.load(graph.path, graph, Options(accelerator="npu", allow_fallback=allowed))
    if allowed:
        assert session.placement().accelerated_share is None
        assert any("MLComputePlan is not supported" in note for note in session.placement().notes)
    else:
        with pytest.raises(NoAccelerator, match=r"where the model ran can't be told .*offers cpu"):
            session.placement()


def test_on_the_cpu_nothing_can_be_elsewhere(tmp_path: Path) -> None:
    package = streaming().state("s", [1, 4]).save(tmp_path / "m.mlpackage")
    placement = coreml.load(package / "Manifest.json", graph_of(package), Options(optimize=False)).placement()
    assert (placement.ran, placement.accelerated_share) == ("CPU", 1.0)
    assert "state inside Core ML: s" in placement.notes
    assert "Core ML's optimizations can't be switched off" in placement.notes
