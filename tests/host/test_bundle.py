"""Bundles run where nothing else is: from any folder, in an empty root, as a user without a name, on two processors."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from bundled import Measured, Tried, clipping, empty_root, measure, serving, summing

from fakes.pixel import ARM_CPUINFO
from rtfleet import bundle
from rtfleet.bundle import Bundle
from rtfleet.errors import UsageError
from rtfleet.records import DeviceFacts

pytestmark = pytest.mark.slow

NOBODY = 2000  # Android's shell
QEMU = "qemu-aarch64-static"
MAY_MOUNT = os.geteuid() == 0 and shutil.which("unshare") and not os.system("unshare --mount true 2>/dev/null")
needs_root = pytest.mark.skipif(not MAY_MOUNT, reason="an empty root needs root on Linux, and leave to mount")


@pytest.fixture(name="native", scope="module")
def _native() -> Bundle:
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip("an x86_64 bundle runs on x86_64 Linux")
    return bundle.ensure("x86_64", bundle.RUNTIMES)


@pytest.fixture(name="models")
def _models(tmp_path: Path) -> dict[str, Tried]:
    return {"onnxruntime": summing(tmp_path), "litert": clipping(tmp_path)}


def assert_measured(found: Mapping[str, Measured], models: Mapping[str, Tried]) -> None:
    """Real frames with real times, and the right outputs."""
    for measured in found.values():
        assert measured.launch.error is None
        assert len(measured.launch.latency_ns) >= 100 and (measured.launch.latency_ns > 0).all()
        assert measured.launch.overhead_ns is not None
        assert measured.launch.peak_rss_bytes is not None
    summed, clipped = found["onnxruntime"].outputs.ravel(), found["litert"].outputs.ravel()
    assert np.allclose(summed, models["onnxruntime"].frames.sum(axis=(1, 2)), atol=1e-5)
    assert np.array_equal(clipped, np.maximum(models["litert"].frames.ravel(), 0))


def assert_whole(facts: DeviceFacts, arch: str) -> None:
    assert facts.arch == arch and facts.python_version.startswith("3.11.")
    assert {one.name: one.error for one in facts.runtimes if one.name in bundle.RUNTIMES} == {
        "onnxruntime": "",
        "litert": "",
    }


def test_it_measures_from_any_folder_with_no_environment(
    native: Bundle, models: dict[str, Tried], tmp_path: Path
) -> None:
    folder = tmp_path / "some where else"
    shutil.copytree(native.folder, folder)

    with serving(["/bin/sh", folder / "run"], str(tmp_path / "store"), {}, tmp_path / "log") as link:
        facts, found = measure(link, models, tmp_path)

    assert_whole(facts, "x86_64")
    assert_measured(found, models)
    assert (folder / ".compiled").is_dir(), "what Python compiled is kept where that can be written"


def test_nothing_of_the_users_python_gets_in(native: Bundle, tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('not the one that is bundled')")
    environment = {"PYTHONPATH": str(tmp_path), "PYTHONHOME": str(tmp_path), "LD_LIBRARY_PATH": str(tmp_path)}

    told = subprocess.run(
        [native.folder / "run", "-B", "-c", "import numpy, sys; print(numpy.__file__, *sys.path)"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )

    assert told.returncode == 0, told.stderr
    assert all(path.startswith(str(native.folder)) for path in told.stdout.split())


def test_two_processes_that_need_it_at_once_both_get_it(native: Bundle, tmp_path: Path) -> None:
    shutil.copytree(native.folder.parent / "parts", tmp_path / "bundles/parts")
    program = "from pathlib import Path; from rtfleet import bundle; print(bundle.ensure('x86_64', [], Path('.')).name)"
    command = [sys.executable, "-c", program]
    both = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    names = [process.communicate()[0].strip() for process in both]

    (only,) = bundle.stored(tmp_path)
    assert names == [only.name, only.name]
    assert sorted(path.name for path in (tmp_path / "bundles").iterdir()) == ["made", "parts", only.name]


@needs_root
def test_it_measures_in_an_empty_root(native: Bundle, models: dict[str, Tried], tmp_path: Path) -> None:
    into = empty_root(tmp_path / "root", native.folder, NOBODY)
    start = native.start_words("/bundle")
    environment = {"PATH": os.environ["PATH"], "RTFLEET_PYTHON": shlex.join(start)}

    with serving([*into, *start], "/store", environment, tmp_path / "log") as link:
        facts, found = measure(link, models, tmp_path)

    assert_whole(facts, "x86_64")
    assert_measured(found, models)
    assert (tmp_path / "log").read_text() == ""


@needs_root
@pytest.mark.skipif(not shutil.which(QEMU), reason=f"no {QEMU} (Debian: apt-get install qemu-user-static)")
def test_the_arm64_bundle_measures_in_an_empty_root_under_an_emulator(models: dict[str, Tried], tmp_path: Path) -> None:
    built = bundle.ensure("arm64", bundle.RUNTIMES)
    shutil.copytree(built.folder, tmp_path / "copy")
    into = empty_root(tmp_path / "root", tmp_path / "copy", NOBODY, str(shutil.which(QEMU)), ARM_CPUINFO)
    start = ("/emulator", "-p", "16384", *built.start_words("/bundle"))  # pages of 16 KB, as newer phones have
    environment = {"PATH": os.environ["PATH"], "QEMU_CPU": "cortex-a76", "RTFLEET_PYTHON": shlex.join(start)}

    with serving([*into, *start], "/store", environment, tmp_path / "log") as link:
        facts, found = measure(link, models, tmp_path)

    assert_whole(facts, "aarch64")
    assert_measured(found, models)


def test_the_same_parts_give_the_same_bundle(native: Bundle, tmp_path: Path) -> None:
    """Without asking anybody again, and whatever the clock, the umask and the folder are."""
    shutil.copytree(native.folder.parent / "parts", tmp_path / "cache/bundles/parts")
    before = os.umask(0o077)
    try:
        again = bundle.ensure("x86_64", bundle.RUNTIMES, tmp_path / "cache")
    finally:
        os.umask(before)

    assert again.name == native.name and again.folder != native.folder
    assert [(file.path, file.sha256) for file in again.files] == [(file.path, file.sha256) for file in native.files]


def test_a_slim_bundle_has_the_one_runtime_and_the_other_says_so(native: Bundle) -> None:
    slim = bundle.ensure("x86_64", ["litert"])

    asked = [slim.folder / "run", "-B", "-c", "import importlib.util as u; print(bool(u.find_spec('onnxruntime')))"]
    assert subprocess.run(asked, capture_output=True, text=True, env={}).stdout.strip() == "False"
    assert slim.size_bytes < native.size_bytes - 20_000_000
    assert slim.name != native.name


def test_a_damaged_bundle_is_built_anew_and_old_ones_are_pruned(native: Bundle, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(native.folder.parent / "parts", cache / "bundles/parts")
    (cache / "bundles/parts/left-over_1.0_all.deb").write_bytes(b"of an older version")
    first = bundle.ensure("x86_64", [], cache)
    (first.folder / "run").write_text("damaged")

    assert bundle.stored(cache) == []
    again = bundle.ensure("x86_64", [], cache)
    assert again.name == first.name and (again.folder / "run").read_text().startswith("#!/bin/sh")
    assert stat.S_IMODE((again.folder / "run").stat().st_mode) == 0o755

    shutil.copytree(again.folder, again.folder.parent / "rtfleet-agent-x86_64-000000000000")
    os.utime(again.folder.parent / "rtfleet-agent-x86_64-000000000000", (0, 0))
    assert bundle.prune(cache) == ["rtfleet-agent-x86_64-000000000000", "left-over_1.0_all.deb"]
    assert [one.name for one in bundle.stored(cache)] == [again.name]
    assert again.name in bundle.prune(cache, everything=True) and bundle.stored(cache) == []
    assert list((cache / "bundles").iterdir()) == []


def test_what_there_is_not_is_named() -> None:
    with pytest.raises(UsageError, match=r"unknown architecture 'armv7'"):
        bundle.ensure("armv7", bundle.RUNTIMES)
    with pytest.raises(UsageError, match=r"unknown runtime 'onnx'"):
        bundle.ensure("arm64", ["onnx"])
