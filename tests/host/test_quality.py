"""Warnings: each once, with what to do about it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from invented import (
    MS,
    THREE_LAUNCHES,
    artifact,
    case,
    device,
    launch,
    parity,
    state,
    with_frames,
)

from rtfleet import quality, statistics
from rtfleet.fidelity import Detections, ParityResult
from rtfleet.judged import Warning
from rtfleet.operators import Operators
from rtfleet.records import Block, BusyProcess, CaseError, CaseResult, Launch, Placement, Run, RuntimeFacts

QUIET = launch(1.0, burst_latency_ns=np.full(300, MS))
BUSY = replace(state(), busy=(BusyProcess(7, "make", 1.8),))


def told(result: CaseResult) -> dict[str, Warning]:
    found = quality.warnings(result, statistics.summarize(result), device(), THREE_LAUNCHES)
    codes = [warning.code for warning in found]
    assert len(codes) == len(set(codes)), "a code twice"
    assert all(warning.text and warning.hint for warning in found)
    return dict(zip(codes, found, strict=True))


def probes(run: Launch, *probe_ns: int) -> Launch:
    """The launch with these readings of the speed probe, one before each block."""
    blocks = tuple(replace(block, probe_before_ns=ns) for block, ns in zip(run.blocks, probe_ns, strict=True))
    return replace(run, blocks=blocks)


def test_a_quiet_case_has_no_warnings() -> None:
    assert told(case(QUIET, QUIET, QUIET)) == {}


@pytest.mark.parametrize(
    ("code", "text", "disturbed"),
    [
        ("slow-first-run", "the first inference took 20 ms, 20x p50", replace(QUIET, first_inference_ns=20 * MS)),
        ("overhead", "takes 100.0 us, 10% of p50", replace(QUIET, overhead_ns=100_000)),
        ("overhead-unknown", "not measured in every launch", replace(QUIET, overhead_ns=None)),
        ("memory-unknown", "no VmHWM here", replace(QUIET, peak_rss_bytes=None, memory_reason="no VmHWM here")),
        ("pacing-penalty", "paced, the model takes 10.0x", replace(QUIET, burst_latency_ns=np.full(300, MS // 10))),
        ("long-tail", "p99 is 5.0x p50", launch(with_frames(459, {at: 5.0 for at in range(0, 459, 20)}))),
        ("drift", "launch 1 ended 2.00x slower than it began", launch(np.repeat([1.0, 1.5, 2.0], 153))),
        ("busy", "busy neighbours: 1.8 cores, make (pid 7) 1.8 in launch 1", replace(QUIET, device_before=BUSY)),
        ("busy", "busy neighbours: 2.5 cores", replace(QUIET, device_after=state(others_core_share=2.5))),
        ("fixed-clocks", "can only flatter", replace(QUIET, device_before=state(governor__cpu0="performance"))),
        ("fixed-clocks", "can only flatter", replace(QUIET, device_before=state(governor__cpu3="schedutil, fixed"))),
        ("low-power", "the power mode low-power", replace(QUIET, device_before=state(power_mode="low-power"))),
        ("real-time", "real-time priority (fifo)", replace(QUIET, device_before=state(scheduler="fifo"))),
        ("fallback", "asked for gpu, ran on CPU (0% of", replace(QUIET, placement=Placement("gpu", "CPU", 0.0))),
        ("few-frames", "100 frames in a launch say little of p99: 459 are the least", launch(np.ones(100))),
    ],
)
def test_what_a_reader_must_know_is_said(code: str, text: str, disturbed: Launch) -> None:
    assert text in told(case(disturbed, disturbed, disturbed))[code].text


def test_what_a_delegate_leaves_on_a_cpu_is_no_fall_back() -> None:
    placed = replace(QUIET, placement=Placement("cpu", "XNNPACK", 0.9, (), 9, 10))
    assert told(case(placed, placed, placed)) == {}


def test_operators_that_were_asked_for_and_are_missing_are_said() -> None:
    found = replace(case(QUIET, QUIET, QUIET), operators=Operators(failed="this LiteRT has no libLiteRt.so"))
    assert told(found)["no-operators"].text == "no times per operator: this LiteRT has no libLiteRt.so"


def test_stalls_are_counted_and_the_longest_named() -> None:
    stalled = launch(with_frames(459, {100: 160.0, 200: 120.0, 300: 90.0, 400: 85.0}))

    assert told(case(QUIET, stalled, QUIET))["stall"].text == (
        "4 stalls: 160 ms at 8.0 s of launch 2, 120 ms at 16.0 s of launch 2, 90.1 ms at 24.0 s of launch 2"
    )


def test_two_speeds_of_the_machine_are_seen_by_the_probe() -> None:
    fast, slow = 20_000, 40_000

    found = told(case(probes(QUIET, fast, slow, fast, slow, fast), QUIET, QUIET))

    assert "13% of the blocks" not in str(found)
    found = told(case(*[probes(QUIET, fast, slow, fast, slow, fast)] * 3))
    assert "over 1.3x its usual time in 40% of the blocks" in found["two-speeds"].text


def test_launches_that_differ_are_said() -> None:
    assert "1.50x the fastest's" in told(case(QUIET, launch(1.5), QUIET))["launches-differ"].text


def test_repeated_and_missing_launches_are_said() -> None:
    killed = launch(1.0, error=CaseError("KILLED", "SIGKILL"))

    assert "1 launch failed and did not count: KILLED: SIGKILL" in told(case(killed, QUIET))["repeated"].text
    assert "1 of 3 launches" in told(case(killed, QUIET))["few-launches"].text


@pytest.mark.parametrize(("kind", "blamed"), [("KILLED", "a model that fails"), ("LEASE_LOST", "nothing of the model")])
def test_a_device_that_went_away_is_no_fault_of_the_model(kind: str, blamed: str) -> None:
    failed = launch(1.0, error=CaseError(kind, "gone"))

    assert blamed in told(case(failed, QUIET))["repeated"].hint


def test_a_suspended_launch_is_named_as_a_repeat() -> None:
    slept = launch(1.0, blocks=(Block("PACED", 0, 459, 1, 1, 0, marks=("suspend",)),))

    assert "the device was suspended" in told(case(slept, QUIET))["repeated"].text


def test_what_a_case_is_stands_with_its_numbers() -> None:
    odd = artifact(covers="part", synthetic=True)
    run = launch(1.0, burst=True)

    found = told(case(run, run, run, of=odd, scenario="burst"))

    assert list(found) == ["part", "synthetic-input", "burst-of-a-stream"]


def test_a_state_that_drifts_from_the_originals_is_said() -> None:
    found = told(case(QUIET, QUIET, QUIET, parity_device=parity(snr_db=30.0, drift=40.0)))

    assert "40x further from the original than in its middle" in found["state-drift"].text


def test_errors_that_nobody_could_hear_do_not_drift() -> None:
    assert "state-drift" not in told(case(QUIET, QUIET, QUIET, parity_device=parity(snr_db=110.0, drift=40.0)))


@pytest.mark.parametrize(
    ("device_db", "host_db", "text"),
    [
        (7.0, 38.0, "parity on the device 7 dB, of the file itself 38 dB: the device's kernels, not the quantizer"),
        (38.0, 20.0, "parity on the device 38 dB, of the file itself 20 dB: the device's kernels, not the quantizer"),
        (36.0, 38.0, ""),
        (110.0, 130.0, ""),  # both are as good as equal
        (None, 38.0, ""),
    ],
)
def test_a_device_whose_kernels_compute_something_else_is_named(
    device_db: float | None, host_db: float, text: str
) -> None:
    both = {"parity_device": parity(snr_db=device_db), "parity_host": parity(snr_db=host_db, optimized=False)}

    found = told(case(QUIET, QUIET, QUIET, **both)).get("device-kernels")

    assert (found.text if found else "") == text


def test_outputs_that_nobody_could_compare_with_this_machine_s_are_said() -> None:
    missing = replace(case(), parity_host=ParityResult("", 0, None, None, None, unknown="somebody else has it"))

    assert "somebody else has it" in told(missing)["no-host-parity"].text


def test_detections_that_are_not_the_original_s_are_said() -> None:
    def heard(matched: int, extra: int) -> CaseResult:
        found = Detections(original=25, matched=matched, extra=extra, audio_s=558.0)
        return case(QUIET, QUIET, QUIET, parity_device=parity(detections=found))

    assert "other-detections" not in told(heard(25, 0))
    assert told(heard(23, 2))["other-detections"].text == (
        "it missed 2 of the original's 25 detections and made 2 of its own"
    )


def test_a_case_that_was_not_measured_is_told_what_it_is_and_no_more() -> None:
    assert list(told(case(of=artifact(synthetic=True)))) == ["synthetic-input"]
    assert told(case(artifact=None)) == {}


ORT = RuntimeFacts("onnxruntime", "1.32.0", "d" * 64)


@pytest.mark.parametrize(
    ("arch", "other", "unlike"),
    [
        ("x86_64", ORT, False),
        ("x86_64", replace(ORT, library_sha256="e" * 64), True),
        ("aarch64", replace(ORT, library_sha256="e" * 64), False),
        ("aarch64", replace(ORT, version="1.31.0", library_sha256="e" * 64), True),
    ],
)
def test_devices_with_unlike_builds_of_a_runtime_are_named(arch: str, other: RuntimeFacts, unlike: bool) -> None:
    here = case(launch(1.0, runtime=ORT))
    there = case(launch(1.0, runtime=other))
    there = replace(there, case=replace(there.case, device="pi"))
    devices = (device(alias="board", arch="x86_64"), device(alias="pi", arch=arch))

    found = quality.unlike_builds(Run("run", "now", "0", {}, THREE_LAUNCHES, devices, (here, there)))

    assert set(found) == ({here.case.id, there.case.id} if unlike else set())
    for warning in found.values():
        assert warning.text.startswith("its devices have unlike builds of onnxruntime: 1.32.0 (dddddddd) on board, ")
