"""`rtfleet export`, as a process."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import stage as stages
from stage import Stage

MODEL = """
import torch
from rtfleet import Input, SpeechModel

def hey():
    torch.manual_seed(1)
    source = torch.nn.Sequential(torch.nn.Linear(320, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    return SpeechModel(task="vad", source=source, inputs={"audio": Input((1, 320))}, outputs=["score"], hop_ms=20)

def dies():
    import os
    os.abort()
"""


@pytest.fixture(name="stage")
def _stage(tmp_path: Path) -> Stage:
    (tmp_path / "luna.py").write_text(MODEL)
    return stages.stage(tmp_path)


@pytest.mark.slow
def test_files_are_laid_out_and_a_table_says_how_good_they_are(stage: Stage) -> None:
    told = stage.rtfleet("export", "luna.py:hey", "--variant", "onnx-fp32", "--out", "made")

    assert told.code == 0, told.stderr
    folder = stage.folder / "made" / "hey" / "onnx-fp32"
    assert sorted(path.name for path in folder.iterdir()) == ["artifact.json", "model.onnx"]
    facts = json.loads((folder / "artifact.json").read_text())
    assert facts["id"] == hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    lines = told.stdout.splitlines()
    assert lines[0].split() == ["variant", "size", "MB", "seconds", "parity", "SNR", "agree", "verdict"]
    assert lines[1].split()[0] == "onnx-fp32" and lines[1].split()[-1] == "PASS"
    assert f"made{os.sep}hey" in lines[-1]


@pytest.mark.slow
def test_two_at_once_do_not_wait_for_each_other(stage: Stage) -> None:
    one = stage.start("export", "luna.py:hey", "--variant", "onnx-fp32", "--out", "one")
    with stages.ending(one):
        two = stage.rtfleet("export", "luna.py:hey", "--variant", "onnx-fp32", "--out", "two")
        said = one.communicate(timeout=stages.PATIENCE_S)[0]

    assert (one.returncode, two.code) == (0, 0), said + two.everything


@pytest.mark.slow
def test_a_model_whose_building_kills_its_subprocess_is_one_sentence(stage: Stage) -> None:
    told = stage.rtfleet("export", "luna.py:dies", "--variant", "onnx-fp32")

    assert (told.code, told.stdout) == (2, "")
    assert "error: building luna.py:dies: the onnx converter was killed by SIGABRT" in told.stderr
    assert "Traceback" not in told.stderr


def test_an_unknown_variant_names_what_was_meant(stage: Stage) -> None:
    told = stage.rtfleet("export", "luna.py:hey", "--variant", "onnx-fp23")

    assert (told.code, told.stdout) == (2, "")
    assert "--variant[0]: unknown variant 'onnx-fp23'; did you mean 'onnx-fp" in told.stderr
    assert "Traceback" not in told.stderr
