"""A Core ML package that somebody else made is taken as it comes: Spotify's basic-pitch, from the package index."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from exporting import users_folder

from rtfleet.artifact import file_of
from rtfleet.delivery import Wish, deliver, exit_code
from rtfleet.errors import UsageError
from rtfleet.export import coreml_check
from rtfleet.fetch import Package, fetch
from rtfleet.suite import ModelEntry

pytestmark = pytest.mark.slow

_FOLDER = "basic_pitch/saved_models/icassp_2022/nmp.mlpackage"
# It transcribes music, so it is no speech model and not in the zoo.
BASIC_PITCH = Package(
    name="basic-pitch",
    version="0.4.0",
    sha256="738adb503aae7fdfc7d1e1511aa0ce35052315f260a19531ef4c356708425db0",
    licence="Apache-2.0",
    files={
        f"{_FOLDER}/Manifest.json": "c1fa5ef8acc34703edcd4e90e9a8640bd4673d9f3a68753c3b9d1ca0365e2928",
        f"{_FOLDER}/Data/com.apple.CoreML/model.mlmodel": (
            "af7bf7d49bc167e0bf0c30aa2ca6b432c3e10df048d2dd4173ff3a738c020858"
        ),
        f"{_FOLDER}/Data/com.apple.CoreML/weights/weight.bin": (
            "691a6b63c7ddcdde0ee131ff3986dcb1250df47cd738612efde966ba9b4c99cd"
        ),
    },
)

PITCH = """
from rtfleet import Input, SpeechModel

def pitch():
    return SpeechModel(task="asr", source="nmp.mlpackage", inputs={"input_2": Input((1, 43844, 1))}, hop_ms=1000,
                       sample_rate_hz=22050, outputs=["Identity_1"], covers="part")
"""


@pytest.fixture(name="package", scope="module")
def _package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return fetch(BASIC_PITCH, tmp_path_factory.mktemp("cache")) / _FOLDER
    except UsageError as error:
        pytest.skip(error.text)


def test_a_shipped_package_is_read_by_an_agent_and_delivered_as_it_came(package: Path, tmp_path: Path) -> None:
    entry = ModelEntry(
        "nmp", str(package), users_folder(tmp_path / "user"), task="asr", sample_rate_hz=22_050, clips=("clips",)
    )

    found = asyncio.run(deliver(Wish(entry, tmp_path / "out", tmp_path / "cache"), lambda event: None))

    assert [(one.variant, one.verdict) for one in found] == [("coreml-shipped", "UNJUDGED")]
    assert exit_code(found) == 0
    artifact, folder = found[0].artifact, found[0].folder
    assert artifact is not None and folder is not None
    graph = artifact.graphs[0]
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in (*graph.inputs, *graph.outputs)] == [
        ("input_2", "float32", (1, 43844, 1)),
        ("Identity", "float32", (1, 172, 264)),
        ("Identity_1", "float32", (1, 172, 88)),
        ("Identity_2", "float32", (1, 172, 88)),
    ]
    assert artifact.size_bytes == 269_600
    for path, sha256 in BASIC_PITCH.files.items():
        assert file_of(folder / path.removeprefix("basic_pitch/saved_models/icassp_2022/")).sha256 == sha256


def test_a_function_may_name_a_package_as_its_source(package: Path, tmp_path: Path) -> None:
    folder = users_folder(tmp_path / "user")
    (folder / "mine.py").write_text(PITCH)
    shutil.copytree(package, folder / "nmp.mlpackage")
    entry = ModelEntry("pitch", "mine.py:pitch", folder, clips=("clips",))

    found = asyncio.run(deliver(Wish(entry, tmp_path / "out", tmp_path / "cache"), lambda event: None))

    assert [(one.variant, one.verdict) for one in found] == [("coreml-shipped", "UNJUDGED")]
    assert found[0].artifact is not None and found[0].artifact.hop_samples == 22_050


def test_its_operators_and_weights_are_read_as_those_of_our_own(package: Path) -> None:
    found = coreml_check.read(package)

    assert found.specification == 6
    assert (found.operators["conv"], found.operators.total()) == (32, 113)
    assert sum(weight.size for weight in found.weights.values()) == 36_025
