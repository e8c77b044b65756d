"""Profiles: which one a device gets, and what its models owe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rtfleet import profile
from rtfleet.errors import UsageError
from rtfleet.records import DeviceFacts

LINUX = DeviceFacts("box", "machine-id", "linux", "6.1", "", "", "x86_64", 2, 1, "boot", "0.1.0", 1)


def _profile(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.toml").write_text(text)


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        (LINUX, "generic-linux"),
        (replace(LINUX, model="Raspberry Pi 5 Model B Rev 1.0"), "raspberry-pi-5"),
        (replace(LINUX, model="NVIDIA Jetson Orin Nano Developer Kit"), "jetson-orin-nano"),
        (replace(LINUX, os="android", model="Pixel 8"), "pixel-8"),
        (replace(LINUX, os="android", model="Pixel 8 Pro"), "generic-android"),
        (replace(LINUX, os="macos", model="MacBookPro18,3"), "macbook"),
        (replace(LINUX, os="macos", model="Macmini9,1"), "generic-mac"),
    ],
)
def test_the_shipped_profile_with_most_matching_keys_wins(facts: DeviceFacts, name: str) -> None:
    assert profile.match(facts).name == name


def test_a_profile_beside_the_fleet_comes_before_the_shipped_ones(tmp_path: Path) -> None:
    _profile(tmp_path, "ours", 'match = { os = "linux" }')

    assert profile.match(replace(LINUX, model="Raspberry Pi 5"), tmp_path).name == "ours"


def test_a_folder_without_a_fitting_profile_leaves_the_shipped_ones(tmp_path: Path) -> None:
    _profile(tmp_path, "phone", 'match = { os = "android" }')

    assert profile.match(LINUX, tmp_path).name == "generic-linux"


def test_the_fleet_can_name_the_profile() -> None:
    assert profile.match(LINUX, name="pixel-8").name == "pixel-8"
    with pytest.raises(UsageError, match="unknown profile 'pixel-9'; did you mean 'pixel-8'"):
        profile.match(LINUX, name="pixel-9")


def test_a_device_that_no_profile_fits_is_told_its_facts() -> None:
    with pytest.raises(UsageError, match="device box: no profile fits os = 'plan9'"):
        profile.match(replace(LINUX, os="plan9"))


def test_every_shipped_profile_asks_fifty_milliseconds_of_a_wake_word() -> None:
    for shipped in profile.read_folder(Path(__file__).parents[2] / "device_profiles"):
        owed = {budget.metric: budget.limit for budget in profile.budgets_for(shipped, "wake-word")}

        assert owed == {"size_mb": 50, "response_p99_ms": 50}


def test_a_limit_names_its_file_and_key_without_this_machines_folders() -> None:
    owed = profile.budgets_for(profile.match(LINUX), "wake-word")

    assert [budget.where for budget in owed] == [
        "device_profiles/generic-linux.toml: all.size_mb",
        "device_profiles/generic-linux.toml: wake-word.response_p99_ms",
    ]
    assert all(len(budget.file_sha256) == 64 for budget in owed)


def test_a_tasks_own_limit_replaces_that_of_all_and_floors_are_marked(tmp_path: Path) -> None:
    _profile(
        tmp_path,
        "ours",
        "[match]\n[budgets]\nall = { size_mb = 50 }\nvad = { size_mb = 1, parity_agreement_min = 0.9 }",
    )

    owed = profile.budgets_for(profile.match(LINUX, tmp_path), "vad")

    assert {(budget.metric, budget.floor): budget.limit for budget in owed} == {
        ("size_mb", False): 1,
        ("parity_agreement", True): 0.9,
    }


def test_the_suite_replaces_a_limit_and_the_command_line_replaces_both() -> None:
    owed = profile.budgets_for(
        profile.match(LINUX), "wake-word", {"response_p99_ms": 30, "load_ms": 9}, "s.toml: model[0].budgets"
    )
    owed = profile.laid_over(owed, "wake-word", {"response_p99_ms": 20})

    assert {budget.metric: (budget.limit, budget.where) for budget in owed[1:]} == {
        "response_p99_ms": (20, "--budget response_p99_ms"),
        "load_ms": (9, "s.toml: model[0].budgets.load_ms"),
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("match = { os = 'linux' }\nbudget = {}", "budget: unknown key; did you mean 'budgets'?"),
        ("match = { sco = 'x' }", "match.sco: unknown fact 'sco'; did you mean 'soc'?"),
        ("[match]\n[budgets]\nwakeword = {}", "budgets.wakeword: unknown task 'wakeword'; did you mean 'wake-word'?"),
        ("[match]\n[budgets]\nvad = { size = 3 }", "budgets.vad.size: unknown budget 'size'"),
        ("[match]\n[budgets]\nvad = { size_mb = '3' }", "budgets.vad.size_mb: expected a finite number, found '3'"),
        ("[match]\n[budgets]\nvad = { size_mb_min = 3 }", "budgets.vad.size_mb_min: size_mb_min is no floor"),
    ],
)
def test_a_wrong_profile_is_refused_with_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    _profile(tmp_path, "ours", text)

    with pytest.raises(UsageError) as refused:
        profile.match(LINUX, tmp_path)

    assert refused.value.text.startswith(f"{tmp_path / 'ours.toml'}: ")
    assert said in refused.value.text
