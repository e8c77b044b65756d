"""A user's own recognizer of two graphs, from the function to the report."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import stage as stages
from stage import Stage

from rtfleet import clips, source
from rtfleet.errors import UsageError
from rtfleet.loop import LENGTH, Carried, Chain, Edge, Seq2Seq
from rtfleet.model import Array, Input, SpeechModel

AGENT_TESTS = Path(__file__).parents[1] / "agent"
LOOP = Seq2Seq("encoder", "decoder", (Carried("length", "heard"),), (), "token", "logits", 1, 2, 9)
OWN = """
from pathlib import Path
from rtfleet import Input, SpeechModel
from rtfleet.loop import Cache, Carried, Seq2Seq

def counter():
    return SpeechModel(
        task="asr",
        source={"encoder": "encoder.onnx", "decoder": "decoder.onnx"},
        inputs={"audio": Input((1, -1), typical=(1, 6))},
        outputs=["tokens"],
        frames=lambda audio: {"audio": 0 * audio[None, :4] + 1},
        loop=Seq2Seq(
            encoder="encoder", decoder="decoder", tokens="token", logits="logits", use_cache="cached",
            carried=(Carried("length", "heard"),),
            caches=(Cache("past", "present", (1, 1, 0, 1)), Cache("kept", "kept_out", (1, 1, 0, 1), fixed=True)),
            start_token=1, end_token=20, max_tokens=9),
        vocabulary=[b"<s>", *(b"\\xe2\\x96\\x81w%d" % number for number in range(1, 64))],
    )
"""


@pytest.fixture(name="stage")
def _stage(tmp_path: Path) -> Stage:
    sys.path.insert(0, str(AGENT_TESTS))
    try:
        import loops
    finally:
        sys.path.remove(str(AGENT_TESTS))
    stage = stages.stage(tmp_path)
    loops.counting_encoder(stage.folder)
    loops.counting_decoder(stage.folder)
    (stage.folder / "own.py").write_text(OWN)
    (stage.folder / "clips").mkdir()
    for name, seconds in (("a", 0.5), ("b", 1.0)):
        audio = np.zeros(round(16_000 * seconds), np.float32)
        soundfile.write(stage.folder / "clips" / f"{name}.wav", audio, 16_000)
    (stage.folder / "clips" / "a.txt").write_text("w14 w18 word\n")
    return stage


@pytest.mark.slow
def test_a_users_recognizer_is_measured_and_its_words_compared(stage: Stage) -> None:
    suite = stage.suite(
        'source = "own.py:counter"\nclips = "clips"\nbudgets = { end_of_speech_ms = 1000 }', run=stages.ONE_LAUNCH
    )
    told = stage.rtfleet("run", suite, "--json", "run.json")
    document: Mapping[str, Any] = json.loads((stage.folder / "run.json").read_text())
    (case,) = document["cases"]

    # 10 + 4 heard, then one more each time and 3 of the fixed cache, until 20.
    assert case["recognition"]["texts"] == ["w14 w18 w19 w20"] * 2, told.everything
    assert (case["recognition"]["wrong_words"], case["recognition"]["words"]) == (2, 3)
    assert [clip["clip"] for clip in case["summary"]["clips"]] == ["a.wav", "b.wav"]
    assert case["verdict"] in ("PASS", "INCONCLUSIVE")
    assert {graph["name"] for graph in case["artifact"]["graphs"]} == {"encoder", "decoder"}


@pytest.mark.slow
def test_a_variant_that_several_ready_files_do_not_have_is_a_row_with_its_reason(stage: Stage) -> None:
    suite = stage.suite(
        'source = "own.py:counter"\nclips = "clips"\nvariants = ["onnx-int8-static"]', run=stages.ONE_LAUNCH
    )
    told = stage.rtfleet("run", suite)

    assert told.code == 2
    assert "onnx-int8-static can't be made of counter" in told.stdout
    assert "measure it as it is (onnx-shipped)" in told.stdout


def recognizer(**changes: object) -> SpeechModel:
    facts: dict[str, Any] = {
        "task": "asr",
        "source": {"encoder": "encoder.onnx", "decoder": "decoder.onnx"},
        "inputs": {"audio": Input((1, -1), typical=(1, 16))},
        "outputs": ["tokens"],
        "loop": LOOP,
    }
    return SpeechModel(**(facts | changes))


def chained(**changes: Any) -> Chain:
    """An edge that fits into one that does not; both graphs are named."""
    edge = Edge("encoder", "length", "decoder", "heard", axis=1)
    return Chain((edge, replace(edge, **changes)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"loop": None}, "several graphs and a loop go together"),
        ({"source": "encoder.onnx"}, "several graphs and a loop go together"),
        ({"source": {"encoder": "encoder.onnx", "decoder": "none.onnx"}}, "its source none.onnx is not there"),
        ({"source": {"encoder": "encoder.onnx", "decoder": "own.py"}}, "must be files of one format"),
        ({"source": {"encoder": "encoder.onnx", "other": "decoder.onnx"}}, "names a graph 'decoder'"),
        (
            {"source": {"encoder": "encoder.onnx", "decoder": "decoder.onnx", "more": "encoder.onnx"}},
            "does nothing with the graph 'more'",
        ),
        ({"loop": Chain((Edge("encoder", "length", "none", "x", axis=1),))}, "names a graph 'none'"),
        ({"loop": chained(axis=-1)}, "axis -1 of the edge into 'heard' must be 0 or more"),
        ({"loop": chained(axis=0.5)}, "axis 0.5 of the edge into 'heard' must be 0 or more"),
        ({"loop": chained(scale=math.nan)}, "scale, offset and fill of the edge into 'heard' must be numbers"),
        ({"loop": chained(source="decoder", target="encoder")}, "'encoder' must come after 'decoder'"),
        ({"loop": chained(target="encoder")}, "'encoder' must come after 'encoder'"),
        ({"loop": replace(LOOP, max_tokens=0)}, "max_tokens must be a whole number from 1 to 10,000, not 0"),
        ({"loop": replace(LOOP, max_tokens=10_001)}, "max_tokens must be a whole number from 1 to 10,000, not 10001"),
        ({"loop": replace(LOOP, samples_per_token=-1)}, "samples_per_token must be a whole number, 0 or more, not -1"),
        ({"loop": replace(LOOP, samples_per_token=2461.5)}, "samples_per_token must be a whole number.* round it"),
    ],
)
def test_a_loop_that_contradicts_its_graphs_is_refused(stage: Stage, change: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        source.checked(recognizer(**change), "own.py:counter", stage.folder)


def test_whole_clips_are_frames_as_long_as_the_longest(stage: Stage) -> None:
    frames = clips.frames_of(recognizer(), sorted((stage.folder / "clips").glob("*.wav")))

    assert frames.arrays["audio"].shape == (2, 1, 16_000)
    assert frames.arrays[LENGTH].tolist() == [[8_000], [16_000]]
    assert [(one.clip, one.duration_s, one.transcript) for one in frames.utterances] == [
        ("a.wav", 0.5, "w14 w18 word"),
        ("b.wav", 1.0, ""),
    ]


def test_clips_beyond_a_minute_are_left_out_and_told(tmp_path: Path) -> None:
    for name, seconds in (("a", 40), ("b", 15), ("c", 10)):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(16_000 * seconds, np.float32), 16_000)

    frames = clips.frames_of(recognizer(), sorted(tmp_path.glob("*.wav")))

    assert [one.clip for one in frames.utterances] == ["a.wav", "b.wav"]
    assert frames.cut_short == "2 of 3 clips are heard: 60 s are the most"


def test_clips_of_one_name_are_told_apart_by_their_folders(stage: Stage) -> None:
    there = stage.folder / "clips"
    (stage.folder / "more").mkdir()
    shutil.copy(there / "a.wav", stage.folder / "more" / "a.wav")

    frames = clips.frames_of(recognizer(), [there / "a.wav", there / "b.wav", stage.folder / "more" / "a.wav"])

    assert [one.clip for one in frames.utterances] == ["clips/a.wav", "b.wav", "more/a.wav"]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda audio: audio, "on a.wav returned ndarray, not a mapping with audio"),
        (lambda audio: {"sound": audio[None]}, "on a.wav returned sound, not a mapping with audio"),
        (lambda audio: {"audio": audio}, r"returned \[8000\] for input 'audio', not \[1, n\]"),
        (lambda audio: {"audio": np.zeros((2, 4))}, r"returned \[2, 4\] for input 'audio', not \[1, n\]"),
        (lambda audio: {"audio": np.zeros((1, 0))}, r"returned \[1, 0\] for input 'audio', not \[1, n\]"),
        (lambda audio: {"audio": audio[None] / 0}, "returned values for input 'audio' that are not finite"),
        (lambda audio: {"audio": audio["x"]}, "the model's front end .frames. on a.wav"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_front_end_of_whole_clips_is_held_to_what_it_must_return(
    stage: Stage, made: Callable[[Array], Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        clips.frames_of(recognizer(frames=made), [stage.folder / "clips" / "a.wav"])
