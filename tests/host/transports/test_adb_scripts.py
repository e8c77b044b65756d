"""What phones answer, where it is not what one expects of them."""

from __future__ import annotations

from rtfleet.transports import adb, adb_scripts
from rtfleet.transports.adb_line import Line
from rtfleet.transports.adb_scripts import Started
from rtfleet.transports.adb_server import Server

LINE = Line("pixel", Server("127.0.0.1", 5037, is_here=True), "3A041FDJH001")


def test_a_phone_that_tells_no_api_level_is_tried_all_the_same() -> None:
    for told in ("sdk ", "sdk getprop: inaccessible or not found", ""):
        assert adb_scripts.seen(f"abis arm64-v8a\n{told}\n").sdk == 0


def test_files_of_another_user_are_not_taken_for_a_phone_that_executes_nothing() -> None:
    said = "rtfleet-agent: [Errno 13] Permission denied: '/data/local/tmp/rtfleet/store/lock'"

    error = adb.start_error(LINE, Started(7, None, 2, said))

    assert "may not use what lies in /data/local/tmp/rtfleet" in error.text and "store/lock" in error.text
    assert "SELinux" not in error.text and "belongs to another user" in error.hint


def test_a_library_that_may_not_be_mapped_is_a_phone_that_executes_nothing() -> None:
    said = "ImportError: libLiteRt.so: failed to map segment from shared object: Permission denied"

    assert "it refuses to execute" in adb.start_error(LINE, Started(7, None, 1, said)).text


def test_what_a_step_of_the_doctor_said_is_not_looked_for_in_the_agent_s_log() -> None:
    error = adb.start_error(LINE, Started(0, None, 135, ""), what="onnxruntime")

    assert "onnxruntime ended while it started, exit code 135" in error.text and "agent.log" not in error.hint
