"""TOML files to frozen records. Every complaint names file and key path and, for a misspelt word, the near match."""

from __future__ import annotations

import difflib
import functools
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

from rtfleet.errors import UsageError

if TYPE_CHECKING:
    from cattrs import Converter

T = TypeVar("T")


def read(path: Path, record: type[T]) -> T:
    """The file as a record of that dataclass. A tuple field also takes a single value.

    Raises:
        UsageError: the file can't be read, is no TOML, or does not fit; one line for each thing that is wrong.
    """
    from cattrs import BaseValidationError

    document = load(path)
    try:
        return _converter().structure(document, record)
    except BaseValidationError as error:
        raise UsageError("\n".join(f"{path}: {problem}" for problem in problems(error))) from None


def load(path: Path) -> dict[str, Any]:
    """The file as tomllib reads it. Raises UsageError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: can't be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: is no TOML: {error}") from None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or "" where nothing known is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def unknown(what: str, word: object, known: Iterable[str]) -> str:
    """`unknown variant 'onnx-fp23'; did you mean 'onnx-fp32'? There are onnx-fp32, ...`"""
    names = list(known)
    near = did_you_mean(str(word), names)
    return f"unknown {what} {word!r}{near}{' There' if near else '; there'} are {', '.join(names)}"


def key_path(path: str, key: str) -> str:
    """`model[1]` and `source` -> `model[1].source`; a key that is not bare is quoted, as TOML writes it."""
    bare = key.replace("-", "").replace("_", "")
    shown = key if bare.isascii() and bare.isalnum() else f'"{key}"'
    return f"{path}.{shown}" if path else shown


# ---- what a value may be -------------------------------------------------------------------------------------------


@functools.cache
def _converter() -> Converter:
    """cattrs, but nothing is coerced: "3" is no integer, a text is no list of letters, true is no number."""
    from cattrs import Converter

    converter = Converter(detailed_validation=True, forbid_extra_keys=True)
    converter.register_structure_hook(str, _exactly(str, "a text"))
    converter.register_structure_hook(bool, _exactly(bool, "true or false"))
    converter.register_structure_hook(int, _exactly(int, "an integer"))
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook_func(_made_of(Literal), _one_of)
    converter.register_structure_hook_func(lambda t: t == (tuple[int, ...] | float | int | bool), _shape_or_constant)
    converter.register_structure_hook_func(_is_word_or_integers, _word_or_integers)
    converter.register_structure_hook_factory(is_dataclass, lambda t: _record_of(t, converter))
    converter.register_structure_hook_factory(_made_of(tuple), lambda t: _tuple_of(get_args(t)[0], converter))
    converter.register_structure_hook_factory(_made_of(dict), lambda t: _table_of(get_args(t)[1], converter))
    return converter


def _made_of(origin: Any) -> Callable[[Any], bool]:
    return lambda kind: get_origin(kind) == origin


def _exactly(kind: type, called: str) -> Callable[[Any, Any], Any]:
    def hook(value: Any, _: Any) -> Any:
        if type(value) is not kind:
            raise ValueError(f"expected {called}, found {_shown(value)}")
        return value

    return hook


def _number(value: Any, _: Any) -> float:
    if type(value) not in (int, float) or value != value or value in (float("inf"), float("-inf")):
        raise ValueError(f"expected a finite number, found {_shown(value)}")
    return float(value)


def _one_of(value: Any, kind: Any) -> Any:
    words = get_args(kind)
    if value not in words:
        raise ValueError(f"{unknown('value', value, words)}")
    return value


def _shape_or_constant(value: Any, _: Any) -> tuple[int, ...] | float | int | bool:
    if isinstance(value, list) and all(type(dim) is int for dim in value):
        return tuple(value)
    if isinstance(value, bool | int | float):
        return value
    raise ValueError(f"expected a shape (a list of integers) or a constant (a number), found {_shown(value)}")


def _is_word_or_integers(kind: Any) -> bool:
    members = get_args(kind)
    return tuple[int, ...] in members and any(get_origin(member) is Literal for member in members)


def _word_or_integers(value: Any, kind: Any) -> str | tuple[int, ...]:
    words = [word for member in get_args(kind) if get_origin(member) is Literal for word in get_args(member)]
    if isinstance(value, str) and value in words:
        return value
    items = value if isinstance(value, list) else [value]
    if all(type(item) is int for item in items):
        return tuple(items)
    raise ValueError(f"expected {', '.join(words)} or a list of integers, found {_shown(value)}")


def _record_of(kind: Any, converter: Converter) -> Callable[[Any, Any], Any]:
    from cattrs.gen import make_dict_structure_fn

    structure = make_dict_structure_fn(kind, converter, _cattrs_forbid_extra_keys=True)

    def hook(value: Any, type_: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError(f"expected a table, found {_shown(value)}")
        return structure(value, type_)

    return hook


def _tuple_of(kind: Any, converter: Converter) -> Callable[[Any, Any], tuple[Any, ...]]:
    tables = is_dataclass(kind)

    def hook(value: Any, _: Any) -> tuple[Any, ...]:
        if isinstance(value, dict) or (tables and not isinstance(value, list)):
            raise ValueError(f"expected a list{' of tables ([[...]])' * tables}, found {_shown(value)}")
        items = value if isinstance(value, list) else [value]
        return tuple(_each(enumerate(items), kind, converter).values())

    return hook


def _table_of(kind: Any, converter: Converter) -> Callable[[Any, Any], dict[str, Any]]:
    def hook(value: Any, _: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError(f"expected a table, found {_shown(value)}")
        return _each(value.items(), kind, converter)

    return hook


def _each(items: Iterable[tuple[Any, Any]], kind: Any, converter: Converter) -> dict[Any, Any]:
    """Index or key -> structured item; all that is wrong is raised together."""
    from cattrs import BaseValidationError, IterableValidationError, IterableValidationNote

    found: dict[Any, Any] = {}
    problems: list[Exception] = []
    for key, item in items:
        try:
            found[key] = converter.structure(item, kind)
        except (ValueError, BaseValidationError) as error:
            error.add_note(IterableValidationNote(f"at {key}", key, kind))
            problems.append(error)
    if problems:
        raise IterableValidationError("items", problems, kind)
    return found


def _shown(value: Any) -> str:
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a table"
    return str(value).lower() if isinstance(value, bool) else repr(value)


# ---- what was wrong ------------------------------------------------------------------------------------------------


def problems(error: BaseException, path: str = "") -> Iterator[str]:
    """What cattrs found wrong, one sentence each with its key path. Its notes tell attribute or index."""
    from cattrs import AttributeValidationNote, BaseValidationError, ForbiddenExtraKeysError, IterableValidationNote

    if isinstance(error, ForbiddenExtraKeysError):
        known = list(getattr(error.cl, "__dataclass_fields__", {}))
        for key in sorted(error.extra_fields):
            near = did_you_mean(key, known) or f"; there are {', '.join(known)}"
            yield f"{key_path(path, key)}: unknown key{near}"
        return
    if isinstance(error, KeyError):
        yield f"{path}: missing"
        return
    if not isinstance(error, BaseValidationError):
        yield f"{path}: {error}" if path else str(error)
        return
    for inner in error.exceptions:
        deeper = path
        for note in getattr(inner, "__notes__", ()):
            if isinstance(note, AttributeValidationNote):
                deeper = key_path(path, note.name)
            elif isinstance(note, IterableValidationNote):
                deeper = f"{path}[{note.index}]" if isinstance(note.index, int) else key_path(path, note.index)
        yield from problems(inner, deeper)
