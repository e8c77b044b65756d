"""Launches: one worker at a time, its events numbered and spooled, its end always told.

What a host sees of a launch never depends on its connection: the launch goes on when the stream breaks, and the
events wait on disk.
"""

from __future__ import annotations

import contextlib
import hmac
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rtfleet_agent import sensors, spool
from rtfleet_agent.launch import (
    Block,
    Event,
    Failed,
    FailureKind,
    Finished,
    Loaded,
    Outputs,
    Started,
    WorkerRequest,
)
from rtfleet_agent.lease import Leases, hash_of
from rtfleet_agent.refusal import Refusal
from rtfleet_agent.workers import Ending, Worker

# How often a running launch looks at its lease and its time.
_LOOK_S = 0.5
# A worker that was asked to end after its block is killed if it takes longer. The longest default block takes 3 s.
_WIND_DOWN_S = 10.0
# Below gRPC's 4 MiB a message, with room for names.
_LARGEST_EVENT_BYTES = 3 * 2**20


@dataclass(frozen=True)
class Status:
    """A launch as ListLaunches tells it."""

    launch_id: str
    running: bool
    events: int
    acknowledged: int


class Running:
    """The launch whose worker runs now."""

    def __init__(self, launch_id: str, lease_id: str, python: str, request: WorkerRequest, folder: Path) -> None:
        self.launch_id = launch_id
        self.lease_id = lease_id
        self.python = python
        self.request = request
        self.folder = folder
        self.thread: threading.Thread | None = None
        self.phase = "starting"
        self._mutex = threading.Lock()
        self._worker: Worker | None = None
        self._finish = False
        # Why the launch is ended from outside; the first reason stays.
        self.stopped: Failed | None = None

    def start_worker(self, on_event: Callable[[Event], None]) -> Worker | None:
        """The worker's process; None where the launch was stopped before."""
        with self._mutex:
            if self.stopped is not None:
                return None
            self._worker = Worker(self.python, self.request, self.folder, on_event)
            if self._finish:
                self._worker.finish()
            return self._worker

    def finish(self, because: Failed | None = None) -> None:
        """Ends after the block; as a failure where there is a reason."""
        with self._mutex:
            self.stopped = self.stopped or because
            if self._worker is not None and not self._finish:
                self._worker.finish()
            self._finish = True

    def kill(self, because: Failed) -> None:
        """Ends now."""
        with self._mutex:
            self.stopped = self.stopped or because
            if self._worker is not None:
                self._worker.kill()


class Launches:
    """All launches that this agent knows, and the one that runs. Safe to call from several threads.

    Args:
        folder: For the spools; launches of an earlier agent are taken over from there.
        python: The command that workers are started with, in a shell's words.
    """

    def __init__(self, folder: Path, leases: Leases, python: str) -> None:
        self._folder = folder
        self._leases = leases
        self._python = python
        self._mutex = threading.Lock()
        self._running: Running | None = None
        self._closed = False
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._spools = {each.launch_id: each for each in spool.reopen(folder)}

    @property
    def running(self) -> bool:
        """Whether a worker measures now."""
        return self._running is not None

    def known(self, lease_id: str, launch_id: str) -> bool:
        """Whether the launch was started before, by this lease.

        Raises:
            Refusal: it was started by another one.
        """
        found = self._spools.get(launch_id)
        if found is not None and not hmac.compare_digest(found.lease_sha256, hash_of(lease_id)):
            raise Refusal("FAILED_PRECONDITION", f"launch '{launch_id}' was started under another lease; draw a new id")
        return found is not None

    def find(self, lease_id: str, launch_id: str) -> spool.Spool:
        """The launch's events. A lease that is over still opens what it started.

        Raises:
            Refusal: unknown here, or another lease's, which are told alike.
        """
        found = self._spools.get(launch_id)
        if found is None or not hmac.compare_digest(found.lease_sha256, hash_of(lease_id)):
            raise Refusal("NOT_FOUND", f"launch '{launch_id}' is not known here under this lease")
        return found

    def of_lease(self, lease_id: str) -> list[Status]:
        """The launches that this lease started, old ones first."""
        mine = hash_of(lease_id)
        return [
            Status(each.launch_id, not each.ended, each.events, each.acknowledged)
            for each in list(self._spools.values())
            if hmac.compare_digest(each.lease_sha256, mine)
        ]

    def start(self, lease_id: str, launch_id: str, request: WorkerRequest, folder: Path) -> None:
        """Starts a worker for a launch that is not known yet; `folder` is removed when it has ended.

        Raises:
            Refusal: another launch runs, or the agent is shutting down.
        """
        self.wait_for_lost(lease_id)
        with self._mutex:
            if self._closed:
                raise Refusal("UNAVAILABLE", "the agent is shutting down")
            if self._running is not None:
                raise Refusal(
                    "FAILED_PRECONDITION",
                    f"launch '{self._running.launch_id}' is running; one at a time: finish or cancel it first",
                )
            try:
                events = spool.create(self._folder, launch_id, hash_of(lease_id))
            except OSError as error:
                raise Refusal("RESOURCE_EXHAUSTED", f"no room for the launch's events: {error.strerror}") from error
            self._spools = {name: each for name, each in self._spools.items() if each.folder.exists()}
            self._spools[launch_id] = events
            running = Running(launch_id, lease_id, self._python, request, folder)
            running.thread = threading.Thread(target=self._run, args=(running, events), name=f"launch-{launch_id}")
            self._running = running
            running.thread.start()

    def follow(
        self, lease_id: str, launch_id: str, after: int, gone: Callable[[], bool]
    ) -> Iterator[tuple[int, Event]]:
        """Numbered events after number `after`, until the launch ends or the host is gone."""
        return self.find(lease_id, launch_id).follow(after, gone)

    def finish(self, lease_id: str, launch_id: str) -> None:
        """Ends the launch after its block. No error where it has ended already."""
        self.find(lease_id, launch_id)
        running = self._running
        if running is not None and running.launch_id == launch_id:
            running.finish()

    def cancel(self, lease_id: str, launch_id: str) -> None:
        """Ends the launch now, and returns when its worker is gone."""
        self.find(lease_id, launch_id)
        running = self._running
        if running is not None and running.launch_id == launch_id:
            self._kill(running, Failed("KILLED", "cancelled by the host"))

    def wait_for_lost(self, lease_id: str) -> None:
        """Waits for the last block of another lease's launch. Whoever calls holds the lease: the other has lost it."""
        running = self._running
        if running is not None and running.lease_id != lease_id and running.thread is not None:
            running.thread.join(_WIND_DOWN_S + 2 * _LOOK_S)

    def close(self) -> None:
        """Kills what runs; the end stands in the spool. Nothing starts afterwards."""
        with self._mutex:
            self._closed = True
            running = self._running
        if running is not None:
            self._kill(running, Failed("KILLED", "the agent was stopped"))

    def _kill(self, running: Running, because: Failed) -> None:
        running.kill(because)
        if running.thread is not None:
            running.thread.join()

    def _run(self, running: Running, events: spool.Spool) -> None:
        last: Finished | Failed
        try:
            last = self._measure(running, events)
        except Exception as error:
            # Anything else is a bug, and the host must hear of it rather than wait for ever.
            last = Failed("INTERNAL", f"{type(error).__name__}: {error}")
        shutil.rmtree(running.folder, ignore_errors=True)
        # Free before the host can know: it may start the next launch at once.
        with self._mutex:
            self._running = None
        events.append(last)

    def _measure(self, running: Running, events: spool.Spool) -> Finished | Failed:
        state, snapshot = sensors.before()
        with contextlib.suppress(spool.SpoolFull):  # if it lasts, the worker's first event says so
            events.append(state)
        began_s = time.monotonic()

        def on_event(event: Event) -> None:
            running.phase = _phase_after(event) or running.phase
            for part in split(event):
                events.append(part)

        try:
            worker = running.start_worker(on_event)
        except OSError as error:
            return Failed("INTERNAL", f"no worker can be started with {running.python}: {error.strerror}")
        if worker is None:
            return running.stopped or Failed("INTERNAL", "stopped without a reason")
        try:
            self._supervise(running, worker, began_s + running.request.timeout_s)
        except BaseException:
            worker.kill()
            raise
        ending = worker.end()
        # A device that fails to be read costs no launch.
        with contextlib.suppress(OSError, spool.SpoolFull):
            events.append(sensors.after(snapshot, ending.cpu_ns))
        return _with_log(_last_word(running, ending), worker.process.pid)

    def _supervise(self, running: Running, worker: Worker, deadline_s: float) -> None:
        winding_down_s: float | None = None
        while True:
            now_s = time.monotonic()
            if winding_down_s is None and self._leases.is_lost(running.lease_id):
                running.finish(_because("LEASE_LOST", running, "the lease expired or was released"))
                winding_down_s = now_s + _WIND_DOWN_S
            if now_s >= deadline_s:
                limit = f"the launch's limit of {running.request.timeout_s:g} s (timeout_s)"
                running.kill(_because("TIMEOUT", running, f"the worker was still there after {limit}"))
            if winding_down_s is not None and now_s >= winding_down_s:
                worker.kill()
            if worker.wait(max(0.01, min(_LOOK_S, deadline_s - now_s))):
                return


def split(event: Event) -> Iterator[Event]:
    """The event in parts that each fit a message: outputs by frames, and by columns where one frame is too large."""
    if not isinstance(event, Outputs) or _size(event) <= _LARGEST_EVENT_BYTES:
        yield event
        return
    frames = max(len(array) for array in event.columns.values())
    if frames > 1:
        half = frames // 2
        yield from split(Outputs(event.first_frame, {name: array[:half] for name, array in event.columns.items()}))
        rest = {name: array[half:] for name, array in event.columns.items()}
        yield from split(Outputs(event.first_frame + half, rest))
    else:
        for name, array in event.columns.items():
            yield Outputs(event.first_frame, {name: np.asarray(array)})


def _size(event: Outputs) -> int:
    return sum(array.nbytes for array in event.columns.values())


def _phase_after(event: Event) -> str:
    if isinstance(event, Started):
        return "loading the model"
    if isinstance(event, Loaded):
        return "warming up"
    if isinstance(event, Block):
        return {"WARMUP": "warming up", "PACED": "measuring (paced)", "BURST": "measuring (burst)"}[event.phase]
    return ""


def _because(kind: FailureKind, running: Running, message: str) -> Failed:
    return Failed(kind, f"{message}; it was {running.phase}")


def _with_log(last: Finished | Failed, pid: int) -> Finished | Failed:
    """A worker that was ended from outside can't say why; a phone's log often does."""
    if isinstance(last, Finished) or last.kind not in ("KILLED", "OUT_OF_MEMORY", "TIMEOUT"):
        return last
    told = sensors.log_tail(pid)
    return replace(last, stderr=f"{last.stderr.rstrip()}\nthe phone's log:\n{told}".lstrip()) if told else last


def _last_word(running: Running, ending: Ending) -> Finished | Failed:
    if isinstance(ending.error, spool.SpoolFull):
        return Failed("NO_DISK", str(ending.error), stderr=ending.stderr)
    lease_lost = running.stopped is not None and running.stopped.kind == "LEASE_LOST"
    if isinstance(ending.result, Finished) and not lease_lost:
        return ending.result
    if running.stopped is not None and not isinstance(ending.result, Failed):
        return replace(running.stopped, stderr=ending.stderr)
    return ending.failure()
