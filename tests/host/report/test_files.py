"""The report's files."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import every_verdict, journalled

from rtfleet.errors import RtfleetError, UsageError
from rtfleet.report import files
from rtfleet.report.files import Targets


def test_all_files_are_written(tmp_path: Path) -> None:
    targets = Targets(*(str(tmp_path / name) for name in ("run.json", "junit.xml", "summary.md")))
    files.check(targets)

    files.write(every_verdict(), None, targets)

    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["verdict"] == "FAIL"
    assert ET.parse(tmp_path / "junit.xml").getroot().tag == "testsuites"
    assert (tmp_path / "summary.md").read_text(encoding="utf-8").startswith("## rtfleet: FAIL")
    assert not targets.on_stdout


def test_a_report_that_can_t_be_composed_leaves_an_older_one_as_it_was(tmp_path: Path) -> None:
    report = tmp_path / "run.json"
    report.write_text("an older one")

    def pieces() -> Iterator[str]:
        yield "{"
        raise UsageError("raw/l1.npz can't be read")

    with pytest.raises(UsageError, match="can't be read"):
        files.put("--json", str(report), pieces())

    assert report.read_text() == "an older one"


def test_a_report_that_finds_no_room_leaves_an_older_one_as_it_was(tmp_path: Path) -> None:
    report, link = tmp_path / "run.json", tmp_path / "link.json"
    report.write_text("an older one")
    report.chmod(0o640)
    link.symlink_to(report)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(UsageError, match="can't be written"):
            files.put("--json", str(link), ["x" * 5000])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert report.read_text() == "an older one" and len(list(tmp_path.iterdir())) == 2

    files.put("--json", str(link), ["a new one"])
    assert link.is_symlink() and report.read_text() == "a new one" and stat.S_IMODE(report.stat().st_mode) == 0o640
    files.put("--json", os.devnull, ["anything"])


def test_stdout_by_another_name_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = "from rtfleet.report import files; files.put('--json', '/dev/stdout', ['report'])"
    with log.open("w") as stream:
        for words in (["echo", "before"], [sys.executable, "-c", program]):
            subprocess.run(words, stdout=stream, check=True)
    assert "report" in log.read_text() and [path.name for path in tmp_path.iterdir()] == ["log"]


def test_two_reports_in_one_file_are_refused_and_so_is_a_link_to_itself(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere" / "x")
    for targets, said in (
        (Targets(json=str(tmp_path / "a"), junit=str(tmp_path / "b")), "are one file"),
        (Targets(json=str(tmp_path / "loop")), "link to itself"),
        (Targets(json=str(tmp_path / "gone")), "there is no folder"),
    ):
        with pytest.raises(UsageError, match=said):
            files.check(targets)
    files.put("--json", str(tmp_path / ("x" * 250)), ["a long name"])


def test_a_dash_is_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    targets = Targets(json="-")
    files.check(targets)

    files.write(every_verdict(), None, targets)

    assert targets.on_stdout
    assert json.loads(capsys.readouterr().out)["exit_code"] == 1


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (Targets(json="-", junit="-"), "--json and --junit: only one of them can go to stdout"),
        (Targets(json="gone/run.json"), "--json gone/run.json: there is no folder"),
        (Targets(markdown="."), "--markdown .: is a folder"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(targets: Targets, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        files.check(targets)

    assert said in refused.value.text


def test_a_file_that_fails_at_the_end_leaves_the_others(tmp_path: Path) -> None:
    folder = journalled(every_verdict().run, tmp_path / "run")
    targets = Targets(json=str(tmp_path), markdown=str(tmp_path / "summary.md"))

    with pytest.raises(RtfleetError, match=r"--json .*: can't be written: Is a directory") as failed:
        files.write(every_verdict(), folder, targets)

    assert f"rtfleet show {folder}" in failed.value.hint
    assert (tmp_path / "summary.md").exists()
