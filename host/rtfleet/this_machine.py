"""What the host must know of its own machine: whether a device is the same one, by whatever way it was reached."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path


def is_this_machine(boot_id: str) -> bool:
    """Whether a device's boot id is that of this machine's kernel: `ssh localhost`, an agent in a container."""
    return bool(boot_id) and boot_id == _boot_id()


@functools.cache
def _boot_id() -> str:
    """The same text as an agent on this machine would tell; "" where nothing tells."""
    try:
        if sys.platform == "darwin":
            asked = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
            return subprocess.run(asked, capture_output=True, text=True, timeout=10).stdout.strip()
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (OSError, subprocess.SubprocessError):
        return ""
