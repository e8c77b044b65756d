"""One connection of the system's `ssh`, shared by all that is done over it, with the user's config, agent, jump hosts.

Nothing ever waits for a password or a yes: whatever ssh would ask is an error that says what to do by hand, once.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shlex
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rtfleet.errors import DeviceError
from rtfleet.transports import Ran, command

# A jump host or two, and a small board that is busy.
OPEN_TIMEOUT_S = 60.0
COMMAND_TIMEOUT_S = 60.0
# ssh's own exit code; commands have all others.
SSH_FAILED = 255
_OPTIONS = (
    *("-T", "-o", "BatchMode=yes", "-o", "RemoteCommand=none", "-o", "LogLevel=ERROR"),
    # A board that was switched off is noticed within a minute.
    *("-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3"),
)
# Ends with its standard input, and so with this process, however that ends; `ssh -N` would stay.
_UNTIL_WE_GO = "exec cat"
# What ssh says -> what it means, and what to do. `{to}` is where it was to go.
_MEANINGS = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "its host key is another one than this machine knows",
        "was it set up anew? Compare its fingerprint, then forget the old key: ssh-keygen -R HOST",
    ),
    (
        r"Host key verification failed",
        "this machine does not know its host key yet",
        "log in once by hand and compare the fingerprint: ssh {to}",
    ),
    (
        r"Permission denied|Too many authentication failures",
        "it lets none of your keys in",
        "ssh-copy-id {to}; a key with a passphrase must be in the agent (ssh-add), for nobody is asked here",
    ),
    (
        r"Could not resolve hostname",
        "nobody knows its address",
        "see `connect` in fleet.toml and Host in ~/.ssh/config",
    ),
    (
        r"Connection refused",
        "nothing listens there for ssh",
        "start its sshd; another port than 22 goes into ~/.ssh/config, or ssh:user@host:port into fleet.toml",
    ),
    (
        r"timed out|No route to host|[Uu]nreachable|Connection (?:closed|reset)",
        "it can't be reached",
        "see whether it is on and in the network: ssh {to}",
    ),
)
_WORTH_ANOTHER_TRY = ("Connection", "timed out", "No route", "nreachable")


@dataclass(frozen=True)
class Line:
    """A connection that is open.

    Attributes:
        device: The device's alias, for messages.
        destination: As ssh takes it: "user@host" or "ssh://user@host:port".
        folder: Private, and gone with the connection: sockets.
    """

    device: str
    destination: str
    folder: Path

    def command(self, script: str) -> list[str]:
        """The words that run a script of POSIX sh there, whatever the user's login shell is."""
        return ["ssh", *self._through(), self.destination, f"exec sh -c {shlex.quote(script)}"]

    async def run(self, script: str, stdin: int | None = None) -> Ran:
        """Run a script to its end.

        Args:
            stdin: A file descriptor that it reads; it is not waited for by the clock then. None: it reads nothing.

        Raises:
            DeviceError: the connection is lost, or there was no answer in time.
        """
        words = self.command(script)
        ran = await self._ran(words) if stdin is None else await command.run(words, None, stdin)
        if ran.code == SSH_FAILED:
            raise self.failure(ran.stderr)
        return ran

    async def forward(self, port: int) -> str:
        """The device's loopback port as a gRPC address here: a socket that only this user can reach.

        Raises:
            DeviceError: its sshd does not let connections through, or there was no answer in time.
        """
        path = self.folder / "agent"
        words = ["ssh", *self._through(), "-O", "forward", "-L", f"{path}:127.0.0.1:{port}", self.destination]
        ran = await self._ran(words)
        if ran.code:
            raise self.failure(ran.stderr)
        if not await _speaks(path):
            raise self.error(
                "its sshd lets no connection through to the agent", "AllowTcpForwarding yes in its /etc/ssh/sshd_config"
            )
        return f"unix:{path}"

    def error(self, text: str, hint: str, *, kind: str = "DEVICE", retryable: bool = False) -> DeviceError:
        """An error of this device."""
        return DeviceError(f"device '{self.device}': ssh {self.destination}: {text}", hint, kind, retryable)

    def failure(self, words: str) -> DeviceError:
        """What ssh itself said, in words that lead on."""
        last = next((line for line in reversed(words.splitlines()) if line.strip()), "it said nothing").strip()
        for pattern, meaning, hint in _MEANINGS:
            if re.search(pattern, words):
                again = any(word in last for word in _WORTH_ANOTHER_TRY)
                return self.error(f"{meaning} ({last})", hint.format(to=self.destination), retryable=again)
        return self.error(f"it failed: {last}", f"try it by hand: ssh {self.destination}", retryable=True)

    async def _ran(self, words: Sequence[str]) -> Ran:
        try:
            return await command.run(words, COMMAND_TIMEOUT_S)
        except TimeoutError:
            raise self.error("it does not answer in time", "see what keeps it busy", retryable=True) from None

    def _through(self) -> tuple[str, ...]:
        return (*_OPTIONS, "-o", "ControlMaster=no", "-S", str(self.folder / "line"))


@contextlib.asynccontextmanager
async def opened(device: str, destination: str) -> AsyncIterator[Line]:
    """A connection that is closed after the block.

    Args:
        destination: "user@host", "user@host:port", or a Host of ~/.ssh/config.

    Raises:
        DeviceError: ssh did not get there; the text says why and the hint what to do.
    """
    if re.fullmatch(r"[^:]+:\d+", destination):
        destination = f"ssh://{destination}"
    with tempfile.TemporaryDirectory(prefix="rtfleet-ssh-") as folder:
        line = Line(device, destination, Path(folder))
        said = line.folder / "said"
        control = ("-o", "ControlMaster=yes", "-o", "ControlPersist=no", "-S", str(line.folder / "line"))
        try:
            with said.open("wb") as stderr:
                process = await asyncio.create_subprocess_exec(
                    *("ssh", *_OPTIONS, "-o", "ExitOnForwardFailure=no", *control, destination, _UNTIL_WE_GO),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=stderr,
                    # Ctrl-C is the host's to handle, over a line that still stands.
                    start_new_session=True,
                )
        except FileNotFoundError:
            raise line.error("this machine has no `ssh` command", "install the OpenSSH client") from None
        try:
            await _wait_until_open(line, process, said)
            yield line
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


async def _wait_until_open(line: Line, process: asyncio.subprocess.Process, said: Path) -> None:
    deadline = asyncio.get_running_loop().time() + OPEN_TIMEOUT_S
    while not (line.folder / "line").exists():
        if process.returncode is not None:
            raise line.failure(said.read_text(errors="replace"))
        if asyncio.get_running_loop().time() > deadline:
            raise line.failure(said.read_text(errors="replace") + "\nconnecting timed out")
        await asyncio.sleep(0.02)


async def _speaks(path: Path) -> bool:
    """Whether something at the other end of the tunnel speaks: a gRPC server does so first."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        return bool(await asyncio.wait_for(reader.read(1), COMMAND_TIMEOUT_S))
    except (TimeoutError, OSError):
        return False
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
