"""Packages are fetched by pip, checked by sha256, kept whole or not at all, and asked for once."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from rtfleet.errors import UsageError
from rtfleet.fetch import Package, fetch, folder_of, is_here

WEIGHTS = b"weights"


@pytest.fixture(name="package")
def _package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """A wheel in a folder that pip is told, by the user's own means, to look into; there is no network."""
    index = tmp_path / "index"
    index.mkdir()
    wheel = index / "tinyvoice-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tinyvoice/weights.bin", WEIGHTS)
        archive.writestr("tinyvoice/__init__.py", "raise SystemExit('never run')")
        archive.writestr("tinyvoice-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinyvoice\nVersion: 1.0\n")
        archive.writestr("tinyvoice-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tinyvoice-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return Package(
        name="tinyvoice",
        version="1.0",
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        licence="MIT",
        files={"tinyvoice/weights.bin": hashlib.sha256(WEIGHTS).hexdigest()},
    )


def test_only_the_pinned_files_are_kept_and_the_second_time_nothing_is_asked(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    assert not is_here(package, cache)

    folder = fetch(package, cache)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))

    assert fetch(package, cache) == folder
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["weights.bin"]
    assert [path.name for path in (cache / "packages").iterdir()] == [package.sha256]


def test_a_file_damaged_in_the_cache_is_fetched_again(package: Package, tmp_path: Path) -> None:
    weights = fetch(package, tmp_path / "cache") / "tinyvoice/weights.bin"
    weights.write_bytes(b"rotten")

    fetch(package, tmp_path / "cache")

    assert weights.read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"version": "2.0"}, "could not fetch tinyvoice==2.0: No matching distribution"),
        ({"sha256": "0" * 64}, "is not the file that was pinned"),
        ({"files": {"tinyvoice/weights.bin": "0" * 64}}, "tinyvoice/weights.bin in it is not the file that was pinned"),
        ({"files": {"tinyvoice/other.bin": "0" * 64}}, "damaged"),
    ],
)
def test_what_is_not_as_pinned_is_not_kept(
    package: Package, tmp_path: Path, changed: dict[str, object], said: str
) -> None:
    wrong = replace(package, **changed)  # type: ignore[arg-type]

    with pytest.raises(UsageError, match=said):
        fetch(wrong, tmp_path / "cache")

    assert not folder_of(wrong, tmp_path / "cache").exists()
    assert list((tmp_path / "cache/packages").iterdir()) == []


def test_a_cache_that_can_not_be_written_is_named(package: Package, tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"a file")

    with pytest.raises(UsageError, match=r"could not fetch tinyvoice==1\.0") as raised:
        fetch(package, tmp_path / "cache")

    assert "RTFLEET_CACHE" in raised.value.hint
