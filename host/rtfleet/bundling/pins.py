"""What bundles are made of: Debian packages and wheels, by version and sha256. by tools/pin_bundle.py."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PINS = Path(__file__).parent / "pins.toml"


@dataclass(frozen=True)
class Arch:
    """An architecture as everybody else calls it.

    Attributes:
        loader: glibc's program loader, by its soname.
        page_bytes: The largest page of a kernel that may load the bundle: Android has phones with 16 KB pages.
    """

    name: str
    debian: str
    wheel: str
    loader: str
    page_bytes: int


ARCHES = {
    "arm64": Arch("arm64", "arm64", "aarch64", "ld-linux-aarch64.so.1", 16384),
    "x86_64": Arch("x86_64", "amd64", "x86_64", "ld-linux-x86-64.so.2", 4096),
}
RUNTIMES = ("onnxruntime", "litert")


@dataclass(frozen=True)
class Deb:
    """A Debian package. `path` is below a mirror's root."""

    name: str
    version: str
    path: str
    sha256: str

    @property
    def file(self) -> str:
        """The file's name."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class Wheel:
    """A wheel. `runtime` is the only one that needs it; "" where every bundle does."""

    name: str
    version: str
    file: str
    sha256: str
    runtime: str


@dataclass(frozen=True)
class Pins:
    """The parts of one bundle.

    Attributes:
        snapshot: When the packages were on snapshot.debian.org, which keeps what mirrors drop: "20261120T000000Z".
    """

    snapshot: str
    debs: tuple[Deb, ...]
    wheels: tuple[Wheel, ...]

    @property
    def parts(self) -> tuple[Deb | Wheel, ...]:
        """All of them."""
        return (*self.debs, *self.wheels)


def pins_of(arch: Arch, runtimes: tuple[str, ...], path: Path = PINS) -> Pins:
    """The parts of the bundle for this architecture with these runtimes."""
    stored = tomllib.loads(path.read_text())
    wheels = (_wheel(table, arch) for table in stored["wheel"])
    return Pins(
        stored["snapshot"],
        tuple(Deb(table["name"], table["version"], **table[arch.name]) for table in stored["deb"]),
        tuple(wheel for wheel in wheels if wheel.runtime in ("", *runtimes)),
    )


def _wheel(table: Mapping[str, Mapping[str, str]], arch: Arch) -> Wheel:
    found = table.get("any") or table[arch.name]
    return Wheel(str(table["name"]), str(table["version"]), runtime=str(table.get("runtime", "")), **found)
