"""A folder with one emulated device and models of the fake runtime, and the real commands run in it as processes.

The device has a name of its own, so that tests run side by side and never take this machine from a real run.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODEL = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": [1, 4]}],
    "outputs": [{"name": "y", "dtype": "float32", "shape": [1], "rule": "sum"}],
    "latency_us": 200,
}
# Five blocks of 100 frames are the least that a launch has. Nobody is waited for: not for a quiet machine, not for a
# device that another has, not for one that went away.
_AT_ONCE = "frames = 60, min_duration_s = 0.1, confidence = 0.9, max_wait_s = 0, lease_wait_s = 0, comeback_s = 0"
QUICK = f"{{ launches = 3, {_AT_ONCE} }}"
TWO_LAUNCHES = f"{{ launches = 2, {_AT_ONCE} }}"
ONE_LAUNCH = f"{{ launches = 1, {_AT_ONCE} }}"
# In a busy continuous integration a process may take a while to start.
PATIENCE_S = 90.0


@dataclass(frozen=True)
class Told:
    """What a command left: its exit code and its two streams."""

    code: int
    stdout: str
    stderr: str

    @property
    def everything(self) -> str:
        return self.stdout + self.stderr


@dataclass(frozen=True)
class Stage:
    """The folder, and the name of the emulated device that is `board` in its fleet."""

    folder: Path
    emulated: str

    @property
    def environment(self) -> dict[str, str]:
        # Wide, so that no message is broken into lines where a test looks for it.
        wide = {"COLUMNS": "400", "NO_COLOR": "1", "TERM": "dumb"}
        return {**os.environ, **wide, "RTFLEET_CACHE": str(self.folder / "cache")}

    @property
    def store(self) -> Path:
        """Where the agent of `board` keeps its files."""
        return self.folder / "cache" / "agents" / self.emulated

    def model(self, name: str, **facts: object) -> str:
        """Write a model of the fake runtime; the name of its file."""
        (self.folder / f"{name}.fake.json").write_text(json.dumps(MODEL | facts))
        return f"{name}.fake.json"

    def suite(self, *models: str, run: str = QUICK, name: str = "suite.toml") -> str:
        """Write a suite of entries: `source = ...` lines, or the name of a model's file."""
        entries = [text if "=" in text else f'source = "{text}"\ntask = "wake-word"' for text in models]
        text = "".join(f"\n[[model]]\n{entry}\n" for entry in entries)
        (self.folder / name).write_text(f"run = {run}\n{text}")
        return name

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`rtfleet ...`, running. Its streams are one."""
        return subprocess.Popen(
            [sys.executable, "-m", "rtfleet.cli.main", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A job in the background hands on that it ignores Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def rtfleet(self, *arguments: str) -> Told:
        """`rtfleet ...`, to its end."""
        ended = subprocess.run(
            [sys.executable, "-m", "rtfleet.cli.main", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        return Told(ended.returncode, ended.stdout, ended.stderr)

    def runs(self) -> list[Path]:
        """The run directories, old ones first."""
        return sorted((self.folder / "rtfleet-runs").glob("*"))

    @contextlib.contextmanager
    def serving(self, *arguments: str) -> Iterator[dict[str, Any]]:
        """`rtfleet-agent serve --as` the device's name, with a store of its own; its first line."""
        command = [sys.executable, "-m", "rtfleet_agent", "serve", "--as", self.emulated]
        command += ["--store", str(self.folder / "another-store"), *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout
                yield json.loads(process.stdout.readline())
            finally:
                process.terminate()

    def agents(self) -> list[int]:
        """Pids of the agents that serve the device."""
        return [pid for pid, command, _ in _processes() if self.emulated in command and "rtfleet_agent" in command]

    def workers(self) -> list[int]:
        """Pids of the agent's workers: they run in folders of its store."""
        return [pid for pid, command, cwd in _processes() if self.emulated in cwd and "rtfleet_agent.worker" in command]


@contextlib.contextmanager
def ending(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """The process, which is gone after the block whatever happens in it."""
    with process:
        try:
            yield process
        finally:
            process.kill()


def stage(folder: Path) -> Stage:
    """An empty one."""
    made = Stage(folder, f"stage-{uuid.uuid4().hex[:12]}")
    (folder / "fleet.toml").write_text(f'[device.board]\nconnect = "local:{made.emulated}"\n')
    return made


def strict(text: str) -> Any:
    """JSON without the NaN and Infinity that Python would let pass."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def read_until(process: subprocess.Popen[str], wanted: str) -> str:
    """What the process says up to the line that holds `wanted`."""
    assert process.stdout
    said = ""
    for line in process.stdout:
        said += line
        if wanted in line:
            return said
    raise AssertionError(f"it ended without {wanted!r}:\n{said}")


def wait_until(true: Callable[[], object]) -> None:
    """Polls for what another process does."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def journal(run: Path) -> list[dict[str, Any]]:
    """The records of a run's journal, the header first; none of a run whose folder is just being made."""
    path = run / "journal.jsonl"
    # The last line may be half written yet.
    return [strict(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []


def only(values: Sequence[Any]) -> Any:
    """The one value."""
    (value,) = values
    return value


def _processes() -> Iterator[tuple[int, str, str]]:
    """pid, command line and working directory of all that can be seen."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            # A process may end while it is looked at.
            with contextlib.suppress(OSError):
                command = (folder / "cmdline").read_bytes().decode(errors="replace")
                yield int(folder.name), command, os.readlink(folder / "cwd")
