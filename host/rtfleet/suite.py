"""Suites: which models to measure and how."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePath
from typing import Any

from rtfleet import metrics, toml_file
from rtfleet.artifact import ALL, VARIANTS
from rtfleet.errors import UsageError
from rtfleet.model import Task
from rtfleet.records import CoreSpec, RunSettings, Scenario

ACCELERATORS = ("cpu", "gpu", "npu")
MOST_THREADS = 1024
# Audio faster or hops longer than these are slips of the pen.
HIGHEST_RATE_HZ = 768_000
LONGEST_HOP_MS = 60_000

BUILT_IN = Path(__file__).parent / "suites"


@dataclass(frozen=True)
class ModelEntry:
    """One `[[model]]`, or the model of the command line.

    Attributes:
        name: What the report calls it; follows from `source` when not given.
        source: Zoo name, `module:function`, `file.py:function`, or a file.
        folder: What relative paths are relative to.
        variants: As written, "all" among them; () is the default: fp32 and int8-static of ONNX and TFLite, or the
            shipped file.
        clips: Globs of audio files; () is the shipped clips.
        positives: Globs of further ones, that contain what a wake word listens for; those of `clips` then contain it
            nowhere. (): nobody knows, unless the model says it.
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
    positives: tuple[str, ...] = ()
    budgets: Mapping[str, float] = field(default_factory=dict)
    scenario: Scenario | None = None
    threads: int | None = None
    task: Task | None = None
    hop_ms: float | None = None
    hop_samples: int | None = None
    sample_rate_hz: int | None = None
    threshold: float | None = None
    smoothing_hops: int | None = None
    inputs: Mapping[str, tuple[int, ...] | float | int | bool] = field(default_factory=dict)
    states: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    where: str = ""


@dataclass(frozen=True)
class Settings:
    """`run = {...}` of a suite, and its command line.

    Attributes:
        plain: Each case of the CPU once more with the runtime's optimizer and default delegates off.
    """

    run: RunSettings = field(default_factory=RunSettings)
    scenario: Scenario | None = None
    threads: tuple[int, ...] = (1,)
    accelerators: tuple[str, ...] = ("cpu",)
    cpus: CoreSpec = ()
    allow_fallback: bool = False
    plain: bool = False


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
    lease_wait_s: float | None = None
    comeback_s: float | None = None
    scenario: Scenario | None = None
    threads: tuple[int, ...] | None = None
    accelerators: tuple[str, ...] | None = None
    cpus: CoreSpec | None = None
    allow_fallback: bool | None = None
    plain: bool | None = None


@dataclass(frozen=True)
class _ModelTable:
    source: str
    name: str | None = None
    variants: tuple[str, ...] = ()
    clips: tuple[str, ...] = ()
    positives: tuple[str, ...] = ()
    budgets: dict[str, float] = field(default_factory=dict)
    scenario: Scenario | None = None
    threads: int | None = None
    task: Task | None = None
    hop_ms: float | None = None
    hop_samples: int | None = None
    sample_rate_hz: int | None = None
    threshold: float | None = None
    smoothing_hops: int | None = None
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
    files = (".onnx", ".ort", ".tflite", ".mlpackage", ".keras", ".fake")
    return path.stem if path.suffix in files else path.name or source


def check_variants(variants: Sequence[str], where: str) -> None:
    """Raises UsageError that lists the known variants."""
    for index, variant in enumerate(variants):
        if variant not in (*VARIANTS, ALL):
            raise UsageError(f"{where}[{index}]: {toml_file.unknown('variant', variant, VARIANTS)}")


def _settings(table: _RunTable, where: str) -> Settings:
    given = {name: value for name, value in vars(table).items() if value is not None}
    for name, accelerator in (("accelerators", one) for one in given.get("accelerators", ())):
        if accelerator not in ACCELERATORS:
            raise UsageError(f"{where}.{name}: {toml_file.unknown('accelerator', accelerator, ACCELERATORS)}")
    for name in ("threads", "accelerators"):
        if name in given and not given[name]:
            raise UsageError(f"{where}.{name}: is empty", hint="leave it out for the default")
        if name in given:
            given[name] = tuple(dict.fromkeys(given[name]))
    for threads in given.get("threads", ()):
        if not 1 <= threads <= MOST_THREADS:
            raise UsageError(f"{where}.threads: expected 1 to {MOST_THREADS}, found {threads}")
    if not isinstance(cpus := given.get("cpus", ()), str) and any(cpu < 0 for cpu in cpus):
        raise UsageError(f"{where}.cpus: a core's number is 0 or more")
    of_run = {name: given.pop(name) for name in [one.name for one in fields(RunSettings)] if name in given}
    try:
        return Settings(RunSettings(**of_run), **given)
    except ValueError as error:
        raise UsageError(f"{where}.{error}") from None


def _entry(table: _ModelTable, path: Path, where: str) -> ModelEntry:
    given: dict[str, Any] = dict(vars(table))
    check_variants(table.variants, f"{where}.variants")
    _check_positive(given, ("hop_ms", "hop_samples", "sample_rate_hz", "threads", "smoothing_hops"), where)
    if (table.sample_rate_hz or 0) > HIGHEST_RATE_HZ:
        raise UsageError(f"{where}.sample_rate_hz: expected at most {HIGHEST_RATE_HZ}, found {table.sample_rate_hz}")
    if table.hop_ms is not None and not 0.1 <= table.hop_ms <= LONGEST_HOP_MS:
        raise UsageError(f"{where}.hop_ms: expected 0.1 to {LONGEST_HOP_MS}, found {table.hop_ms:g}")
    if table.threads is not None and table.threads > MOST_THREADS:
        raise UsageError(f"{where}.threads: expected 1 to {MOST_THREADS}, found {table.threads}")
    if table.name == "" or table.source == "":
        raise UsageError(f"{where}.{'name' if table.source else 'source'}: is empty")
    if table.hop_ms is not None and table.hop_samples is not None:
        raise UsageError(f"{where}.hop_samples: hop_ms is given too", hint="give one of the two")
    for metric, limit in table.budgets.items():
        try:
            metrics.check_limit(metric, limit)
        except UsageError as error:
            near = toml_file.did_you_mean(metric, metrics.METRICS)
            raise UsageError(f"{where}.budgets.{metric}: {error.text}{near}", error.hint) from None
    given["variants"] = tuple(dict.fromkeys(table.variants))
    for name, shape in table.inputs.items():
        if isinstance(shape, float) and not math.isfinite(shape):
            raise UsageError(f"{toml_file.key_path(f'{where}.inputs', name)}: expected a finite number")
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
