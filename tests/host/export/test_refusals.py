"""A route that does not work is one error with its step and a way round; a dead converter costs only its job."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from exporting import Bench, bench, entry_of, no_agent, users_folder

from rtfleet.errors import ExportError, UsageError
from rtfleet.export.toolchain import Limits
from rtfleet.suite import ModelEntry

DYING = """
import os, time
from pathlib import Path

def aborts(): os.abort()
def leaves(): os._exit(7)
def sleeps():
    here = Path(__file__).parent
    (here / "pid").write_text(str(os.getpid()))
    (here / "pid").rename(here / "ready")
    time.sleep(60)
"""
ABORTING = """
import os, torch
import tiny

class Aborting(tiny.Curve):
    def forward(self, audio):
        if torch.compiler.is_exporting():
            os.abort()
        return super().forward(audio)

def model(): return tiny._streaming(Aborting(True))
"""


@pytest.fixture(name="here", scope="module")
def _here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    place = tmp_path_factory.mktemp("refusals")
    folder = users_folder(place / "user")
    (folder / "dying.py").write_text(DYING)
    (folder / "aborting.py").write_text(ABORTING)
    with bench(folder, place / "cache", place / "logs") as here:
        yield here


def check_next_job_works(here: Bench) -> None:
    """Another model is built and exported by the same `Exports`."""
    straight = here.prepare("straight")
    assert here.exports.is_cached(straight, "onnx-fp32") or here.export(straight, "onnx-fp32").size_bytes > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "variant", "said", "hint"),
    [
        ("fourier", "tflite-fp32", "torch.stft", "Conv1d"),
        ("branching", "onnx-fp32", "by the values of tensors", "torch.where"),
        ("branching", "tflite-fp32", "by the values of tensors", "torch.where"),
        ("factors", "onnx-fp32", "the operator aten", "replace it in forward"),
    ],
)
def test_a_route_that_does_not_work_names_its_step_and_a_way_round(
    here: Bench, source: str, variant: str, said: str, hint: str
) -> None:
    prepared = here.prepare(source)

    with pytest.raises(ExportError) as raised:
        here.export(prepared, variant)

    assert f"exporting {variant}" in raised.value.text
    assert said in raised.value.text
    assert hint in raised.value.hint
    assert raised.value.step
    assert not here.exports.is_cached(prepared, variant)
    check_next_job_works(here)


@pytest.mark.slow
def test_a_base_that_can_t_be_made_is_tried_once_for_all_that_would_be_made_of_it(here: Bench) -> None:
    prepared = here.prepare("factors")
    told = []
    for variant in ("onnx-fp32", "onnx-fp16", "onnx-int8-static"):
        with pytest.raises(ExportError) as raised:
            here.export(prepared, variant)
        told.append(raised.value.text)

    assert len(set(told)) == 1 and "exporting onnx-fp32: the operator aten" in told[0]
    assert (here.logs / "export-onnx.log").read_text().count("--- Convert onnx-fp32 tiny.py:factors") == 1


@pytest.mark.slow
@pytest.mark.parametrize(("function", "said"), [("aborts", "was killed by SIGABRT"), ("leaves", "ended with code 7")])
def test_a_subprocess_that_dies_costs_only_the_job_in_hand(here: Bench, function: str, said: str) -> None:
    with pytest.raises(ExportError, match=rf"building dying\.py:{function}: the onnx converter {said}") as raised:
        here.prepare(f"dying.py:{function}")

    assert "export-onnx.log" in raised.value.hint
    check_next_job_works(here)


@pytest.mark.slow
def test_a_death_while_converting_keeps_the_model_and_costs_the_other_converter_nothing(here: Bench) -> None:
    prepared = here.prepare("aborting.py:model")

    with pytest.raises(ExportError, match="exporting onnx-fp32: the onnx converter was killed by SIGABRT"):
        here.export(prepared, "onnx-fp32")

    assert not here.exports.is_cached(prepared, "onnx-fp32")
    assert not list((here.exports.cache / "artifacts").glob(".making-*"))
    check_next_job_works(here)


@pytest.mark.slow
def test_a_subprocess_killed_from_outside_is_named_by_its_signal(here: Bench) -> None:
    async def killed() -> None:
        job = asyncio.create_task(here.exports.prepare(entry_of(here.folder, "dying.py:sleeps"), no_agent))
        while not (here.folder / "ready").exists() and not job.done():
            await asyncio.sleep(0.02)
        if not job.done():
            os.kill(int((here.folder / "ready").read_text()), signal.SIGKILL)
        await job

    with pytest.raises(ExportError, match="killed by SIGKILL"):
        here.runner.run(killed())

    check_next_job_works(here)


@pytest.mark.slow
def test_a_job_that_never_ends_is_stopped(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\ndef model(): time.sleep(600)\n")

    with (
        bench(tmp_path, tmp_path / "cache", tmp_path / "logs", Limits(job_s=2.0)) as here,
        pytest.raises(ExportError, match="no answer after 2 s; the onnx converter was stopped"),
    ):
        here.runner.run(here.exports.prepare(entry_of(users_folder(tmp_path), "slow.py:model"), no_agent))


@pytest.mark.slow
def test_an_error_of_the_users_code_is_bad_usage_with_its_line(here: Bench) -> None:
    (here.folder / "broken.py").write_text("def model():\n    return {}['weights']\n")

    with pytest.raises(UsageError, match=r"broken\.py:model: KeyError: 'weights' \(broken\.py:2\)"):
        here.prepare("broken.py:model")


@pytest.mark.parametrize("file", ["luna.keras", "saved"])
def test_only_files_means_that_no_tensorflow_model_is_loaded_either(tmp_path: Path, file: str) -> None:
    """A SavedModel's graph may read and write files, and a `.keras` file may hold Python."""
    folder = users_folder(tmp_path / "user")
    (folder / "luna.keras").write_bytes(b"")
    (folder / "saved").mkdir()
    (folder / "saved" / "saved_model.pb").write_bytes(b"")
    with bench(folder, tmp_path / "cache", tmp_path / "logs") as here:
        entry = ModelEntry("m", file, folder, clips=("clips",), task="vad", where=file)
        with pytest.raises(UsageError, match="a TensorFlow model is a program, and --files-only refuses to run any"):
            here.runner.run(here.exports.prepare(entry, no_agent, files_only=True))

        assert not here.started_something


def test_only_files_means_that_no_python_of_the_users_runs(tmp_path: Path) -> None:
    with bench(users_folder(tmp_path / "user"), tmp_path / "cache", tmp_path / "logs") as here:
        asked = here.exports.prepare(entry_of(here.folder, "echo"), no_agent, files_only=True)
        with pytest.raises(UsageError, match="--files-only refuses to run any"):
            here.runner.run(asked)

        assert not here.started_something
