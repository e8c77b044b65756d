"""NVIDIA Jetson: what Linux tells, and its rails' power, its power mode and the clocks of GPU and memory.

Not yet seen on hardware. The layouts are those of the kernel's hwmon/ina3221 documentation, of NVIDIA's Jetson Linux
Developer Guide (R32 to R36) and of public readers of these files; a board may lack any of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from rtfleet_agent.launch import Reading
from rtfleet_agent.sensors import linux
from rtfleet_agent.sensors.reading import Run, family, read, run, text

# GPUs of Nano, TX2, Xavier and Orin as their devfreq nodes are called: "57000000.gpu", "17000000.ga10b", "gpu".
_GPU = re.compile(r"gpu|ga10b|gv11b|gp10b|gm20b")
_MEMORY = re.compile(r"emc|memory-controller")
_DEBUG_CLOCKS = ("sys/kernel/debug/bpmp/debug/clk/emc/rate", "sys/kernel/debug/clk/emc/clk_rate")
_NOT_CONNECTED = "NC"


def is_jetson(root: Path = Path("/")) -> bool:
    """Whether this is a board of NVIDIA's Tegra family."""
    if os.path.exists(root / "etc/nv_tegra_release"):
        return True
    try:
        return "nvidia,tegra" in text(root / "proc/device-tree/compatible")
    except OSError:
        return False


def readings(root: Path = Path("/"), run: Run = run) -> dict[str, Reading]:
    """All of Linux's sensors and `power_mw.RAIL`, `power_mode` (NVIDIA's name: "MAXN", "15W"), `frequency_khz.gpu`
    and `frequency_khz.emc`.

    A rail's power leaves out what is not on it: none of them measures the carrier board.
    """
    found = linux.readings(root)
    clocks = {"frequency_khz.gpu": _gpu_clock(root), "frequency_khz.emc": _memory_clock(root)}
    if any(name.startswith("frequency_khz.cpu") for name in found):
        found.pop("frequency_khz", None)
    return {
        **found,
        **clocks,
        **family("power_mw", _rails(root), "no INA3221 in /sys/class/hwmon (the Nano 2GB has none)"),
        "power_mode": read(lambda: _power_mode(root, run)),
    }


def mode_of(query: str) -> str:
    """The name in the answer of `nvpmodel -q`: "NV Power Mode: 15W" and, on the next line, its number.

    Raises:
        ValueError: there is none.
    """
    found = re.search(r"NV Power Mode:\s*(\S+)", query)
    if not found:
        raise ValueError("nvpmodel -q names no power mode")
    return found[1]


def _power_mode(root: Path, run: Run) -> str:
    """From the file that nvpmodel keeps ("pmode:0002") and its catalogue of names; else by asking it."""
    try:
        number = re.search(r"pmode:(\d+)", text(root / "var/lib/nvpmodel/status"))
    except OSError:
        return mode_of(run(str(root / "usr/sbin/nvpmodel"), "-q"))
    if not number:
        raise ValueError("/var/lib/nvpmodel/status names no power mode")
    try:
        catalogue = text(root / "etc/nvpmodel.conf")
    except OSError:
        catalogue = ""
    named = re.search(rf"^\s*<\s*POWER_MODEL\s+ID=0*{int(number[1])}\s+NAME=(\S+?)\s*>", catalogue, re.MULTILINE)
    return named[1] if named else f"mode {int(number[1])}"


def _rails(root: Path) -> Iterator[tuple[str, float]]:
    """Label and milliwatts of each channel that is connected."""
    for chip in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        try:
            if not text(chip / "name").startswith("ina3221"):
                continue
        except OSError:
            continue
        for label in sorted(chip.glob("in*_label")):
            channel = label.name[len("in") : -len("_label")]
            try:
                name = text(label)
                if name and name != _NOT_CONNECTED:
                    yield name, _milliwatts(chip, channel)
            except (OSError, ValueError):  # a channel that is switched off
                continue
    # JetPack 4: the driver of NVIDIA's own kernel, which is an IIO device and tells milliwatts.
    for name_file in sorted((root / "sys/bus/i2c/drivers/ina3221x").glob("*/iio:device*/rail_name_*")):
        channel = name_file.name[len("rail_name_") :]
        try:
            yield text(name_file), float(text(name_file.parent / f"in_power{channel}_input"))
        except (OSError, ValueError):
            continue


def _milliwatts(chip: Path, channel: str) -> float:
    try:
        return int(text(chip / f"power{channel}_input")) / 1000  # hwmon tells power in microwatts
    except OSError:
        millivolts, milliamperes = text(chip / f"in{channel}_input"), text(chip / f"curr{channel}_input")
        return int(millivolts) * int(milliamperes) / 1000


def _gpu_clock(root: Path) -> Reading:
    nodes = _nodes(root, _GPU)
    return read(lambda: _clock_khz(nodes[0])) if nodes else Reading(None, "no GPU in /sys/class/devfreq")


def _memory_clock(root: Path) -> Reading:
    nodes = _nodes(root, _MEMORY)
    if nodes:
        return read(lambda: _clock_khz(nodes[0]))
    for path in _DEBUG_CLOCKS:
        try:
            return Reading(int(text(root / path)) / 1000)
        except (OSError, ValueError):
            continue
    return Reading(None, "the memory's clock stands in /sys/kernel/debug, which takes root")


def _clock_khz(node: Path) -> float:
    return int(text(node / "cur_freq")) / 1000  # devfreq tells hertz


def _nodes(root: Path, pattern: re.Pattern[str]) -> list[Path]:
    return [each for each in sorted((root / "sys/class/devfreq").glob("*")) if pattern.search(each.name)]
