"""A launch follows from its events, also from half of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rtfleet import launch_log as log
from rtfleet.operators import Operators, OperatorTime
from rtfleet.records import BusyProcess, Launch, Phase


def frames(phase: Phase, latency_ns: list[int], lateness_ns: list[int] | None = None) -> log.Frames:
    return log.Frames(
        phase=phase,
        probe_before_ns=20_000,
        probe_after_ns=21_000,
        cpu=1,
        started_mono_ns=5,
        latency_ns=np.array(latency_ns, np.int64),
        lateness_ns=np.array(lateness_ns or [], np.int64),
    )


def launch(*events: log.LaunchEvent, paced: bool = True) -> Launch:
    return log.launch_of(events, launch_id="l1", kind="LATENCY", round_=2, paced=paced, feeds_sha256="f")


def test_a_paced_launch_keeps_its_phases_apart() -> None:
    told = launch(
        frames("WARMUP", [9, 9], [0, 0]),
        frames("PACED", [1, 2], [10, 20]),
        frames("PACED", [3], [30]),
        frames("BURST", [7, 8]),
    )

    assert told.warmup_latency_ns.tolist() == [9, 9]
    assert told.latency_ns.tolist() == [1, 2, 3]
    assert told.response_ns.tolist() == [11, 22, 33]
    assert told.burst_latency_ns.tolist() == [7, 8]
    assert [(block.phase, block.first_frame, block.frames) for block in told.blocks] == [
        ("WARMUP", 0, 2),
        ("PACED", 0, 2),
        ("PACED", 2, 1),
        ("BURST", 0, 2),
    ]


def test_a_block_keeps_what_disturbed_it() -> None:
    disturbed = replace(
        frames("PACED", [1], [1]), marks=("throttled",), busy=(BusyProcess(7, "stress", 0.8, 1),), others_core_share=0.9
    )

    (block,) = launch(disturbed).blocks

    assert (block.marks, block.busy, block.others_core_share) == (
        ("throttled",),
        (BusyProcess(7, "stress", 0.8, 1),),
        0.9,
    )


def test_in_a_burst_the_burst_is_what_is_measured() -> None:
    told = launch(frames("WARMUP", [9]), frames("BURST", [4, 5]), paced=False)

    assert told.latency_ns.tolist() == told.response_ns.tolist() == [4, 5]
    assert told.burst_latency_ns.size == 0


def test_a_failure_keeps_what_was_measured_and_says_what_to_do() -> None:
    told = launch(frames("PACED", [1], [1]), log.Failed("KILLED", "the worker was killed", "SIGSEGV", "last words"))

    assert told.latency_ns.tolist() == [1]
    assert told.error is not None
    assert told.error.text == "the worker was killed (SIGSEGV)"
    assert told.error.retryable
    assert told.error.hint
    assert told.stderr_tail == "last words"


def test_a_damaged_model_is_not_worth_a_second_launch() -> None:
    told = launch(log.Failed("BAD_MODEL", "m.onnx is truncated", "", ""))

    assert told.error is not None
    assert not told.error.retryable


def test_outputs_are_joined_in_the_order_of_their_frames() -> None:
    later = log.Outputs(1, {"score": np.array([[3.0]])})
    first = log.Outputs(0, {"score": np.array([[2.0]])})

    assert log.outputs_of([later, first])["score"].tolist() == [[2.0], [3.0]]


def test_operators_or_why_there_are_none() -> None:
    told = Operators((OperatorTime("conv", "Conv", 2, 300),))

    assert log.operators_of([told]) == told
    assert log.operators_of([log.Failed("KILLED", "it was killed", "SIGSEGV", "")]).failed == "it was killed (SIGSEGV)"
    assert log.operators_of([Operators()]).failed == "the runtime told no times per operator"


def test_the_share_of_time_is_that_of_the_operators_of_which_it_is_known() -> None:
    fast, slow = (
        OperatorTime("a", "A", 1, 300, "X", accelerated=True),
        OperatorTime("b", "B", 1, 100, accelerated=False),
    )

    assert Operators((fast, slow, OperatorTime("rest", "", 1, 400))).accelerated_share == 0.75
    # Of so little that it would mislead.
    assert Operators((fast, slow, OperatorTime("rest", "", 1, 401))).accelerated_share is None
    assert Operators().accelerated_share is None
