"""Strict JSON that people can read and compare line by line."""

from __future__ import annotations

import json
from collections.abc import Iterable

from rtfleet.records import Json


def of(value: Json, line: str = "\n") -> str:
    """Lists and records of simple values are one line each: blocks, columns, checks.

    Args:
        line: A line break and the indentation that the value stands at.

    Raises:
        ValueError: a NaN or an infinity, which JSON has not.
    """
    if not isinstance(value, dict | list) or not any(part and isinstance(part, dict | list) for part in _parts(value)):
        return json.dumps(value, allow_nan=False)
    inner = f"{line} "
    if isinstance(value, list):
        return f"[{inner}{f',{inner}'.join(of(part, inner) for part in value)}{line}]"
    named = (f"{json.dumps(str(name))}: {of(part, inner)}" for name, part in value.items())
    return f"{{{inner}{f',{inner}'.join(named)}{line}}}"


def _parts(value: Json) -> Iterable[Json]:
    return value.values() if isinstance(value, dict) else value
