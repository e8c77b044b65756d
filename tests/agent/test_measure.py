"""The loop, told without a clock where possible: what is counted, copied and kept, never how long it took."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from rtfleet_agent.launch import Block, Pace
from rtfleet_agent.measure import burst_p50_ns, frames_of, measure, quiet_collector
from rtfleet_agent.runtimes.base import flat_bytes

MS = 1_000_000


def run(pace: Pace, step=lambda: None, finish=lambda: False, frames=((),)) -> list[Block]:
    return list(measure(frames, step, pace, finish))


def of_phase(blocks: list[Block], phase: str) -> list[Block]:
    return [block for block in blocks if block.phase == phase]


def frames_in(blocks: list[Block]) -> int:
    return sum(len(block.latency_ns) for block in blocks)


def test_a_burst_warms_up_then_measures_at_least_five_blocks_and_the_frames_asked() -> None:
    blocks = run(Pace(warmup_frames=7, warmup_ns=0, min_frames=30, block_frames=10))
    assert [block.phase for block in blocks] == ["WARMUP"] + ["BURST"] * 5
    assert [len(block.latency_ns) for block in blocks] == [7, 10, 10, 10, 10, 10]


def test_more_blocks_come_until_the_frames_are_there() -> None:
    blocks = run(Pace(warmup_frames=0, warmup_ns=0, min_frames=71, block_frames=10))
    assert [len(block.latency_ns) for block in blocks] == [10] * 8


def test_the_least_duration_is_waited_for() -> None:
    blocks = run(Pace(warmup_frames=0, warmup_ns=0, min_frames=1, min_duration_ns=30 * MS, block_frames=10))
    assert blocks[-1].started_mono_ns - blocks[0].started_mono_ns > 10 * MS


def test_warm_up_lasts_for_both_its_frames_and_its_time() -> None:
    blocks = of_phase(run(Pace(warmup_frames=5, warmup_ns=20 * MS, max_frames=1, block_frames=10)), "WARMUP")
    assert frames_in(blocks) > 5
    assert all((block.latency_ns >= 0).all() for block in blocks)


def test_max_frames_wins_over_everything() -> None:
    blocks = run(Pace(warmup_frames=0, warmup_ns=0, min_frames=500, max_frames=23, block_frames=10))
    assert [len(block.latency_ns) for block in blocks] == [10, 10, 3]


def test_max_duration_ends_a_block_in_its_middle() -> None:
    steps = iter(range(10**9))
    blocks = run(
        Pace(warmup_frames=0, warmup_ns=0, max_duration_ns=5 * MS, block_frames=10**6), step=lambda: next(steps)
    )
    assert len(blocks) == 1
    assert 0 < frames_in(blocks) < 10**6


def test_finish_ends_after_the_block_in_hand() -> None:
    asked = iter([False, False, True])
    blocks = run(Pace(warmup_frames=1, warmup_ns=0, min_frames=500, block_frames=10), finish=lambda: next(asked))
    assert [block.phase for block in blocks] == ["WARMUP", "BURST", "BURST"]


def test_finish_in_the_warm_up_ends_the_launch() -> None:
    assert [block.phase for block in run(Pace(warmup_frames=1, warmup_ns=0), finish=lambda: True)] == ["WARMUP"]


def test_a_paced_launch_ends_with_a_burst_of_at_least_200_frames_also_when_finished_early() -> None:
    asked = iter([False, True])
    blocks = run(
        Pace(hop_ns=MS, warmup_frames=1, warmup_ns=0, min_frames=500, block_frames=10), finish=lambda: next(asked)
    )
    assert [block.phase for block in blocks[:2]] == ["WARMUP", "PACED"]
    assert {block.phase for block in blocks[2:]} == {"BURST"}
    assert frames_in(blocks[2:]) >= 200


def test_every_block_starts_on_one_grid_of_whole_hops() -> None:
    blocks = run(Pace(hop_ns=2 * MS, warmup_frames=3, warmup_ns=0, max_frames=30, block_frames=10))
    paced = [block for block in blocks if block.phase != "BURST"]
    assert {(block.started_mono_ns - paced[0].started_mono_ns) % (2 * MS) for block in paced} == {0}


def test_frames_never_start_before_they_are_due_and_bursts_have_no_lateness() -> None:
    blocks = run(Pace(hop_ns=MS, warmup_frames=3, warmup_ns=0, max_frames=30, block_frames=10))
    assert all((block.lateness_ns >= 0).all() for block in blocks)
    assert all(len(block.lateness_ns) == (0 if block.phase == "BURST" else len(block.latency_ns)) for block in blocks)


def test_one_stall_makes_the_frames_behind_it_late_until_they_have_caught_up() -> None:
    from time import sleep

    stalls = iter([0.0] * 3 + [0.03] + [0.0] * 10**6)
    blocks = run(
        Pace(hop_ns=2 * MS, warmup_frames=0, warmup_ns=0, max_frames=40, block_frames=40),
        step=lambda: sleep(next(stalls)),
    )
    lateness = blocks[0].lateness_ns
    assert lateness[4] > 20 * MS
    assert all(lateness[index] > lateness[index + 3] for index in (4, 7, 10))


def test_a_backlog_keeps_its_block_open_but_not_for_ever() -> None:
    from time import sleep

    blocks = run(
        Pace(hop_ns=MS // 10, warmup_frames=0, warmup_ns=0, max_frames=40, block_frames=4), step=lambda: sleep(0.001)
    )
    assert [len(block.latency_ns) for block in of_phase(blocks, "PACED")] == [16, 16, 8]


def test_each_frame_is_copied_in_order_and_the_feeds_are_looped() -> None:
    target = {"x": np.zeros((1, 2), np.float32), "n": np.zeros((), np.int64)}
    rows = {"x": np.arange(6, dtype=np.float32).reshape(3, 1, 2), "n": np.arange(3)}
    seen: list[tuple[float, int]] = []
    run(
        Pace(warmup_frames=0, warmup_ns=0, max_frames=5, block_frames=2),
        step=lambda: seen.append((float(target["x"][0, 1]), int(target["n"]))),
        frames=frames_of(target, rows),
    )
    assert seen == [(1, 0), (3, 1), (5, 2), (1, 0), (3, 1)]


@pytest.mark.parametrize("dtype", ["float16", "int8", "bool", "int64"])
def test_flat_bytes_write_through_to_arrays_of_every_dtype(dtype: str) -> None:
    target, source = np.zeros((2, 3), dtype), np.ones((2, 3), dtype)
    flat_bytes(target)[:] = flat_bytes(source)
    assert (target == source).all()


def test_a_strided_array_is_refused_because_writing_to_its_copy_would_be_lost() -> None:
    with pytest.raises(ValueError, match="contiguous"):
        flat_bytes(np.zeros((4, 4))[:, ::2])


def test_the_collector_rests_inside_and_works_again_afterwards() -> None:
    with quiet_collector():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_the_cost_of_an_empty_loop_is_a_number_of_nanoseconds() -> None:
    assert 0 < burst_p50_ns(((),), lambda: None) < 1_000_000


def test_the_probe_is_read_on_both_sides_of_a_block() -> None:
    block = run(Pace(warmup_frames=0, warmup_ns=0, max_frames=1))[0]
    assert block.probe_before_ns > 0
    assert block.probe_after_ns > 0
