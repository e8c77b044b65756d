"""Percentiles, summaries and the exact parts that verdicts stand on: binomial, betting, clusters, queues."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from invented import MS, artifact, case, launch, state, with_frames

from rtfleet import betting, binomial, statistics
from rtfleet.records import Block, CaseError

shares = st.lists(st.floats(0, 1), min_size=1, max_size=30).map(np.array)


@pytest.mark.parametrize(
    ("share", "frames"),
    [
        (0.10, [44, 64, 81, 97]),
        (0.05, [90, 130, 165, 198]),
        (0.01, [459, 662, 838, 1001]),
        (0.001, [4603, 6636, 8403, 10042]),
    ],
)
def test_frames_needed_are_those_of_loadgen_at_99_percent(share: float, frames: list[int]) -> None:
    assert [binomial.frames_needed(over, share, 0.99) for over in range(4)] == frames


@pytest.mark.parametrize(("frames", "over"), [(458, None), (459, 0), (661, 0), (662, 1), (1001, 3), (1301, 4)])
def test_most_frames_over_that_still_prove_a_p99(frames: int, over: int | None) -> None:
    assert binomial.most_over(frames, 0.01, 0.99) == over


@given(st.integers(1, 60), st.integers(1, 99))
def test_the_cumulative_binomial_is_the_exact_one(frames: int, percent: int) -> None:
    share = Fraction(percent, 100)
    terms = [comb(frames, k) * share**k * (1 - share) ** (frames - k) for k in range(frames + 1)]

    exact = [float(sum(terms[: k + 1])) for k in range(frames + 1)]

    np.testing.assert_allclose(binomial.cumulative(frames, percent / 100), exact, rtol=1e-9)


def test_a_million_frames_are_counted_without_underflow() -> None:
    assert binomial.most_over(1_000_000, 0.5, 0.99) == pytest.approx(500_000 - 2.326 * 500, abs=3)


def test_the_upper_bound_on_a_share_is_where_the_claim_would_just_be_proven() -> None:
    assert binomial.upper_share(0, 459, 0.99) == pytest.approx(0.01, rel=0.01)


def test_a_share_at_or_above_the_allowed_one_is_settled_by_no_number_of_frames() -> None:
    assert binomial.frames_to_settle(0.01, 0.01, 0.99) is None
    assert binomial.frames_to_settle(0.0, 0.01, 0.99) == 459


@given(shares)
def test_wealth_does_not_care_about_the_order_of_blocks_in_the_end(blocks: np.ndarray) -> None:
    forward = betting.wealth(blocks, 0.01)[-1]

    assert betting.wealth(blocks[::-1], 0.01)[-1] == pytest.approx(forward, rel=1e-9)


@given(st.integers(1, 99), st.integers(1, 20))
def test_wealth_wins_nothing_on_average_while_the_claim_is_true(percent: int, frames: int) -> None:
    over = np.arange(frames + 1)
    chance = np.diff(np.concatenate(([0.0], binomial.cumulative(frames, percent / 100))))

    expected = sum(
        p * betting.wealth(np.array([k / frames]), percent / 100)[0] for k, p in zip(over, chance, strict=True)
    )

    assert expected == pytest.approx(1.0, rel=1e-6)


def test_every_frame_over_is_disproven_after_two_blocks() -> None:
    needed = betting.needed_wealth(3, 0.99)

    assert needed == pytest.approx(300)
    assert betting.disproves(np.ones(2), 0.01, needed)
    assert not betting.disproves(np.ones(1), 0.01, needed)


def test_one_stall_disproves_nothing_however_loose_the_confidence() -> None:
    one_stall = np.array([0.0, 1.0, 0.0, 0.0, 0.0])

    assert not betting.disproves(one_stall, 0.01, betting.needed_wealth(1, 0.8))


def test_percentiles_interpolate_between_order_statistics() -> None:
    found = statistics.percentiles(np.arange(1, 11))

    assert (found.p50_ns, found.p90_ns, found.max_ns) == (5.5, pytest.approx(9.1), 10)


def test_a_summary_pools_good_launches_and_takes_the_worst_where_a_launch_has_one_figure() -> None:
    good = launch(8.0, 1.0, burst_latency_ns=np.full(200, 2 * MS))
    slow_to_load = launch(8.0, 1.0, load_ns=90 * MS, peak_rss_bytes=60_000_000, overhead_ns=3_000)
    failed = launch(500.0, error=CaseError("KILLED", "SIGKILL"))

    summary = statistics.summarize(case(good, slow_to_load, failed))

    assert summary is not None
    assert (summary.launches, summary.frames) == (2, 918)
    assert (summary.latency.p99_ns, summary.response.p99_ns) == (8 * MS, 9 * MS)
    assert (summary.rtf_p50, summary.duty_cycle, summary.pacing_penalty) == (0.1, 0.1, 4.0)
    assert (summary.load_ns, summary.peak_memory_bytes, summary.overhead_ns) == (90 * MS, 20_000_000, 2_000)


def test_a_burst_has_no_deadlines_and_a_model_without_hop_no_real_time_factor() -> None:
    burst = statistics.summarize(case(launch(8.0, burst=True), scenario="burst"))
    offline = statistics.summarize(case(launch(8.0, burst=True), of=artifact(hop_samples=None), scenario="burst"))

    assert burst is not None and offline is not None
    assert (burst.deadline_misses, burst.duty_cycle, burst.rtf_p99) == (None, None, 0.1)
    assert offline.rtf_p50 is None


def test_deadline_misses_count_responses_longer_than_the_hop() -> None:
    summary = statistics.summarize(case(launch(with_frames(459, {10: 79.0, 20: 81.0}), 1.5)))

    assert summary is not None
    assert summary.deadline_misses == 2


def test_a_case_without_a_good_launch_has_no_summary() -> None:
    assert statistics.summarize(case()) is None


def test_a_launch_through_which_the_device_was_suspended_counts_as_none() -> None:
    slept = launch(
        1.0,
        device_before=state(0, boottime_minus_monotonic_ns=5e9),
        device_after=state(10, boottime_minus_monotonic_ns=7e9),
    )
    marked = launch(1.0, blocks=(Block("PACED", 0, 459, 1, 1, 0, marks=("suspend",)),))

    assert statistics.why_void(slept) == "the device was suspended for 2.0 s while it ran"
    assert "suspended" in statistics.why_void(marked)
    assert statistics.good_launches(case(slept, marked)) == ()


def test_runs_bridge_gaps_under_ten_frames() -> None:
    marked = np.zeros(60, bool)
    marked[[5, 6, 16, 27, 50]] = True  # gaps of 9, 10 and 22 frames

    assert statistics.runs(marked).tolist() == [[5, 17], [27, 28], [50, 51]]


@given(st.lists(st.booleans(), max_size=80), st.integers(1, 12))
def test_runs_hold_every_marked_frame_and_are_apart_by_the_bridge(marked: list[bool], bridge: int) -> None:
    column = np.array(marked, bool)

    rows = statistics.runs(column, bridge)

    covered = np.zeros(column.size, bool)
    for first, end in rows:
        assert column[first] and column[end - 1]
        covered[first:end] = True
    assert not np.any(column & ~covered)
    assert np.all(rows[1:, 0] - rows[:-1, 1] >= bridge)


def test_a_short_rest_is_no_block_of_its_own() -> None:
    over = np.zeros(1301, bool)
    over[1300] = True

    assert statistics.block_shares(launch(np.ones(1301)), over).tolist() == [0.0] * 13


def test_frames_without_a_record_of_blocks_are_cut_into_hundreds() -> None:
    over = np.zeros(300, bool)
    over[100:150] = True

    assert statistics.block_shares(launch(np.ones(300), blocks=()), over).tolist() == [0.0, 0.5, 0.0]


def test_a_slow_frame_delays_those_behind_it_and_no_frame_of_the_next_block() -> None:
    latency_ms = np.array([1.0, 25.0, 1.0, 1.0, 1.0, 1.0])  # at a hop of 10 ms

    response_ns = statistics.undelayed_response_ns(launch(latency_ms, 9.0, block=3), 10 * MS)

    assert (response_ns / MS).tolist() == [1, 25, 16, 1, 1, 1]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=50), st.integers(1, 20))
def test_the_undelayed_response_is_the_queue_frame_by_frame(latency_ms: list[int], hop_ms: int) -> None:
    wait, expected = 0, []
    for latency in latency_ms:
        expected.append(wait + latency)
        wait = max(0, wait + latency - hop_ms)

    response_ns = statistics.undelayed_response_ns(launch(np.array(latency_ms), 0.0, block=1000), hop_ms * MS)

    assert (response_ns / MS).tolist() == expected


def test_a_stall_is_one_event_with_its_time_and_length() -> None:
    late = with_frames(459, {100: 160.0, 101: 80.0})
    run = launch(1.0, late)

    (event,) = statistics.events(run, run.response_ns > 50 * MS, 80 * MS)

    assert (event.at_s, event.length_ms, event.frames) == (8.0, 161.0, 2)


def test_an_events_time_follows_the_clock_of_its_block() -> None:
    blocks = (Block("PACED", 0, 100, 1, 1, 0, 1_000_000_000), Block("PACED", 100, 100, 1, 1, 0, 21_000_000_000))
    run = launch(with_frames(200, {150: 90.0}), blocks=blocks)

    (event,) = statistics.events(run, run.latency_ns > 50 * MS, 80 * MS)

    assert event.at_s == 24.0
