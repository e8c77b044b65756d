"""The bundle: an agent in one folder that needs nothing of the device but a kernel; built on first need, then kept.

It is named by the hash of its content, which follows from the pinned parts and the agent's code alone: the same on
every machine that builds it. Whoever has a bundle of that name on a device has nothing to copy.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rtfleet import cache as caches
from rtfleet import toml_file
from rtfleet.artifact import File
from rtfleet.bundling import layout, parts, pins
from rtfleet.errors import UsageError
from rtfleet.version import VERSION

ARCHES = tuple(pins.ARCHES)
RUNTIMES = pins.RUNTIMES
NAME_PREFIX = "rtfleet-agent-"
_AGENT_PACKAGES = ("rtfleet_agent", "rtfleet_protos")
# Two threads that need the same bundle wait for one build. Two processes both build, and the first one wins.
_building = threading.Lock()


@dataclass(frozen=True)
class Bundle:
    """A built bundle in the cache.

    Attributes:
        folder: Its place here; nobody may change it.
        name: "rtfleet-agent-arm64-0123456789ab": the folder's own name, and the content's.
        runtimes: In the order of `RUNTIMES`.
        files: All of them, path relative to the folder; `run` and what it starts are executable.
        used_at: When it was last asked for, in seconds since the epoch.
    """

    folder: Path
    name: str
    arch: str
    runtimes: tuple[str, ...]
    size_bytes: int
    files: tuple[File, ...]
    used_at: float

    def start_words(self, folder: str) -> tuple[str, ...]:
        """What `run` executes where the bundle lies in `folder` (absolute), for who has no shell to run it with."""
        return layout.start_words(folder, pins.ARCHES[self.arch])


@dataclass(frozen=True)
class _Facts:
    arch: str
    runtimes: tuple[str, ...]


@dataclass(frozen=True)
class _Made:
    """What a set of parts and code came to."""

    name: str


def ensure(
    arch: str, runtimes: Sequence[str], cache: Path | None = None, tell: Callable[[str], None] | None = None
) -> Bundle:
    """The bundle for this architecture with these runtimes; fetched and built where the cache does not have it.

    It takes a second where the bundle is here, else up to a minute: call it in a thread. Two may build at once.

    Args:
        arch: One of `ARCHES`.
        runtimes: Some of `RUNTIMES`.
        tell: Called with a line for people before each step that takes a while.

    Raises:
        UsageError: an unknown architecture or runtime, a part that can't be fetched, or no room.
    """
    if arch not in pins.ARCHES:
        raise UsageError(toml_file.unknown("architecture", arch, ARCHES))
    for runtime in runtimes:
        if runtime not in RUNTIMES:
            raise UsageError(toml_file.unknown("runtime", runtime, RUNTIMES))
    ordered = tuple(runtime for runtime in RUNTIMES if runtime in runtimes)
    root = _root(cache)
    try:
        with _building:
            return _ensure(pins.ARCHES[arch], ordered, root, tell or (lambda line: None))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UsageError(
                f"no room for the bundle in {root}", "free 1 GB, or let RTFLEET_CACHE name another folder"
            ) from error
        raise UsageError(
            f"could not build the bundle: {error}", "RTFLEET_CACHE names the folder where it is built"
        ) from error


def stored(cache: Path | None = None) -> list[Bundle]:
    """The bundles in the cache, last used first. One that is damaged is not among them."""
    return _stored(_root(cache))


def prune(cache: Path | None = None, *, everything: bool = False) -> list[str]:
    """Remove all bundles but the one last used of each architecture and set of runtimes, and parts that are not pinned
    any more; the names of what was removed.

    Args:
        everything: Remove all that was ever built and fetched; not while a bundle is being built.
    """
    root = _root(cache)
    for path in (old := _listed(root) if everything else _superseded(root)):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return [path.name for path in old]


def _superseded(root: Path) -> list[Path]:
    kept: dict[tuple[str, tuple[str, ...]], Bundle] = {}
    for bundle in _stored(root):
        kept.setdefault((bundle.arch, bundle.runtimes), bundle)
    names = {bundle.name for bundle in kept.values()}
    pinned = {part.file for arch in pins.ARCHES.values() for part in pins.pins_of(arch, RUNTIMES).parts}
    return [
        *(folder for folder in _folders(root) if folder.name not in names),
        *(part for part in _listed(root / "parts") if part.is_file() and part.name not in pinned),
    ]


def _stored(root: Path) -> list[Bundle]:
    found = (_loaded(folder) for folder in _folders(root))
    return sorted((bundle for bundle in found if bundle), key=lambda bundle: bundle.used_at, reverse=True)


def _ensure(arch: pins.Arch, runtimes: tuple[str, ...], root: Path, tell: Callable[[str], None]) -> Bundle:
    wanted = pins.pins_of(arch, runtimes)
    code = dict(_agent_code())
    note = root / "made" / caches.key_of(
        arch.name,
        runtimes,
        [part.sha256 for part in wanted.parts],
        {path: hashlib.sha256(data).hexdigest() for path, data in code.items()},
        [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(Path(layout.__file__).parent.glob("*.py"))],
    )  # fmt: skip
    made = caches.read_note(note, _Made)
    if made and (bundle := _loaded(root / made.name)):
        os.utime(bundle.folder)
        return bundle
    if lacking := parts.missing(wanted, root / "parts"):
        tell(f"fetching {len(lacking)} parts of the {arch.name} agent (Debian packages and wheels)")
        parts.fetch(lacking, arch, wanted.snapshot, root / "parts")
    tell(f"building the {arch.name} agent with {' and '.join(runtimes) or 'no runtime'}")
    bundle = _build(arch, runtimes, wanted, code, root)
    caches.write_note(note, _Made(bundle.name))
    return bundle


def _build(arch: pins.Arch, runtimes: tuple[str, ...], wanted: pins.Pins, code: dict[str, bytes], root: Path) -> Bundle:
    with caches.making(root) as folder:
        debian, wheels = ((root / "parts" / part.file for part in some) for some in (wanted.debs, wanted.wheels))
        layout.lay_out(arch, debian, wheels, code, folder)
        name = f"{NAME_PREFIX}{arch.name}-{_content_hash(folder)[:12]}"
        caches.keep(folder, root / name, _Facts(arch.name, runtimes))
    bundle = _loaded(root / name)
    assert bundle, "it was made a moment ago"
    return bundle


def _content_hash(folder: Path) -> str:
    """Of the sorted lines `path mode sha256`."""
    lines = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        lines.append(f"{path.relative_to(folder).as_posix()} {path.stat().st_mode & 0o777:o} {sha256}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def _agent_code() -> Iterator[tuple[str, bytes]]:
    """The agent that belongs to this host: path in Python's library -> bytes."""
    for package in _AGENT_PACKAGES:
        spec = importlib.util.find_spec(package)  # a top-level package is found without being imported
        if spec is None or not spec.submodule_search_locations:
            raise UsageError(f"this installation has no {package} to make a bundle of", "install rtfleet anew")
        (folder,) = map(Path, spec.submodule_search_locations)
        for path in sorted(folder.rglob("*.py")):
            yield f"{package}/{path.relative_to(folder).as_posix()}", path.read_bytes()
    yield (
        f"rtfleet-{VERSION}.dist-info/METADATA",
        f"Metadata-Version: 2.1\nName: rtfleet\nVersion: {VERSION}\n".encode(),
    )


def _loaded(folder: Path) -> Bundle | None:
    entry = caches.load(folder, _Facts)
    if entry is None:
        return None
    files = tuple(entry.files[path] for path in sorted(entry.files))
    facts, used_at = entry.facts, folder.stat().st_mtime
    size_bytes = sum(file.size_bytes for file in files)
    return Bundle(folder, folder.name, facts.arch, facts.runtimes, size_bytes, files, used_at)


def _root(cache: Path | None) -> Path:
    return (cache or caches.cache_folder()) / "bundles"


def _folders(root: Path) -> list[Path]:
    return [path for path in _listed(root) if path.name.startswith(NAME_PREFIX)]


def _listed(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
