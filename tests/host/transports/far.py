"""A board behind a real sshd: on a free port of loopback, with keys, a home and an emulated device of its own.

The user's side is the system's `ssh` with a config of its own, as `~/.ssh/config` would be: a script of this name comes
first on the PATH and adds `-F`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin:/usr/bin")
SSH = shutil.which("ssh")
ROOT = Path(__file__).parents[3]
PATIENCE_S = 60.0
_PRIVILEGE_SEPARATION = Path("/run/sshd")


@dataclass(frozen=True)
class Far:
    """The board, and the user's side of it.

    Attributes:
        folder: Of everything here.
        emulated: The name of the device that its agents serve.
    """

    folder: Path
    port: int
    emulated: str

    @property
    def python(self) -> Path:
        """A Python with the agent, whose agents serve the emulated device."""
        return self.folder / "far-python"

    @property
    def home(self) -> Path:
        """The user's home on the board."""
        return self.folder / "home"

    @property
    def path(self) -> str:
        """A PATH whose `ssh` knows the board, as `board`, and as `behind` by a jump over it."""
        return f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"

    def start(self, *options: str, environment: str = "") -> subprocess.Popen[bytes]:
        """Its sshd, with lines of sshd_config, and variables for who logs in."""
        lines = [
            *options,
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {self.folder / 'host-key'}",
            f"AuthorizedKeysFile {self.folder / 'authorized'}",
            "StrictModes no",
            "PasswordAuthentication no",
            "UsePAM no",
            "PidFile none",
            f"SetEnv HOME={self.home} {environment}",
        ]
        config = self.folder / "sshd.conf"
        config.write_text("\n".join(lines) + "\n")
        log = (self.folder / "sshd.log").open("wb")
        with log:
            process = subprocess.Popen([str(SSHD), "-D", "-e", "-f", config], stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return process
            assert process.poll() is None and time.monotonic() < deadline, (self.folder / "sshd.log").read_text()
            time.sleep(0.05)

    def forget_host_key(self) -> None:
        """As before the first login."""
        (self.folder / "known").write_text("")

    def lock_out(self) -> None:
        """No key is let in any more."""
        (self.folder / "authorized").write_text("")

    def running(self, *words: str) -> list[int]:
        """Pids of processes that have all these words in their command lines."""
        found = []
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                command = (folder / "cmdline").read_bytes().decode(errors="replace")
                if all(word in command for word in words):
                    found.append(int(folder.name))
        return found

    def agents(self) -> list[int]:
        """Pids of the agents that serve the emulated device."""
        return self.running("rtfleet_agent", self.emulated)

    def connections(self) -> list[int]:
        """Pids of `ssh` processes of the user's side."""
        return self.running("ssh", str(self.folder / "client.conf"))


@contextlib.contextmanager
def board(folder: Path) -> Iterator[Far]:
    """The board, its sshd running. Skips where there is no sshd."""
    if SSHD is None or SSH is None:
        pytest.skip("there is no OpenSSH server or client here")
    if os.geteuid() == 0:
        # The system's own start of sshd would have made it.
        _PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    far = Far(folder, port, f"far-{uuid.uuid4().hex[:12]}")
    for name in ("host-key", "user-key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    shutil.copy(folder / "user-key.pub", folder / "authorized")
    known = (folder / "host-key.pub").read_text().split()[:2]
    (folder / "known").write_text(f"[127.0.0.1]:{port} {' '.join(known)}\n")
    (folder / "client.conf").write_text(f"""
Host behind
  ProxyJump board
Host board behind
  HostName 127.0.0.1
  Port {port}
Host *
  IdentityFile {folder / "user-key"}
  IdentitiesOnly yes
  UserKnownHostsFile {folder / "known"}
  GlobalKnownHostsFile /dev/null
""")
    far.home.mkdir()
    _script(folder / "bin" / "ssh", f'exec {SSH} -F {folder / "client.conf"} "$@"')
    # Where the agent is, and no more: other tests leave folders on the path.
    roots = f"{ROOT / 'agent'}{os.pathsep}{ROOT / 'protos'}"
    inner = f'PYTHONPATH="{roots}" exec "{sys.executable}" "$@"'
    serving = f'[ "$3" = serve ] && set -- "$@" --as {far.emulated} --store "{folder / "store"}"'
    _script(far.python, f"{serving}\n{inner}")
    sshd = far.start()
    try:
        yield far
    finally:
        sshd.terminate()
        sshd.wait()


@contextlib.contextmanager
def another_sshd(far: Far, *options: str, environment: str = "") -> Iterator[Far]:
    """The same board behind a second sshd with other settings, on a port of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        other = Far(far.folder, free.getsockname()[1], far.emulated)
    known = (far.folder / "known").read_text()
    (far.folder / "known").write_text(known + known.replace(str(far.port), str(other.port)))
    sshd = other.start(*options, environment=environment)
    try:
        yield other
    finally:
        sshd.terminate()
        sshd.wait()
        (far.folder / "known").write_text(known)


def _script(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
