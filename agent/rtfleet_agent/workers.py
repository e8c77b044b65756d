"""The worker's process as the agent sees it: started by exec, read through a pipe, and surely gone at the end.

Never fork or multiprocessing: gRPC's threads do not survive a fork, and Android forbids much in a forked child.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

import rtfleet_agent
from rtfleet_agent import sensors
from rtfleet_agent.launch import (
    Answer,
    Described,
    Event,
    Failed,
    FailureKind,
    Finished,
    Inspected,
    Probed,
    WorkerRequest,
    read_event,
    write_request,
)

STDERR_KEPT_BYTES = 64 * 1024
# How long a worker may take to exit once it has closed its pipe or was killed.
_EXIT_TAKES_S = 5.0
_SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|PRIVATE|API_?KEY|ACCESS_KEY", re.IGNORECASE)


@dataclass(frozen=True)
class Ending:
    """How a worker's process ended.

    Attributes:
        result: The worker's own last word, if it had one.
        error: What went wrong while its events were taken; it was killed then.
        exit_code: As subprocess has it: negative is the signal.
        signal: "SIGSEGV"; "" where none killed it.
        out_of_memory: The kernel killed a process for lack of memory while this one ran.
        cpu_ns: Processor time of the worker, all threads.
        stderr: Its last 64 KiB.
    """

    result: Event | None
    error: Exception | None
    exit_code: int
    signal: str
    out_of_memory: bool
    cpu_ns: int
    stderr: str

    def failure(self) -> Failed:
        """What to report of a worker that did not finish."""
        if isinstance(self.result, Failed):
            stderr = self.result.stderr or self.stderr
            return Failed(self.result.kind, self.result.message, self.result.signal, stderr)
        if self.error is not None:
            return self._failed("INTERNAL", f"what the worker wrote can't be read: {self.error!r}")
        if self.signal == "SIGKILL" and self.out_of_memory:
            return self._failed("OUT_OF_MEMORY", "the kernel killed the worker: the device ran out of memory")
        if self.signal:
            return self._failed("KILLED", f"the worker was killed by {self.signal}")
        return self._failed("INTERNAL", f"the worker ended with exit code {self.exit_code} and no result")

    def _failed(self, kind: FailureKind, message: str) -> Failed:
        return Failed(kind, message, self.signal, self.stderr)


class Worker:
    """A running worker process.

    It dies with the thread that made it where the system can do that (PR_SET_PDEATHSIG in the worker, which is told
    its parent's pid), so that thread must outlive it.

    Args:
        python: The command that runs `-m rtfleet_agent.worker`, in a shell's words: a bundle's Python has several.
        request: Sent to it at once.
        folder: Its working directory: one that holds no pushed file, for Python imports from there.
        on_event: Called from another thread with every event but the last word, which `end` tells.
            An exception from it kills the worker and stands in its `Ending`.

    Raises:
        OSError: the interpreter can't be started.
    """

    def __init__(self, python: str, request: WorkerRequest, folder: Path, on_event: Callable[[Event], None]) -> None:
        self._oom_kills = sensors.oom_kills()
        self._result: Event | None = None
        self._error: Exception | None = None
        self._on_event = on_event
        self._mutex = threading.Lock()
        self._stderr: deque[bytes] = deque()
        self.process = subprocess.Popen(
            [*shlex.split(python), "-m", "rtfleet_agent.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            # TMPDIR, because a worker that is killed leaves its temporary files to whoever removes the folder.
            env={**worker_environment(os.environ), "TMPDIR": str(folder)},
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name="worker-events", daemon=True)
        self._tail = threading.Thread(target=self._keep_tail, name="worker-stderr", daemon=True)
        self._reader.start()
        self._tail.start()
        # A worker that is dead already says so by its exit, not here.
        with contextlib.suppress(OSError):
            write_request(_pipe(self.process.stdin), request)

    def finish(self) -> None:
        """Asks it to end after the block."""
        with contextlib.suppress(OSError, ValueError):
            stdin = _pipe(self.process.stdin)
            stdin.write(b"finish\n")
            stdin.flush()

    def kill(self) -> None:
        """Ends it and all that it started, now."""
        with self._mutex, contextlib.suppress(ProcessLookupError):
            # Once it is reaped, its number may be somebody else's.
            if self.process.returncode is None:
                os.killpg(self.process.pid, signal.SIGKILL)

    def wait(self, timeout_s: float) -> bool:
        """Whether it is done, after at most `timeout_s`."""
        self._reader.join(max(0.0, timeout_s))
        return not self._reader.is_alive() or self._has_exited()

    def end(self) -> Ending:
        """Waits a moment for its exit, kills what is left of it, and tells how it ended."""
        deadline = time.monotonic() + _EXIT_TAKES_S
        while not self._has_exited() and time.monotonic() < deadline:
            time.sleep(0.005)
        # Before it is reaped, while its pid and so its process group can be nobody else's.
        self.kill()
        cpu_ns = self._reap()
        self._reader.join()
        self._tail.join()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(OSError):
                _pipe(pipe).close()
        code = self.process.returncode
        return Ending(
            result=self._result,
            error=self._error,
            exit_code=code,
            signal=_signal_name(-code) if code < 0 else "",
            out_of_memory=sensors.oom_kills() > self._oom_kills,
            cpu_ns=cpu_ns,
            stderr=b"".join(self._stderr)[-STDERR_KEPT_BYTES:].decode(errors="replace"),
        )

    def _read(self) -> None:
        pipe = _pipe(self.process.stdout)
        try:
            while (event := read_event(pipe)) is not None:
                if isinstance(event, (Finished, Failed, Inspected, Described, Probed)):
                    self._result = event
                else:
                    self._on_event(event)
        except Exception as error:
            # Whatever it is, an exception here would be lost with this thread.
            self._error = error
            self.kill()

    def _keep_tail(self) -> None:
        pipe, kept = _pipe(self.process.stderr), 0
        while piece := os.read(pipe.fileno(), STDERR_KEPT_BYTES):
            self._stderr.append(piece)
            kept += len(piece)
            while kept - len(self._stderr[0]) >= STDERR_KEPT_BYTES:
                kept -= len(self._stderr.popleft())

    def _has_exited(self) -> bool:
        if sys.platform == "darwin":  # has no waitid
            return self.process.poll() is not None
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return self.process.returncode is not None or os.waitid(os.P_PID, self.process.pid, flags) is not None

    def _reap(self) -> int:
        with self._mutex:
            if self.process.returncode is not None:
                return 0
            _, status, usage = os.wait4(self.process.pid, 0)
            self.process.returncode = os.waitstatus_to_exitcode(status)
        return round((usage.ru_utime + usage.ru_stime) * 1e9)


def ask(python: str, request: WorkerRequest, folder: Path) -> Answer | Failed:
    """The one answer of an INSPECT, DESCRIBE or PROBE worker, within the request's `timeout_s`."""
    try:
        worker = Worker(python, request, folder, on_event=lambda event: None)
    except OSError as error:
        return Failed("INTERNAL", f"no worker can be started with {python}: {error.strerror}")
    if not worker.wait(request.timeout_s):
        worker.kill()
        worker.end()
        return Failed("TIMEOUT", f"the worker gave no answer within {request.timeout_s:g} s")
    ending = worker.end()
    if isinstance(ending.result, (Inspected, Described, Probed)):
        return ending.result
    return ending.failure()


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The agent's environment without what looks like a secret, and with what every worker needs."""
    kept = {name: value for name, value in environment.items() if not _SECRET.search(name)}
    package_root = str(Path(rtfleet_agent.__file__).parent.parent)
    if "RTFLEET_PYTHON" not in environment:
        # An agent that runs from a copied folder: its worker is to find the same code.
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, [package_root, kept.get("PYTHONPATH", "")]))
    return {
        **kept,
        "ORT_DISABLE_TELEMETRY": "1",
        # Python 3.11 and later then import nothing from the working directory.
        "PYTHONSAFEPATH": "1",
        "RTFLEET_PARENT_PID": str(os.getpid()),
    }


def _pipe(stream: IO[bytes] | None) -> BinaryIO:
    return cast(BinaryIO, stream)  # all three are pipes


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have no names
        return f"signal {number}"
