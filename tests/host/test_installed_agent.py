"""`pip install rtfleet[onnxruntime]` gives a light agent that measures, driven by this environment's host over gRPC."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rtfleet import feeds, launch_log
from rtfleet.artifact import File, Graph, file_of
from rtfleet.client import AgentClient
from rtfleet.launch_order import LaunchOrder
from rtfleet.records import DeviceFacts, Options
from rtfleet.transports import Link

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
HEAVY = ("torch", "tensorflow", "rich", "typer", "cattrs", "onnx", "ai_edge_litert", "scipy", "soundfile")


@pytest.fixture(name="environment", scope="module")
def _environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the agent and one runtime, installed as on a board."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    installed = subprocess.run(
        [*pip, "--constraint", ROOT / "constraints.txt", f"{ROOT}[onnxruntime]"],
        capture_output=True,
        text=True,
        cwd=folder,
        env=clean_environment(),
    )
    assert installed.returncode == 0, installed.stderr
    return folder


@pytest.fixture(name="link")
def _link(environment: Path, tmp_path: Path) -> Iterator[Link]:
    """The installed agent, serving an emulated device."""
    token = secrets.token_hex(32)
    command = [environment / "bin" / "rtfleet-agent", "serve", "--as", f"installed-{uuid.uuid4().hex[:12]}"]
    with subprocess.Popen(
        [*command, "--store", tmp_path / "store", "--token-stdin", "--exit-on-eof"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=clean_environment(),
    ) as process:
        assert process.stdin and process.stdout
        try:
            process.stdin.write(f"{token}\n")
            process.stdin.flush()
            yield Link(json.loads(process.stdout.readline())["address"], token)
        finally:
            process.terminate()


def clean_environment() -> dict[str, str]:
    """Without what would let the test's own packages in."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}


def model_in(folder: Path) -> File:
    """One matrix product: the sum of four numbers."""
    onnx = pytest.importorskip("onnx")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 4])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 1])],
        [onnx.numpy_helper.from_array(np.ones((4, 1), np.float32), "w")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    (folder / "sum.onnx").write_bytes(model.SerializeToString())
    return file_of(folder / "sum.onnx")


def test_it_has_no_exporter_and_no_screen(environment: Path) -> None:
    program = f"import importlib.util as u; print([n for n in {HEAVY!r} if u.find_spec(n)])"
    python = [environment / "bin" / "python", "-I", "-c", program]
    found = subprocess.run(python, capture_output=True, text=True, check=True, env=clean_environment())
    assert found.stdout.strip() == "[]"
    version = subprocess.run(
        [environment / "bin" / "rtfleet-agent", "--version"], capture_output=True, text=True, env=clean_environment()
    )
    assert version.returncode == 0 and version.stdout.startswith("rtfleet-agent 0")


def test_it_measures_a_model_by_grpc(link: Link, tmp_path: Path) -> None:
    model = model_in(tmp_path)
    frames = np.arange(24, dtype=np.float32).reshape(6, 1, 4)
    fed = feeds.save({"x": frames}, tmp_path / "feeds.npz")
    bare = Graph("sum", (model,), (), ())

    async def drive() -> tuple[DeviceFacts, list[str], list[launch_log.LaunchEvent], list[launch_log.LaunchEvent]]:
        async with AgentClient(link, "board") as client:
            facts = await client.describe()
            await client.acquire(secrets.token_hex(16), "the tests")
            assert await client.push([model, fed]) == model.size_bytes + fed.size_bytes
            inputs, outputs = await client.inspect("onnxruntime", bare)
            order = LaunchOrder(
                launch_id=uuid.uuid4().hex,
                kind="LATENCY",
                runtime="onnxruntime",
                graphs=(Graph("sum", (model,), inputs, outputs, shapes={"x": (1, 4)}),),
                feeds_sha256=fed.sha256,
                options=Options(),
                hop_ns=0,
                min_frames=100,
                min_duration_ns=100_000_000,
                block_frames=100,
                timeout_s=60.0,
                warmup_ns=100_000_000,
            )
            latency = [event async for event in client.launch(order)]
            parity = LaunchOrder(**{**vars(order), "launch_id": uuid.uuid4().hex, "kind": "PARITY"})
            told = [event async for event in client.launch(parity)]
            await client.release()
            return facts, [tensor.name for tensor in (*inputs, *outputs)], latency, told

    facts, names, latency, told = asyncio.run(drive())

    runtimes = {runtime.name: runtime for runtime in facts.runtimes}
    assert not runtimes["onnxruntime"].error and runtimes["onnxruntime"].library_sha256
    assert "rtfleet[litert]" in runtimes["litert"].error, "what is missing says how to get it"
    assert names == ["x", "y"]
    launch = launch_log.launch_of(
        latency, launch_id="l", kind="LATENCY", round_=1, paced=False, feeds_sha256=fed.sha256
    )
    assert launch.error is None and len(launch.latency_ns) >= 500 and (launch.latency_ns > 0).all()
    assert launch.placement and launch.placement.ran == "CPUExecutionProvider"
    assert launch_log.outputs_of(told)["y"].ravel().tolist() == frames.sum(axis=2).ravel().tolist()
