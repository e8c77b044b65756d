"""The same export is the same artifact, a second one costs nothing, and no change of the model is missed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from exporting import Bench, bench, reference_of, users_folder

from rtfleet.artifact import PreparedModel
from rtfleet.errors import ExportError

pytestmark = pytest.mark.slow

VARIANTS = ("onnx-fp32", "tflite-fp32", "onnx-int8-static", "tflite-int8-static")
LATE = """
import tiny

def model():
    def frames(clip):
        from front import loudness
        return {"audio": loudness(clip)}
    return tiny._streaming(tiny.Curve(False), frames=frames)
"""
FRONT = """
import numpy as np
def loudness(clip): return 1.0 * np.resize(clip, (5, 1, 320))
"""
LOADING = """
import numpy as np, torch, tiny
from pathlib import Path
from safetensors.torch import load_file
HERE = Path(__file__).parent

def with_bias(value):
    model = tiny.straight()
    model.source.entry.bias.data = value
    return model

def numpy_(): return with_bias(torch.from_numpy(np.load(HERE / "bias.npy")))
def torch_(): return with_bias(torch.load(HERE / "bias.pt"))
def safetensors_(): return with_bias(load_file(HERE / "bias.safetensors")["bias"])
"""

CHAIN = """
from rtfleet import Input, SpeechModel
from rtfleet.loop import Chain, Edge

def chain():
    return SpeechModel(
        task="wake-word",
        source={"mel": "one.fake.json", "embedding": "two.fake.json", "alexa": "one.fake.json"},
        inputs={"x": Input((1, 320))},
        outputs=["y"],
        hop_ms=20,
        loop=Chain((Edge("mel", "y", "embedding", "x", axis=1), Edge("embedding", "y", "alexa", "x", axis=1))),
    )
"""


@dataclass(frozen=True)
class First:
    """What was exported into a cache that was empty."""

    folder: Path
    cache: Path
    prepared: PreparedModel
    ids: dict[str, str]


def ids_of(here: Bench, prepared: PreparedModel) -> dict[str, str]:
    made = here.export_together(prepared, VARIANTS[:2]) | here.export_together(prepared, VARIANTS[2:])
    return {variant: artifact.id for variant, artifact in made.items()}


@pytest.fixture(name="first", scope="module")
def _first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[First]:
    place = tmp_path_factory.mktemp("recall")
    with bench(users_folder(place / "user"), place / "cache", place / "logs") as here:
        prepared = here.prepare("echo", "luna")
        yield First(here.folder, here.exports.cache, prepared, ids_of(here, prepared))


def test_the_same_export_from_an_empty_cache_has_the_same_ids(first: First, tmp_path: Path) -> None:
    """In another folder, under another name, in subprocesses that had other models of that file in hand before."""
    with bench(users_folder(tmp_path / "user"), tmp_path / "cache", tmp_path / "logs") as here:
        here.export_together(here.prepare("straight"), VARIANTS[:2])
        prepared = here.prepare("echo", "another")

        assert ids_of(here, prepared) == first.ids
        assert prepared.key == first.prepared.key


def test_a_second_export_starts_no_subprocess_whatever_the_models_name(first: First, tmp_path: Path) -> None:
    with bench(first.folder, first.cache, tmp_path / "logs") as here:
        prepared = here.prepare("echo", "another")
        artifact = here.export(prepared, "tflite-int8-static")

        assert prepared.key == first.prepared.key
        assert ids_of(here, prepared) == first.ids
        assert (artifact.model, first.prepared.name) == ("another", "luna")
        assert all(here.exports.is_cached(prepared, variant) for variant in VARIANTS)
        assert not here.started_something


def test_a_damaged_artifact_is_made_anew(first: First, tmp_path: Path) -> None:
    cache = shutil.copytree(first.cache, tmp_path / "cache")
    for path in (cache / "artifacts").glob("*/model.onnx"):
        path.write_bytes(path.read_bytes()[:-1])

    with bench(first.folder, cache, tmp_path / "logs") as here:
        artifact = here.export(here.prepare("echo"), "onnx-fp32")

        assert artifact.id == first.ids["onnx-fp32"]
        assert here.started_something


def edited(path: Path, before: str, after: str) -> None:
    """Change the user's code."""
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def test_other_weights_are_another_model(first: First, tmp_path: Path) -> None:
    folder = users_folder(tmp_path / "user")
    edited(folder / "tiny.py", "SEED = 7", "SEED = 8")

    with bench(folder, first.cache, tmp_path / "logs") as here:
        prepared = here.prepare("echo")

        assert prepared.key != first.prepared.key
        assert here.export(prepared, "onnx-fp32").id != first.ids["onnx-fp32"]


def test_code_that_changed_on_disk_is_never_served_from_before(first: First, tmp_path: Path) -> None:
    """The weights are the same, and so are the file's name and place."""
    folder, cache = shutil.copytree(first.folder, tmp_path / "user"), shutil.copytree(first.cache, tmp_path / "cache")
    with bench(folder, cache, tmp_path / "logs") as here:
        before = here.prepare("echo")
    edited(folder / "tiny.py", "0.99 * memory", "0.9 * memory")

    with bench(folder, cache, tmp_path / "logs") as here:
        after = here.prepare("echo")

        assert after.key != before.key
        assert np.abs(reference_of(after)["score"] - reference_of(before)["score"]).max() > 0.01
        assert here.export(after, "onnx-fp32").id != first.ids["onnx-fp32"]


def test_what_changes_while_a_run_uses_it_stops_the_model(first: First, tmp_path: Path) -> None:
    """Whether this subprocess had built it before, or another run had."""
    folder, cache = shutil.copytree(first.folder, tmp_path / "user"), tmp_path / "cache"
    with bench(folder, cache, tmp_path / "logs") as here:
        prepared = here.prepare("straight")
        edited(folder / "tiny.py", "SEED = 7", "SEED = 7  # it was my birthday")
        with pytest.raises(ExportError, match=r"tiny\.py:straight changed while the run used it"):
            here.prepare("straight")
        with pytest.raises(ExportError, match=r"tiny\.py:straight changed while the run used it"):
            here.export(prepared, "onnx-fp32")

    with bench(folder, cache, tmp_path / "logs") as here:
        here.prepare("straight")
    with bench(folder, cache, tmp_path / "logs") as here:
        recalled = here.prepare("straight")
        edited(folder / "tiny.py", "my birthday", "hers")
        with pytest.raises(ExportError, match=r"tiny\.py:straight changed while the run used it"):
            here.export(recalled, "onnx-fp32")

        assert not here.exports.is_cached(recalled, "onnx-fp32")


def test_functions_of_one_file_with_equal_weights_are_different_models(tmp_path: Path) -> None:
    with bench(users_folder(tmp_path / "user"), tmp_path / "cache", tmp_path / "logs") as here:
        bent, straight = here.prepare("bent"), here.prepare("straight")

        assert bent.key != straight.key
        assert here.export(bent, "onnx-fp32").id != here.export(straight, "onnx-fp32").id


def write_biases(folder: Path, value: float) -> None:
    """The same numbers as NumPy's, torch's and safetensors' files."""
    torch, safetensors = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
    bias = torch.full((8,), value)
    np.save(folder / "bias.npy", bias.numpy())
    torch.save(bias, folder / "bias.pt")
    safetensors.save_file({"bias": bias}, folder / "bias.safetensors")


def test_a_change_of_what_building_read_or_imported_late_is_seen(tmp_path: Path) -> None:
    """Weights in files of three kinds, and a module that the front end imports when it is first called."""
    folder = users_folder(tmp_path / "user")
    for name, text in (("late.py", LATE), ("front.py", FRONT), ("loading.py", LOADING)):
        (folder / name).write_text(text)
    write_biases(folder, 1.0)
    sources = ["loading.py:numpy_", "loading.py:torch_", "loading.py:safetensors_", "late.py:model"]
    with bench(folder, tmp_path / "cache", tmp_path / "logs") as here:
        before = {source: here.prepare(source) for source in sources}
    with bench(folder, tmp_path / "cache", tmp_path / "second-logs") as here:
        assert {source: here.prepare(source) for source in sources} == before
        assert not here.started_something
    write_biases(folder, 2.0)
    edited(folder / "front.py", "1.0 *", "0.5 *")

    with bench(folder, tmp_path / "cache", tmp_path / "logs") as here:
        after = {source: here.prepare(source) for source in sources}

    for source in sources:
        assert after[source].key != before[source].key, source
    assert after["late.py:model"].frames.sha256 != before["late.py:model"].frames.sha256


def test_a_chain_that_is_recalled_has_its_graphs_in_the_models_order(tmp_path: Path) -> None:
    """The agent runs them in that order, and refuses a graph that comes before the one that feeds it."""
    folder = users_folder(tmp_path / "user")
    (folder / "chain.py").write_text(CHAIN)
    for name in ("one", "two"):
        (folder / f"{name}.fake.json").write_text(name)
    orders = []
    for logs in ("first-logs", "second-logs"):
        with bench(folder, tmp_path / "cache", tmp_path / logs) as here:
            graphs = here.export_ready(here.prepare("chain.py:chain"), "fake-shipped").graphs
            orders.append([graph.name for graph in graphs])

    assert not (tmp_path / "second-logs").exists(), "the second was recalled"
    assert orders == [["mel", "embedding", "alexa"]] * 2
