"""Device profiles: what kind a device is, and which budgets it owes."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rtfleet import metrics, toml_file
from rtfleet.errors import UsageError
from rtfleet.model import TASKS

if TYPE_CHECKING:
    from rtfleet.records import DeviceFacts

# The shipped profiles: at the repository's root of an editable install, inside the package of a wheel.
_PLACES = (Path(__file__).parents[2] / "device_profiles", Path(__file__).parent / "device_profiles")
_SHIPPED_NAME = Path("device_profiles")
_FACTS = ("os", "model", "soc", "arch")


@dataclass(frozen=True)
class Budget:
    """A limit on a metric.

    Attributes:
        task: The task that owes it; "all" is every task.
        metric: Name with its unit, without `_min`: "response_p99_ms", "size_mb" (10^6 bytes), "parity_agreement".
        limit: In the metric's unit.
        floor: True: the value must not be below (`_min`); False: not above.
        where: "FILE: KEY" of the limit, for the report; a flag stands without a file.
        file_sha256: Of that file, as it was read; "" where there is none.
    """

    task: str
    metric: str
    limit: float
    floor: bool
    where: str
    file_sha256: str = ""


@dataclass(frozen=True)
class Profile:
    """One device class. `match` maps facts of the device (os, model, soc, arch) to a pattern (`*` is anything)."""

    name: str
    match: Mapping[str, str]
    budgets: tuple[Budget, ...]


@dataclass(frozen=True)
class _ProfileTable:
    match: dict[str, str]
    budgets: dict[str, dict[str, float]] = field(default_factory=dict)


def match(facts: DeviceFacts, folder: Path | None = None, name: str = "") -> Profile:
    """The profile of a device: by name, or the one that matches with most keys. `folder` comes before the shipped one.

    Raises:
        UsageError: a file of a folder is wrong, or no profile fits.
    """
    folders = [read_folder(folder)] if folder else []
    folders.append(read_folder(_shipped(), _SHIPPED_NAME))
    if name:
        return _named(name, [profile for profiles in folders for profile in profiles])
    for profiles in folders:
        fitting = [profile for profile in profiles if _fits(profile, facts)]
        if fitting:
            return max(fitting, key=lambda profile: len(profile.match))
    seen = ", ".join(f"{fact} = {getattr(facts, fact)!r}" for fact in _FACTS)
    raise UsageError(
        f"device {facts.alias}: no profile fits {seen}",
        hint="write device_profiles/NAME.toml beside fleet.toml, with match = { ... } and [budgets]",
    )


def budgets_for(
    profile: Profile, task: str, overrides: Mapping[str, float] | None = None, where: str = "--budget"
) -> tuple[Budget, ...]:
    """What a model of that task owes on a device of that profile. The task's own limit replaces that of `all`.

    Args:
        overrides: metric (`_min` for a floor) -> limit; each replaces the profile's. `where` says whose they are.
    """
    owed = [budget for budget in profile.budgets if budget.task == "all"]
    owed += [budget for budget in profile.budgets if budget.task == task]
    return _last_of_each(owed + _budgets(task, overrides or {}, where))


def laid_over(
    budgets: Sequence[Budget], task: str, overrides: Mapping[str, float], where: str = "--budget"
) -> tuple[Budget, ...]:
    """`budgets` with those limits replaced or added: the suite's over the profile's, the command line's over both."""
    return _last_of_each([*budgets, *_budgets(task, overrides, where)])


def read_folder(folder: Path, shown_as: Path | None = None) -> tuple[Profile, ...]:
    """All profiles of a folder, by name. Raises UsageError."""
    return tuple(
        read_profile(path, shown_as / path.name if shown_as else path) for path in sorted(folder.glob("*.toml"))
    )


def read_profile(path: Path, shown_as: Path | None = None) -> Profile:
    """A profile file; the report calls it `shown_as`. Raises UsageError."""
    table = toml_file.read(path, _ProfileTable)
    shown = shown_as or path
    for fact in table.match:
        if fact not in _FACTS:
            raise UsageError(f"{path}: match.{fact}: {toml_file.unknown('fact', fact, _FACTS)}")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    budgets: list[Budget] = []
    for task, limits in table.budgets.items():
        if task not in ("all", *TASKS):
            raise UsageError(f"{path}: budgets.{task}: {toml_file.unknown('task', task, ('all', *TASKS))}")
        budgets += _budgets(task, limits, f"{shown}: {task}", sha256, f"{path}: budgets.{task}")
    return Profile(path.stem, table.match, tuple(budgets))


def _budgets(
    task: str, limits: Mapping[str, float], where: str, file_sha256: str = "", complain: str = ""
) -> list[Budget]:
    """`complain` is what an error message begins with, where that is not `where`."""
    found = []
    for key, limit in limits.items():
        try:
            metric, floor = metrics.check_limit(key, limit)
        except UsageError as error:
            near = toml_file.did_you_mean(key, metrics.METRICS)
            raise UsageError(f"{complain or where}.{key}: {error.text}{near}", error.hint) from None
        joint = " " if where.startswith("--") else "."
        found.append(Budget(task, metric, limit, floor, f"{where}{joint}{key}", file_sha256))
    return found


def _last_of_each(budgets: Sequence[Budget]) -> tuple[Budget, ...]:
    return tuple({(budget.metric, budget.floor): budget for budget in budgets}.values())


def _fits(profile: Profile, facts: DeviceFacts) -> bool:
    return all(
        fnmatch.fnmatchcase(str(getattr(facts, fact)).casefold(), pattern.casefold())
        for fact, pattern in profile.match.items()
    )


def _named(name: str, profiles: Sequence[Profile]) -> Profile:
    for profile in profiles:
        if profile.name == name:
            return profile
    raise UsageError(toml_file.unknown("profile", name, dict.fromkeys(profile.name for profile in profiles)))


def _shipped() -> Path:
    for place in _PLACES:
        if (place / "generic-linux.toml").is_file():
            return place
    raise UsageError("this installation has no device_profiles", hint="install rtfleet again")
