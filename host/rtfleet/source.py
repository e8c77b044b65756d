"""Where a model comes from: a name of the zoo, a function of the user's, or a file.

`resolve` looks without running anything of the user's; `build` runs it, and belongs into the export subprocess.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, TypeAlias

from rtfleet.artifact import Origin
from rtfleet.errors import UsageError
from rtfleet.guess import audio_samples
from rtfleet.guess import describe as from_file
from rtfleet.loop import MOST_TOKENS, Chain, Seq2Seq
from rtfleet.model import TASKS, SpeechModel
from rtfleet.models import ZOO
from rtfleet.suite import ModelEntry
from rtfleet.users_code import blame, code_of, import_from, names_defined, names_in, near, needed_arguments

__all__ = [
    "FORMATS",
    "Kind",
    "Source",
    "build",
    "checked",
    "format_of",
    "from_file",
    "is_tensorflow",
    "origin_of",
    "origin_of_path",
    "ready_format",
    "resolve",
    "streams",
]

Kind: TypeAlias = Literal["zoo", "function", "file"]

FORMATS = {".onnx": "onnx", ".ort": "onnx", ".tflite": "tflite", ".mlpackage": "coreml", ".fake.json": "fake"}
"""Suffix of a ready file (of Core ML: a folder) -> format of its variants."""

_EXAMPLE = "write a function that returns a rtfleet.SpeechModel and name it: luna.py:hey_luna"


@dataclass(frozen=True)
class Source:
    """Where a model comes from; what it is was not looked at yet.

    Attributes:
        text: As written in the suite or on the command line.
        module: Dotted name to import; "" for a file.
        function: Of that module, without arguments, returns a `SpeechModel`; "" for a file.
        path: The model's file or SavedModel, or the .py file of `file.py:function`; None for an importable module.
    """

    kind: Kind
    text: str
    module: str = ""
    function: str = ""
    path: Path | None = None


def format_of(path: Path) -> str | None:
    """The format of a ready file by its suffix ("onnx", "tflite", "fake"); None for any other file."""
    return next((format for suffix, format in FORMATS.items() if path.name.lower().endswith(suffix)), None)


def ready_format(text: str) -> str | None:
    """The format of a model that is a file, as far as its name tells; None for one that must be exported."""
    return (ZOO[text].ready or None) if text in ZOO else format_of(Path(text))


def is_tensorflow(path: Path) -> bool:
    """Whether it is a SavedModel's folder or a `.keras` file."""
    return path.suffix.lower() == ".keras" or (path / "saved_model.pb").is_file()


def origin_of_path(path: Path) -> Origin:
    """What a model that is a file or a folder came as."""
    return "tensorflow" if is_tensorflow(path) else "onnx" if path.suffix.lower() == ".onnx" else "file"


def origin_of(entry: ModelEntry) -> Origin:
    """What a model that was not built yet is taken to come as. A function may turn out to give something else."""
    if entry.source in ZOO:
        ready = ZOO[entry.source].ready
        return "file" if ready not in ("", "onnx") else "onnx" if ready else "torch"
    path = entry.folder / entry.source
    return origin_of_path(path) if format_of(path) or is_tensorflow(path) else "torch"


def streams(entry: ModelEntry) -> bool:
    """Whether a model that was not built yet is taken to stream. A function of the user's may turn out not to."""
    if entry.source in ZOO:
        return ZOO[entry.source].streams
    return bool(entry.hop_ms or entry.hop_samples) or origin_of(entry) == "torch"


def resolve(entry: ModelEntry) -> Source:
    """What `entry.source` names. Nothing of the user's is imported.

    Raises:
        UsageError: no such zoo name, file, module or function, with those that are there; or a description beside
            a model that describes itself.
    """
    text, path = entry.source, Path(entry.source)
    if not text.strip():
        raise UsageError("the model's name is empty", _EXAMPLE)
    try:
        text.encode()
    except UnicodeEncodeError:
        shown = text.encode(errors="replace").decode()
        raise UsageError(f"{shown}: its name is not UTF-8, so no report could have it", "rename the file") from None
    if text in ZOO:
        source = Source("zoo", text, ZOO[text].module, ZOO[text].function)
    elif ":" in text and format_of(path) is None:
        source = _function(text, entry.folder)
    elif format_of(path) or is_tensorflow(path) or "/" in text or "\\" in text or (entry.folder / path).exists():
        source = _file(text, entry.folder)
    else:
        raise _unknown(text)
    if source.kind != "file":
        _refuse_description(entry, source)
    return source


def build(source: Source, folder: Path) -> SpeechModel:
    """Run the function that makes the model. `folder` comes first on sys.path, and stays there.

    Raises:
        UsageError: what the user's code raised, with its own last line; or a result that is no sound `SpeechModel`.
    """
    try:
        function = getattr(import_from(folder, source.module, source.path), source.function)
        if needed := needed_arguments(function):
            raise UsageError(f"{source.text}: {source.function}({', '.join(needed)}) must take no arguments")
        model = function()
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        raise blame(error, source.text, folder, source.path) from error
    return checked(model, source.text, folder)


def checked(model: object, said: str, folder: Path) -> SpeechModel:
    """`model` if it can be worked with.

    Raises:
        UsageError: not a `SpeechModel`, or one that contradicts itself.
    """
    if not isinstance(model, SpeechModel):
        raise UsageError(f"{said} returned {_a(model)}, not a rtfleet.SpeechModel", "wrap it: SpeechModel(source=…, …)")
    wrong = ""
    if model.task not in TASKS:
        wrong = f"task '{model.task}' is none of {', '.join(TASKS)}"
    elif not model.inputs:
        wrong = "no inputs"
    elif not model.outputs:
        wrong = "no outputs"
    elif model.sample_rate_hz <= 0 or (model.hop_ms is not None and model.hop_ms <= 0):
        wrong = "the sample rate and the hop must be above 0"
    elif model.threshold is not None and not math.isfinite(model.threshold):
        wrong = f"the threshold is {model.threshold}"
    elif model.smoothing_hops < 1:
        wrong = f"smoothing_hops is {model.smoothing_hops}: the mean of no hop is no score"
    for name, item in model.inputs.items():
        samples = audio_samples(item.dims) if model.frames is None else None
        if samples is not None and model.hop_samples is not None and samples < model.hop_samples:
            wrong = wrong or f"input '{name}' holds {samples} samples, fewer than the hop of {model.hop_samples}"
        if any(dim < 1 for dim in item.dims):
            wrong = wrong or f"input '{name}' has the unknown dims {list(item.dims)}: give typical=(…), what to measure"
        elif len(item.dims) != len(item.shape):
            wrong = wrong or f"input '{name}': typical {list(item.dims)} has another rank than {list(item.shape)}"
    names = [*model.inputs, *(state.input for state in model.states)]
    outputs = [*model.outputs, *(state.output for state in model.states)]
    if twice := next((name for these in (names, outputs) for name in these if these.count(name) > 1), ""):
        wrong = wrong or f"'{twice}' is named twice"
    if wrong:
        raise UsageError(f"{said}: {wrong}")
    if (model.loop is not None) != isinstance(model.source, Mapping):
        raise UsageError(f"{said}: a source of several graphs and a loop go together", "give both, or neither")
    files = model.source.values() if isinstance(model.source, Mapping) else [model.source]
    for path in files:
        if isinstance(path, (str, Path)) and not (folder / path).exists():
            raise UsageError(f"{said}: its source {path} is not there", "relative paths start at the suite's folder")
    if isinstance(model.source, Mapping):
        _check_graphs(model, said)
    return model


def _check_graphs(model: SpeechModel, said: str) -> None:
    """Raises UsageError: files of several formats or of none, a loop of other graphs, or one that no agent runs."""
    formats = {format_of(Path(path)) for path in model.source.values()}
    if len(formats) != 1 or None in formats:
        raise UsageError(f"{said}: its graphs must be files of one format, {', '.join(FORMATS)}")
    assert model.loop is not None
    loop = model.loop
    if isinstance(loop, Seq2Seq):
        named = [loop.encoder, loop.decoder]
    else:
        named = [name for edge in loop.edges for name in (edge.source, edge.target)]
    if unknown := next((name for name in named if name not in model.source), ""):
        raise UsageError(f"{said}: its loop names a graph '{unknown}'; the source has {', '.join(model.source)}")
    if unused := next((name for name in model.source if name not in named), ""):
        raise UsageError(f"{said}: its loop does nothing with the graph '{unused}'")
    if wrong := _wrong_recognizer(loop) if isinstance(loop, Seq2Seq) else _wrong_chain(loop, [*model.source]):
        raise UsageError(f"{said}: {wrong}")


def _wrong_chain(loop: Chain, order: list[str]) -> str:
    for edge in loop.edges:
        if order.index(edge.source) >= order.index(edge.target):
            return f"graphs run in the order of the source, and '{edge.target}' must come after '{edge.source}'"
        if not _whole(edge.axis, 0):
            return f"axis {edge.axis} of the edge into '{edge.input}' must be 0 or more, counted from the first"
        if not all(math.isfinite(number) for number in (edge.scale, edge.offset, edge.fill)):
            return f"scale, offset and fill of the edge into '{edge.input}' must be numbers"
    return ""


def _wrong_recognizer(loop: Seq2Seq) -> str:
    if not _whole(loop.max_tokens, 1, MOST_TOKENS):
        return f"max_tokens must be a whole number from 1 to {MOST_TOKENS:,}, not {loop.max_tokens}"
    if not _whole(loop.samples_per_token, 0):
        return f"samples_per_token must be a whole number, 0 or more, not {loop.samples_per_token}: round it"
    if loop.encoder == loop.decoder:
        return f"encoder and decoder are the same graph, '{loop.encoder}'"
    return ""


def _whole(number: object, least: int, most: int = 2**32 - 1) -> bool:
    return isinstance(number, int) and least <= number <= most


# ---- what was named ------------------------------------------------------------------------------------------------


def _function(text: str, folder: Path) -> Source:
    place, _, function = text.rpartition(":")
    if place.endswith(".py"):
        path = folder / place
        if not path.is_file():
            raise UsageError(f"{text}: there is no {path}", near(place, names_in(path.parent, (".py",))))
        source, code = Source("function", text, path.stem, function, path), path
    else:
        found = code_of(place, folder)
        if isinstance(found, str):
            raise UsageError(f"{text}: {found}", "write module:function, or file.py:function for a file that is here")
        source, code = Source("function", text, place, function), found
    if not function.isidentifier():
        raise UsageError(f"{text}: '{function}' is no function's name", _EXAMPLE)
    names = names_defined(code, text)
    if names is not None and function not in names[0]:
        has = f"it has {', '.join(names[1])}" if names[1] else "it has no functions"
        raise UsageError(f"{text}: there is no '{function}' in {code.name}; {has}", near(function, names[1]))
    return source


def _file(text: str, folder: Path) -> Source:
    path = folder / text
    if not path.exists():
        siblings = names_in(path.parent, (*FORMATS, ".keras"))
        raise UsageError(f"{text}: there is no {path}", near(path.name, siblings))
    if path.suffix == ".py":
        functions = (names_defined(path, text) or ((), ()))[1]
        said = ", ".join(f"{text}:{name}" for name in functions) or _EXAMPLE
        raise UsageError(f"{text}: which function of it returns the model?", f"say {said}")
    if path.is_dir() and format_of(path) is None and not is_tensorflow(path):
        raise UsageError(f"{text}: {path} is no SavedModel: there is no saved_model.pb in it", _EXAMPLE)
    if format_of(path) is None and not is_tensorflow(path):
        raise UsageError(f"{text}: a file must be one of {', '.join(FORMATS)}, .keras", _EXAMPLE)
    if format_of(path) == "coreml" and not path.is_dir():
        raise UsageError(f"{text}: {path} is a file", "an .mlpackage is a folder with a Manifest.json in it")
    if format_of(path) != "coreml" and not path.is_file() and not (path / "saved_model.pb").is_file():
        raise UsageError(f"{text}: {path} is not a file")
    return Source("file", text, path=path)


def _unknown(text: str) -> UsageError:
    meant = near(text, list(ZOO))
    files = ".onnx, .ort, .tflite, .mlpackage, .keras"
    hint = f"the zoo has {', '.join(ZOO)}; or name a file ({files}) or a function (luna.py:hey_luna)"
    return UsageError(f"no model is called '{text}'", f"{meant} {hint}" if meant else hint)


def _refuse_description(entry: ModelEntry, source: Source) -> None:
    given = [
        item.name
        for item in fields(entry)
        if item.name
        in (
            "task",
            "hop_ms",
            "hop_samples",
            "sample_rate_hz",
            "threshold",
            "smoothing_hops",
            "inputs",
            "states",
            "outputs",
        )
        and getattr(entry, item.name) not in (None, {}, ())
    ]
    if given:
        raise UsageError(
            f"{entry.where or source.text}: '{given[0]}' is for a model that is a file; {source.text} says it itself",
            "leave it out, or change the function",
        )


def _a(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
