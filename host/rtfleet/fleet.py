"""Fleets: which devices there are and how to reach them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rtfleet import toml_file
from rtfleet.errors import UsageError
from rtfleet.records import CoreSpec

DEFAULT_FILE = Path("fleet.toml")

CONNECTIONS = 'connect is "local", "local:NAME" (emulated), "adb", "ssh:user@host" or "grpc:host:port"'


@dataclass(frozen=True)
class Device:
    """A device of the fleet.

    Attributes:
        name: Its alias, in reports and case ids.
        connect: "local", "adb", "ssh:user@host" or "grpc:host:port"; "local:NAME" is an agent on this machine that
            stands for another device, with its own identity and lock: for trying a fleet without one.
        serial: Of a phone; "" is the only one there.
        adb_server: "host:port" of the adb server that the phone hangs on; "" is this machine's.
        profile: Name of its profile; "" is the one that matches best.
        labels: What `--device label:L` finds it by.
        cpus: Cores to measure on: of a kind, or by number; () is the scheduler's choice.
        tls: Of a "grpc" device: folder of this host's certificate; None is the default one.
        python: Of an "ssh" device: a Python there that has the agent; "" brings one along.
    """

    name: str
    connect: str
    serial: str = ""
    adb_server: str = ""
    profile: str = ""
    labels: tuple[str, ...] = ()
    cpus: CoreSpec = ()
    tls: Path | None = None
    python: str = ""


LOCAL = Device(name="local", connect="local")


@dataclass(frozen=True)
class _DeviceTable:
    connect: str
    serial: str = ""
    adb_server: str = ""
    profile: str = ""
    labels: tuple[str, ...] = ()
    cpus: CoreSpec = ()
    tls: str = ""
    python: str = ""


@dataclass(frozen=True)
class _FleetTable:
    device: dict[str, _DeviceTable] = field(default_factory=dict)


def file_of(path: Path | None) -> Path | None:
    """That file; the fleet.toml here when none is named; None without either."""
    return path or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)


def find(path: Path | None) -> tuple[Device, ...]:
    """The devices of that file, or of the fleet.toml here; without either, this machine alone."""
    file = file_of(path)
    return read_fleet(file) if file else (LOCAL,)


def profiles_beside(path: Path | None) -> Path | None:
    """The `device_profiles` folder beside the fleet's file; None where there is none."""
    folder = (path or DEFAULT_FILE).parent / "device_profiles"
    return folder if folder.is_dir() else None


def read_fleet(path: Path) -> tuple[Device, ...]:
    """A fleet file, checked as far as it can be without its devices. Raises UsageError."""
    tables = toml_file.read(path, _FleetTable).device
    if not tables:
        raise UsageError(f"{path}: device: names no device", hint='add [device.NAME] with connect = "local"')
    for name, table in tables.items():
        _check(name, table, f"{path}: {toml_file.key_path('device', name)}")
    return tuple(_device(name, table, path.parent) for name, table in tables.items())


def choose(devices: Sequence[Device], wanted: Sequence[str], count: int | None = None) -> tuple[Device, ...]:
    """The devices of `NAME` and `label:L` flags, in the fleet's order; without any, or by `auto`, all.

    Args:
        count: How many of them a run is to take.

    Raises:
        UsageError: a name or a label that no device has, or fewer devices than `count`.
    """
    chosen = tuple(devices) if not wanted or "auto" in wanted else _named(devices, wanted)
    if count is not None and count > len(chosen):
        raise UsageError(f"--count {count}: there are only {len(chosen)} to choose from", "name more, or ask for fewer")
    return chosen


def _named(devices: Sequence[Device], wanted: Sequence[str]) -> tuple[Device, ...]:
    by_label = _by_label(devices)
    names: set[str] = set()
    for word in wanted:
        if word.startswith("label:"):
            label = word.removeprefix("label:")
            if label not in by_label:
                known = toml_file.unknown("label", label, by_label) if by_label else "no device has labels"
                raise UsageError(f"--device {word}: {known}")
            names.update(by_label[label])
        elif word in (known_names := [device.name for device in devices]):
            names.add(word)
        else:
            raise UsageError(f"--device {word}: {toml_file.unknown('device', word, known_names)}")
    return tuple(device for device in devices if device.name in names)


def _by_label(devices: Sequence[Device]) -> Mapping[str, list[str]]:
    labels = dict.fromkeys(label for device in devices for label in device.labels)
    return {label: [device.name for device in devices if label in device.labels] for label in labels}


def _device(name: str, table: _DeviceTable, folder: Path) -> Device:
    # As paths in files are: from where the file is.
    tls = folder / Path(table.tls).expanduser() if table.tls else None
    return Device(name, **{**vars(table), "tls": tls})


def _check(name: str, table: _DeviceTable, where: str) -> None:
    # A device's name stands in case ids, file names and flags.
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name == "auto":
        raise UsageError(f"{where}: a device's name is letters, digits, '-', '_' and '.', and not 'auto'")
    kind, _, address = table.connect.partition(":")
    patterns = {
        "local": r"([A-Za-z0-9][A-Za-z0-9._-]*)?",
        "adb": "",
        "ssh": r"([^\s@:-][^\s@:]*@)?[^\s@:-][^\s@]*",
        "grpc": r"\S+:\d{1,5}",
    }
    if kind not in patterns or not re.fullmatch(patterns[kind], address) or (":" in table.connect) != bool(address):
        near = toml_file.did_you_mean(kind, patterns) if kind not in patterns else ""
        raise UsageError(f"{where}.connect: {table.connect!r} is no connection{near}", hint=CONNECTIONS)
    for key, only in (("serial", "adb"), ("adb_server", "adb"), ("tls", "grpc:..."), ("python", "ssh:...")):
        if kind != only.partition(":")[0] and getattr(table, key):
            raise UsageError(f'{where}.{key}: is only for connect = "{only}", and this is {table.connect!r}')
    if table.adb_server and not _is_server(table.adb_server):
        raise UsageError(
            f"{where}.adb_server: {table.adb_server!r} is no adb server", hint='"host:port"; without a port 5037'
        )
    if not isinstance(table.cpus, str) and any(cpu < 0 for cpu in table.cpus):
        raise UsageError(f"{where}.cpus: a core's number is 0 or more")


def _is_server(text: str) -> bool:
    """Whether it may be "host" or "host:port". adbutils knows no IPv6."""
    label = r"[A-Za-z0-9_-]{1,63}"
    found = re.fullmatch(rf"{label}(\.{label})*(?::(\d{{1,5}}))?", text)
    return bool(found and 0 < int(found[2] or 1) <= 65_535)
