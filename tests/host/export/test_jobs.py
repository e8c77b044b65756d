"""Jobs and replies go through the pipe as one line and come out as they went in."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtfleet.artifact import File, Graph, InputFacts, PreparedModel, State, StateFacts, Tensor
from rtfleet.errors import ExportError, RtfleetError, UsageError
from rtfleet.export.jobs import (
    Build,
    Built,
    Convert,
    Elsewhere,
    Job,
    Look,
    Looked,
    Made,
    Quantize,
    Reference,
    Referred,
    Refused,
    Reply,
    from_line,
    to_line,
)

FILE = File("frames.npz", "ab" * 32, 12, Path("/cache/frames.npz"))
PREPARED = PreparedModel(
    name="luna\n→",
    key="cd" * 32,
    task="wake-word",
    covers="whole",
    sample_rate_hz=16_000,
    hop_samples=320,
    inputs=(
        InputFacts("audio", "float32", (1, -1), (1, 320)),
        InputFacts("sr", "int64", (), (), 16_000),
        InputFacts("gain", "float32", (), (), 0.5),
        InputFacts("loud", "bool", (), (), True),
    ),
    outputs=("score",),
    states=(StateFacts("h", "h_out", (1, 64), initial=FILE),),
    frames=FILE,
    reference=None,
    source_file=None,
    threshold=0.5,
    keep_float=(r"front\..*",),
)
GRAPH = Graph(
    "model",
    (FILE,),
    (Tensor("audio", "int8", (1, 320), 0.1, -3),),
    (Tensor("score", "float32", ()),),
    (State("h", "h_out"),),
    {"audio": (1, 320)},
)


@pytest.mark.parametrize(
    "message",
    [
        Build("luna.py:hey", Path("/here"), (Path("/here/a.wav"),), (Path("/here/hey.wav"),), Path("/out")),
        Convert(
            "luna.py:hey", Path("/here"), PREPARED, "ef" * 32, {"/here/luna.py": "01" * 32}, "onnx-fp32", Path("o")
        ),
        Quantize(Path("/base.onnx"), ("front",), PREPARED, "onnx-int8-static", Path("/out")),
        Built(PREPARED, "ef" * 32, {"/here/luna.py": "01" * 32}, {"torch": "2.13.0"}),
        Look(Path("/here/saved")),
        Reference(Path("/here/luna.onnx"), PREPARED, Path("/out")),
        Made(GRAPH, ("front",)),
        Elsewhere("tensorflow"),
        Looked(GRAPH.inputs, GRAPH.outputs),
        Referred(FILE),
        Refused("export", "exporting: a\nb", "hint", "step", spent=True),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_is_one_line_and_comes_out_as_it_went_in(message: Job | Reply) -> None:
    line = to_line(message)

    assert line.endswith("\n")
    assert line.count("\n") == 1
    assert from_line(line) == message


def test_a_constant_keeps_its_kind() -> None:
    found = from_line(to_line(Built(PREPARED, "", {}, {})))

    assert isinstance(found, Built)
    assert [type(facts.constant) for facts in found.prepared.inputs] == [type(None), int, float, bool]


@pytest.mark.parametrize(
    ("kind", "error", "exit_code"),
    [("export", ExportError, 2), ("usage", UsageError, 2), ("internal", RtfleetError, 5)],
)
def test_a_refusal_is_the_error_of_its_kind(kind: str, error: type[RtfleetError], exit_code: int) -> None:
    raised = Refused(kind, "text", "hint").error()  # type: ignore[arg-type]

    assert type(raised) is error
    assert (raised.text, raised.hint, raised.exit_code) == ("text", "hint", exit_code)
