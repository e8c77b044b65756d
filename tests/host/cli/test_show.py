"""`rtfleet show`, as a process: without the libraries that measured."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

from builders import journalled, measured_launch, run_of, whole_case

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
