"""`rtfleet run --profile-ops`, and accelerators that are not there, from end to end."""

from __future__ import annotations

from pathlib import Path

import pytest
import stage as stages
from stage import Stage, journal, only, strict

from rtfleet_agent.runtimes.tflite_bytes import relu_model

pytestmark = pytest.mark.slow

SPEAKER = 'task = "speaker"'


@pytest.fixture(name="stage")
def _stage(tmp_path: Path) -> Stage:
    return stages.stage(tmp_path)


def operators(run: Path) -> list[dict]:
    return [line for line in journal(run) if line["type"] == "operators"]


def test_operators_come_from_a_launch_of_their_own_and_only_once(stage: Stage) -> None:
    suite = stage.suite(f'source = "{stage.model("luna")}"\n{SPEAKER}', run=stages.TWO_LAUNCHES)

    told = stage.rtfleet("run", suite, "--profile-ops", "--budget", "latency_p50_ms=0.001", "--json", "run.json")
    run = only(stage.runs())
    again = stage.rtfleet("run", "--resume", str(run), "--launches", "3")

    # A busy machine may be why it fails.
    assert told.code in (1, 3) and "time  luna/fake-shipped: fake (Fake), " in told.stdout
    case = only(strict((stage.folder / "run.json").read_text())["cases"])
    assert only(case["operators"]["times"])["op_type"] == "Fake" and case["operators"]["failed"] == ""
    # None of its frames is among the case's.
    assert [launch["kind"] for launch in case["launches"]] == ["LATENCY"] * 2
    assert case["summary"]["launches"] == 2
    assert again.code == told.code and len(operators(run)) == 1


def test_xnnpack_switched_off_is_a_row_of_its_own_with_its_placement_and_operators(stage: Stage) -> None:
    (stage.folder / "luna.tflite").write_bytes(relu_model(1, 1))
    suite = stage.suite(f'source = "luna.tflite"\n{SPEAKER}', run=stages.ONE_LAUNCH)

    told = stage.rtfleet("run", suite, "--profile-ops", "--plain", "--json", "run.json")

    usual, plain = strict((stage.folder / "run.json").read_text())["cases"]
    assert told.code in (0, 3), told.everything
    assert [case["case_id"].rpartition("/")[2] for case in (usual, plain)] == ["burst", "burst+plain"]
    assert [case["placement"]["accelerated_nodes"] for case in (usual, plain)] == [1, 0]
    assert "XNNPACK" in {time["ran_on"] for time in usual["operators"]["times"]}
    assert {time["ran_on"] for time in plain["operators"]["times"]} <= {"built-in kernels", ""}
    assert "XNNPACK took 1 of 1 nodes (luna/tflite-shipped)" in told.stdout
    assert "all 1 nodes ran on built-in kernels (luna/tflite-shipped+plain)" in told.stdout


@pytest.mark.parametrize("accelerator", ["gpu", "npu"])
def test_an_accelerator_that_is_not_there_is_an_error_that_names_what_is(stage: Stage, accelerator: str) -> None:
    suite = stage.suite(stage.model("luna"), run=stages.QUICK)

    told = stage.rtfleet("run", suite, "--accelerator", accelerator, "--profile-ops")

    assert told.code == 4
    assert f"NO_ACCELERATOR: accelerator '{accelerator}' is not available here" in told.stdout
    assert "this runtime offers cpu" in told.stdout
    # Measuring again would not bring one.
    assert len([line for line in journal(only(stage.runs())) if line["type"] == "launch"]) == 1
    assert operators(only(stage.runs())) == []
