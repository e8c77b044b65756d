"""A bundle's folder: what goes in, what stays out, and what no device could load is refused by name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packages import deb, shared_library, wheel

from rtfleet.bundling import debs, elf, layout
from rtfleet.bundling.pins import ARCHES
from rtfleet.errors import UsageError

ARM64 = ARCHES["arm64"]
LIBRARIES = "usr/lib/aarch64-linux-gnu"
PYTHON = "usr/lib/python3.11"


def base(folder: Path, **others: bytes) -> list[Path]:
    """The least that is a bundle, and a library that nothing needs; `others` are more of Debian's libraries."""
    files = {
        "usr/bin/python3.11": shared_library("libc.so.6", "libz.so.1"),
        "lib/aarch64-linux-gnu/ld-linux-aarch64.so.1": shared_library(soname=ARM64.loader),
        "lib/aarch64-linux-gnu/libc.so.6": shared_library(ARM64.loader, soname="libc.so.6"),
        f"{LIBRARIES}/libz.so.1.2.13": shared_library("libc.so.6", soname="libz.so.1"),
        f"{LIBRARIES}/libnobody.so.1": shared_library(soname="libnobody.so.1"),
        f"{PYTHON}/os.py": b"# os",
        f"{PYTHON}/pydoc_data/topics.py": b"# help",
        "usr/share/doc/base/copyright": b"licence",
        "usr/share/doc/base/changelog.gz": b"news",
        **{f"{LIBRARIES}/{name}": data for name, data in others.items()},
    }
    links = {f"{LIBRARIES}/libz.so.1": "libz.so.1.2.13", f"{PYTHON}/sitecustomize.py": "/etc/python3.11/site.py"}
    return [deb(folder / "base.deb", files, links)]


def lay_out(folder: Path, debian: list[Path], wheels: list[Path] | None = None) -> set[str]:
    into = folder / "bundle"
    into.mkdir()
    layout.lay_out(ARM64, iter(debian), iter(wheels or []), {"rtfleet_agent/__init__.py": b""}, into)
    return {path.relative_to(into).as_posix() for path in into.rglob("*") if path.is_file()}


def test_what_is_needed_is_there_once_and_the_rest_is_not(tmp_path: Path) -> None:
    made = {
        "tiny/__init__.py": b"",
        "tiny/tests/test_tiny.py": b"",
        "tiny/__init__.pyi": b"",
        "tiny.libs/libinner-1.so": shared_library("libc.so.6"),
        "tiny-1.0.dist-info/RECORD": b"",
        "tiny-1.0.dist-info/licenses/LICENSE": b"mine",
    }
    files = lay_out(tmp_path, base(tmp_path), [wheel(tmp_path / "tiny.whl", made)])

    assert files == {
        "run", "bin/python3", "lib/ld-linux-aarch64.so.1", "lib/libc.so.6", "lib/libz.so.1", "lib/python3.11/os.py",
        "lib/python3.11/rtfleet_agent/__init__.py", "lib/python3.11/tiny/__init__.py", "licences/base.txt",
        "lib/python3.11/tiny.libs/libinner-1.so", "lib/python3.11/tiny-1.0.dist-info/licenses/LICENSE",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("library", "said"),
    [
        (shared_library("libabsent.so.3"), "it needs libabsent.so.3, which no part brings"),
        (shared_library(alignment=4096), "a segment is aligned to 4096 bytes, less than a page of 16384"),
        (shared_library(alignment=16384, offset=4096), "differ within a page of 16384 bytes"),
        (shared_library(stack=7), "it asks for an executable stack"),
        (shared_library(textrel=True), "TEXTREL"),
        (shared_library()[:100], "cut off"),
    ],
)
def test_what_a_device_would_not_load_is_named(tmp_path: Path, library: bytes, said: str) -> None:
    bad = wheel(tmp_path / "bad.whl", {"bad/_native.so": library})

    with pytest.raises(UsageError, match=r"the bundle can't be built: lib/python3.11/bad/_native.so: ") as raised:
        lay_out(tmp_path, base(tmp_path), [bad])

    assert said in raised.value.text


def test_two_parts_that_disagree_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"other\.whl brings another lib/python3\.11/os\.py"):
        lay_out(tmp_path, base(tmp_path), [wheel(tmp_path / "other.whl", {"os.py": b"# not os"})])


def test_a_package_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "odd.deb").write_bytes(b"<html>")

    with pytest.raises(UsageError, match=r"odd\.deb is not a whole Debian package"):
        lay_out(tmp_path, [tmp_path / "odd.deb"])


@pytest.mark.parametrize("form", ["xz", "gz"])
def test_a_debian_package_is_read_with_its_links(tmp_path: Path, form: str) -> None:
    links = {"usr/lib/a.so.1": "a.so.1.0", "usr/lib/a.so": "a.so.1", "usr/share/elsewhere": "/etc/other"}
    package = deb(tmp_path / "a.deb", {"usr/lib/a.so.1.0": b"odd"}, links, form)

    assert debs.contents(package) == dict.fromkeys(("usr/lib/a.so.1.0", "usr/lib/a.so.1", "usr/lib/a.so"), b"odd")


@pytest.mark.skipif(sys.platform != "linux", reason="reads this machine's own ELF file")
def test_a_real_program_is_read_as_its_loader_reads_it() -> None:
    found = elf.read(Path("/bin/sh").resolve().read_bytes())

    assert "libc.so.6" in found.needed and found.soname == "" and not found.text_relocations
    assert list(elf.faults(found, 4096)) == []


@pytest.mark.parametrize("shell", ["sh", "bash", "mksh", "busybox sh"])
@pytest.mark.parametrize("called", ["{folder}/run", "./run", "run"])
def test_the_launcher_finds_its_folder_in_any_shell(tmp_path: Path, shell: str, called: str) -> None:
    """The loader is a script here, which says what it was given."""
    if not shutil.which(shell.split()[0]):
        pytest.skip(f"no {shell} here")
    folder = tmp_path / 'a "folder" with $odd `names`'
    folder.mkdir()
    lay_out(folder, base(folder))
    loader = folder / "bundle/lib" / ARM64.loader
    loader.write_text('#!/bin/sh\nprintf "%s\\n" "$RTFLEET_PYTHON" "$@"\n')
    command = [*shell.split(), called.format(folder=folder / "bundle"), "-m", "it's", "$HOME *"]

    told = subprocess.run(command, cwd=folder / "bundle", env=dict(os.environ), capture_output=True, text=True)

    assert told.returncode == 0, told.stderr
    python, *words = told.stdout.splitlines()
    assert words == [*layout.start_words(str(folder / "bundle"), ARM64)[1:], "-m", "it's", "$HOME *"]
    again = subprocess.run(f"{python} -m again", shell=True, capture_output=True, text=True, env={})
    assert again.stdout.splitlines()[1:] == [*words[:-3], "-m", "again"], "workers are started by the same words"
