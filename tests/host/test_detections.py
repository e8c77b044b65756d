"""Scores become detections, and detections become hits and false alarms, beside the original's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from invented import artifact

from rtfleet.detections import Rule, compare, detected_s, rule_of
from rtfleet.fidelity import AgainstLabels, Detections

RULE = Rule(threshold=0.5, hop_s=0.02)
STREAM = 200  # frames: four seconds


def scores(*at: int, length: int = STREAM, hops: int = 10) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A stream whose score is up for `hops` from each of these frames on."""
    made = np.full(length, 0.1)
    for first in at:
        made[first : first + hops] = 0.9
    return made


def test_a_detection_is_where_the_score_comes_up_to_the_threshold() -> None:
    touching = np.full(STREAM, 0.1)
    touching[50] = 0.5

    assert detected_s(scores(100), RULE) == [2.0]
    assert detected_s(touching, RULE) == [1.0]
    assert detected_s(np.full(STREAM, 0.49), RULE) == []


def test_a_score_that_stays_up_is_one_detection_and_the_stream_may_begin_with_it() -> None:
    assert detected_s(np.ones(STREAM), RULE) == [0.0]


def test_for_a_second_after_a_detection_there_is_no_other() -> None:
    assert detected_s(scores(10, 40, 61), RULE) == pytest.approx([0.2, 1.22])


def test_what_happens_while_the_model_is_primed_does_not_count() -> None:
    primed = Rule(0.5, 0.02, priming_s=1.0)

    assert detected_s(scores(5, 49, 120), primed) == [2.4]


def test_one_spike_is_no_detection_where_the_mean_of_several_hops_decides() -> None:
    smoothed = Rule(0.5, 0.02, smoothing_hops=5)

    assert detected_s(scores(100, hops=2), smoothed) == []
    # 0.1 + 0.1 + 0.9 + 0.9 + 0.9: the third hop of five brings the mean over one half.
    assert detected_s(scores(100), smoothed) == [2.04]


def test_what_is_not_finite_detects_nothing() -> None:
    broken = scores(50, 120)
    broken[40:60] = np.nan
    broken[61] = np.inf

    assert detected_s(broken, RULE) == [2.4]


def test_the_same_detections_a_little_later_are_the_same() -> None:
    found = compare(scores(50, 120), scores(62, 120), [0], RULE)

    assert found == Detections(original=2, matched=2, extra=0, audio_s=4.0)


def test_missed_and_extra_detections_are_told_apart() -> None:
    found = compare(scores(20, 120), scores(120, 180), [0], RULE)

    assert found is not None
    assert (found.original, found.matched, found.missed, found.extra) == (2, 1, 1, 1)


def test_a_detection_stands_for_one_of_the_original_s_only_and_within_its_stream() -> None:
    original = np.concatenate((scores(195), scores()))
    here = np.concatenate((scores(), scores(2)))

    found = compare(original, here, [0, STREAM], RULE)

    assert found is not None and (found.matched, found.missed, found.extra) == (0, 1, 1)


def test_a_hop_longer_than_the_tolerance_may_be_off_by_one() -> None:
    slow = Rule(0.5, hop_s=0.5)

    found = compare(scores(4, hops=2, length=20), scores(5, hops=2, length=20), [0], slow)

    assert found is not None and found.matched == 1


def test_hits_are_counted_by_clip_and_false_alarms_one_by_one() -> None:
    """Of three clips with the phrase it hears two, one of them twice; in the fourth it is wrong twice."""
    here = np.concatenate((scores(20), scores(20, 120), scores(), scores(30, 130)))
    original = np.concatenate((scores(20), scores(20), scores(60), scores(130)))

    found = compare(original, here, [0, STREAM, 2 * STREAM, 3 * STREAM], RULE, positives=(0, 1, 2))

    assert found is not None
    assert found.labelled == AgainstLabels(
        positives=3, hits=2, original_hits=3, negatives_s=4.0, false_alarms=2, original_false_alarms=1
    )


def test_the_seconds_heard_are_without_the_priming() -> None:
    primed = Rule(0.5, 0.02, priming_s=1.5)

    found = compare(np.zeros(2 * STREAM), np.zeros(2 * STREAM), [0, STREAM], primed, positives=(0,))

    assert found is not None and found.labelled is not None
    assert (found.audio_s, found.labelled.negatives_s) == (5.0, 2.5)


def test_a_score_for_each_of_several_classes_is_not_counted() -> None:
    assert compare(np.zeros((STREAM, 3)), np.zeros((STREAM, 3)), [0], RULE) is None
    assert compare(np.zeros((STREAM, 1)), np.zeros((STREAM, 1)), [0], RULE) is not None


def test_the_rule_is_the_artifact_s() -> None:
    of_head = artifact(threshold=0.6, priming_s=4.0, smoothing_hops=3)

    assert rule_of(of_head) == Rule(threshold=0.6, hop_s=0.08, smoothing_hops=3, priming_s=4.0)


@pytest.mark.parametrize(
    "other", [{"threshold": None}, {"task": "vad", "threshold": 0.5}, {"hop_samples": None, "threshold": 0.5}]
)
def test_only_a_wake_word_that_streams_and_decides_detects(other: dict[str, Any]) -> None:
    assert rule_of(artifact(**other)) is None
