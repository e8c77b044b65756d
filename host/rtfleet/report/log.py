"""The last words of launches that failed, as their workers wrote them. Plain text, no layout."""

from __future__ import annotations

from collections.abc import Iterator

from rtfleet.judged import JudgedRun
from rtfleet.report.words import visible


def lines(judged: JudgedRun) -> Iterator[str]:
    """Launch by launch: what became of it, then its worker's stderr, indented."""
    for case in judged.cases:
        for launch in case.result.launches:
            if launch.error is None and not launch.stderr_tail:
                continue
            became = f"{launch.error.kind}: {launch.error.text}" if launch.error else "it ended well"
            yield visible(f"{case.result.case.id}, launch {launch.round} ({launch.launch_id}): {became}")
            words = launch.stderr_tail.splitlines() or ["its worker said nothing"]
            yield from (f"  {visible(line)}" for line in words)
