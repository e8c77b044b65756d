"""PyTorch's own rows: the original's numbers, the same bytes wherever they are made, and what can't be quantized."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from exporting import Bench, bench, outputs_of, reference_of, users_folder

from rtfleet import parity
from rtfleet.artifact import Artifact, PreparedModel
from rtfleet.errors import ExportError
from rtfleet.fidelity import ParityResult

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")]

KEPT = """
import tiny

def kept():
    return tiny._streaming(tiny.Curve(True), keep_float=("entry",))
"""


@pytest.fixture(name="here", scope="module")
def _here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    place = tmp_path_factory.mktemp("torchscript")
    folder = users_folder(place / "user")
    (folder / "kept.py").write_text(KEPT)
    with bench(folder, place / "cache", place / "logs") as here:
        yield here


def held_against_original(prepared: PreparedModel, artifact: Artifact) -> ParityResult:
    return parity.compare(
        reference_of(prepared),
        outputs_of(prepared, artifact),
        score=prepared.outputs[0],
        threshold=prepared.threshold,
        against="the original model",
        optimized=True,
    )


@pytest.mark.parametrize("source", ["echo", "gru", "lstm", "encoder"])
@pytest.mark.parametrize("variant", ["torch-fp32", "torch-int8-dynamic"])
def test_a_row_of_pytorch_is_within_the_default_parity(here: Bench, source: str, variant: str) -> None:
    prepared = here.prepare(source)
    artifact = here.export(prepared, variant)

    result = held_against_original(prepared, artifact)

    for owed in parity.default_budgets(artifact):
        check = parity.judge(owed, result, None)
        assert check.verdict == "PASS", check.reason
    assert artifact.runtime == "torch"


def test_fp32_is_the_original_itself(here: Bench) -> None:
    """Traced and frozen, no operation is another one."""
    prepared = here.prepare("lstm")

    assert held_against_original(prepared, here.export(prepared, "torch-fp32")).max_abs_error < 1e-6


def test_int8_weights_are_a_quarter_of_the_size(here: Bench) -> None:
    prepared = here.prepare("lstm")
    sizes = [here.export(prepared, variant).size_bytes for variant in ("torch-fp32", "torch-int8-dynamic")]

    assert sizes[1] < 0.4 * sizes[0]


def test_the_same_export_has_the_same_id_whatever_was_traced_before(here: Bench, tmp_path: Path) -> None:
    """In another folder and process, where another model of that file had been traced first."""
    variants = ("torch-fp32", "torch-int8-dynamic")
    first = {variant: here.export(here.prepare("lstm"), variant).id for variant in variants}

    with bench(users_folder(tmp_path / "user"), tmp_path / "cache", tmp_path / "logs") as another:
        another.export(another.prepare("gru"), "torch-int8-dynamic")
        prepared = another.prepare("lstm", "another")
        assert {variant: another.export(prepared, variant).id for variant in variants} == first


def test_nothing_of_this_machine_is_in_the_file(here: Bench) -> None:
    artifact = here.export(here.prepare("echo"), "torch-fp32")
    location = artifact.graphs[0].files[0].location
    assert location is not None

    with zipfile.ZipFile(location) as archive:
        content = b"".join(archive.read(name) for name in archive.namelist())
        assert not [name for name in archive.namelist() if "debug" in name or "mangle" in name]
    assert str(here.folder).encode() not in content and b"site-packages" not in content


def test_a_model_without_linear_and_lstm_has_no_int8_and_says_so(here: Bench) -> None:
    prepared = here.prepare("kept.py:kept")

    with pytest.raises(ExportError, match="there is nothing to quantize") as raised:
        here.export(prepared, "torch-int8-dynamic")

    assert raised.value.step == "quantize_dynamic" and "onnx- and tflite-" in raised.value.hint
    assert here.export(prepared, "torch-fp32").size_bytes > 0
