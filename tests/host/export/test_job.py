"""What an artifact is made of where a model is several graphs, as the files tell: no subprocess, no agent."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from rtfleet import feeds
from rtfleet.artifact import Artifact, InputFacts, PreparedModel, StateFacts, Tensor
from rtfleet.export.job import Exports
from rtfleet.loop import Chain, Edge, Loop, Seq2Seq

CHAIN = Chain((Edge("front", "y", "head", "x", axis=1),))
RECOGNIZER = Seq2Seq("front", "head", (), (), "x", "y", start_token=1, end_token=2, max_tokens=9)
TENSORS = {
    "front": ((Tensor("x", "float32", (1, 640)),), (Tensor("y", "float32", (1, 4)),)),
    "head": ((Tensor("x", "int8", (-1, 16), 0.5, 3),), (Tensor("y", "float32", (1, 1)),)),
}


def artifact(folder: Path, loop: Loop, states: tuple[StateFacts, ...] = ()) -> Artifact:
    """Two graphs that both call their input `x`; only the first one's is fed."""
    files = {name: folder / f"{name}.fake.json" for name in TENSORS}
    for name, path in files.items():
        path.write_text(name)
    frames = feeds.save(
        {"x": np.ones((3, 1, 640), np.float32), feeds.STREAM_STARTS: np.zeros(1, np.int64)}, folder / "frames.npz"
    )
    prepared = PreparedModel(
        name="luna",
        key="key",
        task="wake-word",
        covers="whole",
        sample_rate_hz=16_000,
        hop_samples=640,
        inputs=(InputFacts("x", "float32", (1, 640), (1, 640)),),
        outputs=("y",),
        states=states,
        frames=frames,
        shipped=("fake-shipped",),
        graph_files=files,
        loop=loop,
    )

    async def told(runtime: str, path: Path) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        return TENSORS[path.name.partition(".")[0]]

    return asyncio.run(Exports(folder / "cache", folder / "logs").export(prepared, "fake-shipped", told))


@pytest.mark.parametrize("loop", [CHAIN, RECOGNIZER])
def test_an_input_that_the_loop_fills_is_not_fed_though_it_is_called_like_one_that_is(
    tmp_path: Path, loop: Loop
) -> None:
    made = artifact(tmp_path, loop)

    assert made.feeds.location is not None
    fed = feeds.load(made.feeds.location)["x"]
    assert (fed.dtype, fed.shape) == (np.float32, (3, 1, 640))
    assert [graph.shapes for graph in made.graphs] == [{"x": (1, 640)}, {"x": (1, 16)}]


def test_a_state_is_no_pair_of_a_graph_whose_input_of_that_name_an_edge_fills(tmp_path: Path) -> None:
    states = (StateFacts("x", "y", (1, 640)),)
    made = artifact(tmp_path, CHAIN, states)

    assert [len(graph.states) for graph in made.graphs] == [1, 0]
    assert made.graphs[1].shapes == {"x": (1, 16)}
