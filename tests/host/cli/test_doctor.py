"""`rtfleet doctor --noise`: a model against itself, from end to end."""

from __future__ import annotations

from pathlib import Path

import pytest
import stage as stages
from stage import strict

pytestmark = pytest.mark.slow


def test_a_model_against_itself_tells_what_could_be_told_apart(tmp_path: Path) -> None:
    stage = stages.stage(tmp_path)

    suite = stage.suite(stage.model("luna", latency_us=1000))

    told = stage.rtfleet("doctor", "--noise", "--model", suite, "--launches", "6")

    assert told.code == 0, told.everything
    lines = told.stdout.splitlines()
    assert lines[0].split()[:4] == ["case", "metric", "baseline", "ms"]
    for metric in ("latency_p50", "latency_p99"):
        said = next(line for line in lines if line.startswith(f"luna/fake-shipped@board/burst, {metric}: "))
        assert "6 launches a side can tell " in said and " % apart" in said
    (run,) = stage.runs()
    document = strict((run / "run.json").read_text())
    assert [len(case["launches"]) for case in document["cases"]] == [6, 6]
    assert {one["interleaved"] for one in document["comparisons"]} == {True}
