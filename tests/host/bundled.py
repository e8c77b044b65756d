"""An agent out of a bundle, started where a test wants it, and driven from this environment's host over gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from rtfleet import feeds, launch_log
from rtfleet.artifact import File, Graph, file_of
from rtfleet.client import AgentClient
from rtfleet.launch_order import LaunchOrder
from rtfleet.records import DeviceFacts, Launch, Options
from rtfleet.transports import Link
from rtfleet_agent.runtimes.tflite_bytes import relu_model

# Functional only: an emulator is slow, and this machine is busy.
_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Tried:
    """A model of one input and one output, and the frames [n, ...] that it is fed."""

    file: File
    input: str
    output: str
    frames: np.ndarray


@dataclass(frozen=True)
class Measured:
    """What came of one model: its latency launch, and its outputs for the frames."""

    launch: Launch
    outputs: np.ndarray


@contextlib.contextmanager
def serving(command: Sequence[str | Path], store: str, environment: Mapping[str, str], log: Path) -> Iterator[Link]:
    """`command` is what starts the bundle's Python. The agent serves an emulated device until the block ends.

    Args:
        environment: All that the agent gets, and nothing else.
        log: Its stderr goes there.
    """
    token = secrets.token_hex(32)
    serve = [
        "-m",
        "rtfleet_agent",
        "serve",
        "--as",
        f"bundled-{uuid.uuid4().hex[:12]}",
        "--store",
        store,
        "--lease-s",
        "600",
    ]
    with (
        log.open("wb") as stderr,
        subprocess.Popen(
            [*command, *serve, "--token-stdin", "--exit-on-eof"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=dict(environment),
        ) as process,
    ):
        assert process.stdin and process.stdout
        try:
            process.stdin.write(f"{token}\n")
            process.stdin.flush()
            line = process.stdout.readline()
            assert line, log.read_text()
            yield Link(json.loads(line)["address"], token)
        finally:
            process.stdin.close()


def summing(folder: Path) -> Tried:
    """ONNX: y [1, 1] = the sum of x [1, 4], by a matrix product."""
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [info("x", onnx.TensorProto.FLOAT, [1, 4])],
        [info("y", onnx.TensorProto.FLOAT, [1, 1])],
        [onnx.numpy_helper.from_array(np.ones((4, 1), np.float32), "w")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    (folder / "sum.onnx").write_bytes(model.SerializeToString())
    return Tried(file_of(folder / "sum.onnx"), "x", "y", np.linspace(-2, 2, 24, dtype=np.float32).reshape(6, 1, 4))


def clipping(folder: Path) -> Tried:
    """TFLite: y0 [1] = max(x0, 0)."""
    (folder / "relu.tflite").write_bytes(relu_model(1, 1))
    return Tried(file_of(folder / "relu.tflite"), "x0", "y0", np.linspace(-2, 2, 6, dtype=np.float32).reshape(6, 1))


def measure(link: Link, models: Mapping[str, Tried], folder: Path) -> tuple[DeviceFacts, dict[str, Measured]]:
    """What the device is, and runtime -> what came of its model."""

    async def drive() -> tuple[DeviceFacts, dict[str, Measured]]:
        async with AgentClient(link, "board") as client:
            facts = await client.describe()
            await client.acquire(secrets.token_hex(16), "the tests")
            measured = {name: await _measured(client, name, model, folder) for name, model in models.items()}
            await client.release()
            return facts, measured

    return asyncio.run(asyncio.wait_for(drive(), 4 * _TIMEOUT_S))


async def _measured(client: AgentClient, runtime: str, model: Tried, folder: Path) -> Measured:
    fed = feeds.save({model.input: model.frames}, folder / f"{runtime}.npz")
    await client.push([model.file, fed])
    shapes = {model.input: model.frames.shape[1:]}
    order = LaunchOrder(
        launch_id=uuid.uuid4().hex,
        kind="LATENCY",
        runtime=runtime,
        graphs=(Graph("main", (model.file,), (), (), shapes=shapes),),
        feeds_sha256=fed.sha256,
        options=Options(),
        hop_ns=0,
        min_frames=100,
        min_duration_ns=100_000_000,
        block_frames=50,
        timeout_s=_TIMEOUT_S,
        warmup_ns=50_000_000,
    )
    told = [event async for event in client.launch(order)]
    parity = LaunchOrder(**{**vars(order), "launch_id": uuid.uuid4().hex, "kind": "PARITY"})
    given = [event async for event in client.launch(parity)]
    launch = launch_log.launch_of(told, launch_id="l", kind="LATENCY", round_=1, paced=False, feeds_sha256=fed.sha256)
    return Measured(launch, launch_log.outputs_of(given)[model.output])


def empty_root(root: Path, bundle: Path, uid: int, emulator: str = "", cpuinfo: str = "") -> list[str]:
    """The words that start what follows them in an empty root, as a user without a name there.

    There is the bundle at /bundle, read-only; /store, which is the user's; /proc, /sys and four device nodes. No shell,
    no /etc, /tmp, /dev/shm, no library.

    Args:
        bundle: Where it lies.
        emulator: A static program; it is there as /emulator, and runtimes, which crash on an x86's, see `cpuinfo`.
            What is compiled then goes into the bundle, which the user owns: each import is dear under an emulator.
    """
    for folder in ("bundle", "proc", "sys", "dev", "store"):
        (root / folder).mkdir(parents=True)
    os.chown(root / "store", uid, uid)
    mounts = [
        f"mount --bind '{bundle}' bundle",
        f"chown {uid} bundle" if emulator else "mount -o remount,bind,ro bundle",
        "mount --rbind /proc proc",
        "mount --rbind /sys sys",
    ]
    for node in ("null", "zero", "random", "urandom"):
        (root / "dev" / node).touch()
        mounts.append(f"mount --bind /dev/{node} dev/{node}")
    if emulator:
        (root / "emulator").write_bytes(Path(emulator).read_bytes())
        (root / "emulator").chmod(0o755)
        (root.parent / "cpuinfo").write_text(cpuinfo)
        mounts.append(f"mount --bind '{root.parent / 'cpuinfo'}' proc/cpuinfo")
    script = f"set -e; cd '{root}'; {'; '.join(mounts)}; exec chroot --userspec={uid}:{uid} . \"$@\""
    return ["unshare", "--mount", "sh", "-c", script, "sh"]
