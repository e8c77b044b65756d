"""What sensors of every system are made of: small files, short commands, readings with a value or a reason."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

from rtfleet_agent.launch import Reading

# A command and its arguments -> what it printed. Raises OSError with a sentence for people.
Run: TypeAlias = Callable[..., str]
# Far more than any of them takes; a hung service must not hold up a launch for ever.
_COMMAND_TAKES_S = 5.0


def text(path: Path) -> str:
    """A small file, without the white space around it."""
    return path.read_text(errors="replace").strip()


def read(get: Callable[[], float | str]) -> Reading:
    """What `get` returns, or why it could not."""
    try:
        return Reading(get())
    except (OSError, ValueError, IndexError, KeyError) as error:
        return Reading(None, str(error) or type(error).__name__)


def first_of(*paths: Path, reason: str) -> Reading:
    """The first of these files that can be read."""
    for path in paths:
        try:
            return Reading(text(path))
        except OSError:
            continue
    return Reading(None, reason)


def family(name: str, members: Iterable[tuple[str, float | str]], reason: str) -> dict[str, Reading]:
    """`name.member` for each; `name` alone, without a value, where there is none. A member that comes twice is told
    apart by a number."""
    found: dict[str, Reading] = {}
    for member, value in members:
        key, count = f"{name}.{member}", 1
        while key in found:
            count += 1
            key = f"{name}.{member}.{count}"
        found[key] = Reading(value)
    return found or {name: Reading(None, reason)}


def run(*command: str) -> str:
    """What the command printed.

    Raises:
        OSError: it is not here, it failed, or it took too long; the message is for people.
    """
    name = command[0].rpartition("/")[2]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_COMMAND_TAKES_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise OSError(f"{name} gave no answer within {_COMMAND_TAKES_S:g} s") from None
    except OSError as error:
        raise OSError(f"{command[0]} can't be run: {error.strerror}") from None
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        raise OSError(f"{' '.join((name, *command[1:]))} failed: {words[-1] if words else f'exit {done.returncode}'}")
    return done.stdout.decode(errors="replace")
