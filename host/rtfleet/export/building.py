"""Building a model that is Python: its facts, its frames, its reference, and all that it was made from."""

from __future__ import annotations

import hashlib
import site
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from rtfleet import clips as audio
from rtfleet import feeds, source, transcripts
from rtfleet.artifact import File, InputFacts, Origin, PreparedModel, StateFacts, file_of
from rtfleet.cache import key_of
from rtfleet.clips import Frames
from rtfleet.errors import ExportError
from rtfleet.export import external, streaming, tensorflow
from rtfleet.export.jobs import Build, Built, Elsewhere
from rtfleet.model import Array, SpeechModel, State, zeros_of
from rtfleet.suite import ModelEntry

FRAMES, REFERENCE, VOCABULARY = "frames.npz", "reference.npz", "vocabulary.json"
_OURS = Path(__file__).resolve().parent.parent
_ELSEWHERE = (
    *(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    *(Path(place).resolve() for place in site.getsitepackages() if "-packages" in place),
    *map(Path, ("/proc", "/sys", "/dev")),
)
"""Installed packages, which their versions stand for, and what is no file."""


class Models:
    """The models of one subprocess: each is built once, and what its building read is written down."""

    def __init__(self) -> None:
        self.built: dict[tuple[str, Path], tuple[SpeechModel, dict[str, str]]] = {}
        self.opened: set[str] | None = None
        sys.addaudithook(self._audit)
        _report_safetensors(lambda path: self._audit("open", (path,)))

    def get(self, text: str, folder: Path) -> tuple[SpeechModel, dict[str, str]]:
        """The model, and the files that made it -> sha256. Raises UsageError; ExportError where they have changed."""
        if (text, folder) not in self.built:
            with self.watching() as opened:
                model = source.build(resolved(text, folder), folder)
            self.built[text, folder] = model, hashed({*opened, *_modules()})
        model, origins = self.built[text, folder]
        refuse_changed(text, origins)
        return model, origins

    @contextmanager
    def watching(self) -> Iterator[set[str]]:
        """The files that are opened for reading meanwhile."""
        opened: set[str] = set()
        self.opened = opened
        try:
            yield opened
        finally:
            self.opened = None

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.opened is None or event != "open" or not isinstance(arguments[0], (str, Path)):
            return
        mode = arguments[1] if len(arguments) > 1 else "r"
        if not isinstance(mode, str) or not set(mode) & set("wax+"):
            self.opened.add(str(arguments[0]))


def _report_safetensors(opened: Callable[[str], None]) -> None:
    """safetensors opens files in native code, which audit hooks never see: its entrance is wrapped."""
    try:
        module: Any = import_module("safetensors")
    except ImportError:
        return
    native = module.safe_open

    def safe_open(filename: Any, *arguments: Any, **options: Any) -> Any:
        opened(str(filename))
        return native(filename, *arguments, **options)

    module.safe_open = safe_open


def _modules() -> set[str]:
    """Source files of all modules that are neither installed nor rtfleet's own machinery.

    Of all models built so far, not of the last alone: which of them share a module can't be told.
    """
    return {
        file
        for name, module in list(sys.modules.items())
        if (file := getattr(module, "__file__", None)) and (name.startswith("rtfleet.models") or not _is_ours(file))
    }


def _is_ours(file: str) -> bool:
    path = Path(file).resolve()
    return path.is_relative_to(_OURS) and not path.is_relative_to(_OURS / "models")


def resolved(text: str, folder: Path) -> source.Source:
    """What a job's source names. Raises UsageError."""
    return source.resolve(ModelEntry(name=text, source=text, folder=folder))


def refuse_changed(text: str, origins: Mapping[str, str]) -> None:
    """Raises ExportError where a file is no longer as it was: what was imported from it can't be imported anew."""
    if hashed(set(origins)) != dict(origins):
        raise ExportError(f"{text} changed while the run used it", "start the run again")


def hashed(files: set[str]) -> dict[str, str]:
    """Those of the files that a model follows from -> sha256."""
    found = {}
    for name in files:
        path = Path(name).resolve()
        foreign = any(path.is_relative_to(place) for place in _ELSEWHERE) and not path.is_relative_to(_OURS)
        if path.suffix != ".pyc" and path.is_file() and not _is_ours(name) and not foreign:
            found[str(path)] = file_of(path).sha256
    return dict(sorted(found.items()))


def build(models: Models, job: Build) -> Built | Elsewhere:
    """Build, frame and run the original. Raises UsageError, ExportError."""
    model, origins = models.get(job.source, job.folder)
    ready = job.folder / model.source if isinstance(model.source, (str, Path)) else None
    graphs = {name: job.folder / path for name, path in model.source.items()} if model.loop else {}
    origin: Origin = "file" if graphs else _origin(model, ready)
    if origin == "tensorflow" and job.toolchain != "tensorflow":
        return Elsewhere("tensorflow")
    weights = "" if ready or graphs else weights_of(model)
    with models.watching() as opened:  # a front end or forward() may import and read when first called
        frames = audio.frames_of(model, job.clips, job.positives)
        feeds.save(frames.arrays, job.out / FRAMES)
        prepared = prepared_of(model, "", job.out, frames, ready=ready, origin=origin)
        if graphs:
            prepared = _with_loop(model, prepared, graphs, frames, job.out)
        elif origin in ("torch", "tensorflow"):
            prepared = _with_reference(model, ready, prepared, job.out)
    given = {"model": ready} if ready else graphs
    files = {name: external.files_of(path) for name, path in given.items()}
    opened |= {str(file.location) for these in files.values() for file in these}
    opened = {file for file in opened if not Path(file).resolve().is_relative_to(job.out.resolve())}
    origins = {**origins, **hashed({*opened, *_modules()})}
    hashes = {name: [file.sha256 for file in these] for name, these in files.items()}
    content: Any = hashes or [weights, _code(job, origins)]
    return Built(replace(prepared, key=key_of(content, described(model))), weights, origins, _versions())


def _code(job: Build, origins: Mapping[str, str]) -> list[Any]:
    """What stands for the model's code in its key.

    The function is part of it: two functions of one file can give equal weights to networks that differ.
    """
    found = resolved(job.source, job.folder)
    home = found.path or Path(str(sys.modules[found.module].__file__))
    loaded = sorted(sha256 for path, sha256 in origins.items() if path.endswith(".py"))
    return [file_of(home).sha256, found.function, loaded]


def _origin(model: SpeechModel, ready: Path | None) -> Origin:
    if ready is not None:
        return source.origin_of_path(ready)
    return "tensorflow" if tensorflow.is_tensorflow(model.source) else "torch"


def weights_of(model: SpeechModel) -> str:
    """sha256 of parameters and buffers."""
    if tensorflow.is_tensorflow(model.source):
        return tensorflow.weights_digest(model.source)
    from rtfleet.export import original

    return original.weights_digest(model)


def _with_reference(model: SpeechModel, ready: Path | None, prepared: PreparedModel, out: Path) -> PreparedModel:
    if prepared.origin == "tensorflow":
        step = tensorflow.step_of(tensorflow.as_described(tensorflow.opened(ready or model.source), prepared))
    else:
        from rtfleet.export import original

        step = original.step_of(model)
    outputs = streaming.reference(step, streaming.streams_of(prepared), prepared.outputs)
    return replace(prepared, reference=feeds.save(outputs, out / REFERENCE))


def _with_loop(
    model: SpeechModel, prepared: PreparedModel, graphs: dict[str, Path], frames: audio.Frames, out: Path
) -> PreparedModel:
    """With what several graphs and their loop add. An input that is fed whole clips has the longest one's dims."""
    vocabulary = None
    if model.vocabulary:
        path = out / VOCABULARY
        path.write_text(transcripts.vocabulary_text(model.vocabulary), encoding="utf-8")
        vocabulary = file_of(path)
    inputs = prepared.inputs
    if frames.utterances:
        inputs = tuple(
            replace(facts, dims=frames.arrays[facts.name].shape[1:]) if facts.constant is None else facts
            for facts in inputs
        )
    format = source.format_of(next(iter(graphs.values())))
    return replace(
        prepared,
        inputs=inputs,
        loop=model.loop,
        graph_files=graphs,
        shipped=(f"{format}-shipped",),
        utterances=frames.utterances,
        vocabulary=vocabulary,
    )


def prepared_of(
    model: SpeechModel,
    key: str,
    folder: Path,
    frames: Frames,
    *,
    origin: Origin,
    ready: Path | None = None,
    guesses: tuple[str, ...] = (),
) -> PreparedModel:
    """A model's facts. `frames` lie in `folder`, where the initial states go too. The name is left to the host."""
    inputs = tuple(
        InputFacts(name, given.dtype, tuple(given.shape), tuple(given.dims), given.constant)
        for name, given in model.inputs.items()
    )
    states = tuple(
        StateFacts(state.input, state.output, zeros_of(state).shape, state.dtype, _initial(state, folder / f"{i}.npy"))
        for i, state in enumerate(model.states)
    )
    format = source.format_of(ready) if ready else None
    return PreparedModel(
        name="",
        key=key,
        task=model.task,
        covers=model.covers,
        sample_rate_hz=model.sample_rate_hz,
        hop_samples=model.hop_samples,
        inputs=inputs,
        outputs=tuple(model.outputs),
        states=states,
        frames=file_of(folder / FRAMES),
        source_file=ready,
        shipped=(f"{format}-shipped",) if format else (),
        threshold=model.threshold,
        priming_s=model.priming_s,
        smoothing_hops=model.smoothing_hops,
        positives=frames.positives,
        note=model.note,
        guesses=(*guesses, *([frames.cut_short] if frames.cut_short else ())),
        synthetic=frames.synthetic,
        keep_float=tuple(model.keep_float),
        lookahead_ms=model.lookahead_ms,
        origin=origin,
    )


def _initial(state: State, path: Path) -> File | None:
    if state.initial is None:
        return None
    np.save(path, zeros_of(state), allow_pickle=False)
    return file_of(path)


def described(model: SpeechModel) -> Mapping[str, Any]:
    """What a model says of itself, for a cache key: no name but those of its tensors."""
    return {
        "task": model.task,
        "inputs": [
            [name, given.dtype, given.shape, given.dims, given.constant] for name, given in model.inputs.items()
        ],
        "outputs": list(model.outputs),
        "states": [[state.input, state.output, state.dtype, _digest(zeros_of(state))] for state in model.states],
        "rate": [model.sample_rate_hz, model.hop_ms],
        "keep_float": list(model.keep_float),
        "loop": asdict(model.loop) if model.loop else None,
        "vocabulary": hashlib.sha256(b"\0".join(model.vocabulary)).hexdigest(),
        "lookahead_ms": model.lookahead_ms,
        "coreml_state": model.coreml_state,
        "decision": [model.threshold, model.priming_s, model.smoothing_hops, model.covers, model.note],
    }


def _digest(array: Array) -> list[Any]:
    return [list(array.shape), hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()]


def _versions() -> dict[str, str]:
    """Versions of the installed packages that are loaded now."""
    from importlib.metadata import PackageNotFoundError, packages_distributions, version

    loaded = {name.partition(".")[0] for name in sys.modules}
    versions = {}
    names = {name for module, owners in packages_distributions().items() if module in loaded for name in owners}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return dict(sorted(versions.items()))
