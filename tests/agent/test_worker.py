"""The worker as the service sees it: a process, a request on stdin, events on stdout."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rtfleet_agent.launch import (
    STREAM_STARTS,
    Block,
    Described,
    Event,
    Failed,
    Finished,
    Inspected,
    Loaded,
    Operators,
    Outputs,
    Pace,
    Started,
    WorkerRequest,
    read_event,
    write_request,
)
from rtfleet_agent.runtimes.base import Graph, Options, State

QUICK = Pace(warmup_frames=3, warmup_ns=0, max_frames=20, block_frames=10)
ACCUMULATOR = {
    "inputs": [
        {"name": "x", "dtype": "float32", "shape": [1, 2]},
        {"name": "h", "dtype": "float32", "shape": [1]},
    ],
    "outputs": [
        {"name": "score", "dtype": "float32", "shape": [1], "rule": "sum"},
        {"name": "h_out", "dtype": "float32", "shape": [1], "rule": "sum"},
    ],
}


@pytest.fixture(name="request_of")
def _request_of(tmp_path: Path):
    """A LAUNCH of the accumulator with changes to its file, feeds of six frames in two streams."""

    def request(feeds: dict | None = None, **changes: object) -> WorkerRequest:
        path = tmp_path / "model.fake.json"
        path.write_text(json.dumps(ACCUMULATOR | changes))
        arrays = {"x": np.arange(12, dtype=np.float32).reshape(6, 1, 2), STREAM_STARTS: np.array([0, 4])}
        np.savez(tmp_path / "feeds.npz", **(arrays if feeds is None else feeds))
        graph = Graph("main", path, {}, (State("h", "h_out"),))
        return WorkerRequest("LAUNCH", "fake", graphs=(graph,), feeds=tmp_path / "feeds.npz", pace=QUICK)

    return request


@contextmanager
def started(request: WorkerRequest) -> Iterator[subprocess.Popen]:
    command = [sys.executable, "-m", "rtfleet_agent.worker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as worker:
        write_request(worker.stdin, request)
        try:
            yield worker
        finally:
            worker.kill()


def events_of(worker: subprocess.Popen) -> list[Event]:
    events = []
    while (event := read_event(worker.stdout)) is not None:
        events.append(event)
    return events


def answered(request: WorkerRequest) -> list[Event]:
    with started(request) as worker:
        return events_of(worker)


def only(events: list[Event], kind: type) -> list:
    return [event for event in events if isinstance(event, kind)]


def test_a_launch_tells_its_story_in_order(request_of) -> None:
    events = answered(request_of())
    assert [type(event) for event in events] == [Started, Loaded, Block, Block, Block, Finished]
    assert [block.phase for block in only(events, Block)] == ["WARMUP", "BURST", "BURST"]


def test_loaded_holds_times_memory_and_what_ran(request_of) -> None:
    loaded = only(answered(request_of(load_ms=3, compile_ms=2, memory_mb=40)), Loaded)[0]
    assert loaded.load_ns >= 3_000_000
    assert loaded.compile_ns >= 2_000_000
    assert loaded.first_inference_ns > 0
    assert loaded.runtime.name == "fake"
    assert loaded.placement.ran == "fake"
    if sys.platform == "linux":
        assert loaded.rss_after_load_bytes - loaded.rss_before_load_bytes > 30 << 20


def test_finished_holds_the_peak_and_the_cost_of_the_harness(request_of) -> None:
    finished = only(answered(request_of()), Finished)[0]
    assert 0 < finished.overhead_ns < 1_000_000
    if sys.platform == "linux":
        assert finished.peak_rss_bytes > 1 << 20


def test_parity_runs_every_frame_once_and_resets_the_state_where_a_stream_starts(request_of) -> None:
    events = answered(replace(request_of(), kind="PARITY"))
    (outputs,) = only(events, Outputs)
    sums = np.arange(12, dtype=np.float32).reshape(6, 2).sum(axis=1)
    assert outputs.first_frame == 0
    assert outputs.columns["score"].ravel().tolist() == [*np.cumsum(sums[:4]), *np.cumsum(sums[4:])]
    assert not only(events, Block)


def test_parity_outputs_come_in_chunks_of_at_most_a_mebibyte(request_of) -> None:
    big = [{"name": "y", "dtype": "float32", "shape": [100_000], "rule": "echo"}, ACCUMULATOR["outputs"][1]]
    chunks = only(answered(replace(request_of(outputs=big), kind="PARITY")), Outputs)
    assert [chunk.first_frame for chunk in chunks] == [0, 2, 4]
    assert all(chunk.columns["y"].nbytes <= 1 << 20 for chunk in chunks)


def test_a_profile_launch_tells_the_time_of_each_operator(request_of) -> None:
    operators = only(answered(replace(request_of(latency_us=100), kind="PROFILE")), Operators)[0].operators
    assert operators[0].total_ns >= 100_000 * operators[0].calls / 2


def test_a_profile_launch_of_a_stream_keeps_its_pace_and_ends_without_a_burst(request_of) -> None:
    paced = replace(request_of(latency_us=100), kind="PROFILE", pace=replace(QUICK, hop_ns=2_000_000))
    events = answered(paced)
    assert [block.phase for block in only(events, Block)] == ["WARMUP", "PACED", "PACED"]
    # What the runtime saw is what was run, and the first inference.
    assert only(events, Operators)[0].operators[0].calls == 1 + sum(len(one.latency_ns) for one in only(events, Block))


def test_finish_on_stdin_ends_the_launch_after_the_block_in_hand(request_of) -> None:
    endless = replace(request_of(latency_us=50), pace=replace(QUICK, max_frames=0, min_frames=10**9))
    with started(endless) as worker:
        while not isinstance(read_event(worker.stdout), Block):
            pass
        worker.stdin.write(b"finish\n")
        worker.stdin.flush()
        assert isinstance(events_of(worker)[-1], Finished)


def test_a_worker_ends_when_its_agent_is_gone(request_of) -> None:
    endless = replace(request_of(latency_us=50), pace=replace(QUICK, max_frames=0, min_frames=10**9))
    with started(endless) as worker:
        while not isinstance(read_event(worker.stdout), Block):
            pass
        worker.stdin.close()
        assert not only(events_of(worker), Finished)
        assert worker.wait(10) == 1


def test_a_crash_ends_the_pipe_and_its_signal_is_the_exit_code(request_of) -> None:
    with started(request_of(faults={"crash_at": 12, "signal": "SIGSEGV"})) as worker:
        events = events_of(worker)
        assert worker.wait(10) == -signal.SIGSEGV
    assert not only(events, Finished)
    assert not only(events, Failed)


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"faults": {"nan_at": 5}}, "BAD_OUTPUT", "output 'score' is NaN after inference"),
        ({"faults": {"oom_at": 5}}, "OUT_OF_MEMORY", "no memory left"),
        ({"faults": [{"fail_at": 2}]}, "INTERNAL", "fail_at = 2"),
        ({"colour": "red"}, "BAD_MODEL", "model.fake.json: unknown key 'colour'"),
        ({"inputs": [{"name": "x"}]}, "BAD_MODEL", "model.fake.json"),
    ],
)
def test_a_fault_is_one_clear_message(request_of, changes: dict, kind: str, words: str) -> None:
    failed = answered(request_of(**changes))[-1]
    assert isinstance(failed, Failed)
    assert failed.kind == kind
    assert words in failed.message


@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ({"y": np.zeros(3)}, "no values for input 'x' (float32 [1, 2])"),
        ({"x": np.zeros((6, 1, 2))}, "input 'x' came as float64 [6, 1, 2], the model takes float32 [1, 2]"),
        ({"x": np.zeros((6, 1, 3), np.float32)}, "input 'x' came as float32 [6, 1, 3]"),
        ({"x": np.zeros((6, 1, 2), np.float32), "z": np.zeros(1)}, "the model has no input 'z'"),
        ({"x": np.zeros((0, 1, 2), np.float32)}, "at least one"),
    ],
)
def test_feeds_that_do_not_fit_are_told_by_input(request_of, feeds: dict, words: str) -> None:
    failed = answered(request_of(feeds=feeds))[-1]
    assert failed.kind == "BAD_MODEL"
    assert words in failed.message


def test_a_constant_input_is_given_once(request_of) -> None:
    events = answered(replace(request_of(feeds={"x": np.ones((1, 2), np.float32)}), kind="PARITY"))
    assert only(events, Outputs)[0].columns["score"].ravel().tolist() == [2.0]


def test_feeds_that_are_no_npz_are_a_clear_failure(request_of, tmp_path: Path) -> None:
    request = request_of()
    (tmp_path / "feeds.npz").write_bytes(b"not a zip")
    failed = answered(request)[-1]
    assert (failed.kind, "feeds.npz" in failed.message) == ("BAD_MODEL", True)


def test_a_launch_over_its_memory_limit_fails_as_out_of_memory(request_of) -> None:
    failed = answered(replace(request_of(memory_mb=200), max_rss_bytes=100 << 20))[-1]
    assert failed.kind == "OUT_OF_MEMORY"


def test_a_core_that_is_not_here_is_named(request_of) -> None:
    failed = answered(replace(request_of(), options=Options(cpus=(4095,))))[-1]
    assert "4095" in failed.message


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no core affinity here")
def test_blocks_name_the_core_that_the_launch_was_pinned_to(request_of) -> None:
    cpu = min(os.sched_getaffinity(0))
    blocks = only(answered(replace(request_of(), options=Options(cpus=(cpu,)))), Block)
    assert {block.cpu for block in blocks} == {cpu}


def test_an_accelerator_that_is_not_here_is_refused_with_what_is(request_of) -> None:
    failed = answered(replace(request_of(), options=Options(accelerator="npu")))[-1]
    assert failed.kind == "NO_ACCELERATOR"
    assert "offers cpu" in failed.message


def test_inspect_answers_with_the_tensors(request_of) -> None:
    (inspected,) = answered(replace(request_of(), task="INSPECT"))
    assert isinstance(inspected, Inspected)
    assert [tensor.name for tensor in inspected.inputs] == ["x", "h"]
    assert inspected.outputs[0].shape == (1,)


def test_describe_answers_with_the_runtime_s_facts() -> None:
    (described,) = answered(WorkerRequest("DESCRIBE", "fake"))
    assert isinstance(described, Described)
    assert described.facts.accelerators == ("cpu",)


def test_describe_of_a_runtime_that_is_not_here_says_why() -> None:
    (described,) = answered(WorkerRequest("DESCRIBE", "quantum"))
    assert "unknown runtime 'quantum'" in described.facts.error


def test_a_file_that_was_not_laid_out_is_named(request_of, tmp_path: Path) -> None:
    request = request_of()
    (tmp_path / "model.fake.json").unlink()
    failed = answered(request)[-1]
    assert (failed.kind, "model.fake.json" in failed.message) == ("BAD_MODEL", True)


def test_the_worker_never_imports_grpc() -> None:
    code = "import sys, rtfleet_agent.worker; print('grpc' in sys.modules or 'onnxruntime' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code]).strip() == b"False"
