"""Suites: which models to measure and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path, PurePath
from typing import Any

from rtfleet import metrics, toml_file
from rtfleet.artifact import VARIANTS
from rtfleet.errors import UsageError
from rtfleet.model import Task
from rtfleet.records import CoreSpec, RunSettings, Scenario

BUILT_IN = Path(__file__).parent / "suites"


@dataclass(frozen=True)
class ModelEntry:
    """One `[[model]]`, or the model of the command line.

    Attributes:
        name: What the report calls it; follows from `source` when not given.
        source: Zoo name, `module:function`, `file.py:function`, or a file.
        folder: What relative paths are relative to.
        variants: As written; () is the default: fp32 and int8-static of ONNX and TFLite, or the shipped file.
        clips: Globs of audio files; () is the shipped clips.
        budgets: metric (with `_min` for a floor) -> limit; replaces that limit of the profile.
        task ... outputs: The description of a model that is a file; None or empty where it is guessed or built in.
        inputs: name -> shape (tuple) or constant (number).
        states: state input -> state output.
        where: File and key path of this entry, for error messages.
    """

    name: str
    source: str
    folder: Path
    variants: tuple[str, ...] = ()
    clips: tuple[str, ...] = ()
    budgets: Mapping[str, float] = field(default_factory=dict)
    scenario: Scenario | None = None
    threads: int | None = None
    task: Task | None = None
    hop_ms: float | None = None
    hop_samples: int | None = None
    sample_rate_hz: int | None = None
    threshold: float | None = None
    inputs: Mapping[str, tuple[int, ...] | float | int | bool] = field(default_factory=dict)
    states: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    where: str = ""


@dataclass(frozen=True)
class Settings:
    """`run = {...}` of a suite, and its command line."""

    run: RunSettings = field(default_factory=RunSettings)
    scenario: Scenario | None = None
    threads: tuple[int, ...] = (1,)
    accelerators: tuple[str, ...] = ("cpu",)
    cpus: CoreSpec = ()
    allow_fallback: bool = False


@dataclass(frozen=True)
class Suite:
    """A suite, read and checked."""

    name: str
    models: tuple[ModelEntry, ...]
    settings: Settings = field(default_factory=Settings)


# ---- a suite as its file writes it ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _RunTable:
    launches: int | None = None
    confidence: float | None = None
    frames: int | None = None
    min_duration_s: float | None = None
    timeout_s: float | None = None
    tolerance: float | None = None
    max_temperature_c: float | None = None
    min_battery_percent: float | None = None
    max_wait_s: float | None = None
    scenario: Scenario | None = None
    threads: tuple[int, ...] | None = None
    accelerators: tuple[str, ...] | None = None
    cpus: CoreSpec | None = None
    allow_fallback: bool | None = None


@dataclass(frozen=True)
class _ModelTable:
    source: str
    name: str | None = None
    variants: tuple[str, ...] = ()
    clips: tuple[str, ...] = ()
    budgets: dict[str, float] = field(default_factory=dict)
    scenario: Scenario | None = None
    threads: int | None = None
    task: Task | None = None
    hop_ms: float | None = None
    hop_samples: int | None = None
    sample_rate_hz: int | None = None
    threshold: float | None = None
    inputs: dict[str, tuple[int, ...] | float | int | bool] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class _SuiteTable:
    model: tuple[_ModelTable, ...]
    run: _RunTable = field(default_factory=_RunTable)


def find(what: str) -> Suite | None:
    """The built-in suite of that name or the suite of that file; None where it names a model."""
    if what.endswith(".toml"):
        return read_suite(Path(what))
    return read_suite(BUILT_IN / f"{what}.toml") if what in built_in_names() else None


def built_in_names() -> tuple[str, ...]:
    """The suites that rtfleet brings along."""
    return tuple(sorted(path.stem for path in BUILT_IN.glob("*.toml")))


def read_suite(path: Path) -> Suite:
    """A suite file, checked as far as it can be without its models. Raises UsageError."""
    table = toml_file.read(path, _SuiteTable)
    if not table.model:
        raise UsageError(f"{path}: model: names no model", hint='add [[model]] with source = "..."')
    settings = _settings(table.run, f"{path}: run")
    entries = tuple(_entry(model, path, f"{path}: model[{index}]") for index, model in enumerate(table.model))
    first: dict[str, str] = {}
    for entry in entries:
        if entry.name in first:
            raise UsageError(
                f"{entry.where}.name: {first[entry.name]} is called '{entry.name}' too",
                hint='give one of them a name = "..." of its own',
            )
        first[entry.name] = entry.where.rpartition(" ")[2]
    return Suite(path.stem, entries, settings)


def name_of(source: str) -> str:
    """What a model is called when nobody says: the function's name, the file's without its ending, the zoo's."""
    _, colon, function = source.rpartition(":")
    if colon and function.isidentifier():
        return function
    path = PurePath(source.removesuffix(".json"))
    return path.stem if path.suffix in (".onnx", ".ort", ".tflite", ".fake") else source


def check_variants(variants: Sequence[str], where: str) -> None:
    """Raises UsageError that lists the known variants."""
    for index, variant in enumerate(variants):
        if variant not in VARIANTS:
            raise UsageError(f"{where}[{index}]: {toml_file.unknown('variant', variant, VARIANTS)}")


def _settings(table: _RunTable, where: str) -> Settings:
    given = {name: value for name, value in vars(table).items() if value is not None}
    _check_positive(given, ("launches", "frames", "min_duration_s", "timeout_s"), where)
    confidence = given.get("confidence", 0.99)
    if not 0.5 <= confidence < 1:
        raise UsageError(f"{where}.confidence: expected at least 0.5 and below 1 (like 0.99), found {confidence}")
    if given.get("max_wait_s", 0) < 0:
        raise UsageError(f"{where}.max_wait_s: expected 0 or more, found {given['max_wait_s']:g}")
    for threads in given.get("threads", ()):
        _check_positive({"threads": threads}, ("threads",), where)
    of_run = {name: given.pop(name) for name in [one.name for one in fields(RunSettings)] if name in given}
    return replace(Settings(), run=replace(RunSettings(), **of_run), **given)


def _entry(table: _ModelTable, path: Path, where: str) -> ModelEntry:
    given: dict[str, Any] = dict(vars(table))
    check_variants(table.variants, f"{where}.variants")
    _check_positive(given, ("hop_ms", "hop_samples", "sample_rate_hz", "threads"), where)
    if table.hop_ms is not None and table.hop_samples is not None:
        raise UsageError(f"{where}.hop_samples: hop_ms is given too", hint="give one of the two")
    for metric in table.budgets:
        try:
            metrics.read_key(metric)
        except UsageError as error:
            near = toml_file.did_you_mean(metric, metrics.METRICS)
            raise UsageError(f"{where}.budgets.{metric}: {error.text}{near}", error.hint) from None
    for name, shape in table.inputs.items():
        if isinstance(shape, tuple) and any(dim < 1 for dim in shape):
            raise UsageError(f"{toml_file.key_path(f'{where}.inputs', name)}: a dim of a shape is at least 1")
    given["name"] = table.name or name_of(table.source)
    # A built-in suite names zoo models only, so that no path of this installation gets into a report.
    shown = where.replace(str(BUILT_IN), "suites") if path.parent == BUILT_IN else where
    return ModelEntry(**given, folder=path.parent, where=shown)


def _check_positive(given: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    for name in names:
        value = given.get(name)
        if value is not None and value <= 0:
            raise UsageError(f"{where}.{name}: expected more than 0, found {value}")
