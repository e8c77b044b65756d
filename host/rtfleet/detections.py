"""What a wake word detects at its threshold, beside the original model on the same clips; hits and false alarms.

A detection is the moment at which the score, smoothed as the model's users smooth it, comes up to the threshold. A
score that stays there is one detection, and for a second after one there is no other. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rtfleet.artifact import Artifact
from rtfleet.fidelity import AgainstLabels, Detections

REFRACTORY_S = 1.0
# Two models that heard the same thing say so within this, or within a hop where that is longer.
TOLERANCE_S = 0.25

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rule:
    """How scores become detections.

    Attributes:
        smoothing_hops: Hops whose mean score is held against the threshold.
        priming_s: At the start of each stream, where nothing counts.
    """

    threshold: float
    hop_s: float
    smoothing_hops: int = 1
    priming_s: float = 0.0


def rule_of(artifact: Artifact) -> Rule | None:
    """The rule of a wake word that streams and has a threshold; None for everything else."""
    if artifact.task != "wake-word" or artifact.threshold is None or artifact.hop_ns is None:
        return None
    return Rule(artifact.threshold, artifact.hop_ns / 1e9, artifact.smoothing_hops, artifact.priming_s)


def compare(
    original: Scores,
    here: Scores,
    stream_starts: Sequence[int],
    rule: Rule,
    positives: Sequence[int] | None = None,
) -> Detections | None:
    """Detections in all streams, here against the original's; None where a frame has more scores than one.

    Args:
        original, here: Scores [frames, *dims].
        stream_starts: Frames at which a stream begins.
        positives: Streams, by their number, that contain the phrase; all others do not. None: nobody said.
    """
    if original.size != len(original):
        return None
    wanted, got = _by_stream(original, stream_starts, rule), _by_stream(here, stream_starts, rule)
    lengths_s = [stream.size * rule.hop_s - rule.priming_s for stream in _split(original, stream_starts)]
    matched = sum(_matched(a, b, max(TOLERANCE_S, rule.hop_s)) for a, b in zip(wanted, got, strict=True))
    labelled = None
    if positives is not None:
        others = [stream for stream in range(len(wanted)) if stream not in positives]
        labelled = AgainstLabels(
            positives=len(positives),
            hits=sum(bool(got[stream]) for stream in positives),
            original_hits=sum(bool(wanted[stream]) for stream in positives),
            negatives_s=sum(lengths_s[stream] for stream in others),
            false_alarms=sum(len(got[stream]) for stream in others),
            original_false_alarms=sum(len(wanted[stream]) for stream in others),
        )
    return Detections(
        original=sum(map(len, wanted)),
        matched=matched,
        extra=sum(map(len, got)) - matched,
        audio_s=sum(lengths_s),
        labelled=labelled,
    )


def detected_s(scores: Scores, rule: Rule) -> list[float]:
    """When a stream's detections begin, in seconds since its first frame. What is not finite detects nothing."""
    above = _smoothed(np.where(np.isfinite(scores), scores, -np.inf), rule.smoothing_hops) >= rule.threshold
    rising = np.flatnonzero(above & ~np.concatenate(([False], above[:-1])))
    found: list[float] = []
    for at_s in rising * rule.hop_s:
        if at_s >= rule.priming_s and (not found or at_s - found[-1] >= REFRACTORY_S):
            found.append(float(at_s))
    return found


def _smoothed(scores: Scores, hops: int) -> Scores:
    """The mean of each score and those before it, `hops` in all; of fewer at the stream's start."""
    means = [scores[max(0, at - hops + 1) : at + 1].mean() for at in range(scores.size)]
    return np.array(means) if hops > 1 else scores


def _by_stream(scores: Scores, stream_starts: Sequence[int], rule: Rule) -> list[list[float]]:
    return [detected_s(stream, rule) for stream in _split(scores, stream_starts)]


def _split(scores: Scores, stream_starts: Sequence[int]) -> list[Scores]:
    return np.split(scores.reshape(-1), [start for start in stream_starts if start > 0])


def _matched(wanted: Sequence[float], got: Sequence[float], tolerance_s: float) -> int:
    """How many of `wanted` have one of `got` near them, each taken once. Both rise, so the first that fits is best."""
    matched = at = 0
    for want_s in wanted:
        while at < len(got) and got[at] < want_s - tolerance_s:
            at += 1
        if at < len(got) and got[at] <= want_s + tolerance_s:
            matched += 1
            at += 1
    return matched
