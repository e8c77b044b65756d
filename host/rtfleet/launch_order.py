"""A launch as the host asks an agent for it."""

from __future__ import annotations

from dataclasses import dataclass

from rtfleet.artifact import Graph
from rtfleet.loop import Loop
from rtfleet.records import Kind, Options


@dataclass(frozen=True)
class LaunchOrder:
    """A launch as the host asks for it; the fields of the wire's LaunchRequest.

    Attributes:
        hop_ns: 0 is back to back.
        min_frames: With `min_duration_ns`, what ends the launch; `block_frames` lie between two speed probes.
    """

    launch_id: str
    kind: Kind
    runtime: str
    graphs: tuple[Graph, ...]
    feeds_sha256: str
    options: Options
    hop_ns: int
    min_frames: int
    min_duration_ns: int
    block_frames: int
    timeout_s: float
    loop: Loop | None = None
    warmup_frames: int = 50
    warmup_ns: int = 500_000_000
