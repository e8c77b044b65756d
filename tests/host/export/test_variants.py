"""Every variant of small streaming models is made, loads, and follows the original over whole streams."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import onnx
import pytest
from ai_edge_litert.interpreter import Interpreter
from exporting import Bench, bench, outputs_of, reference_of, users_folder

from rtfleet import parity
from rtfleet.artifact import EXPORTED_VARIANTS, Artifact, PreparedModel, file_of
from rtfleet.fidelity import ParityResult

pytestmark = pytest.mark.slow

RUN_HERE = tuple(variant for variant in EXPORTED_VARIANTS if variant.startswith(("onnx", "tflite")))
SMALL = ("onnx-fp32", "onnx-int8-static", "tflite-fp32", "tflite-int8-static")


@dataclass(frozen=True)
class Exported:
    """A model and its variants."""

    prepared: PreparedModel
    artifacts: dict[str, Artifact]

    def against_original(self, variant: str) -> ParityResult:
        """Over all streams."""
        return parity.compare(
            reference_of(self.prepared),
            outputs_of(self.prepared, self.artifacts[variant]),
            score=self.prepared.outputs[0],
            threshold=self.prepared.threshold,
            against="the original model",
            optimized=True,
        )


@pytest.fixture(name="here", scope="module")
def _here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    place = tmp_path_factory.mktemp("variants")
    with bench(users_folder(place / "user"), place / "cache", place / "logs") as here:
        yield here


def exported(here: Bench, source: str, variants: tuple[str, ...]) -> Exported:
    prepared = here.prepare(source)
    artifacts = {}
    # The two converters work side by side; one makes its own variants one after another.
    rows = [list(group) for _, group in groupby(variants, lambda variant: variant.partition("-")[0])]
    for pair in zip(*rows, strict=True):
        artifacts |= here.export_together(prepared, pair)
    return Exported(prepared, artifacts)


@pytest.fixture(name="echo", scope="module")
def _echo(here: Bench) -> Exported:
    return exported(here, "echo", RUN_HERE)


@pytest.fixture(name="recurrent", scope="module", params=["gru", "lstm"])
def _recurrent(here: Bench, request: pytest.FixtureRequest) -> Exported:
    return exported(here, request.param, RUN_HERE)


@pytest.fixture(name="spectral", scope="module")
def _spectral(here: Bench) -> Exported:
    return exported(here, "spectral", SMALL)


@pytest.fixture(name="all_quantized", scope="module")
def _all_quantized(here: Bench) -> Exported:
    return exported(here, "spectral_whole", SMALL)


@pytest.fixture(name="encoder", scope="module")
def _encoder(here: Bench) -> Exported:
    return exported(here, "encoder", SMALL)


def check_all(found: Exported) -> None:
    for variant, artifact in found.artifacts.items():
        result = found.against_original(variant)
        for owed in parity.default_budgets(artifact):
            check = parity.judge(owed, result, None)
            assert check.verdict == "PASS", f"{variant}: {check.reason}"


def test_every_variant_of_a_streaming_model_is_within_the_default_parity(echo: Exported) -> None:
    """150 frames in two streams; a frame still counts seconds later, so an error in the state would pile up."""
    assert set(echo.artifacts) == set(RUN_HERE)
    assert len(reference_of(echo.prepared)["score"]) == 150
    check_all(echo)


def test_every_variant_of_a_recurrent_model_is_within_the_default_parity(recurrent: Exported) -> None:
    """A GRU's or LSTM's state output is also read inside the network."""
    check_all(recurrent)


@pytest.mark.parametrize("variant", ["onnx-fp32", "tflite-fp32"])
def test_fp32_carries_its_state_as_the_original_does(echo: Exported, variant: str) -> None:
    """The comparison could tell: the outputs depend on the state, and on where a stream starts."""
    assert (echo.against_original(variant).snr_db or np.inf) >= 80
    score = reference_of(echo.prepared)["score"].ravel()
    assert abs(score[74] - score[0]) > 0.1
    assert abs(score[75] - score[0]) < 0.01


@pytest.mark.parametrize("format", ["onnx", "tflite"])
def test_fp16_and_int8_are_smaller_than_fp32(echo: Exported, recurrent: Exported, format: str) -> None:
    for found in (echo, recurrent):
        sizes = {
            variant.partition("-")[2]: artifact.size_bytes
            for variant, artifact in found.artifacts.items()
            if variant.startswith(format)
        }
        assert sizes["fp16"] < 0.7 * sizes["fp32"]
        assert sizes["int8-dynamic"] < 0.6 * sizes["fp32"]
        assert sizes["int8-static"] < 0.6 * sizes["fp32"]


@pytest.mark.parametrize("variant", RUN_HERE)
def test_an_artifact_is_named_by_its_file_and_says_how_it_is_fed(echo: Exported, variant: str) -> None:
    artifact = echo.artifacts[variant]
    graph = artifact.graphs[0]

    assert artifact.id == graph.files[0].sha256
    assert [tensor.name for tensor in graph.inputs] == ["audio", "tail", "memory"]
    assert [tensor.name for tensor in graph.outputs] == ["score", "tail_out", "memory_out"]
    assert [tensor.dtype for tensor in (*graph.inputs, *graph.outputs)] == ["float32"] * 6
    assert graph.shapes == {"audio": (1, 320), "tail": (1, 80), "memory": (1, 64)}
    assert [(state.input, state.output) for state in graph.states] == [("tail", "tail_out"), ("memory", "memory_out")]
    assert [state.initial is None for state in graph.states] == [True, False]
    for file in artifact.needs:
        assert file.location is not None
        assert file_of(file.location).sha256 == file.sha256


def quantized_nodes(artifact: Artifact) -> set[str]:
    """Nodes of an ONNX file that read an activation through a DequantizeLinear."""
    location = artifact.graphs[0].files[0].location
    graph = onnx.load(location).graph
    weights = {tensor.name for tensor in graph.initializer}
    activations = {
        node.output[0] for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] not in weights
    }
    return {node.name for node in graph.node if set(node.input) & activations and node.op_type != "QuantizeLinear"}


def test_activations_of_a_kept_module_are_not_quantized_in_onnx(spectral: Exported, all_quantized: Exported) -> None:
    kept, whole = (quantized_nodes(found.artifacts["onnx-int8-static"]) for found in (spectral, all_quantized))

    assert [name for name in whole if name.startswith("front")]
    assert not [name for name in kept if name.startswith("front")]
    assert [name for name in kept if name.startswith("body")]


@pytest.mark.parametrize("variant", ["onnx-int8-static", "tflite-int8-static"])
def test_a_kept_front_end_keeps_the_numbers(spectral: Exported, all_quantized: Exported, variant: str) -> None:
    check_all(spectral)
    kept, whole = (found.against_original(variant).snr_db for found in (spectral, all_quantized))

    assert kept is not None and whole is not None
    assert kept > whole + 6


def test_a_dynamic_time_axis_stays_dynamic_in_onnx(encoder: Exported) -> None:
    for variant in ("onnx-fp32", "onnx-int8-static"):
        graph = encoder.artifacts[variant].graphs[0]
        assert graph.inputs[0].shape == (1, -1, 16)
        assert graph.shapes == {"features": (1, 12, 16)}


def test_a_dynamic_time_axis_is_two_signatures_in_tflite(encoder: Exported) -> None:
    for variant in ("tflite-fp32", "tflite-int8-static"):
        interpreter = Interpreter(str(encoder.artifacts[variant].graphs[0].files[0].location))
        lengths = {
            name: interpreter.get_signature_runner(name).get_input_details()["features"]["shape"].tolist()
            for name in interpreter.get_signature_list()
        }
        assert lengths == {"serving_default": [1, 12, 16], "serving_2x": [1, 24, 16]}


def test_a_model_of_features_is_within_the_default_parity(encoder: Exported) -> None:
    check_all(encoder)


def test_a_streaming_encoder_hears_its_lookahead_and_says_so(here: Bench) -> None:
    """Its chunks overlap by what it looks ahead; the score of a chunk depends on it."""
    found = exported(here, "streamed", ("onnx-fp32", "tflite-fp32"))

    check_all(found)
    assert {artifact.lookahead_ms for artifact in found.artifacts.values()} == {2.0}
    assert {artifact.hop_samples for artifact in found.artifacts.values()} == {128}
