"""Trees of small files in the place of /proc and /sys, and commands that answer what was written down for them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rtfleet_agent.sensors.reading import Run


def tree(root: Path, files: Mapping[str, str]) -> Path:
    """The files, by their paths below `root`."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def answering(answers: Mapping[str, str]) -> Run:
    """A command runner that knows these lines, by the command's name and arguments; all else is not here."""

    def run(*command: str) -> str:
        line = " ".join([command[0].rpartition("/")[2], *command[1:]])
        if line not in answers:
            raise OSError(f"{command[0]} can't be run: No such file or directory")
        return answers[line]

    return run
