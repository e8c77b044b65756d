"""A bundle's folder, laid out from its parts.

run                 starts its Python, with a shell
bin/python3
lib/                glibc's loader and the shared libraries
lib/python3.11/     the standard library, the wheels and the agent: all that can be imported
licences/           of the Debian packages; those of the wheels stay in their .dist-info

Python finds `lib/python3.11` by its own place, so that it needs no variable of the environment and heeds none. Nothing
is stripped: numpy's libraries do not survive it.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from rtfleet.bundling import debs, elf
from rtfleet.bundling.pins import Arch
from rtfleet.errors import UsageError

LIBRARY = "lib/python3.11/"
PYTHON = "bin/python3"
LAUNCHER = "run"
_DEB_PLACES = (
    (re.compile(r"usr/bin/python3\.11"), PYTHON),
    (re.compile(r"usr/lib/python3\.11/(.+)"), LIBRARY + r"\1"),
    (re.compile(r"(?:usr/)?lib/[^/]+-linux-gnu/([^/]+\.so\.[0-9.]+)"), r"lib/\1"),
    (re.compile(r"usr/share/doc/([^/]+)/copyright"), r"licences/\1.txt"),
)
# What an agent never imports: developers' tools, tests, headers, exporters. LiteRT's WebGPU library and the vendors'
# NPU libraries need drivers that know nothing of glibc. ONNX Runtime's wheel brings the runtime twice: in its Python
# module, and as a library for C.
_LEFT_OUT = re.compile(
    r"(?:.*/)?(?:__pycache__|tests?|testing/tests)/.*"
    r"|.*\.(?:pyi|pyx|pxd|pxi|h|hpp|c|a|lib|typed)"
    r"|(?:ensurepip|idlelib|lib2to3|pydoc_data|tkinter|turtledemo|config-3\.11-[^/]+|sqlite3|curses)/.*"
    r"|(?:turtle|pydoc|doctest|crypt)\.py|dbm/.*"
    r"|lib-dynload/(?:_crypt|_sqlite3|_curses|_curses_panel|_dbm|_gdbm|nis|readline|_tkinter|_?test\w+|xx\w+)\..*"
    r"|[^/]+\.data/.*|[^/]+\.dist-info/(?:RECORD|WHEEL|INSTALLER|REQUESTED|entry_points\.txt|sboms/.*)"
    r"|numpy/(?:f2py|distutils|_pyinstaller)/.*"
    r"|onnxruntime/(?:transformers|quantization|tools|datasets|backend)/.*"
    r"|onnxruntime/capi/libonnxruntime\.so\..*"
    r"|ai_edge_litert/(?:tools|vendors|aot)/.*|ai_edge_litert/libLiteRtWebGpu[^/]*"
)


def start_words(folder: str, arch: Arch) -> tuple[str, ...]:
    """The words that start the Python of a bundle that lies in `folder`, an absolute path.

    No shell, no variable and no file outside the folder takes part. What Python compiles is kept in the folder where
    that can be written.
    """
    return (
        *(f"{folder}/lib/{arch.loader}", "--inhibit-cache", "--library-path", f"{folder}/lib", f"{folder}/{PYTHON}"),
        *("-I", "-S", "-X", "utf8", "-X", f"pycache_prefix={folder}/.compiled"),
    )


def lay_out(arch: Arch, debian: Iterator[Path], wheels: Iterator[Path], code: Mapping[str, bytes], into: Path) -> None:
    """Write the whole bundle into the empty folder `into`.

    Args:
        code: Path below `lib/python3.11/` -> bytes: the agent.

    Raises:
        UsageError: a part that is damaged, or one that the device's loader would refuse.
    """
    files: dict[str, bytes] = {}
    try:
        for part, place, data in _placed(debian, wheels):
            if files.setdefault(place, data) != data:
                raise UsageError(f"the bundle can't be built: {part.name} brings another {place} than a part before it")
        files |= {LIBRARY + path: data for path, data in code.items()}
        libraries = {place: _library(place, data) for place, data in files.items() if elf.is_elf(data)}
    except (ValueError, zipfile.BadZipFile) as error:
        raise UsageError(
            f"the bundle can't be built: {error}", "`rtfleet bundle prune --all` forgets all that was fetched"
        ) from error
    files[LAUNCHER] = _launcher(arch).encode()
    for place in _unneeded(libraries, arch):
        del files[place], libraries[place]
    _check(libraries, arch)
    for place, data in files.items():
        path = into / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o755 if place in (LAUNCHER, PYTHON, f"lib/{arch.loader}") else 0o644)
    for folder in (into, *(path for path in into.rglob("*") if path.is_dir())):
        folder.chmod(0o755)  # whatever the umask is: others may run it


def _placed(debian: Iterator[Path], wheels: Iterator[Path]) -> Iterator[tuple[Path, str, bytes]]:
    for deb in debian:
        for path, data in debs.contents(deb).items():
            for pattern, place in _DEB_PLACES:
                found = pattern.fullmatch(path)
                target = found.expand(place) if found else ""
                if target and not _LEFT_OUT.fullmatch(target.removeprefix(LIBRARY)):
                    yield deb, target, data
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for info in archive.infolist():
                if not info.is_dir() and not _LEFT_OUT.fullmatch(info.filename):
                    yield wheel, LIBRARY + info.filename, archive.read(info)


def _library(place: str, data: bytes) -> elf.Elf:
    try:
        return elf.read(data)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def _launcher(arch: Arch) -> str:
    words = " ".join(f"'{word}'" if "$" in word else word for word in start_words("$here", arch))
    return f"""#!/bin/sh
# Starts the Python of this folder, wherever the folder lies: run -m rtfleet_agent serve ...
case $0 in
*/*) here=${{0%/*}} ;;
*) here=. ;;
esac
here=$(CDPATH= cd -- "$here" && pwd -P) || exit 127
case $here in
*\\'*) echo "rtfleet: a bundle can't run from a folder with a ' in its path: $here" >&2; exit 126 ;;
esac
# Android's libraries, or Termux's, can't be loaded into this one.
unset LD_PRELOAD
# Workers are started by the same words; RTFLEET_EMULATOR stands before them, such as qemu-aarch64-static.
export RTFLEET_PYTHON="${{RTFLEET_EMULATOR:-}} {words}"
eval "exec $RTFLEET_PYTHON \\"\\$@\\""
"""


def _unneeded(libraries: Mapping[str, elf.Elf], arch: Arch) -> list[str]:
    """Shared libraries of Debian's that nothing here loads, and second names of those that are loaded."""
    own = {place: library for place, library in libraries.items() if re.fullmatch(r"lib/[^/]+", place)}
    wanted = {arch.loader}
    waiting = [library for place, library in libraries.items() if place not in own]
    while waiting:
        for soname in waiting.pop().needed:
            if soname not in wanted:
                wanted.add(soname)
                waiting += [own[f"lib/{soname}"]] if f"lib/{soname}" in own else []
    return [place for place in own if place.rpartition("/")[2] not in wanted]


def _check(libraries: Mapping[str, elf.Elf], arch: Arch) -> None:
    here = {place.rpartition("/")[2] for place in libraries}
    for place, library in libraries.items():
        faults = list(elf.faults(library, arch.page_bytes))
        faults += [f"it needs {soname}, which no part brings" for soname in library.needed if soname not in here]
        if faults:
            raise UsageError(f"the bundle can't be built: {place}: {'; '.join(faults)}")
