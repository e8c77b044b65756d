"""The conditions that stand above every table: what ran on what, and how busy it was."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import onnxruntime


def conditions(title: str, how: str) -> str:
    """A heading and one paragraph of Markdown."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    load = f"load {os.getloadavg()[0]:.1f} at the start"
    return (
        f"## {title}\n\n{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, {load}; "
        f"Python {platform.python_version()}, onnxruntime {onnxruntime.__version__}, 1 thread; {how}.\n"
    )
