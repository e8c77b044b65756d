"""The documents say what is so: each command in them is one that the command line takes, and the cheap ones run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer.main

from rtfleet.cli.main import app

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    path
    for path in (
        ROOT / "README.md",
        ROOT / "training" / "README.md",
        ROOT / "benchmarks" / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
    )
    if path.exists()
]
README = (ROOT / "README.md").read_text()


def blocks(document: Path, language: str) -> list[str]:
    """Fenced blocks of that language."""
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)


def commands(program: str) -> list[list[str]]:
    """Words of each `$ program ...` line of all documents."""
    lines = [
        line.removeprefix("$ ")
        for document in DOCUMENTS
        for block in blocks(document, "console")
        for line in block.splitlines()
        if line.startswith("$ ")
    ]
    split = [shlex.split(line, comments=True) for line in lines]
    return [words for words in split if words and words[0] == program]


def told(words: list[str]) -> str:
    return shlex.join(words)


@pytest.fixture(name="place")
def _place(tmp_path: Path) -> Path:
    """A folder with an emulated device, so that no test takes this machine from a run."""
    (tmp_path / "fleet.toml").write_text(f'[device.board]\nconnect = "local:docs-{uuid.uuid4().hex[:12]}"\n')
    return tmp_path


def rtfleet(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rtfleet.cli.main", *arguments],
        cwd=place,
        env={**os.environ, "RTFLEET_CACHE": str(place / "cache"), "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


# ---- that it can be said -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", commands("rtfleet"), ids=told)
def test_a_command_of_the_documents_is_taken_by_the_command_line(words: list[str]) -> None:
    command, rest = typer.main.get_command(app), words[1:]
    while rest and rest[0] in getattr(command, "commands", {}):
        command, rest = command.commands[rest[0]], rest[1:]
    assert not (rest and hasattr(command, "commands")), f"there is no command {rest[0]}"
    # Unknown flags, missing arguments and values of the wrong kind are errors here.
    command.make_context(command.name, rest).close()


@pytest.mark.parametrize("words", commands("rtfleet-agent"), ids=told)
def test_an_agent_command_of_the_documents_has_only_flags_that_there_are(words: list[str]) -> None:
    asked = [sys.executable, "-m", "rtfleet_agent", *words[1:], "--help"]
    helped = subprocess.run(asked, capture_output=True, text=True, timeout=60)
    assert helped.returncode == 0, helped.stderr
    assert not [word for word in words if word.startswith("--") and word not in helped.stdout]


def test_every_make_target_of_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {word for words in commands("make") for word in words[1:]}
    inline = set(re.findall(r"`make ([a-z-]+)`", "".join(path.read_text() for path in DOCUMENTS)))
    assert named and not (named | inline) - targets


@pytest.mark.parametrize("words", [*commands("python"), *commands("pip")], ids=told)
def test_every_script_of_the_documents_is_there_and_knows_its_flags(words: list[str]) -> None:
    files = [word for word in words if re.fullmatch(r"(training|benchmarks|tests)/[\w./-]+", word)]
    assert not [file for file in files if not (ROOT / file).exists()]
    if words[0] == "python" and files:
        code = (ROOT / files[0]).read_text()
        assert not [word for word in words if word.startswith("--") and f'"{word}"' not in code]


def test_every_extra_of_the_documents_can_be_installed() -> None:
    extras = set(re.findall(r"^([a-z]+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
    text = "".join(path.read_text() for path in DOCUMENTS)
    named = {name for group in re.findall(r"(?:rtfleet|(?<=[\s'])\.)\[([a-z,]+)\]", text) for name in group.split(",")}
    assert named and not named - extras


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_within_the_repository_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", document.read_text())
    assert not [link for link in links if not (document.parent / link).exists()]


def test_the_exit_codes_of_the_readme_are_those_of_the_code() -> None:
    from rtfleet import errors
    from rtfleet.cli import main

    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)}
    classes = (errors.RtfleetError, errors.UsageError, errors.ExportError, errors.DeviceError, errors.LeaseHeld)
    assert listed == {0, 1, 3, main.EXIT_INTERRUPTED, *(one.exit_code for one in classes)}


# ---- that it works -------------------------------------------------------------------------------------------------


def test_the_zoo_is_listed(place: Path) -> None:
    ran = rtfleet(place, "models")
    assert ran.returncode == 0, ran.stderr
    assert "wake-word" in ran.stdout and ran.stderr == ""


@pytest.mark.slow
def test_the_devices_are_listed(place: Path) -> None:
    ran = rtfleet(place, "devices")
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"board +free +linux", ran.stdout)


@pytest.mark.slow
def test_the_doctor_finds_the_device_and_its_runtimes(place: Path) -> None:
    ran = rtfleet(place, "doctor")
    assert ran.returncode == 0, ran.stdout
    assert re.search(r"ok +device board +linux", ran.stdout) and re.search(r"board: onnxruntime +\d", ran.stdout)


def job() -> str:
    """The script of the documents' CI job."""
    (workflow,) = blocks(ROOT / "docs" / "lab.md", "yaml")
    return textwrap.dedent(workflow.partition("        run: |\n")[2].partition("      - uses:")[0])


@pytest.mark.slow
@pytest.mark.parametrize(("limit_mb", "code"), [(1, 0), (0.0001, 1)])
def test_the_job_of_the_documents_gates_a_pull_request(place: Path, limit_mb: float, code: int) -> None:
    tensors = [{"name": name, "dtype": "float32", "shape": [1]} for name in "xy"]
    model = {"inputs": tensors[:1], "outputs": [tensors[1] | {"rule": "sum"}], "latency_us": 200}
    (place / "luna.fake.json").write_text(json.dumps(model))
    (place / "suite.toml").write_text(
        "run = { launches = 2, frames = 60, min_duration_s = 0.1, confidence = 0.9, max_wait_s = 0 }\n"
        '[[model]]\nsource = "luna.fake.json"\ntask = "speaker"\n'
        f"budgets = {{ latency_p50_ms = 100, size_mb = {limit_mb} }}\n"
    )
    with (place / "fleet.toml").open("a") as fleet:
        fleet.write('labels = ["ci"]\n')
    (place / "rtfleet").write_text(f'#!/bin/sh\nexec {sys.executable} -m rtfleet.cli.main "$@"\n')
    (place / "rtfleet").chmod(0o755)
    environment = {"PATH": f"{place}:{os.environ['PATH']}", "GITHUB_STEP_SUMMARY": str(place / "summary.md")}

    ran = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", job()],
        cwd=place,
        env={**os.environ, "RTFLEET_CACHE": str(place / "cache"), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert ran.returncode == code, ran.stdout + ran.stderr
    assert "## rtfleet: " in (place / "summary.md").read_text() and "<testsuite" in (place / "rtfleet.xml").read_text()


def described_file() -> list[str]:
    """The README's command for a ready file."""
    (words,) = [words for words in commands("rtfleet") if words[1] == "run" and any(".onnx" in word for word in words)]
    return words


@pytest.mark.slow
def test_a_ready_file_described_as_in_the_readme_is_understood(place: Path) -> None:
    onnx = pytest.importorskip("onnx")
    words = described_file()
    name = next(word for word in words if word.endswith(".onnx"))
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("ReduceMean", ["input"], ["output"], axes=[1]),
            onnx.helper.make_node("Identity", ["state"], ["stateN"]),
        ],
        "vad",
        [info("input", 1, [None, None]), info("state", 1, [2, None, 128])],
        [info("output", 1, [None, 1]), info("stateN", 1, [2, None, 128])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    (place / name).write_bytes(model.SerializeToString())

    ran = rtfleet(place, *words[1:], "--dry-run")

    assert ran.returncode == 0, ran.stderr
    assert "onnx-shipped@board/paced" in ran.stdout
    assert not (place / "rtfleet-runs").exists()


def code_of(file: str) -> Iterator[str]:
    """The README's blocks that begin with the file's name."""
    for language in ("python", "toml"):
        for block in blocks(ROOT / "README.md", language):
            if block.startswith(f"# {file}\n"):
                yield block


WAKENET = """
import torch

class WakeNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = torch.nn.GRU(1280, 64)
        self.score = torch.nn.Linear(64, 1)

    @classmethod
    def load(cls, path):
        net = cls()
        net.load_state_dict(torch.load(path, weights_only=True))
        return net.eval()

    def forward(self, audio, h):
        out, h = self.cell(audio[None], h)
        return torch.sigmoid(self.score(out[0])), h
"""


@pytest.mark.slow
def test_the_readme_s_own_model_is_exported_checked_and_measured(place: Path) -> None:
    torch = pytest.importorskip("torch")
    for file in ("luna.py", "suite.toml"):
        (text,) = code_of(file)
        (place / file).write_text(text)
    (place / "wakenet.py").write_text(WAKENET)
    torch.manual_seed(7)
    scope: dict[str, type] = {}
    exec(WAKENET, scope)
    torch.save(scope["WakeNet"]().state_dict(), place / "luna.pt")
    (place / "clips").mkdir()
    for clip in sorted((ROOT / "host" / "rtfleet" / "audio").glob("*.wav"))[:2]:
        (place / "clips" / clip.name).write_bytes(clip.read_bytes())
    (place / "clips" / "luna").mkdir()
    shutil.copy(ROOT / "host" / "rtfleet" / "audio" / "hey-computer-1.wav", place / "clips" / "luna")

    planned = rtfleet(place, "run", "suite.toml", "--dry-run")
    ran = rtfleet(
        place, "run", "luna.py:hey_luna", "--variant", "onnx-fp32", "--launches", "1", "--confidence", "0.9",
        "--scenario", "burst", "--clips", "clips/*.wav", "--duration", "1s",
    )  # fmt: skip

    assert planned.returncode == 0, planned.stderr
    assert "hey_luna/onnx-int8-static@board/paced  3 launches" in planned.stdout
    assert "hey_luna/tflite-int8-static@board/paced  3 launches" in planned.stdout
    assert ran.returncode in (0, 3), ran.stdout + ran.stderr
    assert "hey_luna on board, burst" in ran.stdout and "ERROR" not in ran.stdout
    assert not re.search(r"onnx-fp32 .* FAIL", ran.stdout)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("tensorflow") is None, reason="the extra `tensorflow` is not installed")
def test_the_keras_model_of_the_documents_becomes_every_variant_of_tflite(place: Path) -> None:
    (text,) = blocks(ROOT / "docs" / "sources.md", "python")
    (words,) = [words for words in commands("rtfleet") if "keras_luna.py:hey_luna" in words]
    (place / "keras_luna.py").write_text(text)

    made = rtfleet(place, *words[1:])

    rows = [line.split() for line in made.stdout.splitlines() if line.startswith("tflite-")]
    assert made.returncode == 0 and len(rows) == 4, made.stdout + made.stderr
    assert {row[-1] for row in rows} == {"PASS"}
