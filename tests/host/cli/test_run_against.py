"""`rtfleet run --against`: a candidate and its baseline measured in turns on one device, and compared."""

from __future__ import annotations

from pathlib import Path

import pytest
import stage as stages
from stage import Stage, journal, strict

pytestmark = pytest.mark.slow

EIGHT = "{ launches = 8, frames = 60, min_duration_s = 0.1, confidence = 0.99, max_wait_s = 0 }"


@pytest.fixture(name="stage")
def _stage(tmp_path: Path) -> Stage:
    return stages.stage(tmp_path)


def against(stage: Stage, baseline_us: float, candidate_us: float, *flags: str) -> stages.Told:
    """A candidate of that latency against a baseline of that one; both are called `luna`."""
    entry = 'source = "{file}"\nname = "luna"\ntask = "wake-word"'
    old, new = stage.model("old", latency_us=baseline_us), stage.model("new", latency_us=candidate_us)
    before = stage.suite(entry.format(file=old), name="old.toml")
    after = stage.suite(entry.format(file=new), name="new.toml", run=EIGHT)
    return stage.rtfleet("run", after, "--against", before, *flags)


def test_a_slower_candidate_fails_and_its_launches_took_turns_with_the_baseline(stage: Stage) -> None:
    told = against(stage, 1000, 1600, "--json", "all.json", "--junit", "all.xml", "--markdown", "all.md")

    assert told.code == 1, told.everything
    document = strict((stage.folder / "all.json").read_text())
    assert (document["verdict"], document["exit_code"]) == ("FAIL", 1)
    slower = next(one for one in document["comparisons"] if one["metric"] == "latency_p50")
    assert slower["verdict"] == "SLOWER" and 1.4 < slower["ratio"] < 1.8
    assert (
        '"luna/fake-shipped@board/burst" name="against the baseline: latency_p50"'
        in (stage.folder / "all.xml").read_text()
    )
    assert "**SLOWER** against the baseline: luna/fake-shipped" in (stage.folder / "all.md").read_text()
    shown = stage.rtfleet("show", str(stage.runs()[0]))
    assert shown.code == 1 and "latency_p50" in shown.stdout and "against the baseline" in shown.stdout
    assert "SLOWER" in told.stdout and "luna/fake-shipped@board/burst" in told.stdout
    order = [line["case_id"].startswith("baseline:") for line in journal(stage.runs()[0]) if line["type"] == "intent"]
    assert order == [False, True, True, False] * 4


def test_a_resumed_run_says_itself_what_is_measured(stage: Stage) -> None:
    stage.rtfleet("run", stage.suite(stage.model("luna"), run=stages.ONE_LAUNCH))

    for flags in (["--dry-run"], ["--duration", "10s"], ["--against", "luna.fake.json"]):
        told = stage.rtfleet("run", "--resume", str(stage.runs()[0]), *flags)

        assert told.code == 2, told.everything
        assert f"{flags[0]} beside --resume" in told.stderr
    assert len([line for line in journal(stage.runs()[0]) if line["type"] == "launch"]) == 1
