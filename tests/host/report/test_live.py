"""The view of a run while it goes on."""

from __future__ import annotations

import io

import pytest
from builders import HOSTILE, measured_launch, whole_case
from invented import device
from rich.console import Console

from rtfleet import events
from rtfleet.records import CaseError
from rtfleet.report.live import View, after, drawing, live

CASE = "wake-word/onnx-fp32@local/paced"
KILLED = CaseError("KILLED", "the worker was killed by signal 9 (SIGKILL)", "see its stderr")

STORY: tuple[events.Event, ...] = (
    events.DeviceConnected(device(alias="local", model="Board of tests")),
    events.Planned(("local",), ("a", "b"), 3, 620.0),
    events.Working("wake-word", "export onnx-fp32"),
    events.Working("wake-word", "export onnx-fp32", 12.0),
    events.Guessed("silero_vad", "state is paired with stateN"),
    events.Pushed("local", 33_000_000, 1.4),
    events.Pushed("local", 3_000, 0.1),
    events.CaseJoined(whole_case().case),
    events.LaunchStarted("local", CASE, "LATENCY", 1, 3, 459),
    events.Progress("local", CASE, "warm-up", 0, 459, None, None),
    events.Progress("local", CASE, "paced", 100, 459, 412_000.0, 623_000.0),
    events.Progress("local", CASE, "paced", 459, 459, 412_000.0, 623_000.0),
    events.LaunchEnded("local", CASE, measured_launch()),
    events.LaunchStarted("local", CASE, "LATENCY", 2, 3, 459),
    events.LaunchEnded("local", CASE, measured_launch(round_=2, error=KILLED)),
    events.CaseFailed("b", "local", CaseError("EXPORT", "op STFT has no kernel", "try tflite-fp32")),
    events.DeviceLost("local", CaseError("DEVICE", "local gives no answer")),
    events.Ended(True),
)


def _told(story: tuple[events.Event, ...], *, terminal: bool, width: int = 100) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=terminal, color_system=None)
    with live(console) as tell:
        for event in story:
            tell(event)
    return stream.getvalue()


def _drawn(*story: events.Event, width: int = 100) -> list[str]:
    view = View()
    for event in story:
        view = after(view, event)
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None).print(drawing(view, width))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_without_a_terminal_each_thing_that_matters_is_one_line() -> None:
    assert _told(STORY, terminal=False).splitlines() == [
        "local: connected (Board of tests, linux)",
        "plan: 2 cases, 3 launches each, about 10 min",
        "wake-word: export onnx-fp32",
        "silero_vad: state is paired with stateN",
        "local: 33 MB pushed in 1 s",
        f"{CASE}: launch 1 of 3: 459 frames, p50 412, p99 623 µs",
        f"{CASE}: launch 2: the worker was killed by signal 9 (SIGKILL)",
        "  hint: see its stderr",
        "b: op STFT has no kernel",
        "  hint: try tflite-fp32",
        "local: local gives no answer",
        "interrupted: leases are released, what was measured is kept",
    ]


@pytest.mark.parametrize("terminal", [False, True])
def test_what_a_device_leaves_to_others_stays_on_the_screen(terminal: bool) -> None:
    left_out = events.LeftOut("pixel", "wake-word", ("coreml-fp16", "coreml-int8"), "Core ML runs on macOS")

    said = _told((left_out,), terminal=terminal, width=200)

    assert "left out on pixel: coreml-fp16, coreml-int8 of wake-word (Core ML runs on macOS)" in said


def test_long_lines_of_a_log_are_not_folded() -> None:
    guess = events.Guessed("model", "a sentence " * 20)

    assert len(_told((guess,), terminal=False, width=40).splitlines()) == 1


def test_progress_alone_prints_nothing_without_a_terminal() -> None:
    progress = events.Progress("local", CASE, "paced", 100, 459, 1.0, 2.0)

    assert _told((progress,) * 500, terminal=False) == ""


def test_the_view_shows_phase_frames_and_current_percentiles_of_each_device() -> None:
    shown = _drawn(*STORY[:11])

    assert shown[0] == f"local  {CASE}, launch 1 of 3, paced"
    assert shown[1].endswith("100 of 459 frames, p50 412, p99 623 µs")
    assert shown[-1] == "2 cases, 3 launches each, about 10 min; 0 launches done"


def test_the_view_keeps_the_last_numbers_of_what_was_measured() -> None:
    shown = _drawn(*STORY[:14])

    assert shown[0] == f"{CASE}  launch 1 of 3  459 frames, p50 412, p99 623 µs"
    assert shown[1] == f"local  {CASE}, launch 2 of 3, load"
    assert shown[-1].endswith("1 launch done")


def test_the_view_names_what_the_host_does_until_it_is_done() -> None:
    assert "host  wake-word: export onnx-fp32" in _drawn(*STORY[:3])
    assert not [line for line in _drawn(*STORY[:4]) if line.startswith("host")]


def test_a_lost_device_keeps_its_line_with_the_reason() -> None:
    assert "local  lost: local gives no answer" in _drawn(*STORY)


def test_on_a_terminal_troubles_and_guesses_stay_above_the_view() -> None:
    said = _told(STORY, terminal=True)

    assert "b: op STFT has no kernel" in said
    assert "silero_vad: state is paired with stateN" in said


@pytest.mark.parametrize("width", [40, 80])
def test_the_view_never_folds_a_line(width: int) -> None:
    assert len(_drawn(*STORY[:11], width=width)) == 3
    assert max(map(len, _drawn(*STORY[:14], width=width))) <= width


@pytest.mark.parametrize("terminal", [False, True])
def test_hostile_names_draw_nothing(terminal: bool) -> None:
    story = (
        events.Guessed(HOSTILE, HOSTILE),
        events.Working(HOSTILE, HOSTILE),
        events.LaunchStarted("local", HOSTILE, "LATENCY", 1, 3, 459),
        events.CaseFailed(HOSTILE, "local", CaseError("X", HOSTILE, HOSTILE)),
    )

    said = _told(story, terminal=terminal, width=200)

    assert "ev[red]il|\\x1b[2J\\u202e name" in said
    assert "\x1b[2J" + "\u202e" not in said
    assert "\u202e" not in said


def test_a_wait_for_a_device_that_is_away_says_when_it_is_for_another_reason() -> None:
    reasons = ("the agent does not answer", "it is leased to ben; 28 s left", "it is leased to ben; 26 s left")

    told = _told((STORY[0], *(events.Waiting("local", "", (reason,)) for reason in reasons)), terminal=False)

    assert told.splitlines()[1:] == [f"local: waiting: {reason}" for reason in reasons[:2]]


def test_a_wait_for_the_device_is_one_line_and_moves_the_view() -> None:
    slow = events.Waiting("local", CASE, ("it is 1.50x slower than usual while `make` (pid 7) uses 0.9 cores",))
    still = events.Waiting("local", CASE, ("it is 1.30x slower than usual",))
    started = events.LaunchStarted("local", CASE, "LATENCY", 1, 3, 459)

    told = _told((STORY[0], slow, still, started, slow), terminal=False).splitlines()

    assert told[1:] == ["local: waiting: it is 1.50x slower than usual while `make` (pid 7) uses 0.9 cores"] * 2
    assert _drawn(STORY[0], slow, still) == [f"local  {CASE}, waiting: it is 1.30x slower than usual"]
