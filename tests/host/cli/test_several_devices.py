"""Runs over several devices that come late, are somebody else's, or are not needed; all emulated on this machine."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import stage as stages
from stage import Stage, Told, ending, only, strict, wait_until

pytestmark = pytest.mark.slow

# A launch of 500 frames takes 10 s.
SLOW_US = 20_000
# So many launches; a device that another run has is waited for so many seconds.
PATIENT = "{{ launches = {}, frames = 60, min_duration_s = 0.1, confidence = 0.9, max_wait_s = 0, lease_wait_s = {} }}"


@pytest.fixture(name="stage")
def _stage(tmp_path: Path) -> Stage:
    stage = stages.stage(tmp_path)
    both = f'[device.one]\nconnect = "local:{stage.emulated}"\n[device.two]\nconnect = "local:{stage.emulated}-two"\n'
    (tmp_path / "fleet.toml").write_text(both)
    return stage


def quick(stage: Stage, launches: int, lease_wait_s: int) -> str:
    entry = f'source = "{stage.model("nova")}"\ntask = "speaker"\nbudgets = {{ latency_p50_ms = 1000 }}'
    return stage.suite(entry, run=PATIENT.format(launches, lease_wait_s))


@contextlib.contextmanager
def taken(stage: Stage, device: str, launches: int = 9) -> Iterator[subprocess.Popen[str]]:
    """Another run measures on it, for a minute and a half or so many launches of ten seconds."""
    slow = stage.suite(stage.model("luna", latency_us=SLOW_US), run=PATIENT.format(launches, 0), name="slow.toml")
    with ending(stage.start("run", slow, "--device", device, "--out", "others")) as process:
        wait_until(stage.workers)
        yield process


def verdicts(stage: Stage, told: Told) -> dict[str, tuple[str, int]]:
    """Device -> the verdict of its case, and its launches that count."""
    document = strict((only(stage.runs()) / "run.json").read_text())
    assert document["exit_code"] == told.code, told.everything
    return {
        case["device"]: (case["verdict"], sum(not launch["error"] for launch in case["launches"]))
        for case in document["cases"]
    }


def test_what_a_device_gave_stays_where_a_resumed_run_can_not_have_it(stage: Stage) -> None:
    suite = quick(stage, 2, lease_wait_s=0)
    whole = stage.rtfleet("run", suite)
    assert whole.code == 0, whole.everything

    with taken(stage, "one"):
        resumed = stage.rtfleet("run", "--resume", str(only(stage.runs())))

    assert verdicts(stage, resumed) == {"one": ("PASS", 2), "two": ("PASS", 2)}, resumed.everything
    assert resumed.code == 0


def test_a_device_that_is_not_needed_is_not_waited_for_and_another_one_never_measured_instead(stage: Stage) -> None:
    suite = quick(stage, 1, lease_wait_s=600)
    with taken(stage, "one") as other:
        ran = stage.rtfleet("run", suite, "--count", "1")
        assert other.poll() is None, "it was waited for"
    assert verdicts(stage, ran) == {"two": ("PASS", 1)}, ran.everything

    for launches in (2, 3):
        resumed = stage.rtfleet("run", "--resume", str(only(stage.runs())), "--launches", str(launches))
        assert verdicts(stage, resumed) == {"two": ("PASS", launches)}, resumed.everything


def test_a_late_device_that_does_not_fit_spoils_nothing_of_the_others(stage: Stage) -> None:
    (stage.folder / "late.toml").write_text((stage.folder / "fleet.toml").read_text() + "cpus = [4095]\n")
    slow = f'source = "{stage.model("vega", latency_us=SLOW_US)}"\ntask = "speaker"\nbudgets = {{ size_mb = 1 }}'
    suite = stage.suite(slow, run=PATIENT.format(2, 60))

    with taken(stage, "two", launches=1):
        ran = stage.rtfleet("run", suite, "--fleet", "late.toml")

    assert ran.code == 4 and "the device has no core 4095" in ran.stderr, ran.everything
    assert verdicts(stage, ran) == {"one": ("PASS", 2), "two": ("ERROR", 0)}, ran.everything
