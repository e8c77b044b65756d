"""Writes host/rtfleet/bundling/pins.toml anew: what Debian's stable mirror and the package index have now.

    python tools/pin_bundle.py > pins.toml && mv pins.toml host/rtfleet/bundling/

Debian packages are taken from the suite's main archive, not from its security archive: main changes at point releases
only, the security archive whenever a hole is closed, and then drops what was there before. Wheels are of the versions
in constraints.txt, the same that the tests run with.
"""

from __future__ import annotations

import datetime
import hashlib
import lzma
import re
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "host"))

from rtfleet.bundling.parts import MIRRORS, PYTHON_OF_WHEELS, platforms
from rtfleet.bundling.pins import ARCHES

SUITE = "bookworm"
# gcc-12-base holds the licence of the two after it.
DEBS = """
    libc6 gcc-12-base libgcc-s1 libstdc++6 python3.11-minimal libpython3.11-minimal libpython3.11-stdlib
    zlib1g libexpat1 libffi8 libssl3 libbz2-1.0 liblzma5 libuuid1
""".split()  # noqa: SIM905 (a line each would hide the rest)
# name -> the one runtime that needs it; "" is every bundle.
WHEELS = {
    "grpcio": "",
    "protobuf": "",
    "numpy": "",
    "typing-extensions": "",
    "onnxruntime": "onnxruntime",
    "ai-edge-litert": "litert",
    "flatbuffers": "litert",
}


def main() -> None:
    """Prints the file."""
    today = datetime.datetime.now(datetime.timezone.utc)
    print("# Written by tools/pin_bundle.py: the parts of every bundle. Change that, not this.")
    print(f'suite = "{SUITE}"\nsnapshot = "{today:%Y%m%d}T000000Z"')
    found = {name: dict(packages(arch.debian)) for name, arch in ARCHES.items()}
    for deb in DEBS:
        print(f'\n[[deb]]\nname = "{deb}"\nversion = "{found["arm64"][deb]["Version"]}"')
        for name in ARCHES:
            fields = found[name][deb]
            print(f'{name} = {{ path = "{fields["Filename"]}", sha256 = "{fields["SHA256"]}" }}')
    files = {name: wheels(arch.wheel) for name, arch in ARCHES.items()}
    for wheel, runtime in WHEELS.items():
        print(f'\n[[wheel]]\nname = "{wheel}"\nversion = "{version_of(wheel)}"')
        if runtime:
            print(f'runtime = "{runtime}"')
        places = {name: files[name][wheel] for name in ARCHES}
        if len(set(places.values())) == 1:
            places = {"any": places["arm64"]}
        for name, (file, sha256) in places.items():
            print(f'{name} = {{ file = "{file}", sha256 = "{sha256}" }}')


def packages(architecture: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Name and fields of each package of the suite."""
    with urllib.request.urlopen(f"{MIRRORS[0]}/dists/{SUITE}/main/binary-{architecture}/Packages.xz") as reply:
        text = lzma.decompress(reply.read()).decode()
    for stanza in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if re.match(r"\S+: ", line))
        if fields:
            yield fields["Package"], fields


def version_of(wheel: str) -> str:
    """The version in constraints.txt."""
    text = (Path(__file__).parent.parent / "constraints.txt").read_text()
    found = re.search(rf"^{wheel}==(\S+)$", text, re.MULTILINE)
    assert found, f"constraints.txt does not pin {wheel}"
    return found[1]


def wheels(architecture: str) -> dict[str, tuple[str, str]]:
    """Name -> file and sha256 of each wheel."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = [f"{name}=={version_of(name)}" for name in WHEELS]
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *PYTHON_OF_WHEELS]
        subprocess.run([*pip, *platforms(architecture), "--dest", folder, *wanted], check=True)
        return {
            path.name.split("-")[0].replace("_", "-"): (path.name, hashlib.sha256(path.read_bytes()).hexdigest())
            for path in Path(folder).iterdir()
        }


if __name__ == "__main__":
    main()
