"""What this device is: facts that hold until the next boot."""

from __future__ import annotations

import hashlib
import hmac
import os
import platform
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rtfleet_agent import sensors
from rtfleet_agent.sensors import android, macos


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
        provisos: What a reader of its numbers must know: a word for it, a colon, and a sentence.
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
    provisos: tuple[str, ...] = ()


def read_device(identity: str, root: Path = Path("/")) -> Device:
    """The facts of this device under the name `identity`."""
    kind = sensors.system(root)
    named = _android(root) if kind == "android" else _macos() if kind == "macos" else _linux(root)
    readings = sensors.readings(root)
    return Device(
        identity=identity,
        boot_id=sensors.boot_id(),
        os="linux" if kind == "jetson" else sys.platform if kind == "other" else kind,
        os_version=named.os_version,
        model=named.model,
        soc=named.soc,
        arch=platform.machine(),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        python_version=platform.python_version(),
        cores=tuple(_core(root, index) for index in _online(root)),
        sensors=tuple(name for name, reading in readings.items() if reading.value is not None),
        missing_sensors={name: reading.reason for name, reading in readings.items() if reading.value is None},
        provisos=tuple(_provisos(kind)),
    )


def _provisos(kind: sensors.System) -> Iterator[str]:
    if emulator := os.environ.get("RTFLEET_EMULATOR", "").strip():
        yield f"emulated: under {emulator.rpartition('/')[2]}: functional only, not a measurement"
    if kind == "android" and platform.libc_ver()[0] == "glibc":
        yield "glibc-bundle: CPU, glibc bundle: an app's own builds may be faster or slower"


def identify(fallback: Path, root: Path = Path("/")) -> str:
    """This device's identity: a stable key of what is its own, or a number kept in the file `fallback`.

    That is the serial number and the build's fingerprint on Android, so that an update makes another device; the
    hardware's UUID on macOS; the machine id elsewhere. These are confidential (machine-id(5)), and reports are passed
    on: what is shown is a keyed hash.
    """
    kind = sensors.system(root)
    if kind == "android":
        secret = _serial_and_build(root)
    elif kind == "macos":
        secret = macos.machine_id()
    else:
        secret = _first_line(
            root / "etc/machine-id", root / "var/lib/dbus/machine-id", root / "sys/class/dmi/id/product_uuid"
        )
    if secret:
        digest = hmac.new(secret.encode(), b"rtfleet device identity", hashlib.sha256).hexdigest()
        return f"{'android' if kind == 'android' else 'machine'}-{digest[:32]}"
    if not fallback.exists():
        fallback.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fallback.write_text(f"store-{uuid.uuid4().hex}\n")
    return fallback.read_text().strip()


@dataclass(frozen=True)
class _Named:
    model: str
    soc: str
    os_version: str


def _linux(root: Path) -> _Named:
    try:
        release = platform.freedesktop_os_release()
        version = f"{release.get('PRETTY_NAME', '')}, kernel {platform.release()}".lstrip(", ")
    except OSError:
        version = f"kernel {platform.release()}"
    model = _first_line(
        root / "sys/class/dmi/id/product_name",
        root / "sys/devices/virtual/dmi/id/product_name",
        root / "proc/device-tree/model",
    )
    return _Named(model, _soc(root), version)


def _android(root: Path) -> _Named:
    """ro.soc.model is there since Android 12."""
    release, api = android.getprop("ro.build.version.release", root), android.getprop("ro.build.version.sdk", root)
    socs = (android.getprop(name, root) for name in ("ro.soc.model", "ro.board.platform", "ro.hardware"))
    return _Named(
        android.getprop("ro.product.model", root),
        next(filter(None, socs), "") or _soc(root),
        f"Android {release} (API {api}), kernel {platform.release()}",
    )


def _macos() -> _Named:
    version = platform.mac_ver()[0] or platform.release()
    return _Named(macos.sysctl("hw.model"), macos.sysctl("machdep.cpu.brand_string") or platform.processor(), version)


def _serial_and_build(root: Path) -> str:
    # Both, or neither: a phone without a readable serial number must not share its identity with its like.
    serial, build = android.getprop("ro.serialno", root), android.getprop("ro.build.fingerprint", root)
    return f"{serial} {build}" if serial else ""


def _soc(root: Path) -> str:
    # x86 names the model in each processor's entry; ARM boards name the chip in the device tree or in soc0.
    try:
        for line in (root / "proc/cpuinfo").read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Hardware"):
                return value.strip()
    except OSError:
        return ""
    compatible = _first_line(root / "proc/device-tree/compatible").split("\0")
    return _first_line(root / "sys/devices/soc0/machine", root / "sys/devices/soc0/soc_id") or compatible[-1]


def _online(root: Path) -> list[int]:
    """The cores that are switched on; a phone's numbers may have gaps."""
    found: list[int] = []
    try:
        for part in (root / "sys/devices/system/cpu/online").read_text().strip().split(","):
            first, _, last = part.partition("-")
            found += range(int(first), int(last or first) + 1)
    except (OSError, ValueError):
        return list(range(os.cpu_count() or 1))
    return found


def _core(root: Path, index: int) -> Core:
    folder = root / "sys/devices/system/cpu" / f"cpu{index}"
    return Core(index, _number(folder / "cpu_capacity"), _number(folder / "cpufreq/cpuinfo_max_freq"))


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _first_line(*paths: Path) -> str:
    for path in paths:
        try:
            # Strings of the device tree end with NUL.
            if line := path.read_text(errors="replace").strip("\0\n "):
                return line
        except OSError:
            continue
    return ""
