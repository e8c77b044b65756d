"""Whether TensorRT is here: `make setup-all` installs it on x86-64 Linux, where no test that needs it is skipped."""

from __future__ import annotations

import platform
import sys
from importlib import import_module

import pytest

ALWAYS_THERE = (sys.platform, platform.machine()) == ("linux", "x86_64")


def needed() -> None:
    """Skip the module that asks, with the reason."""
    try:
        import_module("rtfleet_agent.runtimes.trt_library")
    except ImportError as error:
        if ALWAYS_THERE:
            raise
        pytest.skip(f"TensorRT can't be imported: {error}", allow_module_level=True)
