"""A launch's numbered events on disk, until the host has acknowledged them.

launches/<launch_id>/launch.json    whose launch it is: the sha256 of the lease secret, never the secret
launches/<launch_id>/events         one message after the other, as the worker's pipe has them
launches/<launch_id>/acknowledged   the last number that the host has; written when it is the last one of all
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rtfleet_agent.launch import Event, Failed, Finished, read_event, write_event

KEPT_S = 24 * 3600
_LARGEST_LAUNCH_BYTES = 512 * 2**20
_LARGEST_TOTAL_BYTES = 2**30
# What one call of `follow` reads at a time.
_BATCH_EVENTS = 64

_log = logging.getLogger("rtfleet-agent")


class SpoolFull(Exception):
    """The host takes no events, or the disk is full."""


class Spool:
    """Events of one launch, numbered from 1 without gaps. One thread appends, any number follow.

    Nothing is fsynced: an agent that is killed loses nothing, and a disk that is told to sync while a block is timed
    would show in the block.
    """

    def __init__(self, folder: Path, launch_id: str, lease_sha256: str) -> None:
        self.folder = folder
        self.launch_id = launch_id
        self.lease_sha256 = lease_sha256
        self.acknowledged = 0
        self.ended = False
        self._offsets: list[int] = []
        self._bytes = 0
        self._changed = threading.Condition()
        # The last event where the disk did not take it: the host learns why even then.
        self._last_unwritten: Event | None = None

    @property
    def events(self) -> int:
        """How many are numbered so far."""
        return len(self._offsets) + (self._last_unwritten is not None)

    def append(self, event: Event) -> None:
        """Numbers the event and wakes who follows. Finished and Failed end the launch and are never refused.

        Raises:
            SpoolFull: no room on disk or in the launch's share of it.
        """
        last = isinstance(event, (Finished, Failed))
        with self._changed:
            if self.ended:
                return
            try:
                if not last and self._bytes > _LARGEST_LAUNCH_BYTES:
                    raise SpoolFull(f"more than {_LARGEST_LAUNCH_BYTES} bytes of events that no host acknowledged")
                with (self.folder / "events").open("ab") as file:
                    start = file.tell()
                    write_event(file, event)
                    self._bytes = file.tell()
                self._offsets.append(start)
            except OSError as error:
                _truncate(self.folder / "events", self._bytes)
                if not last:
                    raise SpoolFull(f"events can't be written to {self.folder}: {error.strerror}") from error
                self._last_unwritten = event
            self.ended = last
            self._changed.notify_all()

    def acknowledge(self, number: int) -> None:
        """The host has all events up to `number`; their room is freed once it has the last one."""
        with self._changed:
            self.acknowledged = max(self.acknowledged, min(number, self.events))
            if self.ended and self.acknowledged == self.events and self._bytes:
                (self.folder / "acknowledged").write_text(str(self.acknowledged))
                (self.folder / "events").unlink(missing_ok=True)
                self._bytes = 0

    def follow(self, after: int, gone: Callable[[], bool]) -> Iterator[tuple[int, Event]]:
        """Number and event of all that come after number `after`, until the launch ends or `gone()` is true.

        Whoever makes `gone()` true calls `wake` afterwards.
        """
        while True:
            with self._changed:
                while not (self.events > after or self.ended or gone()):
                    self._changed.wait()
                held = self._bytes > 0 or self._last_unwritten is not None
                if gone() or not held or (self.ended and self.events <= after):
                    return
                first, upto = after, min(self.events, after + _BATCH_EVENTS)
            for number, event in self._read(after, upto):
                yield number, event
                after = number
            if after == first:  # the file is gone or damaged
                return

    def wake(self) -> None:
        """Lets those who follow look whether they are still wanted."""
        with self._changed:
            self._changed.notify_all()

    def _read(self, after: int, upto: int) -> Iterator[tuple[int, Event]]:
        on_disk = min(upto, len(self._offsets))
        if after < on_disk:
            try:
                file = (self.folder / "events").open("rb")
            except FileNotFoundError:  # acknowledged meanwhile by another call
                return
            with file:
                file.seek(self._offsets[after])
                for number in range(after + 1, on_disk + 1):
                    event = read_event(file)
                    if event is None:
                        return
                    yield number, event
        if upto > len(self._offsets) and self._last_unwritten is not None:
            yield upto, self._last_unwritten


def create(folder: Path, launch_id: str, lease_sha256: str) -> Spool:
    """A new launch's spool in `folder`/`launch_id`, with old ones dropped to keep the whole within bounds."""
    _drop_old(folder)
    place = folder / launch_id
    place.mkdir(parents=True, mode=0o700)
    (place / "events").touch(mode=0o600)
    (place / "launch.json").write_text(json.dumps({"launch_id": launch_id, "lease_sha256": lease_sha256}))
    return Spool(place, launch_id, lease_sha256)


def reopen(folder: Path) -> list[Spool]:
    """What an earlier agent left behind. A launch that it did not see the end of ends here, as KILLED."""
    _drop_old(folder)
    spools = []
    for place in sorted(folder.iterdir()) if folder.exists() else []:
        try:
            head = json.loads((place / "launch.json").read_text())
            spools.append(_load(Spool(place, str(head["launch_id"]), str(head["lease_sha256"]))))
        except Exception as error:
            # Killed while it was created, so that no host has heard of it; or damaged. One launch of the past must not
            # keep this device from measuring.
            _log.warning("the events of launch %s can't be read and are dropped: %s", place.name, error)
            shutil.rmtree(place, ignore_errors=True)
    return spools


def _load(spool: Spool) -> Spool:
    marked = spool.folder / "acknowledged"
    if marked.exists():
        spool.acknowledged = int(marked.read_text())
        spool._offsets = [0] * spool.acknowledged
        spool.ended = True
        return spool
    with (spool.folder / "events").open("rb") as file:
        while (event := read_event(file)) is not None:
            spool._offsets.append(spool._bytes)
            spool._bytes = file.tell()
            spool.ended = isinstance(event, (Finished, Failed))
    if not spool.ended:
        _truncate(spool.folder / "events", spool._bytes)
        spool.append(Failed("KILLED", "the agent ended while this launch ran"))
    return spool


def _truncate(path: Path, size_bytes: int) -> None:
    try:
        os.truncate(path, size_bytes)
    except OSError:
        return


def _drop_old(folder: Path) -> None:
    places = sorted(folder.iterdir(), key=lambda place: place.stat().st_mtime) if folder.exists() else []
    total = 0
    for place in reversed(places):
        total += sum(path.stat().st_size for path in place.iterdir())
        if total > _LARGEST_TOTAL_BYTES or time.time() - place.stat().st_mtime > KEPT_S:
            shutil.rmtree(place, ignore_errors=True)
