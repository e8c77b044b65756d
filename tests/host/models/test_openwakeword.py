"""openWakeWord as a chain on an agent: it hears a spoken "alexa", and neither other speech nor silence."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import numpy as np
import pytest

from rtfleet import feeds, validation
from rtfleet.artifact import Artifact
from rtfleet.client import AgentClient
from rtfleet.export.inspection import inspector
from rtfleet.export.job import Exports
from rtfleet.model import Array
from rtfleet.models.openwakeword import HOP_SAMPLES, PRIMING_S
from rtfleet.records import Case, CaseError, RunSettings
from rtfleet.suite import ModelEntry
from rtfleet.transports import local

pytestmark = pytest.mark.slow

PRIMING_FRAMES = int(PRIMING_S * 16_000 / HOP_SAMPLES)
SILENT_FRAMES = 2 * 16_000 // HOP_SAMPLES


async def scored(name: str, folder: Path) -> tuple[Artifact, list[Array]]:
    """The chain's artifact, and its scores on an agent, clip by clip, priming left out."""
    entry = ModelEntry(name, name, folder)
    emulated = f"chain-{uuid.uuid4().hex[:12]}"
    async with (
        local.connect("board", folder / "store", emulated) as link,
        AgentClient(link, "board") as client,
        Exports(folder / "cache", folder / "logs") as exports,
    ):
        await client.acquire("a secret of this test's own", "test")
        inspect = inspector(client)
        prepared = await exports.prepare(entry, inspect)
        artifact = await exports.export(prepared, prepared.shipped[0], inspect)
        await client.push(artifact.needs)
        case = Case(artifact.id, name, artifact.variant, "board", "paced")
        found = await validation.outputs_of(client, case, artifact, RunSettings())
    assert not isinstance(found, CaseError), found
    assert artifact.feeds.location is not None
    starts = feeds.load(artifact.feeds.location)[feeds.STREAM_STARTS].tolist()
    scores = found.columns["13"].ravel()
    clips = np.split(scores, starts[1:])
    return artifact, [clip[PRIMING_FRAMES:] for clip in clips]


@pytest.mark.parametrize("name", ["openwakeword", "openwakeword-tflite"])
def test_alexa_is_above_the_threshold_and_all_else_below(name: str, tmp_path: Path) -> None:
    artifact, (first, second, other) = asyncio.run(scored(name, tmp_path))

    assert artifact.covers == "whole" and len(artifact.graphs) == 3
    assert artifact.threshold == 0.5
    assert min(first.max(), second.max()) > 0.5
    assert other.max() < 0.5
    assert other[-SILENT_FRAMES:].max() < 0.1
