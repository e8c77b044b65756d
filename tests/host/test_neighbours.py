"""Who was busy while blocks ran: named, and an excuse for these blocks only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from invented import MS, THREE_LAUNCHES, case, device, launch, state, with_frames

from rtfleet import disturbances, neighbours
from rtfleet.budget import judge_case
from rtfleet.disturbances import Disturbance
from rtfleet.judged import JudgedCase
from rtfleet.might_have_been import without
from rtfleet.records import Block, BusyProcess, CoreFacts, Launch, Options

QUIET = launch(1.0)
STRESS = BusyProcess(7, "stress", 0.8, core=1)


def watched(run: Launch, busy: Mapping[int, tuple[BusyProcess, ...]], cpu: int = 0) -> Launch:
    """The launch with others looked at in every block, and busy in these."""

    def block(at: int, quiet: Block) -> Block:
        others = busy.get(at, ())
        share = sum(process.core_share for process in others)
        return replace(quiet, cpu=cpu, busy=others, others_core_share=0.01 + share)

    return replace(run, blocks=tuple(block(at, each) for at, each in enumerate(run.blocks)))


def found(run: Launch, cores: int = 2, cpus: tuple[int, ...] = ()) -> Disturbance | None:
    return disturbances.busy(run, cores, cpus)


def judged(*launches: Launch) -> JudgedCase:
    return judge_case(case(*launches), device(cores=2), THREE_LAUNCHES)


@pytest.mark.parametrize(
    ("busy", "text"),
    [
        ({0: (STRESS,), 2: (STRESS,), 3: (STRESS,)}, "`stress` used 80 % of core 1 in 3 of 5 blocks"),
        ({0: (STRESS,), 1: (replace(STRESS, core=0),)}, "`stress` used 80 % of a core in 2 of 5 blocks"),
        ({0: (replace(STRESS, core=None),)}, "`stress` used 80 % of a core in 1 of 5 blocks"),
        ({0: (STRESS, replace(STRESS, pid=8, core=0))}, "`stress` used 1.6 cores in 1 of 5 blocks"),
        ({0: (replace(STRESS, core_share=1.02),)}, "`stress` used 100 % of core 1 in 1 of 5 blocks"),
        (
            {0: (STRESS, BusyProcess(9, "cc1plus", 0.9, 0)), 1: (BusyProcess(10, "cc1plus", 0.9, 0),)},
            "`cc1plus` used 90 % of core 0 in 2 of 5 blocks",
        ),
    ],
)
def test_the_busiest_is_named_with_its_share_its_core_and_the_blocks(
    busy: Mapping[int, tuple[BusyProcess, ...]], text: str
) -> None:
    disturbance = found(watched(QUIET, busy))

    assert disturbance is not None
    assert disturbance.text == f"a busy neighbour: {text}"
    assert disturbance.hint == "stop it or pin with --cpus"
    assert (disturbance.effect, disturbance.blocks) == ("slows", tuple(busy))


@pytest.mark.parametrize(
    ("cpus", "hint"), [((), "stop it or pin with --cpus"), ((1,), "stop it or pin to other cores"), ((0,), "stop it")]
)
def test_the_hint_knows_what_is_pinned_already(cpus: tuple[int, ...], hint: str) -> None:
    disturbance = found(watched(QUIET, {0: (STRESS,)}), cpus=cpus)

    assert disturbance is not None and disturbance.hint == hint


def test_processes_too_short_lived_to_be_seen_are_counted() -> None:
    blocks = tuple(replace(block, others_core_share=1.25) for block in QUIET.blocks)
    disturbance = found(replace(QUIET, blocks=blocks))

    assert disturbance is not None
    assert disturbance.text == "a busy neighbour: processes too short-lived to be named used 1.2 cores in 5 of 5 blocks"


def test_on_a_large_machine_a_neighbour_disturbs_where_the_launch_ran() -> None:
    beside = watched(QUIET, {0: (STRESS,)}, cpu=3)
    on_its_core = watched(QUIET, {0: (STRESS,)}, cpu=1)

    assert found(beside, cores=16) is None
    assert found(on_its_core, cores=16) is not None


def test_a_neighbour_of_few_blocks_is_not_worth_a_word() -> None:
    long = launch(np.ones(2000))

    assert found(watched(long, {3: (STRESS,)})) is None
    assert found(watched(long, {3: (STRESS,), 4: (STRESS,)})) is not None


def test_where_nobody_looked_into_the_blocks_the_states_around_the_launch_tell() -> None:
    around = replace(QUIET, device_after=replace(state(), busy=(BusyProcess(7, "make", 1.8),)))
    disturbance = found(around)

    assert disturbance is not None
    assert disturbance.text == "busy neighbours: 1.8 cores, make (pid 7) 1.8"
    assert found(QUIET) is None and not neighbours.looked_at(QUIET)


def test_blocks_of_warm_up_and_of_the_closing_burst_do_not_count() -> None:
    noisy = Block("WARMUP", 0, 50, 1, 1, 1, busy=(STRESS,), others_core_share=0.8)
    run = watched(QUIET, {})

    assert found(replace(run, blocks=(noisy, *run.blocks, replace(noisy, phase="BURST")))) is None


def test_a_pass_stands_despite_a_neighbour() -> None:
    reason = judged(watched(QUIET, {0: (STRESS,)}), QUIET, QUIET).reason

    assert reason == "despite a busy neighbour: `stress` used 80 % of core 1 in 1 of 5 blocks"


def test_a_fail_is_excused_where_the_quiet_blocks_would_not_fail() -> None:
    slow_in_three = launch(with_frames(459, dict.fromkeys(range(300), 60.0)))

    verdict = judged(watched(slow_in_three, {0: (STRESS,), 1: (STRESS,), 2: (STRESS,)}), QUIET, QUIET)

    assert verdict.verdict == "INCONCLUSIVE"
    assert (
        "but with a busy neighbour: `stress` used 80 % of core 1 in 3 of 5 blocks: stop it or pin with --cpus"
        in verdict.reason
    )


def test_a_fail_stands_where_the_quiet_blocks_fail_too() -> None:
    slow = watched(launch(60.0), {0: (STRESS,)})

    assert judged(slow, QUIET, QUIET).verdict == "FAIL"


def test_a_launch_that_was_never_quiet_proves_nothing() -> None:
    slow = watched(launch(60.0), dict.fromkeys(range(5), (STRESS,)))

    assert judged(slow, QUIET, QUIET).verdict == "INCONCLUSIVE"


def test_no_neighbour_excuses_a_model_whose_typical_frame_is_over_by_far() -> None:
    hopeless = watched(launch(500.0), dict.fromkeys(range(5), (STRESS,)))
    preempted = watched(
        launch(with_frames(459, dict.fromkeys(range(0, 459, 3), 5_000.0))), dict.fromkeys(range(5), (STRESS,))
    )

    assert judged(hopeless, QUIET, QUIET).verdict == "FAIL"
    assert judged(preempted, QUIET, QUIET).verdict == "INCONCLUSIVE", "single frames may wait for any time"


def test_more_neighbours_excuse_more() -> None:
    crowd = tuple(BusyProcess(pid, "stress", 1.0, pid % 2) for pid in range(8))

    assert judged(watched(launch(500.0), dict.fromkeys(range(5), crowd)), QUIET, QUIET).verdict == "INCONCLUSIVE"


def test_a_launch_without_some_blocks_keeps_the_rest_in_place() -> None:
    run = launch(np.arange(459) * 1.0, lateness_ms=np.arange(459) * 2.0)

    rest = without(run, (0, 2))

    assert rest.latency_ns.tolist() == [at * MS for at in (*range(100, 200), *range(300, 459))]
    assert rest.lateness_ns.tolist() == [2 * at * MS for at in (*range(100, 200), *range(300, 459))]
    assert [(block.first_frame, block.frames) for block in rest.blocks] == [(0, 100), (100, 100), (200, 59)]
    assert rest.load_ns is None


# ---- throttling and pinning ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"device_after": state(thermal_pressure="severe")}, "throttling (the system tells severe heat)"),
        ({"device_after": state(cpu_speed_limit_percent=72)}, "throttling (the clock is limited to 72 %)"),
        ({"device_after": state(thermal_pressure="none", cpu_speed_limit_percent=100)}, None),
        ({"blocks": tuple(replace(block, marks=("throttled",)) for block in QUIET.blocks[:2]) + QUIET.blocks[2:]},
         "throttling in 2 of 5 blocks"),
    ],
)  # fmt: skip
def test_throttling_is_seen_however_the_system_tells_it(changes: dict[str, Any], text: str | None) -> None:
    disturbance = disturbances.throttled(replace(QUIET, **changes))

    assert (disturbance.text if disturbance else None) == text


BIG_LITTLE = tuple(CoreFacts(at, 1024 if at > 5 else 446) for at in range(8))


@pytest.mark.parametrize(
    ("cpus", "cores", "arch", "flattered"),
    [
        ((6, 7), BIG_LITTLE, "aarch64", True),
        ((0, 1), BIG_LITTLE, "aarch64", False),
        ((0, 7), BIG_LITTLE, "aarch64", True),
        ((0,), tuple(CoreFacts(at, 1024) for at in range(4)), "aarch64", False),
        ((0,), tuple(CoreFacts(at) for at in range(4)), "aarch64", True),
        ((0,), (), "x86_64", False),
    ],
)
def test_pinning_flatters_unless_to_little_cores(
    cpus: tuple[int, ...], cores: tuple[CoreFacts, ...], arch: str, flattered: bool
) -> None:
    pinned = case(QUIET, options=Options(cpus=cpus)).case
    disturbance = disturbances.pinned(pinned, device(arch=arch, cores_info=cores))

    assert (disturbance is not None and disturbance.effect == "flatters") == flattered


def test_what_came_together_is_excused_together() -> None:
    """A neighbour in three blocks, a machine that was 1.5x slower in the other two: neither alone explains a FAIL."""
    crowded = launch(with_frames(459, dict.fromkeys(range(300), 90.0), usual=60.0))
    slow = replace(crowded, blocks=tuple(replace(block, probe_before_ns=30_000) for block in crowded.blocks))
    both = watched(slow, {0: (STRESS,), 1: (STRESS,), 2: (STRESS,)})

    assert judged(watched(crowded, {0: (STRESS,), 1: (STRESS,), 2: (STRESS,)}), QUIET, QUIET).verdict == "FAIL"
    assert judged(slow, QUIET, QUIET).verdict == "FAIL"
    excused = judged(both, QUIET, QUIET)
    assert excused.verdict == "INCONCLUSIVE"
    assert "a busy neighbour" in excused.reason and "a slow machine" in excused.reason
