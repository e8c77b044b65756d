"""A launch as it might have been: faster, calmer, or without the blocks that something disturbed. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rtfleet.records import Block, Launch


def faster(launch: Launch, factor: float) -> Launch:
    """The launch as it might have been without a disturbance that slowed it by `factor`."""

    def divided(value_ns: int | None) -> int | None:
        return None if value_ns is None else round(value_ns / factor)

    return replace(
        launch,
        latency_ns=(launch.latency_ns / factor).astype(np.int64),
        first_token_ns=(launch.first_token_ns / factor).astype(np.int64),
        load_ns=divided(launch.load_ns),
        first_inference_ns=divided(launch.first_inference_ns),
    )


def calm(launch: Launch, disturbed: Sequence[int], factor: float) -> Launch:
    """The launch with no hiccup in these blocks (none: in all), and with `factor` times as fast a machine there.

    No frame takes more than its block's median then, and none begins late: a preempted frame may take any multiple of
    its time, a typical one only that of the share that its neighbours left.
    """
    phase = "PACED" if launch.lateness_ns.size else "BURST"
    latency_ns, lateness_ns = launch.latency_ns.copy(), launch.lateness_ns.copy()
    first_token_ns = launch.first_token_ns.copy()
    for at, block in enumerate(launch.blocks):
        if block.phase == phase and block.frames and (not disturbed or at in disturbed):
            frames = slice(block.first_frame, block.first_frame + block.frames)
            for column_ns in (latency_ns, first_token_ns):
                if column_ns.size:
                    typical_ns = np.minimum(column_ns[frames], np.median(column_ns[frames]))
                    column_ns[frames] = (typical_ns / factor).astype(np.int64)
            lateness_ns[frames] = 0
    faster_start = faster(launch, factor)
    return replace(faster_start, latency_ns=latency_ns, lateness_ns=lateness_ns, first_token_ns=first_token_ns)


def without(launch: Launch, disturbed: Sequence[int]) -> Launch:
    """The launch without the frames of these blocks of its scenario.

    Loading and the first inference came before any block, so nobody saw whether the same hit them: they are unknown.
    """
    phase = "PACED" if launch.lateness_ns.size else "BURST"
    kept = np.ones(launch.latency_ns.size, np.bool_)
    blocks: list[Block] = []
    gone = 0
    for at, block in enumerate(launch.blocks):
        if block.phase != phase:
            blocks.append(block)
        elif at in disturbed:
            kept[block.first_frame : block.first_frame + block.frames] = False
            gone += block.frames
        else:
            blocks.append(replace(block, first_frame=block.first_frame - gone))
    return replace(
        launch,
        latency_ns=launch.latency_ns[kept],
        lateness_ns=launch.lateness_ns[kept] if launch.lateness_ns.size else launch.lateness_ns,
        first_token_ns=launch.first_token_ns[kept] if launch.first_token_ns.size else launch.first_token_ns,
        tokens=launch.tokens[kept] if launch.tokens.size else launch.tokens,
        blocks=tuple(blocks),
        load_ns=None,
        first_inference_ns=None,
    )
