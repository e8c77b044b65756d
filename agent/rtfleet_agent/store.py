"""Files by sha256: received in pieces, verified, laid out for a worker, evicted when room is needed.

files/ab/abcd…   whole files, read-only; their modification time is that of their last use
partial/abcd…    broken-off pushes, which go on where they stopped
work/…           what running workers see: hard links into files/
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rtfleet_agent.refusal import Refusal

DEFAULT_QUOTA_BYTES = 8 * 10**9
# Left free on the disk for logs, spools and the system itself.
_RESERVE_BYTES = 64 * 2**20
_PARTIAL_LASTS_S = 24 * 3600
_PIECE_BYTES = 2**20
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Missing:
    """A file that the store lacks, and how much of it is here already."""

    sha256: str
    held_bytes: int


class StoreInUse(Exception):
    """Another agent has this folder."""


class Store:
    """The files of one agent. Safe to call from several threads.

    Args:
        folder: Created if need be; one agent at a time.
        quota_bytes: For whole and partial files together.

    Raises:
        StoreInUse: another agent has the folder.
    """

    def __init__(self, folder: Path, quota_bytes: int = DEFAULT_QUOTA_BYTES) -> None:
        self.folder = folder
        self.quota_bytes = quota_bytes
        self.work = folder / "work"
        self.cache = folder / "cache"
        self._files = folder / "files"
        self._partial = folder / "partial"
        self.mutex = threading.RLock()
        self._receiving: dict[str, Incoming] = {}
        self._pinned: set[str] = set()
        self._pinned_by = ""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _lock_folder(folder)
        shutil.rmtree(self.work, ignore_errors=True)
        for each in (self.work, self.cache, self._files, self._partial):
            each.mkdir(exist_ok=True)
        self._sizes = {path.name: path.stat().st_size for path in self._files.glob("??/*") if _SHA256.match(path.name)}
        # What an earlier agent left is hashed again before it counts: a power cut may have left a whole name over half
        # its data, and anybody may have written there.
        self._suspect = set(self._sizes)
        self._drop_old_partials()

    def close(self) -> None:
        """Lets another agent have the folder. Pushes that are still coming in are refused from here on."""
        with self.mutex:
            for incoming in list(self._receiving.values()):
                incoming.close()
            os.close(self._lock)

    def has(self, sha256: str) -> bool:
        """Whether the whole file is here and its hash is right."""
        _check_hash(sha256)
        with self.mutex:
            if sha256 in self._suspect:
                self._suspect.discard(sha256)
                if _hash_of(self._path(sha256)) != sha256:
                    self._remove(sha256)
            return sha256 in self._sizes

    def missing(self, lease_id: str, wanted: Sequence[str]) -> list[Missing]:
        """What of `wanted` is not here. The rest is not evicted while `lease_id` is the last that asked."""
        found = [sha256 for sha256 in wanted if self.has(sha256)]
        self.pin(lease_id, found)
        here = set(found)
        return [Missing(sha256, self._held_bytes(sha256)) for sha256 in wanted if sha256 not in here]

    def pin(self, lease_id: str, used: Iterable[str]) -> None:
        """Keeps files from eviction until another lease comes, and marks them as used now."""
        with self.mutex:
            if lease_id != self._pinned_by:
                self._pinned_by, self._pinned = lease_id, set()
            for sha256 in used:
                self._pinned.add(sha256)
                with contextlib.suppress(FileNotFoundError):
                    os.utime(self._path(sha256))

    def receive(self, lease_id: str, sha256: str, size_bytes: int, offset_bytes: int) -> Incoming | None:
        """Begins or continues a push; None where the file is here already.

        A push of the same file that is still open, because its host broke off unseen, is displaced.

        Raises:
            Refusal: no room, with the numbers; or an offset that is not what is held.
        """
        if self.has(sha256):
            self.pin(lease_id, [sha256])
            return None
        with self.mutex:
            if sha256 in self._receiving:
                self._receiving[sha256].close()
            held = self._held_bytes(sha256)
            if held > size_bytes:
                (self._partial / sha256).unlink()
                held = 0
            if offset_bytes != held:
                raise Refusal(
                    "FAILED_PRECONDITION", f"the push of {sha256[:12]} goes on at byte {held}, not at {offset_bytes}"
                )
            self.pin(lease_id, [sha256])
            self._make_room(sha256, size_bytes, held)
            incoming = Incoming(self, sha256, self._partial / sha256, size_bytes, held)
            self._receiving[sha256] = incoming
            return incoming

    def path(self, sha256: str) -> Path:
        """The whole file. Not to be written to.

        Raises:
            Refusal: it is not here.
        """
        if not self.has(sha256):
            raise Refusal("NOT_FOUND", f"file {sha256} is not on the device; push it first")
        return self._path(sha256)

    def lay_out(self, folder: Path, files: Mapping[str, str]) -> None:
        """Puts files (relative path -> sha256) into `folder` as a model expects them.

        Raises:
            Refusal: a file that is not here, or a path that would leave the folder.
        """
        taken = {str(_relative(path)) for path in files}
        for path, sha256 in files.items():
            relative = _relative(path)
            if any(str(parent) in taken for parent in relative.parents):
                raise Refusal("INVALID_ARGUMENT", f"file path {path!r} lies inside another file of the same graph")
            source, target = self.path(sha256), folder / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source, target)
            except FileExistsError:
                raise Refusal("INVALID_ARGUMENT", f"file path {path!r} appears twice in a graph") from None
            except OSError:
                # No hard links here (Android forbids them). A copy, not a symbolic link: runtimes resolve those and
                # then refuse external data as lying outside the model's folder.
                shutil.copyfile(source, target)

    def used_bytes(self) -> int:
        """Size of all files, whole and partial."""
        with self.mutex:
            return sum(self._sizes.values()) + sum(path.stat().st_size for path in self._partial.iterdir())

    def free_bytes(self) -> int:
        """What a push may still take without evicting anything."""
        return max(0, min(self.quota_bytes - self.used_bytes(), self._disk_free() - _RESERVE_BYTES))

    def received(self, incoming: Incoming, complete: bool) -> None:
        """A push ended; `complete` where its file now counts."""
        with self.mutex:
            self._receiving.pop(incoming.sha256, None)
            if complete:
                target = self._path(incoming.sha256)
                target.parent.mkdir(exist_ok=True)
                # In this order: one that may not be written to would be in the way of every later push.
                os.replace(incoming.path, target)
                target.chmod(0o444)
                self._sizes[incoming.sha256] = incoming.size_bytes
                self.pin(self._pinned_by, [incoming.sha256])

    def _make_room(self, sha256: str, size_bytes: int, held_bytes: int) -> None:
        coming = sum(other.size_bytes - other.held_bytes for other in self._receiving.values())
        need = size_bytes - held_bytes + coming
        while (over := self._shortage(need)) > 0:
            if not self._evict_one(keep=sha256):
                pinned = sum(self._sizes.get(each, 0) for each in self._pinned)
                raise Refusal(
                    "RESOURCE_EXHAUSTED",
                    f"no room for {size_bytes} bytes: {over} bytes too many; the store holds {self.used_bytes()} of "
                    f"{self.quota_bytes} bytes (--store-quota-gb), {pinned} of them in use by this lease; the disk has "
                    f"{self._disk_free()} bytes free, of which {_RESERVE_BYTES} are kept free",
                )

    def _shortage(self, need_bytes: int) -> int:
        return max(self.used_bytes() + need_bytes - self.quota_bytes, need_bytes + _RESERVE_BYTES - self._disk_free())

    def _evict_one(self, keep: str) -> bool:
        partial = [path for path in self._partial.iterdir() if path.name not in self._receiving and path.name != keep]
        whole = [self._path(sha256) for sha256 in self._sizes if sha256 not in self._pinned]
        candidates = partial or whole
        if not candidates:
            return False
        oldest = min(candidates, key=lambda path: path.stat().st_mtime_ns)
        self._remove(oldest.name) if oldest in whole else oldest.unlink()
        return True

    def _remove(self, sha256: str) -> None:
        del self._sizes[sha256]
        self._path(sha256).unlink(missing_ok=True)

    def _path(self, sha256: str) -> Path:
        return self._files / sha256[:2] / sha256

    def _held_bytes(self, sha256: str) -> int:
        try:
            return (self._partial / sha256).stat().st_size
        except FileNotFoundError:
            return 0

    def _disk_free(self) -> int:
        return shutil.disk_usage(self.folder).free

    def _drop_old_partials(self) -> None:
        for path in self._partial.iterdir():
            if time.time() - path.stat().st_mtime > _PARTIAL_LASTS_S:
                path.unlink()


class Incoming:
    """One push. `write` each chunk, then `close`; a push that is closed early goes on another time."""

    def __init__(self, store: Store, sha256: str, path: Path, size_bytes: int, held_bytes: int) -> None:
        self.sha256 = sha256
        self.path = path
        self.size_bytes = size_bytes
        self.held_bytes = held_bytes
        self._store = store
        self._mutex = threading.Lock()
        self._hash = hashlib.sha256()
        # One chunk is hashed while the next comes in; one after the other, a push takes a tenth longer.
        self._hasher = ThreadPoolExecutor(1, "push-hash")
        self._hashing: Future[None] | None = None
        if held_bytes:
            _update_from(path, self._hash)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._closed = False

    def write(self, chunk: bytes) -> None:
        """Appends and hashes.

        Raises:
            Refusal: more than was declared, a full disk, or another push of this file came since.
        """
        with self._mutex:
            if self._closed:
                raise Refusal("ABORTED", f"another push of {self.sha256[:12]} took over, or the agent is shutting down")
            if self.held_bytes + len(chunk) > self.size_bytes:
                raise Refusal("INVALID_ARGUMENT", f"more than the {self.size_bytes} bytes that were declared")
            # The count moves only with what reached the disk and the hash, so that a broken-off push can go on.
            rest = memoryview(chunk)
            while rest:
                try:
                    written = os.write(self._descriptor, rest)
                except OSError as error:
                    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                        raise
                    raise Refusal(
                        "RESOURCE_EXHAUSTED", f"the disk is full after {self.held_bytes} of {self.size_bytes} bytes"
                    ) from error
                if self._hashing is not None:
                    self._hashing.result()
                self._hashing = self._hasher.submit(self._hash.update, rest[:written])
                self.held_bytes += written
                rest = rest[written:]

    def close(self) -> bool:
        """Whether the file is whole and counts.

        Raises:
            Refusal: whole, but with another hash; what came is thrown away.
        """
        # The store's lock first, as everywhere.
        with self._store.mutex, self._mutex:
            if self._closed:
                return False
            self._closed = True
            self._hasher.shutdown()
            os.close(self._descriptor)
            whole = self.held_bytes == self.size_bytes
            right = whole and self._hash.hexdigest() == self.sha256
            if whole and not right:
                self.path.unlink()
            self._store.received(self, complete=right)
        if whole and not right:
            raise Refusal(
                "DATA_LOSS", f"the bytes hash to {self._hash.hexdigest()}, declared was {self.sha256}; push again"
            )
        return right


def _lock_folder(folder: Path) -> int:
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StoreInUse(
            f"the store {folder} is in use by another agent; choose another folder with --store"
        ) from error
    return descriptor


def _relative(path: str) -> PurePosixPath:
    parts = path.split("/")
    if not path or any(part in ("", ".", "..") for part in parts) or "\0" in path or "\\" in path:
        raise Refusal("INVALID_ARGUMENT", f"file path {path!r} must be relative and stay inside the graph's folder")
    return PurePosixPath(path)


def _check_hash(sha256: str) -> None:
    if not _SHA256.fullmatch(sha256):
        raise Refusal("INVALID_ARGUMENT", f"{sha256!r} is not a sha256 in 64 lower-case hex digits")


def _hash_of(path: Path) -> str:
    digest = hashlib.sha256()
    _update_from(path, digest)
    return digest.hexdigest()


def _update_from(path: Path, digest: hashlib._Hash) -> None:
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
