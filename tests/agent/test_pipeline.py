"""Several graphs as one model, with ONNX Runtime: what a chain carries, and how a decoder ends."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from loops import (
    CHAIN,
    END_TOKEN,
    SEQ2SEQ,
    counting_decoder,
    counting_encoder,
    doubling,
    summing,
    whole_numbers,
)
from onnx import TensorProto
from test_worker import answered, only

from rtfleet_agent import pipeline
from rtfleet_agent.launch import Block, Failed, Finished, Outputs, Pace, WorkerRequest
from rtfleet_agent.pipeline import LENGTH, NO_TOKEN, TOKENS, ChainLoop, Edge, Seq2SeqLoop, Transcriber
from rtfleet_agent.runtimes import fake, ort
from rtfleet_agent.runtimes.base import BadOutput, Graph, Options, UnsupportedModel


def assembled(graphs: list[Graph], loop: pipeline.Loop):
    sessions = [ort.load(graph.path, graph, Options()) for graph in graphs]
    ticks = iter(range(0, 10**9, 7))
    return pipeline.assemble(graphs, sessions, loop, lambda: next(ticks))


def chain(folder: Path, loop: ChainLoop = CHAIN):
    return assembled([doubling(folder), summing(folder)], loop)[1]


def transcriber(folder: Path, **changes: object) -> Transcriber:
    loop = replace(SEQ2SEQ, **changes)
    bound = assembled([counting_encoder(folder), counting_decoder(folder)], loop)[1]
    assert isinstance(bound, Transcriber)
    return bound


def heard(bound: Transcriber, length: int) -> list[int]:
    bound.inputs["audio"][...] = 1
    bound.inputs[LENGTH][...] = length
    bound.step()
    return [token for token in bound.outputs[TOKENS].tolist() if token != NO_TOKEN]


# ---- chains --------------------------------------------------------------------------------------------------------


def test_a_chain_shows_only_what_no_edge_fills_or_takes(tmp_path: Path) -> None:
    bound = chain(tmp_path)

    assert list(bound.inputs) == ["x"]
    assert sorted(bound.outputs) == ["oldest", "sum"]


def test_a_window_moves_on_by_what_came_new(tmp_path: Path) -> None:
    bound = chain(tmp_path)
    sums, oldest = [], []
    for value in (1.0, 2.0, 3.0):
        bound.inputs["x"][...] = value
        bound.step()
        sums.append(bound.outputs["sum"].item())
        oldest.append(bound.outputs["oldest"].item())

    # Each frame two values of x * 2 * 0.5 + 1 come in; the window holds five, sevens before.
    assert sums == [3 * 7 + 2 * 2, 7 + 2 * 2 + 2 * 3, 2 + 2 * 3 + 2 * 4]
    assert oldest == [7, 7, 2]


def test_a_stream_that_begins_anew_finds_the_window_as_it_was(tmp_path: Path) -> None:
    bound = chain(tmp_path)
    bound.inputs["x"][...] = 5
    bound.step()
    first = bound.outputs["sum"].item()
    bound.step()
    bound.reset()
    bound.inputs["x"][...] = 5
    bound.step()

    assert bound.outputs["sum"].item() == first


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"input": "nothing"}, "has no input 'nothing'"),
        ({"output": "nothing"}, "has no output 'nothing'"),
        ({"source": "third"}, "names a graph 'third'"),
        ({"axis": 3}, "has no axis 3"),
        ({"axis": -1}, "has no axis -1"),
        ({"axis": 0}, "does not fit"),
    ],
)
def test_a_chain_that_does_not_fit_is_refused_by_name(tmp_path: Path, change: dict, said: str) -> None:
    with pytest.raises(UnsupportedModel, match=said):
        chain(tmp_path, ChainLoop((replace(CHAIN.edges[0], **change),))).step()


def test_a_graph_comes_after_the_one_that_feeds_it(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="must come after"):
        assembled([summing(tmp_path), doubling(tmp_path)], CHAIN)


WHOLE = Edge("first", "y", "second", "x", axis=1)


def test_whole_numbers_are_handed_on_as_they_are(tmp_path: Path) -> None:
    graphs = [whole_numbers(tmp_path, name, [1, 2], TensorProto.INT64) for name in ("first", "second")]
    _, bound = assembled(graphs, ChainLoop((WHOLE,)))
    bound.inputs["x"][...] = [[7, 2**53 + 1]]
    bound.step()

    assert bound.outputs["y"].tolist() == [[7, 2**53 + 1]]


@pytest.mark.parametrize(
    ("source", "target", "change"),
    [
        (TensorProto.FLOAT, TensorProto.INT8, {}),
        (TensorProto.INT8, TensorProto.FLOAT, {}),
        (TensorProto.INT8, TensorProto.INT64, {}),
        (TensorProto.INT64, TensorProto.INT64, {"scale": 0.5}),
        (TensorProto.INT64, TensorProto.INT64, {"offset": 1.0}),
        (TensorProto.INT64, TensorProto.INT64, {"fill": 0.5}),
    ],
)
def test_an_edge_that_would_change_whole_numbers_is_refused(
    tmp_path: Path, source: int, target: int, change: dict
) -> None:
    graphs = [whole_numbers(tmp_path, "first", [1, 2], source), whole_numbers(tmp_path, "second", [1, 2], target)]

    with pytest.raises(UnsupportedModel, match=r"output 'y' is .* and input 'x' is .*: an edge carries floats"):
        assembled(graphs, ChainLoop((replace(WHOLE, **change),)))


def test_an_edge_between_numbers_that_stand_for_others_is_refused(tmp_path: Path) -> None:
    """Two int8 tensors of equal steps or not: what they are scaled by is not an edge's affair."""
    spec = {
        "inputs": [{"name": "x", "dtype": "int8", "shape": [1, 2], "scale": 0.5, "zero_point": 3}],
        "outputs": [{"name": "y", "dtype": "int8", "shape": [1, 2], "scale": 0.5, "zero_point": 3}],
    }
    (tmp_path / "one.fake.json").write_text(json.dumps(spec))
    graphs = [Graph(name, tmp_path / "one.fake.json", {"x": (1, 2)}) for name in ("first", "second")]
    sessions = [fake.load(graph.path, graph, Options()) for graph in graphs]

    with pytest.raises(UnsupportedModel, match=r"is int8 in steps of 0\.5"):
        pipeline.assemble(graphs, sessions, ChainLoop((WHOLE,)), lambda: 0)


def test_an_input_that_an_edge_fills_may_be_called_like_one_that_is_fed(tmp_path: Path) -> None:
    graphs = [whole_numbers(tmp_path, name, [1, 2], TensorProto.FLOAT) for name in ("first", "second")]
    _, bound = assembled(graphs, ChainLoop((replace(WHOLE, scale=2.0),)))
    bound.inputs["x"][...] = 3
    bound.step()

    assert [*bound.inputs] == ["x"] and bound.outputs["y"].tolist() == [[6, 6]]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (replace(WHOLE, source="third"), "an input 'x' that no edge fills"),
        (replace(WHOLE, target="third"), "an output 'y' that goes no further"),
    ],
)
def test_two_ends_of_one_name_are_refused(tmp_path: Path, more: Edge, said: str) -> None:
    graphs = [whole_numbers(tmp_path, name, [1, 2], TensorProto.FLOAT) for name in ("first", "third", "second")]

    with pytest.raises(UnsupportedModel, match=said):
        assembled(graphs, ChainLoop((WHOLE, more)))


# ---- recognizers ---------------------------------------------------------------------------------------------------


def test_a_decoder_runs_until_it_says_the_end(tmp_path: Path) -> None:
    # 10 + 4 heard, then 10 + 4 + tokens so far + 3 of the fixed cache.
    assert heard(transcriber(tmp_path), 4) == [14, 18, 19, END_TOKEN]


def test_only_as_much_of_a_clip_counts_as_it_has(tmp_path: Path) -> None:
    bound = transcriber(tmp_path)

    assert [heard(bound, length)[0] for length in (6, 2, 5)] == [16, 12, 15]


def test_a_shorter_clip_leaves_no_tokens_of_the_one_before(tmp_path: Path) -> None:
    bound = transcriber(tmp_path)
    heard(bound, 1)

    assert heard(bound, 6) == [16, END_TOKEN]


def test_tokens_end_at_the_most_that_were_asked_for(tmp_path: Path) -> None:
    assert len(heard(transcriber(tmp_path, end_token=0), 1)) == SEQ2SEQ.max_tokens
    assert len(heard(transcriber(tmp_path, end_token=0, samples_per_token=2), 5)) == 2
    assert len(heard(transcriber(tmp_path, end_token=0, samples_per_token=50), 5)) == 1


def test_first_tokens_and_counts_are_taken_once(tmp_path: Path) -> None:
    bound = transcriber(tmp_path)
    heard(bound, 4)
    heard(bound, 6)
    first_ns, tokens = bound.taken()

    assert tokens.tolist() == [4, 2]
    assert first_ns.tolist() == [7, 7]  # the clock of this test moves by 7 ns a look
    assert not bound.taken()[0].size


@pytest.mark.parametrize("highest", [np.nan, np.inf])
def test_tokens_of_logits_that_are_no_numbers_are_no_text(tmp_path: Path, highest: float) -> None:
    _, bound = assembled([counting_encoder(tmp_path), counting_decoder(tmp_path, highest)], SEQ2SEQ)
    heard(bound, 4)

    with pytest.raises(BadOutput, match="output 'logits' of the decoder is NaN or infinite in 1 of the last 1 clips"):
        bound.taken()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"logits": "none"}, "the decoder has no output 'none'"),
        ({"tokens": "none"}, "the decoder has no input 'none'"),
        ({"use_cache": ""}, "nothing feeds the decoder's input 'cached'"),
        ({"encoder": "none"}, "names a graph 'none'"),
        ({"carried": ()}, "nothing feeds the decoder's input 'heard'"),
    ],
)
def test_a_loop_that_does_not_fit_is_refused_by_name(tmp_path: Path, change: dict, said: str) -> None:
    with pytest.raises(UnsupportedModel, match=said):
        transcriber(tmp_path, **change)


# ---- in the worker -------------------------------------------------------------------------------------------------


def request_of(folder: Path, loop: pipeline.Loop, **changes: object) -> WorkerRequest:
    if isinstance(loop, Seq2SeqLoop):
        graphs: tuple[Graph, ...] = (counting_encoder(folder), counting_decoder(folder))
        arrays = {
            "audio": np.ones((2, 1, 6), np.float32),
            LENGTH: np.array([[4], [6]]),
            "@stream_starts": np.array([0, 1]),
        }
    else:
        graphs = (doubling(folder), summing(folder))
        arrays = {"x": np.ones((4, 1, 2), np.float32), "@stream_starts": np.array([0, 2])}
    np.savez(folder / "feeds.npz", **arrays)
    request = WorkerRequest(
        "LAUNCH",
        "onnxruntime",
        graphs=graphs,
        loop=loop,
        feeds=folder / "feeds.npz",
        pace=Pace(warmup_frames=4, warmup_ns=0, max_frames=20, block_frames=2),
    )
    return replace(request, **changes)


def test_a_recognizers_blocks_tell_tokens_and_the_first_of_them(tmp_path: Path) -> None:
    events = answered(request_of(tmp_path, SEQ2SEQ))
    measured = [block for block in only(events, Block) if block.phase == "BURST"]

    assert only(events, Finished)
    assert [block.tokens.tolist() for block in measured] == [[4, 2]] * 10
    assert all((block.first_token_ns > 0).all() for block in measured)
    assert all((block.first_token_ns < block.latency_ns).all() for block in measured)


def test_a_recognizers_parity_is_its_tokens(tmp_path: Path) -> None:
    (outputs,) = only(answered(request_of(tmp_path, SEQ2SEQ, kind="PARITY")), Outputs)

    assert outputs.columns[TOKENS].tolist() == [
        [14, 18, 19, END_TOKEN, *[NO_TOKEN] * 5],
        [16, END_TOKEN, *[NO_TOKEN] * 7],
    ]


@pytest.mark.parametrize("kind", ["LATENCY", "PARITY"])
def test_a_recognizer_of_nan_fails_in_the_worker(tmp_path: Path, kind: str) -> None:
    request = request_of(tmp_path, SEQ2SEQ, kind=kind)
    counting_decoder(tmp_path, np.nan)

    (failed,) = only(answered(request), Failed)

    assert failed.kind == "BAD_OUTPUT"


def test_a_chain_runs_in_the_worker_and_begins_each_stream_anew(tmp_path: Path) -> None:
    (outputs,) = only(answered(request_of(tmp_path, CHAIN, kind="PARITY")), Outputs)

    assert outputs.columns["sum"].tolist() == [[25.0], [15.0], [25.0], [15.0]]


def test_a_chain_that_does_not_fit_fails_as_the_models_fault(tmp_path: Path) -> None:
    wrong = ChainLoop((replace(CHAIN.edges[0], output="nothing"),))

    (failed,) = only(answered(request_of(tmp_path, wrong)), Failed)

    assert failed.kind == "UNSUPPORTED_OP"
