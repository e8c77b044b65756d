"""Delivered artifacts are checked against the original on a real agent, laid out, and summed up in one exit code."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from exporting import entry_of, users_folder

from rtfleet import events
from rtfleet.delivery import MANIFEST, Delivered, Wish, deliver, exit_code
from rtfleet.errors import DeviceError, ExportError, RtfleetError
from rtfleet.judged import Check, Verdict
from rtfleet.report import tables
from rtfleet.suite import ModelEntry


def judged(*verdicts: Verdict) -> Delivered:
    checks = tuple(Check("parity_snr_db", 15.0, None, verdict, "", "") for verdict in verdicts)
    return Delivered("onnx-fp32", 1.0, checks=checks)


def failed(error: RtfleetError) -> Delivered:
    return Delivered("onnx-fp32", 1.0, error=error)


EXPORT, DEVICE, OURS = failed(ExportError("no route")), failed(DeviceError("gone")), failed(RtfleetError("a bug"))
PASS, FAIL, OPEN, UNJUDGED = judged("PASS", "PASS"), judged("PASS", "FAIL"), judged("INCONCLUSIVE", "PASS"), judged()


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ([PASS], 0),
        ([PASS, UNJUDGED], 0),
        ([PASS, OPEN], 3),
        ([PASS, DEVICE, OPEN], 4),
        ([OURS, OPEN], 5),
        ([OURS, DEVICE], 4),
        ([DEVICE, EXPORT, PASS], 2),
        ([EXPORT, DEVICE, PASS], 2),
        ([EXPORT, DEVICE, OPEN, FAIL], 1),
    ],
)
def test_the_exit_code_is_a_fail_then_what_could_not_be_made_then_what_stays_open(
    found: list[Delivered], code: int
) -> None:
    assert exit_code(found) == code


@pytest.mark.parametrize(
    ("one", "verdict"),
    [(PASS, "PASS"), (FAIL, "FAIL"), (OPEN, "INCONCLUSIVE"), (UNJUDGED, "UNJUDGED"), (EXPORT, "ERROR")],
)
def test_a_variant_is_as_bad_as_its_worst_check(one: Delivered, verdict: str) -> None:
    assert one.verdict == verdict


def delivered(entry: ModelEntry, variants: tuple[str, ...], folder: Path) -> tuple[list[Delivered], list[events.Event]]:
    told: list[events.Event] = []
    wish = Wish(replace(entry, variants=variants), folder / "out", folder / "cache")
    return asyncio.run(deliver(wish, told.append)), told


@pytest.mark.slow
def test_what_is_delivered_is_laid_out_and_passed_its_parity_on_a_real_agent(tmp_path: Path) -> None:
    """States and their first values included; a second export takes the place of the first."""
    entry = entry_of(users_folder(tmp_path / "user"), "echo", "luna")
    variants = ("onnx-fp32", "onnx-int8-static", "tflite-int8-static", "tensorrt-int8")
    left = tmp_path / "out" / "luna" / "onnx-fp32" / "old.bin"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"of an earlier export")

    found, told = delivered(entry, variants, tmp_path)

    assert [(one.variant, one.verdict) for one in found] == [(variant, "PASS") for variant in variants]
    assert [event.step for event in told if isinstance(event, events.Working)] == [
        "prepare",
        *(f"export {variant}" for variant in variants),
    ]
    for one in found:
        folder = tmp_path / "out" / "luna" / one.variant
        model = "model.tflite" if one.variant.startswith("tflite") else "model.onnx"
        assert one.folder == folder
        assert sorted(path.name for path in folder.iterdir()) == ["1.npy", MANIFEST, model]
        facts = json.loads((folder / MANIFEST).read_text())
        assert facts["id"] == hashlib.sha256((folder / model).read_bytes()).hexdigest()
        assert (facts["model"], facts["variant"]) == ("luna", one.variant)
        np.testing.assert_array_equal(np.load(folder / "1.npy"), np.full((1, 64), 0.5, np.float32))
        assert str(tmp_path) not in (folder / MANIFEST).read_text()
        assert one.parity is not None
        assert (one.parity.frames, one.parity.optimized) == (150, False)
        assert {check.metric for check in one.checks} == {"parity_snr_db", "parity_agreement"}
        assert ("checked with ONNX Runtime" in one.note) == one.variant.startswith("tensorrt")
    assert exit_code(found) == 0


@pytest.mark.slow
def test_a_route_that_fails_costs_the_others_nothing(tmp_path: Path) -> None:
    entry = entry_of(users_folder(tmp_path / "user"), "fourier")

    found, _ = delivered(entry, ("tflite-fp32", "onnx-fp32"), tmp_path)

    assert [one.verdict for one in found] == ["ERROR", "PASS"]
    assert found[0].folder is None and found[0].error is not None
    assert "torch.stft" in found[0].error.text
    assert exit_code(found) == 2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "darwin", reason="there it runs")
def test_a_core_ml_package_is_laid_out_whole_and_says_what_was_checked_where_it_can_t_run(tmp_path: Path) -> None:
    entry = entry_of(users_folder(tmp_path / "user"), "echo", "luna")

    found, _ = delivered(entry, ("coreml-fp16", "coreml-int8"), tmp_path)

    for one in found:
        assert one.error is None and one.artifact is not None
        assert (one.verdict, one.parity, one.checks) == ("UNJUDGED", None, ())
        assert one.not_run == f"Core ML runs on macOS; this device is {sys.platform}"
        folder = tmp_path / "out" / "luna" / one.variant
        assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == {
            "1.npy",
            MANIFEST,
            "model.mlpackage/Manifest.json",
            "model.mlpackage/Data/com.apple.CoreML/model.mlmodel",
            "model.mlpackage/Data/com.apple.CoreML/weights/weight.bin",
        }
        facts = json.loads((folder / MANIFEST).read_text())
        assert facts["checked"] == one.artifact.checked
        lines = "".join(f"{file.sha256}  {file.path}\n" for file in sorted(one.artifact.files, key=lambda f: f.sha256))
        assert facts["id"] == hashlib.sha256(lines.encode()).hexdigest()
    assert exit_code(found) == 0
    said = "\n".join(str(line) for line in tables.delivered(found))
    assert "coreml-int8: not run here: Core ML runs on macOS" in said
    assert re.search(r"checked instead: specification 8, .*, weights 4\d dB from fp16's", said)
