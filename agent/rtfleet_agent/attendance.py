"""Whether anybody still wants this agent: calls in progress, and how long ago the last one was."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator


class Attendance:
    """Safe to call from several threads.

    Args:
        now: A monotonic clock in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._mutex = threading.Lock()
        self._calls = 0
        self._last_s = now()

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """A call is in progress while the block runs."""
        with self._mutex:
            self._calls += 1
        try:
            yield
        finally:
            with self._mutex:
                self._calls -= 1
                self._last_s = self._now()

    def note(self) -> None:
        """Somebody wants the agent now, by something else than a call."""
        with self._mutex:
            self._last_s = self._now()

    @property
    def idle_s(self) -> float:
        """Seconds since anybody wanted the agent; 0 while somebody calls."""
        with self._mutex:
            return 0.0 if self._calls else self._now() - self._last_s
