"""A phone's own setting comes back, whatever became of the agents in between."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

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


def test_a_disk_that_is_full_costs_the_phone_nothing_of_its_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    phone = Phone("3")

    with kept_awake(tmp_path / "note", phone.run):
        pass

    assert phone.value == "3"


def test_a_phone_without_that_setting_is_served_all_the_same(tmp_path: Path) -> None:
    def run(*command: str) -> str:
        raise OSError("/system/bin/settings can't be run: No such file or directory")

    with kept_awake(tmp_path / "note", run):
        pass

    assert not (tmp_path / "note").exists()
