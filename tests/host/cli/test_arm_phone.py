"""An arm64 phone through qemu: that the bundle made for real phones works, and that nobody takes its times for real."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from stage import ONE_LAUNCH, only, stage, strict

from fakes.phone import adb_server, cannot_emulate, emulated_phone
from rtfleet.cache import cache_folder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(cannot_emulate("arm64")), reason=cannot_emulate("arm64") or "a phone can be emulated"),
]
# Everything takes ten times as long there.
PATIENCE_S = 400.0


def test_the_arm64_bundle_measures_on_an_emulated_phone_and_says_that_it_is_no_measurement(tmp_path: Path) -> None:
    here = stage(tmp_path)
    (tmp_path / "fleet.toml").unlink()
    (tmp_path / "cache").mkdir()
    (cache_folder() / "bundles").mkdir(parents=True, exist_ok=True)
    (tmp_path / "cache" / "bundles").symlink_to(cache_folder() / "bundles")
    suite = here.suite(here.model("luna"), run=ONE_LAUNCH)
    with adb_server(tmp_path) as (_, environment), emulated_phone(environment, arch="arm64") as phone:
        adb = {name: environment[name] for name in ("ANDROID_ADB_SERVER_PORT", "HOME")}
        command = [sys.executable, "-m", "rtfleet.cli.main", "run", suite, "--device", "auto", "--json", "run.json"]
        ran = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, **here.environment, **adb, "RTFLEET_LINGER_S": "5"},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        left = phone.processes()

    assert ran.returncode in (0, 3), ran.stdout + ran.stderr
    assert "functional only, not a measurement" in ran.stdout
    document = strict((tmp_path / "run.json").read_text())
    case = only(document["cases"])
    assert len(case["launches"]) == 1 and not case["launches"][0]["error"]
    assert only(document["devices"].values())["arch"] == "aarch64"
    assert left == {}
