"""What this device is: facts that hold until the next boot."""

from __future__ import annotations

import hashlib
import hmac
import os
import platform
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rtfleet_agent.sensors import linux, readings


@dataclass(frozen=True)
class Core:
    """One core. `capacity` is the kernel's, 1024 for the largest core; None where it is not told."""

    index: int
    capacity: int | None
    max_frequency_khz: int | None


@dataclass(frozen=True)
class Device:
    """This device.

    Attributes:
        identity: The same for every agent on this device and for no other device.
        os: linux, android or macos.
        model: "Raspberry Pi 5 Model B Rev 1.0"; "" where nothing tells.
        soc: The processor's name.
        sensors: Readings that this device can give.
        missing_sensors: Reading -> why not.
    """

    identity: str
    boot_id: str
    os: str
    os_version: str
    model: str
    soc: str
    arch: str
    memory_bytes: int
    python_version: str
    cores: tuple[Core, ...]
    sensors: tuple[str, ...] = ()
    missing_sensors: Mapping[str, str] = field(default_factory=dict)


def read_device(identity: str) -> Device:
    """The facts of this device under the name `identity`."""
    on_linux = platform.system() == "Linux"
    sensors = readings()
    return Device(
        identity=identity,
        boot_id=_boot_id(),
        os={"darwin": "macos"}.get(sys.platform, sys.platform),
        os_version=_os_version(),
        model=_first_line(
            "/sys/class/dmi/id/product_name", "/sys/devices/virtual/dmi/id/product_name", "/proc/device-tree/model"
        ),
        soc=_soc() if on_linux else platform.processor(),
        arch=platform.machine(),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        python_version=platform.python_version(),
        cores=tuple(_core(index) for index in range(os.cpu_count() or 1)),
        sensors=tuple(name for name, reading in sensors.items() if reading.value is not None),
        missing_sensors={name: reading.reason for name, reading in sensors.items() if reading.value is None},
    )


def identify(fallback: Path) -> str:
    """This device's identity: a stable key of the machine id, or a number kept in the file `fallback`.

    The machine id itself is confidential by machine-id(5); what is shown is a keyed hash of it.
    """
    machine_id = _first_line("/etc/machine-id", "/var/lib/dbus/machine-id", "/sys/class/dmi/id/product_uuid")
    if machine_id:
        digest = hmac.new(machine_id.encode(), b"rtfleet device identity", hashlib.sha256).hexdigest()
        return f"machine-{digest[:32]}"
    if not fallback.exists():
        fallback.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fallback.write_text(f"store-{uuid.uuid4().hex}\n")
    return fallback.read_text().strip()


def _boot_id() -> str:
    try:
        return linux.boot_id()
    except OSError:
        return ""


def _os_version() -> str:
    if platform.system() == "Linux":
        try:
            release = platform.freedesktop_os_release()
            return f"{release.get('PRETTY_NAME', '')}, kernel {platform.release()}".lstrip(", ")
        except OSError:
            return f"kernel {platform.release()}"
    return platform.mac_ver()[0] or platform.release()


def _soc() -> str:
    # x86 names the model in each processor's entry; ARM boards name the chip in the device tree or in soc0.
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Hardware"):
                return value.strip()
    except OSError:
        return ""
    compatible = _first_line("/proc/device-tree/compatible").split("\0")
    return _first_line("/sys/devices/soc0/machine", "/sys/devices/soc0/soc_id") or compatible[-1]


def _core(index: int) -> Core:
    folder = f"/sys/devices/system/cpu/cpu{index}"
    return Core(index, _number(f"{folder}/cpu_capacity"), _number(f"{folder}/cpufreq/cpuinfo_max_freq"))


def _number(path: str) -> int | None:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):
        return None


def _first_line(*paths: str) -> str:
    for path in paths:
        try:
            # Strings of the device tree end with NUL.
            if line := Path(path).read_text(errors="replace").strip("\0\n "):
                return line
        except OSError:
            continue
    return ""
