"""What a campaign is asked to do, and its way through a run's journal, so that `--resume` asks for the same again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtfleet.fleet import Device
from rtfleet.records import Case, CaseResult, CoreSpec, DeviceFacts, Json
from rtfleet.run_file import Unfinished
from rtfleet.suite import ModelEntry, Suite

if TYPE_CHECKING:
    from cattrs.preconf.json import JsonConverter

# Before the name of a model that is measured only to be compared with.
BASELINE = "baseline:"


def only_compared(case: Case) -> bool:
    """Whether a case is there for a comparison alone: a baseline, a graph as it is written, PyTorch itself.

    Nobody ships these, so they owe no budget and are not recommended.
    """
    return case.model.startswith(BASELINE) or not case.options.optimize or case.variant.startswith("torch-")


@dataclass(frozen=True)
class Evidence:
    """What a resumed run has already.

    Attributes:
        results: Case id -> its facts.
        launches: Case id -> good launches that it is to have in the end.
        unfinished: What the agents may still hold.
        devices: Alias -> the device as it was.
    """

    results: Mapping[str, CaseResult] = field(default_factory=dict)
    launches: Mapping[str, int] = field(default_factory=dict)
    unfinished: Unfinished = field(default_factory=lambda: Unfinished({}, ()))
    devices: Mapping[str, DeviceFacts] = field(default_factory=dict)


@dataclass(frozen=True)
class Order:
    """What a campaign is asked to do.

    Attributes:
        baseline: Models that the suite's are compared with, launch by launch on the same device; None: no comparison.
        only_variants: A filter on the suite's variants; () is all.
        budgets: metric -> limit of the command line; they replace the profile's and the suite's.
        files_only: Refuse models that are Python.
        profile_ops: After all latency, one launch a case for its times per operator.
        count: So many of the devices are enough, whichever answer first; None: all.
        profiles: A `device_profiles` folder beside fleet.toml, searched before the shipped one.
        evidence: Of the run that is resumed; it stands in that run's directory, not in the order as it is kept.
    """

    run_id: str
    suite: Suite
    devices: tuple[Device, ...]
    cache: Path
    baseline: Suite | None = None
    only_variants: tuple[str, ...] = ()
    budgets: Mapping[str, float] = field(default_factory=dict)
    files_only: bool = False
    profile_ops: bool = False
    count: int | None = None
    profiles: Path | None = None
    evidence: Evidence = Evidence()

    @property
    def models(self) -> tuple[ModelEntry, ...]:
        """All models to measure; those of the baseline under names of their own."""
        named = () if self.baseline is None else self.baseline.models
        return (*self.suite.models, *(replace(entry, name=f"{BASELINE}{entry.name}") for entry in named))


def to_json(order: Order) -> Json:
    """As it is kept in a journal: paths whole, so that it holds from any working directory."""
    plain: dict[str, Any] = _converter().unstructure(replace(order, evidence=Evidence()))
    del plain["evidence"]
    return plain


def of_json(plain: Json) -> Order:
    """What `to_json` made. Raises cattrs.BaseValidationError for anything else."""
    return _converter().structure({**plain, "evidence": {}}, Order)


def _converter() -> JsonConverter:
    from cattrs.preconf.json import make_converter

    converter = make_converter(forbid_extra_keys=True)
    converter.register_unstructure_hook(Path, lambda path: str(path.absolute()))
    converter.register_structure_hook(Path, lambda text, _: Path(text))
    converter.register_structure_hook(Evidence, lambda _, __: Evidence())
    # An input is a shape or a constant (`ModelEntry.inputs`); cores are of a kind, or numbers.
    for kind in (tuple[int, ...] | float | int | bool, CoreSpec):
        converter.register_structure_hook(kind, lambda value, _: tuple(value) if isinstance(value, list) else value)
    return converter
