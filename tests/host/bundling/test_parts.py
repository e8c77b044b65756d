"""Parts are fetched from a mirror, checked by sha256, kept whole or not at all, and asked for once."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from packages import wheel

from rtfleet.bundling import parts
from rtfleet.bundling.pins import ARCHES, RUNTIMES, Arch, Deb, Pins, Wheel, pins_of
from rtfleet.errors import UsageError

ARM64 = ARCHES["arm64"]


class Mirror(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture(name="mirror")
def _mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is served by HTTP as the user's own mirror of Debian. There is no other network."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *them: Mirror(*them, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv(parts.MIRROR_VARIABLE, f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # so that the archive of old versions is out of reach
    yield folder
    server.shutdown()
    server.server_close()


def package(mirror: Path, content: bytes = b"content") -> Deb:
    (mirror / "pool").mkdir(exist_ok=True)
    (mirror / "pool/tiny_1.0_arm64.deb").write_bytes(content)
    return Deb("tiny", "1.0", "pool/tiny_1.0_arm64.deb", hashlib.sha256(b"content").hexdigest())


def fetch(folder: Path, *wanted: Deb | Wheel) -> None:
    parts.fetch(wanted, ARM64, "20261125T000000Z", folder)


def test_a_package_comes_from_the_mirror_and_is_missing_no_more(mirror: Path, tmp_path: Path) -> None:
    tiny = package(mirror)
    pins = Pins("20261125T000000Z", (tiny,), ())
    assert parts.missing(pins, tmp_path / "parts") == [tiny]

    fetch(tmp_path / "parts", tiny)

    assert parts.missing(pins, tmp_path / "parts") == []
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["tiny_1.0_arm64.deb"]
    (tmp_path / "parts/tiny_1.0_arm64.deb").write_bytes(b"rotten")
    assert parts.missing(pins, tmp_path / "parts") == [tiny]


def test_other_bytes_than_were_pinned_are_not_kept(mirror: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tiny_1\.0_arm64\.deb .*its file is not the one that was pinned"):
        fetch(tmp_path / "parts", package(mirror, b"other bytes"))

    assert list((tmp_path / "parts").iterdir()) == []


def test_a_version_that_is_gone_says_where_it_was_sought_and_what_to_do(mirror: Path, tmp_path: Path) -> None:
    gone = Deb("gone", "1.0", "pool/gone_1.0_arm64.deb", "0" * 64)

    with pytest.raises(UsageError, match=r"127\.0\.0\.1:\d+: (HTTP Error 404: )?.*snapshot\.debian\.org") as raised:
        fetch(tmp_path / "parts", gone)

    assert parts.MIRROR_VARIABLE in raised.value.hint and "proxy" in raised.value.hint


def test_wheels_come_by_the_users_own_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "index").mkdir()
    metadata = {
        "tiny-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        "tiny-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nTag: cp311-cp311-manylinux_2_28_aarch64\n",
        "tiny-1.0.dist-info/RECORD": b"",
    }
    made = wheel(tmp_path / "index/tiny-1.0-cp311-cp311-manylinux_2_28_aarch64.whl", metadata)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    tiny = Wheel("tiny", "1.0", made.name, hashlib.sha256(made.read_bytes()).hexdigest(), "")

    fetch(tmp_path / "parts", tiny)
    assert [path.name for path in (tmp_path / "parts").iterdir()] == [made.name]

    with pytest.raises(UsageError, match="with the sha256 that was pinned"):
        fetch(tmp_path / "other", Wheel("tiny", "1.0", made.name, "0" * 64, ""))
    with pytest.raises(UsageError, match=r"could not fetch absent==1\.0: No matching distribution"):
        fetch(tmp_path / "other", Wheel("absent", "1.0", "absent.whl", "0" * 64, ""))
    assert list((tmp_path / "other").iterdir()) == []


@pytest.mark.parametrize("arch", ARCHES.values(), ids=lambda arch: arch.name)
def test_the_pins_are_whole(arch: Arch) -> None:
    whole, slim = pins_of(arch, RUNTIMES), pins_of(arch, ("litert",))

    assert all(len(part.sha256) == 64 and part.version.rpartition(":")[2] in part.path for part in whole.debs)
    assert all(len(part.sha256) == 64 and part.version in part.file for part in whole.wheels)
    assert {wheel.name for wheel in whole.wheels} - {wheel.name for wheel in slim.wheels} == {"onnxruntime"}


def test_the_wheels_are_of_the_versions_that_the_tests_run_with() -> None:
    constraints = (Path(__file__).parents[3] / "constraints.txt").read_text().splitlines()

    pinned = {f"{one.name}=={one.version}" for one in pins_of(ARM64, RUNTIMES).wheels}
    assert pinned and not pinned - set(constraints), "run tools/pin_bundle.py"
