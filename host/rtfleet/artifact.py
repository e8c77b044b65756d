"""Artifacts: a variant of a model on disk, by the hashes of its files.

The id of an artifact is its file's sha256 when there is one file, else the sha256 of the sorted list of
`sha256  path` lines, so that the same export has the same id on every machine.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from rtfleet.loop import Loop
from rtfleet.model import Task

Covers = Literal["whole", "part"]
Origin: TypeAlias = Literal["torch", "tensorflow", "onnx", "file"]
"""What a model came as: a PyTorch module; a SavedModel or Keras model; an `.onnx` file, which others can be made of;
any other ready file, which is used as it is."""


@dataclass(frozen=True)
class File:
    """A file by content.

    Attributes:
        path: Relative, inside the artifact's folder, with `/`.
        location: Where it lies on this machine; never stored in a report.
    """

    path: str
    sha256: str
    size_bytes: int
    location: Path | None = None


@dataclass(frozen=True)
class Tensor:
    """One input or output of a graph; the same facts as the agent's. -1 in `shape` is a dynamic dim."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True)
class State:
    """A streaming pair of a graph: `output` comes back as `input`. `initial` is a `.npy`; None stands for 0.0."""

    input: str
    output: str
    initial: File | None = None


@dataclass(frozen=True)
class Graph:
    """One model file and what it takes and gives.

    Attributes:
        files: The first is the one that the runtime is given.
        inputs: All inputs, states included; `outputs` likewise.
        shapes: Concrete dims of each input as it is measured, states included.
    """

    name: str
    files: tuple[File, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    states: tuple[State, ...] = ()
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class InputFacts:
    """An input of a prepared model. `dims` are concrete; `constant` as in `rtfleet.Input`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    dims: tuple[int, ...]
    constant: float | int | bool | None = None


@dataclass(frozen=True)
class StateFacts:
    """A state pair of a prepared model."""

    input: str
    output: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    initial: File | None = None


@dataclass(frozen=True)
class Utterance:
    """A clip that a recognizer is given whole.

    Attributes:
        clip: The name of its file, with a folder only where it takes one to tell it from another clip.
        transcript: What is said in it; "" where nobody wrote it down.
    """

    clip: str
    duration_s: float
    transcript: str = ""


@dataclass(frozen=True)
class PreparedModel:
    """What the host knows of a model once it was built (a function) or described (a file).

    Attributes:
        name: The model's name in the suite.
        key: The model's part of every artifact's cache key.
        hop_samples: Audio samples that one frame consumes; None where the model does not stream.
        frames: `.npz` of real-valued frames: per audio input an array `[n, *dims]`, per constant an array of the
            input's own rank, and int64 `@stream_starts`. `clips.to_feeds` puts them into a graph's own dtypes.
        reference: `.npz` of the original model's outputs on those frames, name -> `[n, *dims]`; None where the
            original is a ready file.
        origin: What it came as: says what can be made of it.
        source_file: The ready file or the SavedModel, where the model is one.
        graph_files: Graph -> ready file, where the model is several graphs with a loop between them.
        shipped: The variants that are the file as it came ("onnx-shipped"); () for a Python model.
        positives: Streams, by their number, that contain what a wake word listens for; all others contain it nowhere.
            None where nobody said.
        guesses: What was guessed about the model, one sentence each; printed before use.
        synthetic: The frames are seeded data, not audio: the row says "synthetic input".
        keep_float: Patterns of modules whose activations must not be quantized.
        utterances: The clips, of a model that takes them whole; frame by frame.
        vocabulary: JSON list of what each token stands for, bytes as Latin-1; None where the model gives no tokens.
    """

    name: str
    key: str
    task: Task
    covers: Covers
    sample_rate_hz: int
    hop_samples: int | None
    inputs: tuple[InputFacts, ...]
    outputs: tuple[str, ...]
    states: tuple[StateFacts, ...]
    frames: File
    reference: File | None = None
    source_file: Path | None = None
    shipped: tuple[str, ...] = ()
    threshold: float | None = None
    priming_s: float = 0.0
    smoothing_hops: int = 1
    positives: tuple[int, ...] | None = None
    note: str = ""
    guesses: tuple[str, ...] = ()
    synthetic: bool = False
    keep_float: tuple[str, ...] = ()
    graph_files: dict[str, Path] = field(default_factory=dict)
    loop: Loop | None = None
    utterances: tuple[Utterance, ...] = ()
    vocabulary: File | None = None
    lookahead_ms: float = 0.0
    origin: Origin = "torch"


@dataclass(frozen=True)
class Artifact:
    """A variant on disk.

    Attributes:
        feeds: `.npz` in the graph's own dtypes; latency, calibration and parity use the same frames.
        reference: The original model's outputs on those frames; None where the original is the file itself.
        exporters: Package -> version that made it; {} for a shipped file.
        loop: How several graphs make one model; None: there is one.
        threshold: Score at or above which the model decides "yes"; None: no decision.
        utterances, vocabulary: As of the prepared model.
        score: The output that decides; "" in a run of an earlier rtfleet.
        priming_s, smoothing_hops, positives: How decisions are counted, as in `PreparedModel`.
        checked: What the exporter found of a file that this machine may be unable to run; "" where it was run.
    """

    id: str
    model: str
    task: Task
    covers: Covers
    variant: str
    sample_rate_hz: int
    hop_samples: int | None
    graphs: tuple[Graph, ...]
    feeds: File
    reference: File | None
    exporters: dict[str, str]
    loop: Loop | None = None
    threshold: float | None = None
    score: str = ""
    priming_s: float = 0.0
    smoothing_hops: int = 1
    positives: tuple[int, ...] | None = None
    note: str = ""
    synthetic: bool = False
    utterances: tuple[Utterance, ...] = ()
    vocabulary: File | None = None
    lookahead_ms: float = 0.0
    checked: str = ""

    @property
    def files(self) -> tuple[File, ...]:
        """The model's files."""
        return tuple(file for graph in self.graphs for file in graph.files)

    @property
    def needs(self) -> tuple[File, ...]:
        """All that an agent must have to run it: the model's files, its states' first values and its feeds."""
        initial = (state.initial for graph in self.graphs for state in graph.states)
        return (*self.files, *(file for file in initial if file), self.feeds)

    @property
    def size_bytes(self) -> int:
        """Bytes of the model's files, as they are pushed."""
        return sum(file.size_bytes for file in self.files)

    @property
    def runtime(self) -> str:
        """The agent's runtime for this variant's format."""
        return RUNTIME_OF_FORMAT[self.variant.split("-")[0]]

    @property
    def part_of(self) -> str:
        """What is said of a part; "" of a whole model."""
        article = "an" if self.task[0] in "aeiou" else "a"
        return f"part of {article} {self.task} model" if self.covers == "part" else ""

    @property
    def hop_ns(self) -> int | None:
        """Nanoseconds of audio that one frame consumes."""
        return None if self.hop_samples is None else self.hop_samples * 1_000_000_000 // self.sample_rate_hz


RUNTIME_OF_FORMAT = {
    "onnx": "onnxruntime",
    "tflite": "litert",
    "coreml": "coreml",
    "tensorrt": "tensorrt",
    "torch": "torch",
    "fake": "fake",
}

_PRECISIONS = {
    "onnx": ("fp32", "fp16", "int8-dynamic", "int8-static"),
    "tflite": ("fp32", "fp16", "int8-dynamic", "int8-static"),
    "coreml": ("fp32", "fp16", "int8", "palettized"),
    "tensorrt": ("fp32", "fp16", "int8"),
    "torch": ("fp32", "int8-dynamic"),
}
EXPORTED_VARIANTS = tuple(f"{fmt}-{precision}" for fmt, these in _PRECISIONS.items() for precision in these)
SHIPPED_VARIANTS = ("onnx-shipped", "tflite-shipped", "coreml-shipped", "fake-shipped")
VARIANTS = EXPORTED_VARIANTS + SHIPPED_VARIANTS
ALL = "all"
"""In the place of a variant: all that the model can be had in."""

_MADE_FROM: dict[Origin, tuple[str, ...]] = {
    "torch": EXPORTED_VARIANTS,
    "tensorflow": tuple(name for name in EXPORTED_VARIANTS if name.startswith("tflite-")),
    # Its fp32 is the file itself, measured as onnx-shipped.
    "onnx": tuple(
        name for name in EXPORTED_VARIANTS if name.startswith(("onnx-", "tensorrt-")) and name != "onnx-fp32"
    ),
    "file": (),
}


def variants_from(origin: Origin, shipped: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Every variant that a model of this origin can be had in, a file as it came first."""
    return (*shipped, *_MADE_FROM[origin])


def file_of(location: Path, path: str | None = None) -> File:
    """The `File` of what lies at `location`, hashed now. `path` defaults to its name."""
    digest = hashlib.sha256()
    with location.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return File(path or location.name, digest.hexdigest(), location.stat().st_size, location)


def artifact_id(graphs: tuple[Graph, ...]) -> str:
    """The id that follows from the files alone."""
    files = [file for graph in graphs for file in graph.files]
    if len(files) == 1:
        return files[0].sha256
    lines = sorted(f"{file.sha256}  {file.path}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
