"""ONNX Runtime's providers on this device: what it lists itself, and what plug-in packages add.

No provider has code of its own here. A plug-in is any installed package of the kind that vendors ship: `onnxruntime_*`,
with a function `get_library_path`. Its library is registered, and what it runs on stands in ONNX Runtime's own list of
devices afterwards.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Any

import onnxruntime

from rtfleet_agent.runtimes.base import NoAccelerator

KINDS = ("gpu", "npu")
# Providers inside builds from before there were plug-ins list no device, so what they run on must be known.
_LISTS_NO_DEVICE = {
    "gpu": ("CUDAExecutionProvider", "MIGraphXExecutionProvider", "ROCMExecutionProvider", "DmlExecutionProvider"),
    "npu": ("QNNExecutionProvider", "VitisAIExecutionProvider", "NnapiExecutionProvider", "CoreMLExecutionProvider"),
}
_HOW = {
    "gpu": "install onnxruntime-gpu in its place, or a vendor's onnxruntime-ep-... package beside it",
    "npu": "install the vendor's build, or its onnxruntime-ep-... package beside it",
}


@dataclass(frozen=True)
class Plug:
    """A provider through which an accelerator can be had. `device` None: it is asked for by its name."""

    provider: str
    device: Any


@dataclass(frozen=True)
class Found:
    """Accelerators, and providers by their own names, that can be asked for; and why other accelerators can't."""

    plugs: Mapping[str, Plug]
    unavailable: Mapping[str, str]

    @property
    def accelerators(self) -> tuple[str, ...]:
        return tuple(kind for kind in KINDS if kind in self.plugs)


NOTHING = Found({}, {})


def find(asked: str) -> Plug:
    """The plug of "gpu", "npu" or a provider's own name.

    Raises:
        NoAccelerator: it is not here.
    """
    here = found()
    if asked not in here.plugs:
        raise NoAccelerator(asked, ("cpu", *here.accelerators), here.unavailable.get(asked, ""))
    return here.plugs[asked]


@functools.cache
def found() -> Found:
    """All that is here. Registers the plug-ins, which loads their libraries, once a process."""
    troubles = [trouble for trouble in map(_registered, _plug_ins()) if trouble]
    devices = list(onnxruntime.get_ep_devices())
    plugs: dict[str, Plug] = {}
    for device in devices:
        plug = Plug(device.ep_name, device)
        plugs.setdefault(device.ep_name, plug)
        # A CPU is no accelerator, whoever drives it.
        if (kind := device.device.type.name.lower()) in KINDS:
            plugs.setdefault(kind, plug)
    for name in onnxruntime.get_available_providers():
        plugs.setdefault(name, Plug(name, None))
    for kind, names in _LISTS_NO_DEVICE.items():
        for plug in (plugs[name] for name in names if name in plugs):
            plugs.setdefault(kind, plug)
    listed = ", ".join(dict.fromkeys(f"{one.ep_name} ({one.device.type.name})" for one in devices))
    return Found(
        plugs,
        {
            kind: "; ".join((f"onnxruntime lists {listed or 'no device'}", *(troubles or (_HOW[kind],))))
            for kind in KINDS
            if kind not in plugs
        },
    )


@dataclass(frozen=True)
class _PlugIn:
    name: str
    version: str
    package: str


def _plug_ins() -> Iterator[_PlugIn]:
    """Installed packages that have a provider's library; none of them is imported to find out."""
    for installed in metadata.distributions():
        for file in installed.files or ():
            package = file.parts[0]
            if not re.fullmatch(r"onnxruntime_\w+", package) or file.parts[1:] != ("__init__.py",):
                continue
            if "def get_library_path" in file.read_text():
                yield _PlugIn(installed.metadata["Name"], installed.version, package)


def _registered(plug_in: _PlugIn) -> str:
    """Register its library; "" or why that gave nothing."""
    said = f"{plug_in.name} {plug_in.version}"
    before = len(onnxruntime.get_ep_devices())
    try:
        library = import_module(plug_in.package).get_library_path()
        onnxruntime.register_execution_provider_library(plug_in.package, library)
    except Exception as error:
        # Whatever a vendor's code raises: one package in disorder must not take the others away.
        words = str(error).strip().split("\n")[0].rpartition("with error: ")[2]
        return f"{said} can't be loaded: {words}"
    return "" if len(onnxruntime.get_ep_devices()) > before else f"{said} finds no device that it drives"
