"""What passes between the host and an export subprocess: a JSON line each way."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from rtfleet.artifact import File, Graph, Origin, PreparedModel, Tensor
from rtfleet.cache import RECORDS
from rtfleet.errors import ExportError, RtfleetError, UsageError

Toolchain: TypeAlias = Literal["onnx", "litert", "coreml", "tensorflow"]
TOOLCHAIN_OF_FORMAT: dict[str, Toolchain] = {
    "onnx": "onnx",
    "tflite": "litert",
    "coreml": "coreml",
    "tensorrt": "onnx",
    "torch": "onnx",
}
PACKAGES: dict[Toolchain, tuple[str, ...]] = {
    "onnx": ("torch", "onnx", "onnxscript", "onnxruntime"),
    "litert": ("torch", "litert-torch", "litert-converter", "litert-quantizer", "ai-edge-litert"),
    "coreml": ("torch", "coremltools", "scikit-learn"),
    "tensorflow": ("tensorflow", "keras"),
}
"""What makes an artifact: its cache key holds their versions."""


def toolchain_of(variant: str, origin: Origin) -> Toolchain:
    """Who makes a variant of a model of this origin."""
    return "tensorflow" if origin == "tensorflow" else TOOLCHAIN_OF_FORMAT[variant.partition("-")[0]]


def base_of(variant: str) -> str | None:
    """The variant that this one is made from; None: it is made from the model itself."""
    format, _, precision = variant.partition("-")
    if format == "torch" or (precision == "fp32" and format != "tensorrt"):
        return None
    if format == "coreml":
        return None if precision == "fp16" else "coreml-fp16"  # what the Neural Engine computes in
    return "onnx-fp32" if format == "tensorrt" else f"{format}-fp32"


@dataclass(frozen=True)
class Build:
    """Build a model that is Python, its frames and its reference outputs, into the folder `out`.

    `toolchain` is the one that is asked: a model that turns out to be TensorFlow's is built by its own.
    """

    source: str
    folder: Path
    clips: tuple[Path, ...]
    positives: tuple[Path, ...]
    out: Path
    toolchain: Toolchain = "onnx"


@dataclass(frozen=True)
class Convert:
    """Export a model that is Python. `weights_sha256` and `origins` are what preparing it saw."""

    source: str
    folder: Path
    prepared: PreparedModel
    weights_sha256: str
    origins: dict[str, str]
    variant: str
    out: Path


@dataclass(frozen=True)
class Quantize:
    """Make a variant from a file: an fp32 one, or what the user gave (an `.onnx`, a SavedModel).

    `kept`: what the conversion found of `keep_float`, in the file's own names.
    """

    base: Path
    kept: tuple[str, ...]
    prepared: PreparedModel
    variant: str
    out: Path


@dataclass(frozen=True)
class Look:
    """Tell the inputs and outputs of a SavedModel or `.keras` file."""

    path: Path


@dataclass(frozen=True)
class Reference:
    """Run a file over a model's frames, into the folder `out`: what is made of the file is held against that."""

    path: Path
    prepared: PreparedModel
    out: Path


Job: TypeAlias = Build | Convert | Quantize | Look | Reference


@dataclass(frozen=True)
class Built:
    """A built model.

    Attributes:
        prepared: Without name; its files are relative to the job's `out`.
        weights_sha256: Of the parameters and buffers; "" for a model that is a file.
        origins: Files that building it read (code and data, outside site-packages) -> sha256.
        versions: Installed packages that it loaded.
    """

    prepared: PreparedModel
    weights_sha256: str
    origins: dict[str, str]
    versions: dict[str, str]


@dataclass(frozen=True)
class Made:
    """A model file in the job's `out`, loaded and run once, or else `checked`. `kept` is for the quantizers."""

    graph: Graph
    kept: tuple[str, ...] = ()
    checked: str = ""


@dataclass(frozen=True)
class Elsewhere:
    """A model that another toolchain must build."""

    toolchain: Toolchain


@dataclass(frozen=True)
class Looked:
    """Inputs and outputs, states among them."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True)
class Referred:
    """The reference outputs, in the job's `out`."""

    file: File


@dataclass(frozen=True)
class Refused:
    """A job that failed. `spent`: the subprocess can't be trusted with another."""

    kind: Literal["usage", "export", "internal"]
    text: str
    hint: str = ""
    step: str = ""
    spent: bool = False

    def error(self) -> RtfleetError:
        """The exception that it stands for."""
        if self.kind == "export":
            return ExportError(self.text, self.hint, self.step)
        return (UsageError if self.kind == "usage" else RtfleetError)(self.text, self.hint)


Reply: TypeAlias = Built | Made | Elsewhere | Looked | Referred | Refused

_KINDS: dict[str, type[Job] | type[Reply]] = {
    kind.__name__: kind
    for kind in (Build, Convert, Quantize, Look, Reference, Built, Made, Elsewhere, Looked, Referred, Refused)
}


def to_line(message: Job | Reply) -> str:
    """One line of JSON, newline included."""
    return json.dumps([type(message).__name__, RECORDS.unstructure(message)]) + "\n"


def from_line(line: str) -> Job | Reply:
    """The message in a line."""
    kind, fields = json.loads(line)
    message: Job | Reply = RECORDS.structure(fields, _KINDS[kind])
    return message
