"""One subprocess of one toolchain: started on first need, given a job at a time, replaced when it breaks."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from rtfleet.errors import ExportError
from rtfleet.export import jobs
from rtfleet.export.jobs import Job, Refused, Reply

LONGEST_LINE = 64 << 20
LAST_WORDS = 3
"""Lines of stderr that an error quotes."""


@dataclass(frozen=True)
class Limits:
    """What an export may cost: private memory of one subprocess, time of one job."""

    memory_bytes: int = 6 << 30
    job_s: float = 900.0


class Toolchain:
    """The subprocess. `close` leaves nothing running."""

    def __init__(self, name: jobs.Toolchain, log: Path, limits: Limits) -> None:
        self.name = name
        self.log = log
        self.limits = limits
        self._turn = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None

    async def run(self, job: Job, what: str) -> Reply:
        """The reply to a job; `what` names it in errors.

        Raises:
            RtfleetError: as the job refused; ExportError where the subprocess died or took too long. The next job
                starts a fresh one.
        """
        async with self._turn:
            process = await self._started()
            assert process.stdin is not None and process.stdout is not None
            done = False
            try:
                process.stdin.write(jobs.to_line(job).encode())
                line = await asyncio.wait_for(process.stdout.readline(), self.limits.job_s)
                if not line.endswith(b"\n"):  # it died before it answered, or while it did
                    raise await self._death(process, what)
                reply = jobs.from_line(line.decode())
                done = not (isinstance(reply, Refused) and reply.spent)
            except TimeoutError:
                raise ExportError(
                    f"{what}: no answer after {self.limits.job_s:g} s; the {self.name} converter was stopped",
                    self._hint(),
                    step=what,
                ) from None
            except OSError:  # it died before it read the job
                raise await self._death(process, what) from None
            finally:
                if not done:  # also when cancelled: a late reply must not be taken for the next one's
                    await self.close()
        if isinstance(reply, Refused):
            raise reply.error()
        assert not isinstance(reply, Job)
        return reply

    async def close(self) -> None:
        """End the subprocess."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "rtfleet.export.worker",
                    self.name,
                    str(self.limits.memory_bytes),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=log,
                    limit=LONGEST_LINE,
                    env={**os.environ, **ENVIRONMENT},
                    start_new_session=True,  # Ctrl-C is the host's to handle; and children die with it
                )
        return self._process

    async def _death(self, process: asyncio.subprocess.Process, what: str) -> ExportError:
        code = await process.wait()
        text = f"{what}: the {self.name} converter ended with code {code}"
        if code < 0:
            text = f"{what}: the {self.name} converter was killed by {signal.Signals(-code).name}"
        tail = self._tail()
        if "bad_alloc" in tail or "MemoryError" in tail or "annot allocate memory" in tail:
            text += f", out of memory (limit {self.limits.memory_bytes / 1e9:.1f} GB)"
        return ExportError(text, self._hint(), step=what)

    def _hint(self) -> str:
        return f"last words: {tail}; all of them: {self.log}" if (tail := self._tail()) else f"its log: {self.log}"

    def _tail(self) -> str:
        """The last lines of its log."""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - 4096))
            lines = log.read().decode(errors="replace").splitlines()
        return " | ".join(line.strip() for line in lines[-LAST_WORDS:] if line.strip())


ENVIRONMENT = {
    "PYTHONHASHSEED": "0",  # converters walk over sets: the same export must have the same bytes
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "2",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "KERAS_BACKEND": "tensorflow",
    "CUDA_VISIBLE_DEVICES": "",
    "PYTHONUNBUFFERED": "1",
    "TQDM_DISABLE": "1",
}
