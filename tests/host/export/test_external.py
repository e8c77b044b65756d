"""The files that a model consists of are found without its runtime, and what can't be taken is refused in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rtfleet.errors import UsageError
from rtfleet.export import external


def model(path: Path, *locations: str, inner: str = "") -> Path:
    """A model whose weights lie at `locations`; `inner` is one inside an If."""
    weights = []
    for i, location in enumerate(locations):
        tensor = numpy_helper.from_array(np.zeros((2, 2), np.float32), f"w{i}")
        weights.append(moved(tensor, location))
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    if inner:
        value = moved(numpy_helper.from_array(np.zeros(4, np.float32), "c"), inner)
        branch = helper.make_graph([helper.make_node("Constant", [], ["z"], value=value)], "branch", [], [])
        nodes.append(helper.make_node("If", ["x"], ["y2"], then_branch=branch, else_branch=branch))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in "xy"]
    graph = helper.make_graph(nodes, "model", values[:1], values[1:], weights)
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


def moved(tensor: TensorProto, location: str) -> TensorProto:
    """The tensor, its data elsewhere."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def test_a_model_that_holds_its_weights_is_one_file(tmp_path: Path) -> None:
    files = external.files_of(model(tmp_path / "model.onnx"))

    assert [file.path for file in files] == ["model.onnx"]


def test_external_data_is_listed_once_with_its_path_beside_the_model(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("a.bin", "data/b.bin", "c.bin"):
        (tmp_path / name).write_bytes(bytes(16))

    files = external.files_of(model(tmp_path / "m.onnx", "a.bin", "data/b.bin", "a.bin", inner="c.bin"))

    assert [file.path for file in files] == ["m.onnx", "a.bin", "c.bin", "data/b.bin"]
    assert files[3].location == (tmp_path / "data" / "b.bin").resolve()


def test_what_onnx_itself_saves_beside_a_model_is_found(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [64, 64]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "m", values[:1], values[1:], [weight])
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx", save_as_external_data=True, location="m.onnx.data")

    assert [file.path for file in external.files_of(tmp_path / "m.onnx")] == ["m.onnx", "m.onnx.data"]


@pytest.mark.parametrize("location", ["../weights.bin", "data/../../weights.bin", "/etc/hostname", ""])
def test_external_data_outside_the_models_folder_is_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(16))
    (tmp_path / "inner").mkdir()

    with pytest.raises(UsageError, match="lies outside the model's folder") as raised:
        external.files_of(model(tmp_path / "inner" / "model.onnx", location))

    assert "beside the model" in raised.value.hint


def test_a_link_out_of_the_models_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(16))
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "weights.bin").symlink_to(tmp_path / "weights.bin")

    with pytest.raises(UsageError, match="lies outside the model's folder"):
        external.files_of(model(tmp_path / "inner" / "model.onnx", "weights.bin"))


def test_missing_external_data_is_named_with_the_place_where_it_should_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'weights\.bin' is not there") as raised:
        external.files_of(model(tmp_path / "model.onnx", "weights.bin"))

    assert str(tmp_path / "weights.bin") in raised.value.hint


@pytest.mark.parametrize("left", [1, 20, 60, -1])
def test_a_truncated_model_is_refused(tmp_path: Path, left: int) -> None:
    path = model(tmp_path / "model.onnx", "weights.bin")
    path.write_bytes(path.read_bytes()[:left])

    with pytest.raises(UsageError, match=r"model\.onnx: not a whole ONNX file"):
        external.files_of(path)


def test_a_file_that_is_no_onnx_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("<html>404: not found</html>")

    with pytest.raises(UsageError, match="not a whole ONNX file"):
        external.files_of(tmp_path / "model.onnx")


def test_files_of_other_formats_are_taken_alone_and_unread(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(b"any bytes")

    assert [file.path for file in external.files_of(tmp_path / "model.tflite")] == ["model.tflite"]


def package(folder: Path) -> Path:
    """What coremltools writes, as far as names go."""
    data = folder / "Data" / "com.apple.CoreML"
    (data / "weights").mkdir(parents=True)
    for path in (folder / "Manifest.json", data / "model.mlmodel", data / "weights" / "weight.bin"):
        path.write_bytes(path.name.encode())
    return folder


def test_a_core_ml_package_is_all_its_files_the_manifest_first(tmp_path: Path) -> None:
    made = package(tmp_path / "luna.mlpackage")
    (made / ".DS_Store").write_bytes(b"of the Finder")

    files = external.files_of(made)

    assert [file.path for file in files] == [
        "luna.mlpackage/Manifest.json",
        "luna.mlpackage/Data/com.apple.CoreML/model.mlmodel",
        "luna.mlpackage/Data/com.apple.CoreML/weights/weight.bin",
    ]
    assert [file.location and file.location.read_text() for file in files] == [
        "Manifest.json",
        "model.mlmodel",
        "weight.bin",
    ]


def test_a_folder_without_a_manifest_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "luna.mlpackage").mkdir()

    with pytest.raises(UsageError, match=r"luna\.mlpackage: not a Core ML package: it has no Manifest\.json"):
        external.files_of(tmp_path / "luna.mlpackage")


def test_a_link_out_of_a_package_is_refused(tmp_path: Path) -> None:
    made = package(tmp_path / "luna.mlpackage")
    (tmp_path / "secret").write_text("not to be pushed")
    (made / "Data" / "more").symlink_to(tmp_path / "secret")

    with pytest.raises(UsageError, match="Data/more is a link that leads out of it"):
        external.files_of(made)
