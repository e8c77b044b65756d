"""What an earlier agent left of its launches never keeps the next one from starting."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtfleet_agent import spool
from rtfleet_agent.launch import Failed


@pytest.mark.parametrize(
    ("file", "data"),
    [
        ("events", b"garbage\xff\xfe\n"),
        ("events", b'{"event": "Nonsense", "fields": {}, "columns": []}\n'),
        ("launch.json", b"[]"),
        ("launch.json", b"{}"),
        ("acknowledged", b"x"),
    ],
)
def test_a_damaged_launch_is_dropped_and_the_others_stay(tmp_path: Path, file: str, data: bytes) -> None:
    for name in ("damaged", "whole"):
        spool.create(tmp_path, name, "0" * 64).append(Failed("KILLED", "it ended"))
    (tmp_path / "damaged" / file).write_bytes(data)

    (left,) = spool.reopen(tmp_path)

    assert (left.launch_id, left.events, left.ended) == ("whole", 1, True)
    assert not (tmp_path / "damaged").exists()
