"""Who may use the device: the lease of one host, and the lock that exists once per device and boot."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import platform
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rtfleet_agent.refusal import Refusal

LEASE_LASTS_S = 30.0
# A launch of a host that went away goes on so long after its lease ran out, unless somebody else takes the device.
COMEBACK_S = 60.0
# Of leases that were ended by force, so many are remembered.
_MOST_ENDED = 100
_SHORTEST_LEASE_ID = 16
# Nobody means to hold a device for longer without a word.
_LONGEST_S = 7 * 86_400.0
_ENDING = "the agent that served the device so far is just ending"
# An agent that has the lock but does not listen yet answers when it does.
_ASKER_WAITS_S = 6.0


@dataclass(frozen=True)
class Held:
    """The lease that is in force. `lease_id` is a secret and is never shown."""

    lease_id: str
    holder: str
    expires_in_s: float
    since_unix_s: float = 0.0
    reason: str = ""


class Leases:
    """The device's one lease. Safe to call from several threads.

    Args:
        now: A monotonic clock in seconds.
        lasts_s: A lease that is not renewed for so long is lost.
        memory: File with the hashes of the lease that was given last and of those that were ended by force: the agent
            after this one does not give these either.
    """

    def __init__(
        self,
        now: Callable[[], float] = time.monotonic,
        lasts_s: float = LEASE_LASTS_S,
        memory: Path | None = None,
    ) -> None:
        self._now = now
        self._memory = memory
        self._last, *self._ended = _lines_of(memory) or ["-"]
        self._lasts_s = lasts_s
        self._mutex = threading.Lock()
        self._lease_id = ""
        self._holder = ""
        self._reason = ""
        self._since_unix_s = 0.0
        self._expires_at = 0.0
        self._retired = False

    def acquire(self, lease_id: str, holder: str, lasts_s: float = 0.0, reason: str = "") -> float:
        """Takes the lease, or renews it when it is this one; the seconds that it is good for.

        Args:
            lasts_s: At least so long without being renewed; 0 is the usual time.
            reason: Why the device is held, for those who ask for it meanwhile.

        Raises:
            Refusal: somebody else holds it, who, and for how long; it was ended by force; or a `lease_id` too short to
                be a secret.
        """
        if len(lease_id) < _SHORTEST_LEASE_ID:
            raise Refusal("INVALID_ARGUMENT", "lease_id must be a secret of at least 128 bits that the host draws")
        with self._mutex:
            if self._retired:
                raise Refusal("UNAVAILABLE", _ENDING)
            if hash_of(lease_id) in self._ended:
                raise Refusal("PERMISSION_DENIED", "this lease was ended by force: somebody else wanted the device")
            remaining = self._expires_at - self._now()
            if remaining > 0 and not self._is(lease_id):
                why = f" ({self._reason})" if self._reason else ""
                raise Refusal(
                    "FAILED_PRECONDITION",
                    f"the device is leased to {self._holder or 'a host without a name'}{why}; "
                    f"the lease ends in {remaining:.0f} s unless it is renewed",
                )
            if remaining <= 0:
                self._since_unix_s = time.time()
            self._lease_id, self._holder, self._reason = lease_id, holder, reason
            self._remember(hash_of(lease_id))
            good_for_s = max(self._lasts_s, min(lasts_s, _LONGEST_S), remaining)
            self._expires_at = self._now() + good_for_s
            return good_for_s

    def renew(self, lease_id: str) -> float:
        """Starts the lease's time anew.

        Raises:
            Refusal: it is not held any more.
        """
        with self._mutex:
            self._require(lease_id)
            self._prolong()
            return self._lasts_s

    def release(self, lease_id: str, *, force: bool = False) -> None:
        """Frees the device. Releasing a lease that is over is no error: the device is not held either way.

        Args:
            force: Whoever's lease it is.
        """
        with self._mutex:
            if force and self._last not in ("-", hash_of(lease_id)):
                # Also where it ran out, or is one of an agent before: its host may only be asleep.
                self._ended = [*self._ended, self._last][-_MOST_ENDED:]
            if force or self._is(lease_id):
                self._lease_id, self._expires_at = "", 0.0
                self._remember("-")

    def retire(self) -> bool:
        """Gives no lease any more. False, and no change, where somebody holds one."""
        with self._mutex:
            self._retired = self._retired or self._expires_at <= self._now()
            return self._retired

    def check(self, lease_id: str) -> None:
        """Raises Refusal where `lease_id` does not hold the device.

        A lease that ran out holds it again where nobody took the device meanwhile: a laptop that slept is back. One
        that was released does not, whoever released it.
        """
        with self._mutex:
            self._require(lease_id)
            if self._expires_at <= self._now():
                self._prolong()

    def is_lost(self, lease_id: str) -> bool:
        """Whether what was begun under this lease is to end: it was released, somebody else has the device, or its host
        is away for too long."""
        with self._mutex:
            return not self._is(lease_id) or self._now() > self._expires_at + COMEBACK_S

    def held(self) -> Held | None:
        """The lease in force; None where the device is free."""
        with self._mutex:
            remaining = self._expires_at - self._now()
            if remaining <= 0:
                return None
            return Held(self._lease_id, self._holder, remaining, self._since_unix_s, self._reason)

    def _is(self, lease_id: str) -> bool:
        """Whether it is the lease that the device was given to last, and that was not released."""
        return bool(lease_id) and hmac.compare_digest(self._lease_id.encode(), lease_id.encode())

    def _remember(self, last: str) -> None:
        if last != self._last:
            self._last = last
            if self._memory is not None:
                with contextlib.suppress(OSError):  # without room this agent alone knows
                    self._memory.write_text("\n".join((self._last, *self._ended)))

    def _prolong(self) -> None:
        self._expires_at = max(self._expires_at, self._now() + self._lasts_s)

    def _require(self, lease_id: str) -> None:
        remaining = self._expires_at - self._now()
        if remaining <= 0 and self._retired:
            raise Refusal("UNAVAILABLE", _ENDING)
        if remaining <= 0 and not self._is(lease_id):
            raise Refusal("FAILED_PRECONDITION", "the lease is not held: it expired or was released; acquire one first")
        if not self._is(lease_id):
            raise Refusal(
                "FAILED_PRECONDITION",
                f"the lease is not yours: {self._holder or 'another host'} holds the device for {remaining:.0f} s more",
            )


def hash_of(lease_id: str) -> str:
    """What stands on disk in the place of a lease's secret."""
    return hashlib.sha256(lease_id.encode()).hexdigest()


def _lines_of(path: Path | None) -> list[str]:
    try:
        return path.read_text().split() if path is not None else []
    except (OSError, ValueError):
        return []


@dataclass(frozen=True)
class Server:
    """The agent that serves a device."""

    pid: int
    address: str
    since: str


class DeviceBusy(Exception):
    """Another agent serves this device."""

    def __init__(self, server: Server | None) -> None:
        who = f"agent pid {server.pid} at {server.address} since {server.since}" if server else "another agent"
        super().__init__(
            f"device is already served by {who}; stop it or start an emulated device with --as NAME",
        )


class DeviceLock:
    """Held from `hold_device` until `close`; the system frees it when the process dies."""

    def __init__(self, close: Callable[[], None], announce: Callable[[Server], None]) -> None:
        self.close = close
        self.announce = announce


def hold_device(identity: str) -> DeviceLock:
    """Takes the lock of the device `identity`. `announce` then tells other agents who holds it.

    Raises:
        DeviceBusy: another agent holds it.
    """
    name = "rtfleet-agent-" + hashlib.sha256(identity.encode()).hexdigest()[:32]
    if platform.system() == "Linux":
        return _hold_abstract_socket("\0" + name)
    # On a Mac each session has a $TMPDIR of its own, and /tmp is tidied up under a standing agent.
    return hold_file(Path("/var/tmp") / f"{name}.lock")


def _hold_abstract_socket(name: str) -> DeviceLock:
    # An abstract name belongs to the kernel's network namespace, not to a user's files: it exists once per boot
    # whatever folder an agent was started in, and is gone with the process, however that ends.
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(name)
    except OSError as error:
        listener.close()
        raise DeviceBusy(_ask_holder(name)) from error
    listener.listen(8)
    told = threading.Event()
    line: list[bytes] = []

    def announce(server: Server) -> None:
        line.append(json.dumps(asdict(server)).encode() + b"\n")
        told.set()

    def answer() -> None:
        while True:
            try:
                asker, _ = listener.accept()
            except OSError:
                return
            with asker, contextlib.suppress(OSError):
                asker.settimeout(1.0)
                if told.wait(5.0):
                    asker.sendall(line[-1])

    answering = threading.Thread(target=answer, name="device-lock", daemon=True)
    answering.start()

    def close() -> None:
        # The name is free only once the thread has left accept(), which shutdown() wakes it from.
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        answering.join(_ASKER_WAITS_S)
        listener.close()

    return DeviceLock(close, announce)


def _ask_holder(name: str) -> Server | None:
    with contextlib.suppress(OSError, ValueError, TypeError), socket.socket(socket.AF_UNIX) as asker:
        asker.settimeout(_ASKER_WAITS_S)
        asker.connect(name)
        return Server(**json.loads(asker.recv(4096)))
    return None


def hold_file(path: Path) -> DeviceLock:
    """The lock as a locked file, which stays and which every user of the machine can lock.

    Raises:
        DeviceBusy: another agent holds it.
    """
    # The folder is everybody's: what somebody laid there in its place is not followed.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    with contextlib.suppress(PermissionError):  # another user's, who has done it
        os.fchmod(descriptor, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        server = None
        with contextlib.suppress(ValueError, TypeError):
            server = Server(**json.loads(os.pread(descriptor, 4096, 0)))
        os.close(descriptor)
        raise DeviceBusy(server) from error
    # What the agent before this one said of itself.
    os.ftruncate(descriptor, 0)

    def announce(server: Server) -> None:
        os.pwrite(descriptor, json.dumps(asdict(server)).encode(), 0)

    return DeviceLock(lambda: os.close(descriptor), announce)


@contextlib.contextmanager
def holding_device(identity: str) -> Iterator[DeviceLock]:
    """`hold_device` for a `with` block."""
    lock = hold_device(identity)
    try:
        yield lock
    finally:
        lock.close()
