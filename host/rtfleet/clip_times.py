"""What each whole clip took a recognizer: frames of one launch are the clips in turn. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rtfleet.artifact import Utterance
from rtfleet.judged import ClipTimes
from rtfleet.records import Launch


def of_clip(launch: Launch, clip: int, clips: int) -> Launch:
    """The launch as if it had been given that clip alone; its blocks keep their places.

    Frames are the clips in turn, from the first frame of the warm-up on.
    """
    frames = (launch.warmup_latency_ns.size + np.arange(launch.latency_ns.size)) % clips == clip
    before = np.concatenate(([0], np.cumsum(frames)))
    blocks = []
    for block in launch.blocks:
        if block.phase == "BURST":
            ends = (min(at, frames.size) for at in (block.first_frame, block.first_frame + block.frames))
            first, end = (before[at] for at in ends)
            block = replace(block, first_frame=int(first), frames=int(end - first))
        blocks.append(block)
    return replace(
        launch,
        latency_ns=launch.latency_ns[frames],
        first_token_ns=launch.first_token_ns[frames] if launch.first_token_ns.size else launch.first_token_ns,
        tokens=launch.tokens[frames] if launch.tokens.size else launch.tokens,
        blocks=tuple(blocks),
    )


def times(launches: Sequence[Launch], utterances: Sequence[Utterance]) -> tuple[ClipTimes, ...]:
    """What each clip took, over all launches; none for a clip that no launch came to."""
    found = []
    for index, utterance in enumerate(utterances):
        own = [of_clip(launch, index, len(utterances)) for launch in launches]
        latency_ns = np.concatenate([launch.latency_ns for launch in own]) if own else np.zeros(0)
        if not latency_ns.size:
            continue
        first_ns = np.concatenate([launch.first_token_ns for launch in own])
        tokens = np.concatenate([launch.tokens for launch in own])
        many = tokens > 1 if first_ns.size else np.zeros(0, np.bool_)
        later_ns = (latency_ns - first_ns)[many] / (tokens[many] - 1) if many.any() else np.zeros(0)
        found.append(
            ClipTimes(
                index=index,
                clip=utterance.clip,
                duration_s=utterance.duration_s,
                repeats=int(latency_ns.size),
                end_of_speech_ns=float(np.median(latency_ns)),
                first_token_ns=float(np.median(first_ns)) if first_ns.size else None,
                per_token_ns=float(np.median(later_ns)) if later_ns.size else None,
                tokens=int(tokens[0]) if tokens.size else None,
            )
        )
    return tuple(found)
