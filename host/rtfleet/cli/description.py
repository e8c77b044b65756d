"""The flags that describe one model, which is a file: text to values."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rtfleet.errors import UsageError
from rtfleet.model import TASKS, Task
from rtfleet.suite import ModelEntry, check_variants, name_of


def pairs(texts: Sequence[str], flag: str) -> dict[str, str]:
    """`NAME=VALUE` flags. Raises UsageError."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise UsageError(f"{flag} {text}: expected NAME=VALUE")
        if name in found:
            raise UsageError(f"{flag} {name}: given twice")
        found[name] = value
    return found


def inputs(texts: Sequence[str]) -> dict[str, tuple[int, ...] | float | int | bool]:
    """`input=1x576` is a shape, `sr=16000` a constant. Raises UsageError."""
    return {name: _input(name, value) for name, value in pairs(texts, "--input").items()}


def _input(name: str, value: str) -> tuple[int, ...] | float | int | bool:
    if value in ("true", "false"):
        return value == "true"
    if re.fullmatch(r"\d+(x\d+)+", value):
        return tuple(map(int, value.split("x")))
    if re.fullmatch(r"\[\s*\d+(\s*,\s*\d+)*\s*\]", value):
        return tuple(map(int, value.strip("[] ").split(",")))
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"--input {name}={value}: expected a shape like 1x576 or [576], or a number")
    return int(number) if re.fullmatch(r"-?\d+", value) else number


def states(texts: Sequence[str]) -> dict[str, str]:
    """`state=stateN`. Raises UsageError."""
    return pairs(texts, "--state")


def task(text: str | None) -> Task | None:
    """Raises UsageError."""
    if text is not None and text not in TASKS:
        raise UsageError(f"--task {text}: there are {', '.join(TASKS)}")
    return next((known for known in TASKS if known == text), None)


@dataclass(frozen=True)
class Description:
    """The flags that describe one model."""

    task: Task | None
    hop_ms: float | None
    sample_rate_hz: int | None
    inputs: Mapping[str, tuple[int, ...] | float | int | bool]
    states: Mapping[str, str]
    clips: tuple[str, ...]

    @property
    def given(self) -> bool:
        """Any of them was given."""
        return any((self.task, self.hop_ms, self.sample_rate_hz, self.inputs, self.states, self.clips))


def entry_of(what: str, variants: Sequence[str], described: Description) -> ModelEntry:
    """The model that `what` names. Raises UsageError for an unknown variant."""
    check_variants(variants, "--variant")
    return ModelEntry(
        name=name_of(what),
        source=what,
        folder=Path.cwd(),
        variants=tuple(dict.fromkeys(variants)),
        **vars(described),
        where="the command line",
    )
