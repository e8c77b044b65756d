"""Fleets: the devices of a file, and those that a flag chooses."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtfleet import fleet
from rtfleet.errors import UsageError

FLEET = """
[device.pixel]
connect = "adb"
serial  = "3A041FDJH001"
labels  = ["phone", "ci"]

[device.bench]
connect = "ssh:lab@10.0.0.7"
profile = "jetson-orin-nano"
labels  = "ci"
cpus    = [4, 5]

[device.here]
connect = "local"
"""


def _fleet(folder: Path, text: str) -> Path:
    path = folder / "fleet.toml"
    path.write_text(text)
    return path


def test_a_fleet_is_read_whole(tmp_path: Path) -> None:
    devices = fleet.read_fleet(_fleet(tmp_path, FLEET))

    assert devices == (
        fleet.Device("pixel", "adb", serial="3A041FDJH001", labels=("phone", "ci")),
        fleet.Device("bench", "ssh:lab@10.0.0.7", profile="jetson-orin-nano", labels=("ci",), cpus=(4, 5)),
        fleet.Device("here", "local"),
    )


def test_keys_lie_where_the_fleet_file_says_from_its_own_folder(tmp_path: Path) -> None:
    text = """
    [device.near]
    connect = "grpc:near:7411"
    tls     = "keys/ann"
    [device.home]
    connect = "grpc:home:7411"
    tls     = "~/keys"
    """

    near, home = fleet.read_fleet(_fleet(tmp_path, text))

    assert near.tls == tmp_path / "keys" / "ann"
    assert home.tls == Path.home() / "keys"


def test_without_a_file_the_fleet_is_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert fleet.find(None) == (fleet.LOCAL,)
    assert fleet.profiles_beside(None) is None


def test_the_fleet_file_here_is_found_with_the_profiles_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _fleet(tmp_path, FLEET)
    (tmp_path / "device_profiles").mkdir()

    assert len(fleet.find(None)) == 3
    assert fleet.profiles_beside(None) == Path("device_profiles")


def test_a_named_fleet_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be read"):
        fleet.find(tmp_path / "gone.toml")


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ([], ["pixel", "bench", "here"]),
        (["here"], ["here"]),
        (["label:ci"], ["pixel", "bench"]),
        (["here", "label:phone", "pixel"], ["pixel", "here"]),
    ],
)
def test_devices_are_chosen_by_name_and_label(tmp_path: Path, wanted: list[str], names: list[str]) -> None:
    devices = fleet.read_fleet(_fleet(tmp_path, FLEET))

    assert [device.name for device in fleet.choose(devices, wanted)] == names


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("pixle", "--device pixle: unknown device 'pixle'; did you mean 'pixel'? There are pixel, bench, here"),
        ("label:phones", "--device label:phones: unknown label 'phones'; did you mean 'phone'?"),
    ],
)
def test_an_unknown_device_or_label_names_those_there_are(tmp_path: Path, wanted: str, said: str) -> None:
    devices = fleet.read_fleet(_fleet(tmp_path, FLEET))

    with pytest.raises(UsageError) as refused:
        fleet.choose(devices, [wanted])

    assert said in refused.value.text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[device.a]\nconnect = 'adb'\nserail = '1'", "device.a.serail: unknown key; did you mean 'serial'?"),
        ("[device.a]", "device.a.connect: missing"),
        ("[device.a]\nconnect = 'abd'", "device.a.connect: 'abd' is no connection; did you mean 'adb'?"),
        ("[device.a]\nconnect = 'grpc:host'", "device.a.connect: 'grpc:host' is no connection"),
        ("[device.a]\nconnect = 'local:'", "device.a.connect: 'local:' is no connection"),
        ("[device.a]\nconnect = 'ssh:-oProxyCommand=x'", "is no connection"),
        ("[device.a]\nconnect = 'local'\nserial = '1'", 'device.a.serial: is only for connect = "adb"'),
        ("[device.a]\nconnect = 'local'\ntls = 'keys'", 'device.a.tls: is only for connect = "grpc:..."'),
        ("[device.a]\nconnect = 'grpc:a:1'\npython = 'p'", 'device.a.python: is only for connect = "ssh:..."'),
        *(
            (
                f"[device.a]\nconnect = 'adb'\nadb_server = '{server}'",
                f"device.a.adb_server: '{server}' is no adb server",
            )
            for server in (
                "lab:99999",
                "lab:0",
                "lab:",
                ":5037",
                "lab:5037x",
                "[::1]:5037",
                "lab..host",
                "http://lab",
                "l" * 64,
            )
        ),
        ("[device.'a/b']\nconnect = 'local'", 'device."a/b": a device\'s name is letters'),
        ("[device.auto]\nconnect = 'local'", "device.auto: a device's name"),
        (
            "[device.a]\nconnect = 'local'\ncpus = 'large'",
            "device.a.cpus: expected big, little or a list of integers, found 'large'",
        ),
        ("", "device: names no device"),
    ],
)
def test_a_wrong_fleet_is_refused_with_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    path = _fleet(tmp_path, text)

    with pytest.raises(UsageError) as refused:
        fleet.read_fleet(path)

    assert refused.value.text.startswith(f"{path}: ")
    assert said in refused.value.text
