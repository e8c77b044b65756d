"""The runtimes by name; each is imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from rtfleet_agent.runtimes.base import Runtime, RuntimeFailure

# name -> (module, what installs it)
RUNTIMES: dict[str, tuple[str, str]] = {
    "onnxruntime": ("rtfleet_agent.runtimes.ort", "pip install 'rtfleet[onnxruntime]'"),
    "litert": ("rtfleet_agent.runtimes.litert", "pip install 'rtfleet[litert]'"),
    "coreml": ("rtfleet_agent.runtimes.coreml", "pip install 'rtfleet[coreml]'"),
    "tensorrt": (
        "rtfleet_agent.runtimes.trt",
        "on a Jetson start the agent in an environment with --system-site-packages, which has JetPack's TensorRT; "
        "elsewhere pip install tensorrt or tensorrt-rtx (docs/tensorrt.md)",
    ),
    "torch": ("rtfleet_agent.runtimes.pytorch", "pip install 'rtfleet[torch]'"),
    "fake": ("rtfleet_agent.runtimes.fake", ""),
}


def runtime(name: str) -> Runtime:
    """The runtime's module.

    Raises:
        RuntimeFailure: an unknown name, or a package that is not installed, with what to type.
    """
    if name not in RUNTIMES:
        raise RuntimeFailure(f"unknown runtime '{name}'; this agent knows {', '.join(RUNTIMES)}")
    module, remedy = RUNTIMES[name]
    try:
        return cast(Runtime, import_module(module))
    except ImportError as error:
        raise RuntimeFailure(f"runtime '{name}' can't be imported ({error}); on the device: {remedy}") from error
