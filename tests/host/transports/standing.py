"""Standing agents: real ones, with mutual TLS."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Standing:
    """One that runs."""

    address: str
    pid: int


@contextlib.contextmanager
def standing(keys: Path, store: Path, host: str = "127.0.0.1") -> Iterator[Standing]:
    """An agent with that folder's keys, for an emulated device, until the block ends."""
    command = [sys.executable, "-m", "rtfleet_agent", "serve", "--as", f"network-{uuid.uuid4().hex[:12]}"]
    command += ["--host", host, "--tls-dir", str(keys), "--store", str(store)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            line = json.loads(process.stdout.readline())
            assert "token_file" not in line, "a certificate is all that is needed"
            yield Standing(line["address"], process.pid)
        finally:
            process.terminate()
