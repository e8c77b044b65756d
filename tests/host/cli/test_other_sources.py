"""Models that are no PyTorch export, through the real commands: SavedModels, Keras, ready files, PyTorch itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import stage as stages
from stage import Stage

pytestmark = pytest.mark.slow

SHORT = ("--launches", "1", "--confidence", "0.9", "--scenario", "burst", "--duration", "0.5s")
TORCH = """
import torch
from rtfleet import Input, SpeechModel

def hey():
    torch.manual_seed(1)
    source = torch.nn.Sequential(torch.nn.Linear(320, 256), torch.nn.Tanh(), torch.nn.Linear(256, 1))
    return SpeechModel(task="vad", source=source, inputs={"audio": Input((1, 320))}, outputs=["score"], hop_ms=20)
"""
KERAS = """
import keras
keras.utils.set_random_seed(1)
layers = [keras.Input((320,), name="audio"), keras.layers.Dense(256, activation="tanh"), keras.layers.Dense(1)]
model = keras.Sequential(layers)
model.save("hey.keras")
model.export("hey_saved", verbose=False)
"""


@pytest.fixture(name="stage")
def _stage(tmp_path: Path) -> Stage:
    (tmp_path / "luna.py").write_text(TORCH)
    return stages.stage(tmp_path)


def test_pytorch_s_rows_stand_beside_the_others_and_the_gain_is_a_number(stage: Stage) -> None:
    variants = ("onnx-fp32", "torch-fp32", "torch-int8-dynamic")

    told = stage.rtfleet("run", "luna.py:hey", *(f"--variant={one}" for one in variants), *SHORT, "--json", "run.json")

    assert "ERROR" not in told.stdout, told.everything
    assert re.search(r"torch-fp32 .* exact ", told.stdout)
    assert re.search(r"PyTorch +hey: onnx-fp32 \d.*x, torch-int8-dynamic .* as fast as torch-fp32", told.stdout)
    run = stages.strict((stage.folder / "run.json").read_text())
    assert {case["runtime"]["name"] for case in run["cases"] if case["variant"].startswith("torch-")} == {"torch"}
    assert all(case["launches"][0]["overhead_ns"] > 0 for case in run["cases"])


@pytest.mark.skipif(find_spec("tensorflow") is None, reason="the extra `tensorflow` is not installed")
@pytest.mark.parametrize("source", ["hey.keras", "hey_saved"])
def test_a_tensorflow_model_goes_to_int8_tflite_and_through_a_run(stage: Stage, source: str) -> None:
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "KERAS_BACKEND": "tensorflow"}
    subprocess.run([sys.executable, "-c", KERAS], cwd=stage.folder, env={**os.environ, **quiet}, check=True)

    told = stage.rtfleet("run", source, "--task", "vad", "--hop-ms", "20", *SHORT)

    assert "ERROR" not in told.stdout, told.everything
    for variant in ("tflite-fp32", "tflite-int8-static"):
        assert re.search(rf"{variant} .* \d+ dB ", told.stdout), told.everything
    assert "parity_snr_db: " not in told.stdout, "a parity that does not hold is explained"


def test_every_variant_of_a_ready_file_is_a_row_of_the_table(stage: Stage) -> None:
    assert stage.rtfleet("export", "luna.py:hey", "--variant", "onnx-fp32", "--out", "made").code == 0
    os.rename(stage.folder / "made" / "hey" / "onnx-fp32" / "model.onnx", stage.folder / "hey.onnx")

    told = stage.rtfleet("export", "hey.onnx", "--task", "vad", "--hop-ms", "20", "--variant", "all", "--files-only")

    rows = {line.split()[0]: line.split()[-1] for line in told.stdout.splitlines()[1:] if line.startswith("onnx-")}
    made = ("onnx-fp16", "onnx-int8-dynamic", "onnx-int8-static")
    assert rows == {"onnx-shipped": "UNJUDGED"} | dict.fromkeys(made, "PASS"), told.everything
