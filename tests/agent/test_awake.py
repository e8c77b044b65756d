"""A phone's own setting comes back, whatever became of the agents in between."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import uuid
from pathlib import Path

from agents import wait_until

from rtfleet_agent.awake import kept_awake


class Phone:
    """`settings` of a phone: what the one setting is, None while it was never made."""

    def __init__(self, value: str | None) -> None:
        self.value = value

    def run(self, *command: str) -> str:
        program, verb, *words = command
        assert program.endswith("/settings") and words[:2] == ["global", "stay_on_while_plugged_in"]
        if verb == "get":
            return f"{'null' if self.value is None else self.value}\n"
        self.value = None if verb == "delete" else words[2]
        return ""


def test_the_setting_is_what_it_was_afterwards(tmp_path: Path) -> None:
    for before in ("0", "3", None):
        phone = Phone(before)
        with kept_awake(tmp_path / "note", phone.run):
            assert phone.value == "7"
        assert phone.value == before and not (tmp_path / "note").exists()


def test_an_agent_after_one_that_was_killed_restores_the_phone_s_own(tmp_path: Path) -> None:
    phone = Phone("3")
    killed = kept_awake(tmp_path / "note", phone.run)
    killed.__enter__()

    with kept_awake(tmp_path / "note", phone.run):
        assert phone.value == "7"

    assert phone.value == "3"


def test_an_agent_that_is_ended_while_it_starts_restores_it_too(tmp_path: Path) -> None:
    settings = tmp_path / "bin" / "settings"
    settings.parent.mkdir()
    # Slow, as on a phone that has just woken up.
    settings.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/asked\nsleep 1\necho 3\n')
    settings.chmod(0o755)
    command = [sys.executable, "-m", "rtfleet_agent", "serve", "--keep-awake", "--as", f"awake-{uuid.uuid4().hex}"]
    environment = {**os.environ, "ANDROID_ROOT": str(tmp_path)}
    with subprocess.Popen([*command, "--store", str(tmp_path / "store")], env=environment) as agent:
        wait_until(lambda: (tmp_path / "asked").exists() and "put" in (tmp_path / "asked").read_text())
        agent.terminate()
        assert agent.wait(30) == 0

    asked = (tmp_path / "asked").read_text().splitlines()
    assert [words.split()[-1] for words in asked if words.startswith("put")] == ["7", "3"]


def test_a_phone_without_that_setting_is_served_all_the_same(tmp_path: Path) -> None:
    def run(*command: str) -> str:
        raise OSError("/system/bin/settings can't be run: No such file or directory")

    with kept_awake(tmp_path / "note", run):
        pass

    assert not (tmp_path / "note").exists()


def test_a_full_disk_leaves_the_setting_alone(tmp_path: Path) -> None:
    phone = Phone("3")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # nothing can be written, files can still be made
    try:
        with kept_awake(tmp_path / "note", phone.run):
            assert phone.value == "3"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert phone.value == "3"
