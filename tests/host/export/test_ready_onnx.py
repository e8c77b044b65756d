"""Other variants are made of a ready ONNX file, and held against that file; what can't be is a row with its reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from exporting import Bench, bench, outputs_of, users_folder
from onnx import TensorProto, helper, numpy_helper

from rtfleet import feeds, parity
from rtfleet.artifact import Artifact, PreparedModel, Tensor
from rtfleet.errors import ExportError
from rtfleet.export import onnx as exported
from rtfleet.suite import ModelEntry

MADE = ("onnx-fp16", "onnx-int8-dynamic", "onnx-int8-static")


async def inspect(runtime: str, path: Path) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """As an agent tells it: by the runtime itself."""
    assert runtime == "onnxruntime"
    return exported.tensors_of(exported.open_session(path))


def recurrent(path: Path, *, branch: bool = False, outside: bool = False, quantized: bool = False) -> Path:
    """h' = tanh(V h + W audio); score = mean of h'. The batch of audio and state is open.

    Args:
        branch: The score comes out of an If that reads h' from outside itself.
        outside: The weights lie in a file beside the model.
        quantized: h' goes through QuantizeLinear and DequantizeLinear.
    """
    random = np.random.default_rng(1)
    values = {"W": 0.1 * random.normal(size=(320, 64)), "V": 0.05 * random.normal(size=(64, 64))}
    weights = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in values.items()]
    nodes = [
        helper.make_node("MatMul", ["audio", "W"], ["wx"], name="heard"),
        helper.make_node("MatMul", ["h", "V"], ["vh"], name="remembered"),
        helper.make_node("Add", ["wx", "vh"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["h_out"]),
    ]
    told = "h_out"
    if quantized:
        weights += [numpy_helper.from_array(np.float32(0.01), "scale"), numpy_helper.from_array(np.int8(0), "zero")]
        nodes.append(helper.make_node("QuantizeLinear", ["h_out", "scale", "zero"], ["q"]))
        nodes.append(helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"]))
        told = "dq"
    mean = helper.make_node("ReduceMean", [told], ["score"], axes=[1])
    if branch:
        weights.append(numpy_helper.from_array(np.array(True), "always"))
        inner = helper.make_node("ReduceMean", [told], ["inner"], axes=[1])
        result = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
        graphs = [helper.make_graph([inner], name, [], [result]) for name in ("then", "else")]
        mean = helper.make_node("If", ["always"], ["score"], then_branch=graphs[0], else_branch=graphs[1])
    graph = helper.make_graph(
        [*nodes, mean],
        "recurrent",
        [helper.make_tensor_value_info(*value) for value in (("audio", 1, ["n", 320]), ("h", 1, ["n", 64]))],
        [helper.make_tensor_value_info(*value) for value in (("score", 1, ["n", 1]), ("h_out", 1, ["n", 64]))],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path, save_as_external_data=outside, location=f"{path.name}.data", size_threshold=0)
    return path


@pytest.fixture(name="here", scope="module")
def _here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    place = tmp_path_factory.mktemp("ready")
    with bench(users_folder(place / "user"), place / "cache", place / "logs") as here:
        yield here


def prepared_of(here: Bench, file: str, **more: object) -> PreparedModel:
    entry = ModelEntry("m", file, here.folder, clips=("clips",), task="vad", hop_ms=20, where=file, **more)  # type: ignore[arg-type]
    return here.runner.run(here.exports.prepare(entry, inspect, files_only=True))


def made(here: Bench, prepared: PreparedModel, variant: str) -> Artifact:
    return here.runner.run(here.exports.export(prepared, variant, inspect))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "branch", "outside"])
def test_every_variant_of_a_ready_file_is_held_against_the_file(here: Bench, kind: str) -> None:
    """Also of one whose score comes out of an If, and of one whose weights lie beside it."""
    path = recurrent(here.folder / f"{kind}.onnx", branch=kind == "branch", outside=kind == "outside")
    prepared = prepared_of(here, path.name)
    shipped = made(here, prepared, "onnx-shipped")
    assert shipped.reference is None

    for variant in MADE:
        artifact = made(here, prepared, variant)
        assert artifact.reference is not None and artifact.reference.location is not None
        reference = feeds.load(artifact.reference.location)
        result = parity.compare(
            reference, outputs_of(prepared, artifact), score="score", threshold=None, against="", optimized=True
        )
        for owed in parity.default_budgets(artifact):
            check = parity.judge(owed, result, None)
            assert check.verdict == "PASS", f"{variant}: {check.reason}"
        assert artifact.size_bytes < 0.7 * shipped.size_bytes
        np.testing.assert_allclose(reference["score"], outputs_of(prepared, shipped)["score"], atol=1e-6)


@pytest.mark.slow
def test_outputs_that_the_description_leaves_out_stay_in_the_file(here: Bench) -> None:
    path = recurrent(here.folder / "both.onnx")
    model = onnx.load(path)
    model.graph.output.append(helper.make_tensor_value_info("sum", 1, ["n", 64]))
    onnx.save(model, path)

    graph = made(here, prepared_of(here, path.name, outputs=("score",)), "onnx-int8-dynamic").graphs[0]

    assert [tensor.name for tensor in graph.outputs] == ["score", "h_out", "sum"]


@pytest.mark.slow
def test_a_file_that_is_quantized_already_is_refused_in_words(here: Bench) -> None:
    prepared = prepared_of(here, recurrent(here.folder / "small.onnx", quantized=True).name)

    with pytest.raises(ExportError, match=r"small\.onnx is quantized already \(DequantizeLinear, QuantizeLinear\)"):
        made(here, prepared, "onnx-int8-dynamic")


def test_what_can_t_be_made_of_a_ready_file_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with bench(users_folder(tmp_path / "user"), tmp_path / "cache", tmp_path / "logs") as here:
        prepared = prepared_of(here, recurrent(here.folder / "luna.onnx").name)

        with pytest.raises(ExportError, match=r"luna\.onnx is the ONNX file that the others are made of") as raised:
            made(here, prepared, "onnx-fp32")
        assert raised.value.hint == "measure it as onnx-shipped"
        with pytest.raises(ExportError, match=r"tflite-fp32 can't be made from luna\.onnx, only from a PyTorch module"):
            made(here, prepared, "tflite-fp32")
        assert not here.started_something
