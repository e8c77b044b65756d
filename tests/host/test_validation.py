"""Outputs that an agent returns are those that a person's own loop around the runtime would have given."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import numpy as np
import pytest
from invented import artifact

from rtfleet import feeds, parity, transports, validation
from rtfleet.artifact import Artifact, Graph, Tensor
from rtfleet.client import AgentClient
from rtfleet.errors import UsageError
from rtfleet.export.inspection import inspector
from rtfleet.export.job import Exports
from rtfleet.fetch import fetch
from rtfleet.fidelity import ParityResult
from rtfleet.fleet import Device
from rtfleet.loop import Chain, Edge
from rtfleet.records import Case, CaseError, Options, RunSettings
from rtfleet.suite import ModelEntry


def _silero(folder: Path) -> Path:
    from rtfleet.models.silero_vad import SILERO

    try:
        return fetch(SILERO, folder) / "silero_vad/data/silero_vad.onnx"
    except UsageError as error:
        pytest.skip(error.text)


async def _on_an_agent(
    entry: ModelEntry, folder: Path, variant: str = "onnx-shipped"
) -> tuple[Artifact, validation.Outputs | CaseError]:
    device = Device("emulated", f"local:{secrets.token_hex(4)}")
    async with (
        transports.connect(device, folder) as link,
        AgentClient(link, device.name) as client,
        Exports(folder, folder / "logs") as exports,
    ):
        await client.acquire(secrets.token_hex(16), "a test")
        inspect = inspector(client)
        artifact = await exports.export(await exports.prepare(entry, inspect), variant, inspect)
        await client.push(artifact.needs)
        case = Case(artifact.id, entry.name, variant, device.name, "paced")
        return artifact, await validation.outputs_of(client, case, artifact, RunSettings())


@pytest.mark.slow
def test_a_file_that_the_zoo_does_not_know_gives_what_a_plain_loop_gives(tmp_path: Path) -> None:
    """Described on the command line alone: silero's state comes back each frame, and starts anew with each clip."""
    onnxruntime = pytest.importorskip("onnxruntime")
    model = _silero(tmp_path)
    entry = ModelEntry(
        "vad", str(model), tmp_path, task="vad", hop_ms=32, inputs={"input": (1, 576)}, states={"state": "stateN"}
    )

    artifact, outputs = asyncio.run(_on_an_agent(entry, tmp_path))

    assert isinstance(outputs, validation.Outputs)
    assert artifact.feeds.location is not None
    fed = feeds.load(artifact.feeds.location)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    state, wanted = np.zeros((2, 1, 128), np.float32), []
    for index, frame in enumerate(fed["input"]):
        if index in fed[feeds.STREAM_STARTS]:
            state = np.zeros_like(state)
        score, state = session.run(None, {"input": frame, "state": state, "sr": fed["sr"]})
        wanted.append(score)
    np.testing.assert_allclose(outputs.columns["output"], np.stack(wanted), atol=1e-6)
    assert outputs.columns["output"].max() > 0.9, "the clips hold speech"


@pytest.mark.slow
def test_the_built_in_wake_word_hears_its_phrase_on_an_agent_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    entry = ModelEntry("wake-word", "wake-word", tmp_path)

    artifact, outputs = asyncio.run(_on_an_agent(entry, tmp_path, "onnx-fp32"))
    found = validation.against_original(artifact, outputs)

    assert isinstance(found, ParityResult) and found.detections is not None
    heard, labelled = found.detections, found.detections.labelled
    assert labelled is not None
    assert (labelled.hits, labelled.original_hits, labelled.positives) == (2, 2, 2)
    assert (labelled.false_alarms, labelled.original_false_alarms) == (0, 0)
    assert (heard.matched, heard.missed, heard.extra) == (2, 0, 0)
    assert heard.audio_s > labelled.negatives_s > 5


@pytest.mark.parametrize("last", [0.5, None])
def test_an_output_is_real_by_the_steps_of_the_graph_that_gives_it(tmp_path: Path, last: float | None) -> None:
    """Another, which hands its own `y` on, counts in others."""
    graphs = tuple(
        Graph(name, (), (Tensor("x", "float32", (1, 2)),), (Tensor(output, "int32", (1, 2), scale),))
        for name, output, scale in (
            ("front", "x", None),
            ("head", "y", last),
            ("middle", "y", 8.0),
            ("tail", "z", None),
        )
    )
    ends = (("front", "x", "head"), ("front", "x", "middle"), ("middle", "y", "tail"))
    edges = tuple(Edge(source, output, target, "x", axis=1) for source, output, target in ends)
    frames = feeds.save({"x": np.ones((2, 1, 2), np.float32)}, tmp_path / "feeds.npz")
    chain = artifact(graphs=graphs, loop=Chain(edges), feeds=frames)
    outputs = {"y": np.array([[[1.0, 2.0]], [[3.0, 4.0]]], np.int32)}

    found = validation.against_original(
        chain,
        validation.Outputs({"y": outputs["y"] + 1}, optimized=True),
        validation.Outputs(outputs, optimized=False),
    )

    assert isinstance(found, ParityResult) and found.max_abs_error == (last or 1.0)


def test_what_a_case_asks_of_its_device_is_not_asked_of_another() -> None:
    options = Options("gpu", 4, (6, 7), allow_fallback=True, cores="big")
    case = Case("a", "luna", "tflite-shipped", "phone", "paced", options)

    asked = validation.of_the_file(case)

    assert (asked.options, asked.scenario) == (Options(optimize=False), "paced")


def test_a_parity_without_anything_to_compare_with_stays_open_and_says_why() -> None:
    outputs = validation.Outputs({"score": np.zeros((2, 1), np.float32)}, optimized=True)
    missing = CaseError("UNSUPPORTED_OP", "Core ML runs on macOS; this device is linux")

    found = validation.against_original(artifact(), outputs, missing)

    assert isinstance(found, ParityResult) and found.unknown
    said = parity.judge(parity.default_budgets(artifact())[0], found, None)
    assert (said.verdict, said.value) == ("INCONCLUSIVE", None)
    assert said.reason.endswith("optimizer off: Core ML runs on macOS; this device is linux")
