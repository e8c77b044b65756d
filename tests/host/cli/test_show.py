"""`rtfleet show`, as a process: without the libraries that measured."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

from builders import journalled, measured_launch, renamed, run_of, whole_case

from rtfleet.records import CaseError

RUN = run_of(whole_case(measured_launch("l1"), measured_launch("l2", round_=2), measured_launch("l3", round_=3)))

# The command by itself: `rtfleet` has more subcommands, and what they import is not this test's.
SHOW = """
import sys, typer
from rtfleet.cli.show import show
from rtfleet.errors import RtfleetError
try:
    typer.run(show)
except RtfleetError as error:
    print(error.text, file=sys.stderr)
    sys.exit(error.exit_code)
finally:
    heavy = {"torch", "onnxruntime", "onnx", "grpc", "ai_edge_litert"} & set(sys.modules)
    print("loaded:", *heavy, file=sys.stderr)
"""


def _show(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-c", SHOW, *map(str, arguments)], capture_output=True, text=True, env=environment
    )


def test_a_stored_run_is_judged_again_without_export_libraries(tmp_path: Path) -> None:
    shown = _show(journalled(RUN, tmp_path / "run"))

    assert shown.returncode == 0, shown.stderr
    assert shown.stderr.splitlines()[-1] == "loaded:"
    assert "luna on board, paced: response to a frame every 80 ms" in shown.stdout
    assert shown.stdout.splitlines()[-1] == "PASS: 1 PASS; exit code 0"


def test_a_crashed_run_shows_every_launch_that_ended_and_gets_its_run_json(tmp_path: Path) -> None:
    folder = journalled(dataclasses.replace(RUN, finished=False), tmp_path / "run")

    shown = _show(folder)

    assert "the run did not come to its end" in shown.stdout
    document = json.loads((folder / "run.json").read_text())
    assert [launch["launch_id"] for launch in document["cases"][0]["launches"]] == ["l1", "l2", "l3"]


def test_json_on_stdout_is_all_that_is_there(tmp_path: Path) -> None:
    folder = journalled(RUN, tmp_path / "run")

    document = json.loads(_show(folder, "--json", "-").stdout)

    assert document["verdict"] == "PASS"
    assert _show(folder / "run.json").returncode == 0


def test_what_is_no_run_is_wrong_usage(tmp_path: Path) -> None:
    shown = _show(tmp_path)

    assert shown.returncode == 2
    assert "holds no run" in shown.stderr
    assert "Traceback" not in shown.stderr


TWO = run_of(
    whole_case(measured_launch("l1"), measured_launch("l2", round_=2), measured_launch("l3", round_=3)),
    renamed(
        whole_case(
            measured_launch("m1"),
            measured_launch(
                "m2",
                round_=2,
                error=CaseError("KILLED", "the worker was killed (SIGKILL)", retryable=True),
                stderr_tail="loading\nout of\x1b[31m memory\n",
            ),
        ),
        model="nova",
    ),
)


def test_one_case_is_shown_by_itself_under_the_verdict_of_the_run(tmp_path: Path) -> None:
    folder = journalled(TWO, tmp_path / "run")
    whole, part, none = _show(folder), _show(folder, "--case", "nova/"), _show(folder, "--case", "vega")

    assert "luna on board" in whole.stdout and "nova on board" in whole.stdout
    assert "luna on board" not in part.stdout and "nova on board" in part.stdout
    assert part.returncode == whole.returncode
    assert none.returncode == 2 and "the run has no such case" in none.stderr


def test_the_log_is_what_the_workers_of_failed_launches_said_last(tmp_path: Path) -> None:
    told = _show(journalled(TWO, tmp_path / "run"), "--log").stdout.splitlines()

    assert told == [
        "nova/onnx-fp32@board/paced, launch 2 (m2): KILLED: the worker was killed (SIGKILL)",
        "  loading",
        "  out of\\x1b[31m memory",
    ]
