"""The zoo is a table that imports none of its models."""

from __future__ import annotations

import subprocess
import sys

from rtfleet.models import ZOO


def test_every_name_is_its_own_key_and_says_what_it_is() -> None:
    for name, model in ZOO.items():
        assert model.name == name
        assert model.description and model.licence


def test_neither_the_zoo_nor_its_readers_import_a_heavy_library() -> None:
    code = (
        "import sys, rtfleet.source, rtfleet.clips, rtfleet.fetch, rtfleet.models\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'soundfile', 'soxr', 'ai_edge_litert', 'scipy'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
