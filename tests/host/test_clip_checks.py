"""Whole clips: what each took, and a budget held against the slowest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from invented import MS, artifact, budget, case, device, launch

from rtfleet import plan, statistics
from rtfleet.artifact import Artifact, File, Utterance
from rtfleet.budget import judge_case
from rtfleet.clip_checks import repeats
from rtfleet.clip_times import of_clip, times
from rtfleet.fidelity import Recognition
from rtfleet.judged import Check
from rtfleet.might_have_been import calm, without
from rtfleet.records import Launch, RunSettings

CLIPS = (Utterance("short.wav", 2.0, "hey luna"), Utterance("long.wav", 8.0))
WITHIN_200 = budget("end_of_speech_ms", 200, task="asr")
THREE = RunSettings()


def recognizer(**changes: Any) -> Artifact:
    facts = {"task": "asr", "hop_samples": None, "utterances": CLIPS, "variant": "onnx-shipped"}
    facts |= {"vocabulary": File("vocabulary.json", "d" * 64, 1)}
    return artifact(**(facts | changes))


def heard(short_ms: Any, long_ms: Any, *, repeats: int = 12, warmup: int = 4, **changes: Any) -> Launch:
    """A launch of clips in turn; `warmup` frames came before, so that it begins with the clip of that number."""
    of_clips = [np.broadcast_to(short_ms, (repeats,)), np.broadcast_to(long_ms, (repeats,))]
    latency_ms = np.stack(of_clips, axis=1).reshape(-1)
    latency_ms = np.concatenate((latency_ms[warmup % 2 :], latency_ms[: warmup % 2]))
    more = {
        "warmup_latency_ns": np.full(warmup, MS),
        "first_token_ns": (latency_ms * MS / 2).astype(np.int64),
        "tokens": np.full(latency_ms.size, 6),
    }
    return launch(latency_ms, burst=True, block=2, **(more | changes))


def check(*launches: Launch, limit: float = 200, settings: RunSettings = THREE, **changes: Any) -> Check:
    owed = replace(WITHIN_200, limit=limit)
    judged = judge_case(
        case(*launches, of=recognizer(), budgets=(owed,), scenario="burst", **changes), device(), settings
    )
    return next(one for one in judged.checks if one.metric == "end_of_speech_ms")


@pytest.mark.parametrize("warmup", [4, 5])
def test_frames_are_told_apart_by_their_clip(warmup: int) -> None:
    one = heard(50, 120, warmup=warmup)

    assert set(of_clip(one, 0, 2).latency_ns) == {50 * MS}
    assert set(of_clip(one, 1, 2).latency_ns) == {120 * MS}


def test_blocks_keep_their_place_and_their_own_frames() -> None:
    own = of_clip(heard(50, 120), 1, 2)

    assert [(block.first_frame, block.frames) for block in own.blocks] == [(at, 1) for at in range(12)]


def test_each_clip_has_its_times_and_the_slowest_is_shown() -> None:
    short, long = times([heard(50, 120), heard(50, 140)], CLIPS)
    summary = statistics.summarize(case(heard(50, 120), of=recognizer(), scenario="burst"))

    assert (short.clip, short.end_of_speech_ns, short.repeats) == ("short.wav", 50 * MS, 24)
    assert (long.end_of_speech_ns, long.first_token_ns, long.per_token_ns) == (130 * MS, 65 * MS, 13 * MS)
    assert long.rtf == pytest.approx(0.13 / 8)
    assert summary is not None and summary.latency.p50_ns == summary.latency.p99_ns == 120 * MS
    assert summary.rtf_p50 == pytest.approx(0.12 / 8) and summary.frames == 24


def test_a_model_whose_every_clip_is_within_passes() -> None:
    found = check(*[heard(50, 120)] * 3)

    assert (found.verdict, found.value) == ("PASS", 120)
    assert "long.wav, the slowest of 2 clips" in found.reason


def test_one_slow_clip_fails_however_fast_the_others_are() -> None:
    found = check(*[heard(5, 250)] * 3)

    assert (found.verdict, found.value) == ("FAIL", 250)


def test_a_fail_names_the_clip_and_the_launch_that_failed() -> None:
    found = check(heard(5, 50), heard(5, 50), heard(130, 70), limit=100)

    assert (found.verdict, found.value) == ("FAIL", 130)
    assert found.reason == "short.wav in launch 3: 130 ms, the limit is 100"


def test_a_launch_that_nothing_excuses_is_named_rather_than_one_that_was_slowed() -> None:
    slow_machine = tuple(replace(block, probe_before_ns=40_000) for block in heard(50, 250).blocks)

    found = check(heard(50, 250, blocks=slow_machine), heard(50, 120), heard(50, 250))

    assert (found.verdict, found.reason) == ("FAIL", "long.wav in launch 3: 250 ms, the limit is 200")


@pytest.mark.parametrize("metric", ["end_of_speech_ms", "first_token_ms"])
def test_what_slowed_a_launch_excuses_its_first_tokens_as_it_does_its_last(metric: str) -> None:
    """The first token comes after half of the time."""
    slow_machine = tuple(replace(block, probe_before_ns=40_000) for block in heard(50, 250).blocks)
    launches = heard(50, 250, blocks=slow_machine), heard(50, 120), heard(50, 120)
    owed = (budget(metric, 200 if metric == "end_of_speech_ms" else 100, task="asr"),)

    judged = judge_case(case(*launches, of=recognizer(), budgets=owed, scenario="burst"), device(), THREE)

    assert judged.checks[0].verdict == "INCONCLUSIVE" and "a slow machine" in judged.checks[0].reason


def test_first_tokens_are_capped_and_left_out_with_their_frames() -> None:
    hiccup = heard([10, 10, 90, 10], [20, 20, 20, 20], repeats=4)
    in_one_block = replace(hiccup, blocks=(replace(hiccup.blocks[0], frames=8),))

    calmer = calm(in_one_block, (), 2.0).first_token_ns / MS
    assert calmer.tolist() == [2.5, 5.0, 2.5, 5.0, 5.0, 5.0, 2.5, 5.0], "45 ms were no more than the median, 10 ms"
    rest = without(hiccup, (2,))
    assert rest.first_token_ns.tolist() == [5 * MS, 10 * MS] * 3
    assert rest.tokens.size == rest.latency_ns.size == 6


@pytest.mark.parametrize("slow", [0, 1])
def test_clips_of_one_name_are_two_clips(slow: int) -> None:
    clips = (Utterance("1.wav", 2.0), Utterance("1.wav", 8.0))
    one = heard(*([250, 20] if slow == 0 else [20, 250]))
    result = case(*[one] * 3, of=recognizer(utterances=clips), budgets=(WITHIN_200,), scenario="burst")

    judged = judge_case(result, device(), THREE)

    assert (judged.checks[0].verdict, judged.checks[0].value) == ("FAIL", 250)
    assert judged.summary is not None and judged.summary.latency.p50_ns == 250 * MS


def test_one_hiccup_of_a_clip_fails_nothing_and_two_leave_it_open() -> None:
    hiccup = np.full(12, 120.0)
    hiccup[3] = 900
    twice = np.where(np.arange(12) < 2, 900.0, 120.0)

    assert check(*[heard(50, hiccup)] * 3).verdict == "PASS"
    found = check(*[heard(50, twice)] * 3)
    assert found.verdict == "INCONCLUSIVE"
    assert "2 of 12 repeats of long.wav were over in launch 1; 17 repeats would settle it" in found.reason


def test_a_few_repeats_prove_nothing() -> None:
    assert check(*[heard(50, 120, repeats=6)] * 3).verdict == "INCONCLUSIVE"
    assert check(*[heard(50, 250, repeats=6)] * 3).verdict == "INCONCLUSIVE"


def test_a_launch_gives_each_clip_repeats_enough_to_disprove_it() -> None:
    """Twenty clips and three launches: by luck all of 12 repeats are over in one of 4,096 tries, 1 in 6,000 allowed."""
    clips = tuple(Utterance(f"{at}.wav", 1.0) for at in range(20))
    of = recognizer(utterances=clips)
    enough = repeats(len(clips), THREE)
    asked = plan.order_of(case(of=of, scenario="burst").case, of, THREE, "LATENCY")

    def judged(each: int) -> Check:
        one = launch(np.tile([20.0] * 19 + [250.0], each), burst=True, block=20)
        return judge_case(case(*[one] * 3, of=of, budgets=(WITHIN_200,), scenario="burst"), device(), THREE).checks[0]

    assert (enough, asked.min_frames) == (13, 13 * 20)
    assert judged(enough).verdict == "FAIL"
    assert judged(enough - 1).verdict == "INCONCLUSIVE"
    assert judged(enough - 1).reason.endswith(
        "12 of 12 repeats of 19.wav were over in launch 1; 13 repeats would show a FAIL (--duration)"
    )


@pytest.mark.parametrize(
    ("clips", "settings", "wanted"),
    [(1, THREE, 12), (2, RunSettings(confidence=0.9999), 16), (1000, RunSettings(launches=1), 17)],
)
def test_more_clips_launches_or_confidence_take_more_repeats(clips: int, settings: RunSettings, wanted: int) -> None:
    assert repeats(clips, settings) == wanted


def test_launches_that_are_missing_leave_it_open() -> None:
    assert "2 more launches would settle it" in check(heard(50, 120)).reason


def test_a_clip_that_a_launch_never_came_to_leaves_it_open() -> None:
    one = heard(50, 120)
    only_first = replace(one, latency_ns=one.latency_ns[:1], tokens=one.tokens[:1])

    found = check(replace(only_first, first_token_ns=one.first_token_ns[:1]), one, one)

    assert (found.verdict, found.value) == ("INCONCLUSIVE", None)


def test_what_may_have_slowed_a_clip_turns_its_fail_into_an_open_question() -> None:
    slow_machine = [replace(block, probe_before_ns=40_000, probe_after_ns=40_000) for block in heard(50, 250).blocks]
    slowed = heard(50, 250, blocks=tuple(slow_machine))
    far_off = heard(50, 2500, blocks=tuple(slow_machine))
    usual = heard(50, 120)

    assert check(slowed, usual, usual).verdict == "INCONCLUSIVE"
    assert check(far_off, usual, usual).verdict == "FAIL"


def test_a_percentile_across_clips_is_not_judged() -> None:
    owed = (budget("response_p99_ms", 1, task="asr"), WITHIN_200)
    judged = judge_case(case(*[heard(50, 120)] * 3, of=recognizer(), budgets=owed, scenario="burst"), device(), THREE)

    assert [one.verdict for one in judged.checks] == ["UNJUDGED", "PASS"]


def test_a_model_without_an_end_of_speech_is_not_judged_by_it() -> None:
    encoder = artifact(task="asr", hop_samples=None)
    judged = judge_case(
        case(launch(1, burst=True), of=encoder, budgets=(WITHIN_200,), scenario="burst"), device(), THREE
    )

    assert judged.checks[0].verdict == "UNJUDGED" and "takes a whole recognizer" in judged.checks[0].reason


@pytest.mark.parametrize(
    ("recognition", "verdict"),
    [
        (Recognition(("hey luna",), 0, 2), "PASS"),
        (Recognition(("hey",), 1, 2), "FAIL"),
        (Recognition(("hey",), 0, 0), "UNJUDGED"),
        (None, "INCONCLUSIVE"),
    ],
)
def test_a_budget_may_limit_the_words_in_error(recognition: Recognition | None, verdict: str) -> None:
    assert words(recognizer(), recognition).verdict == verdict


def test_words_that_were_not_recognized_yet_are_an_open_question_where_there_are_transcripts() -> None:
    silent = recognizer(utterances=(Utterance("a.wav", 1.0), Utterance("b.wav", 1.0)))

    assert words(recognizer(), None).reason == "what it recognized was not measured: measure again (--resume)"
    assert words(silent, None).verdict == "UNJUDGED"
    assert words(recognizer(vocabulary=None), None).verdict == "UNJUDGED"


def words(of: Artifact, recognition: Recognition | None) -> Check:
    result = case(
        heard(50, 120), of=of, budgets=(budget("word_error_rate", 0.1),), scenario="burst", recognition=recognition
    )
    return judge_case(result, device(), THREE).checks[0]


@pytest.mark.parametrize("metric", ["parity_snr_db", "parity_agreement"])
def test_a_limit_on_parity_is_not_for_tokens(metric: str) -> None:
    owed = (budget(metric, 0.9, floor=True), WITHIN_200)
    judged = judge_case(case(*[heard(50, 120)] * 3, of=recognizer(), budgets=owed, scenario="burst"), device(), THREE)

    assert [one.verdict for one in judged.checks] == ["UNJUDGED", "PASS"]
    assert judged.checks[0].reason == "a recognizer's tokens are judged by word_error_rate"
