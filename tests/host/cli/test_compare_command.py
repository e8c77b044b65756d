"""`rtfleet compare`, as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from builders import ORT, journalled, measured_launch, run_of, whole_case

from rtfleet.cli.options import tolerance
from rtfleet.errors import UsageError
from rtfleet.records import Run

pytestmark = pytest.mark.slow


def _run(name: str, factor: float = 1.0, launches: int = 8, **changes: object) -> Run:
    made = (
        measured_launch(f"{name}{at}", round_=at, latency_ns=_latency_ns(factor, at), **changes)
        for at in range(launches)
    )
    return run_of(whole_case(*made), id=name)


def _latency_ns(factor: float, at: int) -> np.ndarray:
    return (factor * (1 + at / 500) * (3_000_000 + np.arange(459) % 7 * 100_000)).astype(np.int64)


def _compare(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "150", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "rtfleet.cli.main", "compare", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.fixture(name="before")
def _before(tmp_path: Path) -> Path:
    return journalled(_run("before"), tmp_path / "before")


def test_equal_runs_pass(before: Path, tmp_path: Path) -> None:
    shown = _compare(before, journalled(_run("after"), tmp_path / "after"))

    assert shown.returncode == 0, shown.stderr
    assert "2 SAME; exit code 0" in shown.stdout


def test_a_slower_run_fails_unless_that_much_is_tolerated(before: Path, tmp_path: Path) -> None:
    slower = journalled(_run("after", 1.2), tmp_path / "after")

    shown = _compare(before, slower)

    assert shown.returncode == 1, shown.stderr
    assert "SLOWER" in shown.stdout
    assert _compare(before, slower, "--tolerance", "30%").returncode == 0


def test_too_few_launches_are_inconclusive(before: Path, tmp_path: Path) -> None:
    shown = _compare(before, journalled(_run("after", launches=3), tmp_path / "after"))

    assert shown.returncode == 3
    assert "8 against 3 launches decide nothing" in " ".join(shown.stdout.split())


def test_unlike_conditions_are_wrong_usage_unless_compared_anyway(before: Path, tmp_path: Path) -> None:
    other = {"runtime": ORT.__class__("onnxruntime", "1.31.0", "d" * 64)}
    unlike = journalled(_run("after", **other), tmp_path / "after")

    refused, shown = _compare(before, unlike), _compare(before, unlike, "--anyway")

    assert refused.returncode == 2
    assert "runtime version 1.32.0 against 1.31.0" in refused.stderr
    assert shown.returncode == 0
    assert "(unlike)" in shown.stdout


def test_json_on_stdout_is_all_that_is_there(before: Path, tmp_path: Path) -> None:
    after = journalled(_run("after", 1.2), tmp_path / "after")

    document = json.loads(_compare(before, after, "--json", "-").stdout)
    _compare(before, after, "--json", tmp_path / "c.json")

    assert [one["verdict"] for one in document["comparisons"]] == ["SLOWER", "SLOWER"]
    assert document["exit_code"] == 1
    assert json.loads((tmp_path / "c.json").read_text())["comparisons"] == document["comparisons"]


def test_what_is_no_run_is_wrong_usage(before: Path, tmp_path: Path) -> None:
    assert _compare(before, tmp_path / "none").returncode == 2
    assert "both are run before" in _compare(before, before).stderr


@pytest.mark.parametrize(("text", "value"), [("10%", 0.1), ("10 %", 0.1), ("0.1", 0.1), ("0", 0.0), ("2.5%", 0.025)])
def test_a_tolerance_is_a_percentage_or_a_fraction(text: str, value: float) -> None:
    assert tolerance(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["ten", "", "%", "10%%", "-1%", "10", "nan", "inf"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"expected a share like 10% or 0\.1"):
        tolerance(text)
