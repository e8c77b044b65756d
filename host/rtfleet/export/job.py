"""Models to artifacts, each made once: what `Exports` hands out comes from the cache or from a subprocess.

Importing this module imports no converter, and a suite that did not change starts no subprocess.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from rtfleet import cache as caches
from rtfleet import clips as audio
from rtfleet import feeds, source, transcripts
from rtfleet import loop as loops
from rtfleet.artifact import (
    EXPORTED_VARIANTS,
    RUNTIME_OF_FORMAT,
    SHIPPED_VARIANTS,
    Artifact,
    File,
    Graph,
    PreparedModel,
    State,
    Tensor,
    artifact_id,
    file_of,
    variants_from,
)
from rtfleet.errors import ExportError, UsageError
from rtfleet.export import building, external
from rtfleet.export.inspection import Inspect
from rtfleet.export.jobs import (
    PACKAGES,
    Build,
    Built,
    Convert,
    Elsewhere,
    Look,
    Looked,
    Made,
    Quantize,
    Reference,
    Referred,
    base_of,
    toolchain_of,
)
from rtfleet.export.toolchain import Limits, Toolchain
from rtfleet.source import Source
from rtfleet.suite import ModelEntry
from rtfleet.version import VERSION


@dataclass(frozen=True)
class Known:
    """Where a prepared model lies in the cache, and what must not have changed for it to hold.

    Attributes:
        entry: Name of the entry's folder.
        origins: Files that building it read -> sha256.
        versions: Packages that building it loaded.
        source_file: The ready file, where the model is one.
        guesses: They name the file as it was asked for; a file of the same content has its own.
    """

    entry: str
    origins: dict[str, str]
    versions: dict[str, str]
    weights_sha256: str
    source_file: Path | None
    guesses: tuple[str, ...] = ()
    graph_files: dict[str, Path] = field(default_factory=dict)


class Exports:
    """Prepared models and artifacts. An async context manager: leaving it leaves no subprocess behind."""

    def __init__(self, cache: Path, log_folder: Path, limits: Limits | None = None) -> None:
        self.cache = cache
        limits = limits or Limits()
        self.toolchains = {name: Toolchain(name, log_folder / f"export-{name}.log", limits) for name in PACKAGES}
        self._known: dict[str, tuple[ModelEntry, Known]] = {}
        # A base that can't be made is not tried again for each variant that would be made of it.
        self._failed: dict[Path, ExportError] = {}

    async def __aenter__(self) -> Exports:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        for toolchain in self.toolchains.values():
            await toolchain.close()
        return False

    async def prepare(self, entry: ModelEntry, inspect: Inspect, *, files_only: bool = False) -> PreparedModel:
        """What the host must know of a model: its facts, frames and reference outputs.

        Raises:
            UsageError: no such model, one that can't be built or described, unreadable clips; or Python where only
                files are wanted.
            ExportError: the subprocess that builds it died.
        """
        found = source.resolve(entry)
        if files_only and found.kind == "function":
            raise UsageError(
                f"{entry.where or entry.source}: {found.text} is Python code, and --files-only refuses to run any",
                "give a model file, or a model of the zoo",
            )
        # "TensorFlow models are programs", says TensorFlow's own SECURITY.md: a SavedModel may read and write files,
        # and Keras's safe mode refuses Lambda layers but is no sandbox.
        if files_only and found.path is not None and source.is_tensorflow(found.path):
            raise UsageError(
                f"{entry.where or entry.source}: a TensorFlow model is a program, and --files-only refuses to run any",
                "give the .tflite that it becomes",
            )
        clips, positives = audio.find(entry), audio.find_positives(entry)
        note = self.cache / "models" / f"{_question(entry, found, clips, positives)}.json"
        known = caches.read_note(note, Known)
        prepared = self._recall(known) if known else None
        if known is None or prepared is None:
            known, prepared = await self._build(entry, found, clips, positives, inspect)
            caches.write_note(note, known)
        self._known[prepared.key] = entry, known
        return replace(
            prepared,
            name=entry.name,
            source_file=known.source_file,
            guesses=known.guesses,
            graph_files=known.graph_files,
        )

    def _recall(self, known: Known) -> PreparedModel | None:
        """The prepared model, if nothing that it was made from has changed."""
        if any(_sha256(Path(path)) != sha256 for path, sha256 in known.origins.items()):
            return None
        if known.versions != versions(known.versions):
            return None
        entry = caches.load(self.cache / "prepared" / known.entry, PreparedModel)
        return located(entry) if entry else None

    async def _build(
        self, entry: ModelEntry, found: Source, clips: list[Path], positives: list[Path], inspect: Inspect
    ) -> tuple[Known, PreparedModel]:
        with caches.making(self.cache / "prepared") as folder:
            if found.kind == "file":
                assert found.path is not None
                described = self._described if source.is_tensorflow(found.path) else describe_file
                built = await described(entry, found.path, (clips, positives), inspect, folder)
            else:
                # Their names may say what is in them, so that links stay links.
                heard, with_phrase = (tuple(path.absolute() for path in these) for these in (clips, positives))
                job = Build(found.text, entry.folder.resolve(), heard, with_phrase, folder)
                reply = await self.toolchains[job.toolchain].run(job, f"building {found.text}")
                if isinstance(reply, Elsewhere):
                    job = replace(job, toolchain=reply.toolchain)
                    reply = await self.toolchains[job.toolchain].run(job, f"building {found.text}")
                assert isinstance(reply, Built)
                built = reply
            said = [(one.clip, one.transcript) for one in built.prepared.utterances]
            about = (built.prepared.key, built.prepared.frames.sha256, built.prepared.positives, said)
            name = caches.key_of(*about, _machinery())
            facts = without_places(built.prepared)
            stored = caches.keep(folder, self.cache / "prepared" / name, facts)
        prepared = built.prepared
        known = Known(
            entry=name,
            origins=built.origins,
            versions=built.versions,
            weights_sha256=built.weights_sha256,
            source_file=prepared.source_file,
            guesses=prepared.guesses,
            graph_files=prepared.graph_files,
        )
        return known, located(stored)

    async def _described(
        self, entry: ModelEntry, path: Path, clips: tuple[list[Path], list[Path]], inspect: Inspect, folder: Path
    ) -> Built:
        """A SavedModel or `.keras` file: TensorFlow tells its tensors in the place of an agent, then what it gives."""
        toolchain = self.toolchains["tensorflow"]

        async def look(runtime: str, path: Path) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
            reply = await toolchain.run(Look(path.resolve()), f"reading {path.name}")
            assert isinstance(reply, Looked)
            return reply.inputs, reply.outputs

        built = await describe_file(entry, path, clips, look, folder)
        reply = await toolchain.run(Reference(path.resolve(), built.prepared, folder), f"running {path.name}")
        assert isinstance(reply, Referred)
        facts = replace(built.prepared, reference=reply.file)
        return replace(built, prepared=facts, versions=versions(PACKAGES["tensorflow"]))

    async def export(self, prepared: PreparedModel, variant: str, inspect: Inspect) -> Artifact:
        """The variant on disk, with feeds and reference.

        Raises:
            ExportError: a route that does not work, naming the step or operator and what to try; a row of the report.
            UsageError: a ready file that its runtime or its description refuses.
        """
        if variant in SHIPPED_VARIANTS:
            graphs, exporters, checked = await self._shipped(prepared, variant, inspect), {}, ""
            reference = prepared.reference
        elif variant in EXPORTED_VARIANTS:
            made = await self._made(prepared, variant)
            exporters = versions(PACKAGES[toolchain_of(variant, prepared.origin)])
            graphs, checked = (made.graph,), made.checked
            reference = await self._reference(prepared)
        else:
            raise UsageError(f"unknown variant '{variant}'", f"there are {', '.join(EXPORTED_VARIANTS)}")
        graphs = tuple(with_states(graph, prepared) for graph in graphs)
        return Artifact(
            id=artifact_id(graphs),
            model=prepared.name,
            task=prepared.task,
            covers=prepared.covers,
            variant=variant,
            sample_rate_hz=prepared.sample_rate_hz,
            hop_samples=prepared.hop_samples,
            graphs=graphs,
            feeds=self._feeds(prepared, graphs),
            reference=reference,
            exporters=exporters,
            loop=prepared.loop,
            threshold=prepared.threshold,
            score=prepared.outputs[0],
            priming_s=prepared.priming_s,
            smoothing_hops=prepared.smoothing_hops,
            positives=prepared.positives,
            note=prepared.note,
            synthetic=prepared.synthetic,
            utterances=prepared.utterances,
            vocabulary=prepared.vocabulary,
            lookahead_ms=prepared.lookahead_ms,
            checked=checked,
        )

    async def _shipped(self, prepared: PreparedModel, variant: str, inspect: Inspect) -> tuple[Graph, ...]:
        runtime = RUNTIME_OF_FORMAT[variant.partition("-")[0]]
        if variant in prepared.shipped and prepared.graph_files:
            return tuple(
                [await _as_it_came(name, path, runtime, inspect) for name, path in prepared.graph_files.items()]
            )
        if variant not in prepared.shipped or prepared.source_file is None:
            there = f"the model is the file {prepared.source_file.name}" if prepared.source_file else "it is Python"
            raise ExportError(f"{prepared.name} has no {variant}: {there}", "leave `variants` out", step="source")
        return (await _as_it_came("model", prepared.source_file, runtime, inspect),)

    async def _made(self, prepared: PreparedModel, variant: str) -> Made:
        """An exported variant, from the cache where it is there."""
        if variant not in variants_from(prepared.origin):
            raise _cannot_become(variant, prepared)
        folder = self._folder_of(prepared, variant)
        entry = caches.load(folder, Made)
        if entry is None and folder in self._failed:
            raise self._failed[folder]
        if entry is None:
            base = await self._base(prepared, variant)
            with caches.making(folder.parent) as making:
                job = self._job(prepared, variant, base, making)
                toolchain = self.toolchains[toolchain_of(variant, prepared.origin)]
                try:
                    reply = await toolchain.run(job, f"exporting {variant}")
                except ExportError as error:
                    self._failed[folder] = error
                    raise
                assert isinstance(reply, Made)
                made = replace(reply, graph=replace(reply.graph, files=_without_locations(reply.graph.files)))
                entry = caches.keep(making, folder, made)
        graph = entry.facts.graph
        files = tuple(entry.files[file.path] for file in graph.files)
        return replace(entry.facts, graph=replace(graph, files=files))

    async def _base(self, prepared: PreparedModel, variant: str) -> tuple[Path, tuple[str, ...]] | None:
        """The file that a variant is made of, and what its quantizers must keep; None: the module itself."""
        if prepared.source_file is not None:
            return prepared.source_file, prepared.keep_float
        from_variant = base_of(variant) if prepared.origin == "torch" else None
        if from_variant is None:
            return None
        made = await self._made(prepared, from_variant)
        location = made.graph.files[0].location
        assert location is not None
        return location, made.kept

    async def _reference(self, prepared: PreparedModel) -> File | None:
        """The original's outputs. A ready file runs for them when the first other file is made of it."""
        if prepared.reference is not None or prepared.source_file is None:
            return prepared.reference
        parts = (prepared.key, prepared.frames.sha256, versions(("onnxruntime",)), _machinery())
        folder = self.cache / "references" / caches.key_of("reference", *parts)
        entry = caches.load(folder, bool)
        if entry is None:
            with caches.making(folder.parent) as making:
                job = Reference(prepared.source_file, prepared, making)
                await self.toolchains["onnx"].run(job, f"running {prepared.source_file.name}")
                entry = caches.keep(making, folder, True)
        return entry.files[building.REFERENCE]

    def is_cached(self, prepared: PreparedModel, variant: str) -> bool:
        """Whether `export` would make nothing anew (unless what lies there is damaged)."""
        return variant in prepared.shipped or self._folder_of(prepared, variant).is_dir()

    def _folder_of(self, prepared: PreparedModel, variant: str) -> Path:
        """Where an exported variant lies in the cache: named by all that it follows from."""
        packages = PACKAGES[toolchain_of(variant, prepared.origin)]
        calibrated = prepared.frames.sha256 if variant.endswith(("int8-static", "tensorrt-int8")) else ""
        return (
            self.cache
            / "artifacts"
            / caches.key_of(variant, versions(packages), prepared.key, calibrated, _machinery())
        )

    def _job(
        self, prepared: PreparedModel, variant: str, base: tuple[Path, tuple[str, ...]] | None, out: Path
    ) -> Convert | Quantize:
        if base is not None:
            return Quantize(*base, prepared, variant, out)
        entry, known = self._known[prepared.key]
        folder = entry.folder.resolve()
        return Convert(entry.source, folder, prepared, known.weights_sha256, known.origins, variant, out)

    def _feeds(self, prepared: PreparedModel, graphs: tuple[Graph, ...]) -> File:
        """The frames in the graphs' own dtypes; variants that agree in them share one file."""
        named = {facts.name for facts in prepared.inputs}
        tensors = tuple(
            tensor
            for graph in graphs
            for tensor in graph.inputs
            if tensor.name in named and not loops.fills(prepared.loop, graph.name, tensor.name)
        )
        folder = self.cache / "feeds" / caches.key_of("feeds", prepared.frames.sha256, tensors, _machinery())
        entry = caches.load(folder, bool)
        if entry is None:
            assert prepared.frames.location is not None
            with caches.making(folder.parent) as making:
                feeds.to_feeds(prepared.frames.location, tensors, making / "feeds.npz")
                entry = caches.keep(making, folder, True)
        return entry.files["feeds.npz"]


async def _as_it_came(name: str, path: Path, runtime: str, inspect: Inspect) -> Graph:
    inputs, outputs = await inspect(runtime, path)
    return Graph(name, external.files_of(path), inputs, outputs)


async def describe_file(
    entry: ModelEntry, path: Path, clips: tuple[list[Path], list[Path]], inspect: Inspect, folder: Path
) -> Built:
    """A user's own file: its tensors asked of its runtime, the rest described or guessed, its frames into `folder`.

    Args:
        clips: All, and those that contain what a wake word listens for.

    Raises:
        UsageError: a damaged file, external data elsewhere, or something that can't be guessed.
    """
    files = external.files_of(path)
    inputs, outputs = await inspect(RUNTIME_OF_FORMAT.get(source.format_of(path) or "", "tensorflow"), path)
    model, guesses = source.from_file(entry, path, inputs, outputs)
    frames = audio.frames_of(model, *clips)
    feeds.save(frames.arrays, folder / building.FRAMES)
    key = caches.key_of([file.sha256 for file in files], building.described(model))
    prepared = building.prepared_of(
        model,
        key,
        folder,
        frames,
        origin=source.origin_of_path(path),
        ready=path.resolve(),
        guesses=tuple(guesses),
    )
    origins = {str(file.location.resolve()): file.sha256 for file in files if file.location}
    return Built(prepared, "", origins, {})


def _cannot_become(variant: str, prepared: PreparedModel) -> ExportError:
    """Why a variant can't be made of such a model, and what to do."""
    if prepared.origin == "tensorflow":
        text, hint = "a TensorFlow model becomes TFLite alone", ", ".join(variants_from("tensorflow"))
        return ExportError(text, hint, step="source")
    shipped = ", ".join(prepared.shipped)
    name = prepared.source_file.name if prepared.source_file else prepared.name
    text = f"{variant} can't be made from {name}, only from a PyTorch module"
    hint = f"measure it as it is ({shipped}), or give the module that it was exported from"
    if prepared.graph_files:
        text = f"{variant} can't be made of {name}: it is several ready files with a loop between them"
        hint = f"measure it as it is ({shipped})"
    elif variant == "onnx-fp32" and prepared.origin == "onnx":
        text, hint = f"{name} is the ONNX file that the others are made of", f"measure it as {shipped}"
    return ExportError(text, hint, step="source")


def with_states(graph: Graph, prepared: PreparedModel) -> Graph:
    """The graph with its state pairs and the concrete dims that are measured."""
    own = {tensor.name for tensor in graph.inputs if not loops.fills(prepared.loop, graph.name, tensor.name)}
    dims: dict[str, tuple[int, ...]] = {facts.name: facts.dims for facts in prepared.inputs if facts.name in own}
    dims |= {state.input: state.shape for state in prepared.states if state.input in own}
    shapes = {
        tensor.name: dims[tensor.name] if len(dims.get(tensor.name, ())) == len(tensor.shape) else tensor.shape
        for tensor in graph.inputs
    }
    if prepared.loop is not None:
        # What lies between two graphs: an unknown batch is 1, other unknown dims change while the loop runs.
        shapes = {name: (1, *shape[1:]) if shape[:1] == (-1,) else shape for name, shape in shapes.items()}
        shapes = {name: shape for name, shape in shapes.items() if -1 not in shape}
    # A state that is no input of this graph is another's, or lives inside the model.
    states = tuple(State(one.input, one.output, one.initial) for one in prepared.states if one.input in own)
    return replace(graph, states=states, shapes=shapes)


def versions(packages: Mapping[str, str] | tuple[str, ...]) -> dict[str, str]:
    """Versions of installed packages; those that are missing are left out."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def without_places(prepared: PreparedModel) -> PreparedModel:
    """As it is stored: files by their names in the entry's folder, nothing of where the model came from."""

    def bare(file: File | None) -> File | None:
        return replace(file, location=None) if file else None

    states = tuple(replace(state, initial=bare(state.initial)) for state in prepared.states)
    return replace(
        prepared,
        frames=replace(prepared.frames, location=None),
        reference=bare(prepared.reference),
        states=states,
        source_file=None,
        guesses=(),
        graph_files={},
        vocabulary=bare(prepared.vocabulary),
    )


def located(entry: caches.Entry[PreparedModel]) -> PreparedModel:
    """As it is used: each file with its location."""
    prepared, files = entry.facts, entry.files

    def found(file: File | None) -> File | None:
        return files[file.path] if file else None

    states = tuple(replace(state, initial=found(state.initial)) for state in prepared.states)
    return replace(
        prepared,
        frames=files[prepared.frames.path],
        reference=found(prepared.reference),
        states=states,
        vocabulary=found(prepared.vocabulary),
    )


def _without_locations(files: tuple[File, ...]) -> tuple[File, ...]:
    return tuple(replace(file, location=None) for file in files)


def _question(entry: ModelEntry, found: Source, clips: list[Path], positives: list[Path]) -> str:
    """What was asked for: an address, not a content. `Known` says whether the answer still holds."""
    description: dict[str, Any] = asdict(
        replace(entry, name="", folder=Path(), variants=(), clips=(), positives=(), budgets={}, where="")
    )
    where = [] if found.kind == "zoo" else [str(entry.folder.resolve()), str(found.path)]
    heard = [
        [path.name, file_of(path).sha256, path in positives, transcripts.beside(path)]
        for path in dict.fromkeys((*clips, *positives))
    ]
    return caches.key_of(found.kind, found.text, where, description, heard, _machinery())


def _machinery() -> list[str]:
    """What of rtfleet and Python shapes an artifact: their versions, and in a checkout the code itself."""
    here = Path(__file__).parent
    code = [*sorted(here.glob("*.py")), *(here.parent / f"{name}.py" for name in ("clips", "feeds", "guess", "source"))]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in code)).hexdigest()
    return [VERSION, f"{sys.version_info.major}.{sys.version_info.minor}", digest]


def _sha256(path: Path) -> str | None:
    try:
        return file_of(path).sha256
    except OSError:
        return None
