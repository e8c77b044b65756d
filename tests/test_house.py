"""The rules that keep this a house: who imports whom, what loads at start, how large a file gets."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import typer.main

from rtfleet.cli.main import app
from rtfleet_protos import agent_pb2

ROOT = Path(__file__).parent.parent
HOST, AGENT = ROOT / "host" / "rtfleet", ROOT / "agent" / "rtfleet_agent"
WIRE = {"rtfleet_protos", "grpc", "google"}
HEAVY = {
    "torch", "tensorflow", "jax", "onnx", "onnxruntime", "onnxscript", "ai_edge_litert", "litert_torch",
    "litert_quantizer", "scipy", "soundfile", "soxr", "coremltools", "sklearn", "tensorrt", "tensorrt_rtx",
    "tensorrt_rtx_bindings",
}  # fmt: skip
OF_HOST = {"rtfleet", "rich", "typer", "click", "cattrs", "attrs"}
LONGEST_FILE = 500


def sources(*folders: Path) -> list[Path]:
    found = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    assert found
    return found


def imports(path: Path) -> set[str]:
    """Top names of all that a file imports, wherever in it that stands."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            names.add((node.module or "").partition(".")[0])
    return names


def importers(folder: Path, names: set[str]) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in sources(folder) if imports(path) & names}


def loaded_by(module: str) -> set[str]:
    program = f"import sys, {module}; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in told.stdout.split()}


def test_host_and_agent_never_import_each_other() -> None:
    assert importers(HOST, {"rtfleet_agent"}) == set()
    assert importers(AGENT, {"rtfleet"}) == set()


def test_one_module_a_side_and_its_conversions_see_the_wire() -> None:
    assert importers(HOST, WIRE) == {"client.py", "wire.py"}
    assert importers(AGENT, WIRE) == {"service.py", "wire.py"}


def test_nothing_heavy_is_loaded_when_the_command_starts() -> None:
    assert not loaded_by("rtfleet.cli.main") & (HEAVY | WIRE | {"rtfleet_agent"})


def test_nothing_heavy_and_nothing_of_the_host_is_loaded_when_the_agent_starts() -> None:
    assert not loaded_by("rtfleet_agent.__main__") & (HEAVY | OF_HOST)


def test_a_worker_never_loads_grpc_or_a_runtime_before_it_is_asked() -> None:
    assert not loaded_by("rtfleet_agent.worker") & (HEAVY | OF_HOST | WIRE)


def test_no_file_is_too_long() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in sources(HOST, AGENT)}
    assert {path: lines for path, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_every_module_is_named_by_its_idea() -> None:
    names = {path.stem for path in sources(HOST, AGENT)} | {path.parent.name for path in sources(HOST, AGENT)}
    assert not [name for name in names if re.search(r"util|helper|manager|common|misc", name)]


def test_every_python_file_says_what_it_is_for() -> None:
    bare = [path for path in sources(HOST, AGENT) if not ast.get_docstring(ast.parse(path.read_text()))]
    assert bare == []


# ---- the contract --------------------------------------------------------------------------------------------------


def written(text: str) -> Iterator[tuple[str, Mapping[str, int]]]:
    """Name and numbers of every message and enum of a .proto file. This one nests none."""
    text = re.sub(r"//[^\n]*", "", text)
    parts = re.split(r"^(?:message|enum) (\w+) ", text, flags=re.MULTILINE)
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        assert body.count("{") == body.count("}"), name
        yield name, {field: int(number) for field, number in re.findall(r"(\w+) = (\d+)\s*[;\[]", body)}


def generated() -> dict[str, Mapping[str, int]]:
    file = agent_pb2.DESCRIPTOR
    messages = {
        name: {field.name: field.number for field in message.fields}
        for name, message in file.message_types_by_name.items()
    }
    enums = {
        name: {value.name: value.number for value in enum.values} for name, enum in file.enum_types_by_name.items()
    }
    return {**messages, **enums}


def test_the_generated_code_is_that_of_the_contract() -> None:
    text = (ROOT / "protos" / "agent.proto").read_text()
    assert dict(written(text)) == generated(), "run `make protos`"
    calls = set(re.findall(r"rpc (\w+)\(", text))
    assert calls == {method.name for method in agent_pb2.DESCRIPTOR.services_by_name["Agent"].methods}
    stub = (ROOT / "protos" / "rtfleet_protos" / "agent_pb2_grpc.py").read_text()
    assert all(f"def {call}(" in stub for call in calls)


# ---- what is said --------------------------------------------------------------------------------------------------


def said(path: Path) -> Iterator[tuple[int, str]]:
    """Sentences of a file: its texts of more than a word, but for docstrings."""
    tree = ast.parse(path.read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, documented) and _starts(node)}
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    yield from ((node.lineno, str(node.value)) for node in texts if " " in node.value and id(node) not in docstrings)


def _starts(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return bool(node.body) and isinstance(node.body[0], ast.Expr)


def flags_of_the_command() -> set[str]:
    group = typer.main.get_command(app)
    found = {"--help"}
    waiting = [group]
    while waiting:
        command = waiting.pop()
        waiting += getattr(command, "commands", {}).values()
        found.update(option for parameter in command.params for option in parameter.opts)
    return found


def test_messages_name_only_flags_that_there_are() -> None:
    agent = (AGENT / "__main__.py").read_text()
    # Of pip and venv, which some hints tell to call.
    known = (
        flags_of_the_command()
        | set(re.findall(r'"(--[a-z-]+)"', agent))
        | {"--upgrade", "--as", "--pre", "--system-site-packages"}
    )
    unknown = {
        f"{path.relative_to(ROOT)}:{line}: {flag}"
        for path in sources(HOST, AGENT)
        for line, text in said(path)
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)
        if flag not in known
    }
    assert unknown == set()


@pytest.mark.parametrize("path", [path.relative_to(ROOT).as_posix() for path in sources(HOST / "cli")])
def test_a_command_is_a_page_at_most(path: str) -> None:
    # options.py is what the flags mean, main.py the errors; the commands themselves only hand on.
    most = 250 if path.endswith(("options.py", "main.py")) else 110
    assert len((ROOT / path).read_text().splitlines()) <= most
