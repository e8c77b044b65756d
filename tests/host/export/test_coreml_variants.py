"""Every Core ML variant is made, is the model asked for as far as its files tell, and is the same each time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from exporting import Bench, bench, no_agent, users_folder

from rtfleet.artifact import EXPORTED_VARIANTS, Artifact, PreparedModel
from rtfleet.errors import ExportError
from rtfleet.export import coreml_check
from rtfleet.export.coreml_check import Read
from rtfleet.suite import ModelEntry

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(  # coremltools leaves temporary folders to the garbage collector
        "ignore:Implicitly cleaning up:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
    ),
]

VARIANTS = tuple(variant for variant in EXPORTED_VARIANTS if variant.startswith("coreml"))
MINE = """
import dataclasses
import torch
from torch import nn
import tiny
from rtfleet import Input, SpeechModel

def own(): return dataclasses.replace(tiny.lstm(), coreml_state=True)
def own_begun(): return dataclasses.replace(tiny.echo(), coreml_state=True)
def own_without(): return dataclasses.replace(tiny.spectral(), coreml_state=True)

class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv1d(1, 16, 80, stride=40), nn.BatchNorm1d(16)
        self.norm.weight.data, self.norm.running_var.data = torch.rand(16) + 0.5, torch.rand(16) + 0.5
        self.score = nn.Linear(16, 1)
    def forward(self, audio): return self.score(torch.relu(self.norm(self.conv(audio[:, None]))).mean(dim=2))

def normed():
    torch.manual_seed(3)
    return tiny._streaming(Normed())

class Kinds(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Linear(16, 8)
    def forward(self, features, mask, rate, loud):
        return self.weight(features * mask[:, :, None]) + (rate // 8000).float() + loud.float(), mask.sum(1).long()

def kinds():
    torch.manual_seed(3)
    frames = lambda clip: {"features": clip[:3 * 192].reshape(3, 1, 12, 16)}
    inputs = {"features": Input((1, -1, 16), typical=(1, 12, 16)),
              "mask": Input((1, -1), typical=(1, 12), constant=1.0),
              "rate": Input((1,), "int64", constant=16000), "loud": Input((1,), "bool", constant=True)}
    return SpeechModel(task="asr", source=Kinds(), inputs=inputs, outputs=["encoded", "length"], frames=frames)

class Scalar(nn.Module):
    def forward(self, audio, sr): return audio.mean(dim=1) * sr

def scalar():
    inputs = {"audio": Input((1, 320)), "sr": Input((), "int64", constant=16000)}
    return SpeechModel(task="vad", source=Scalar(), inputs=inputs, outputs=["score"], hop_ms=20)

def stated():
    inputs = {"audio": Input((1, 320)), "state": Input((1,), "float32", constant=1.0)}
    return SpeechModel(task="vad", source=Scalar(), inputs=inputs, outputs=["score"], hop_ms=20)

class Fixed(nn.Module):
    def forward(self, features): return features.cumsum(1) / torch.arange(1, 1 + int(features.shape[1]))[:, None]

def fixed():
    frames = lambda clip: {"features": clip[:192].reshape(1, 1, 12, 16)}
    return SpeechModel(task="asr", source=Fixed(), outputs=["encoded"], frames=frames,
                       inputs={"features": Input((1, -1, 16), typical=(1, 12, 16))})
"""


@dataclass(frozen=True)
class Exported:
    """A model, its variants, and what their files say."""

    prepared: PreparedModel
    artifacts: dict[str, Artifact]
    read: dict[str, Read]


@pytest.fixture(name="here", scope="module")
def _here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    place = tmp_path_factory.mktemp("coreml")
    folder = users_folder(place / "user")
    (folder / "mine.py").write_text(MINE)
    with bench(folder, place / "cache", place / "logs") as here:
        yield here


def package_of(artifact: Artifact) -> Path:
    location = artifact.files[0].location
    assert location is not None
    return location.parent


def exported(here: Bench, source: str, variants: tuple[str, ...] = VARIANTS) -> Exported:
    prepared = here.prepare(source)
    artifacts = {variant: here.export(prepared, variant) for variant in variants}
    return Exported(prepared, artifacts, {name: coreml_check.read(package_of(one)) for name, one in artifacts.items()})


@pytest.fixture(name="recurrent", scope="module", params=["gru", "lstm"])
def _recurrent(here: Bench, request: pytest.FixtureRequest) -> Exported:
    return exported(here, request.param)


def test_a_recurrent_model_keeps_its_names_and_states_in_every_variant(recurrent: Exported) -> None:
    states = [(state.input, state.output) for state in recurrent.prepared.states]
    for variant, artifact in recurrent.artifacts.items():
        graph = artifact.graphs[0]
        assert [tensor.name for tensor in graph.inputs] == ["audio", *(name for name, _ in states)], variant
        assert [tensor.name for tensor in graph.outputs] == ["score", *(name for _, name in states)]
        assert {tensor.dtype for tensor in (*graph.inputs, *graph.outputs)} == {"float32"}
        assert [(state.input, state.output) for state in graph.states] == states
        assert recurrent.read[variant].specification == 8
        assert recurrent.read[variant].states == ()


def test_each_step_makes_the_files_smaller(recurrent: Exported) -> None:
    sizes = {variant: artifact.size_bytes for variant, artifact in recurrent.artifacts.items()}
    assert sizes["coreml-fp16"] < 0.7 * sizes["coreml-fp32"]
    assert sizes["coreml-int8"] < 0.8 * sizes["coreml-fp16"]
    assert sizes["coreml-palettized"] < 0.9 * sizes["coreml-int8"]


def test_what_was_checked_is_told(recurrent: Exported) -> None:
    said = {variant: artifact.checked for variant, artifact in recurrent.artifacts.items()}
    assert all(text.startswith("specification 8, ") for text in said.values())
    assert said["coreml-fp32"].endswith("4 of 4 weights read back as the module's")
    assert said["coreml-fp16"].endswith("4 of 4 weights read back as the module's")
    assert 40 < float(re.findall(r"weights (\d+) dB", said["coreml-int8"])[0]) < 60
    assert 30 < float(re.findall(r"weights (\d+) dB", said["coreml-palettized"])[0]) < 40


def test_fp16_computes_in_float16_and_fp32_does_not(recurrent: Exported) -> None:
    kinds = {
        variant: {value.dtype.name for value in read.weights.values() if value.ndim > 1}
        for variant, read in recurrent.read.items()
    }
    assert kinds == {variant: {"float32" if variant == "coreml-fp32" else "float16"} for variant in VARIANTS}


def test_a_package_is_its_files_the_manifest_first(recurrent: Exported) -> None:
    artifact = recurrent.artifacts["coreml-int8"]
    data = "model.mlpackage/Data/com.apple.CoreML"
    assert [file.path for file in artifact.files] == [
        "model.mlpackage/Manifest.json",
        f"{data}/model.mlmodel",
        f"{data}/weights/weight.bin",
    ]
    manifest = json.loads((package_of(artifact) / "Manifest.json").read_text())
    entry = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]
    assert entry["path"] == "com.apple.CoreML/model.mlmodel"


def test_an_initial_state_goes_with_the_artifact(here: Bench) -> None:
    found = exported(here, "echo", ("coreml-fp16",))
    tail, memory = found.artifacts["coreml-fp16"].graphs[0].states
    assert tail.initial is None and memory.initial is not None
    assert np.load(memory.initial.location).tolist() == np.full((1, 64), 0.5).tolist()


def test_a_dynamic_time_axis_is_a_range_in_and_open_out(here: Bench) -> None:
    found = exported(here, "encoder", ("coreml-fp16", "coreml-int8"))
    for artifact in found.artifacts.values():
        graph = artifact.graphs[0]
        assert graph.inputs[0].shape == (1, -1, 16)
        assert graph.outputs[0].shape == (1, -1, 8)
        assert graph.shapes == {"features": (1, 12, 16)}
    assert found.artifacts["coreml-int8"].checked.endswith("no weight is large enough to be quantized")


def test_a_folded_normalization_is_found_and_said(here: Bench) -> None:
    found = exported(here, "mine.py:normed", ("coreml-fp32", "coreml-fp16"))
    for artifact in found.artifacts.values():
        assert artifact.checked.endswith("2 of 2 weights read back as the module's (1 scaled by row)")
        assert "batch_norm" not in artifact.checked


def test_dtypes_that_core_ml_does_not_have_become_others(here: Bench) -> None:
    graph = exported(here, "mine.py:kinds", ("coreml-fp16",)).artifacts["coreml-fp16"].graphs[0]
    assert [tensor.dtype for tensor in graph.inputs] == ["float32", "float32", "int32", "float32"]
    assert [tensor.dtype for tensor in graph.outputs] == ["float32", "int32"]


def test_core_ml_s_own_states_are_no_inputs(here: Bench) -> None:
    found = exported(here, "mine.py:own", ("coreml-fp16", "coreml-int8", "coreml-palettized"))
    for variant, artifact in found.artifacts.items():
        graph = artifact.graphs[0]
        assert [tensor.name for tensor in graph.inputs] == ["audio"], variant
        assert [tensor.name for tensor in graph.outputs] == ["score"]
        assert graph.states == ()
        states = found.read[variant].states
        assert [(state.name, state.dtype, state.shape) for state in states] == [
            ("h", "float16", (1, 1, 48)),
            ("c", "float16", (1, 1, 48)),
        ]
        assert artifact.checked.startswith("specification 9, ")
        assert found.read[variant].operators["coreml_update_state"] == 2


@pytest.mark.parametrize(
    ("source", "variant", "said"),
    [
        ("mine.py:own", "coreml-fp32", "own state is float16 only"),
        ("mine.py:own_begun", "coreml-fp16", "begins with zeros, and state 'memory' does not"),
        ("mine.py:own_without", "coreml-fp16", "the model has no states"),
        ("mine.py:scalar", "coreml-fp16", "input 'sr' has no dims"),
        ("mine.py:stated", "coreml-fp16", "Core ML can't have a tensor called 'state'"),
        ("mine.py:fixed", "coreml-fp16", "a dim declared as -1 is fixed by the trace"),
        ("branching", "coreml-fp16", r"forward\(\) decides by the values of tensors"),
    ],
)
def test_what_core_ml_or_a_trace_can_t_do_is_refused_with_a_way_round(
    here: Bench, source: str, variant: str, said: str
) -> None:
    prepared = here.prepare(source)

    with pytest.raises(ExportError, match=said) as raised:
        here.export(prepared, variant)

    assert raised.value.hint


def test_the_same_export_from_an_empty_cache_has_the_same_ids(here: Bench, tmp_path: Path) -> None:
    """In another folder, under another name, in a subprocess that had another model in hand before."""
    first = exported(here, "gru").artifacts
    folder = users_folder(tmp_path / "user")
    with bench(folder, tmp_path / "cache", tmp_path / "logs") as there:
        there.export(there.prepare("lstm"), "coreml-palettized")
        prepared = there.prepare("gru", "another")
        again = {variant: there.export(prepared, variant) for variant in reversed(VARIANTS)}
    assert {variant: artifact.id for variant, artifact in again.items()} == {
        variant: artifact.id for variant, artifact in first.items()
    }


def test_the_wake_word_in_all_four_variants(tmp_path: Path) -> None:
    folder = users_folder(tmp_path / "user")
    entry = ModelEntry("wake-word", "wake-word", folder, clips=("clips",))
    with bench(folder, tmp_path / "cache", tmp_path / "logs") as here:
        prepared = here.runner.run(here.exports.prepare(entry, no_agent))
        artifacts = {variant: here.export(prepared, variant) for variant in VARIANTS}
    sizes = [artifacts[variant].size_bytes for variant in VARIANTS]
    assert 440_000 < sizes[0] < 470_000
    assert [size / sizes[0] for size in sizes] == pytest.approx([1, 0.56, 0.35, 0.29], abs=0.02)
    assert artifacts["coreml-fp32"].checked.endswith("16 of 16 weights read back as the module's")
    assert len(artifacts["coreml-fp16"].graphs[0].states) == 8
