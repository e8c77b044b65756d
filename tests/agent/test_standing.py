"""`rtfleet-agent service`: what the system is told of a standing agent."""

from __future__ import annotations

import configparser
import os
import plistlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rtfleet_agent import standing

COMMAND = ["/opt/my env/bin/python", "-m", "rtfleet_agent", "serve", "--tls-dir", "/etc/100%/$keys"]
VARIABLES = {"RTFLEET_PYTHON": "/b/lib/ld.so --library-path /b/lib /b/bin/python3"}


def test_a_unit_starts_exactly_the_command_as_an_ordinary_user(tmp_path: Path) -> None:
    unit = configparser.RawConfigParser(strict=True)
    unit.optionxform = str
    unit.read_string(standing.systemd_unit(COMMAND, "lab", VARIABLES))

    service = dict(unit["Service"])
    assert service["User"] == "lab" and service["Restart"] == "on-failure"
    # As systemd.syntax(7) reads it: quoted where there are spaces, %% is %, and $$ is $ in a command.
    assert service["ExecStart"] == '"/opt/my env/bin/python" -m rtfleet_agent serve --tls-dir /etc/100%%/$$keys'
    assert service["Environment"] == '"RTFLEET_PYTHON=/b/lib/ld.so --library-path /b/lib /b/bin/python3"'
    # What would change the figures.
    limiting = ("CPU", "Memory", "Nice", "SystemCall", "Restrict", "Limit", "Tasks", "IO")
    assert not [key for key in service if key.startswith(limiting)]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_finds_nothing_wrong_with_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rtfleet_agent", "serve", "--tls-dir", str(tmp_path / "my keys 100%")]
    (tmp_path / "rtfleet-agent.service").write_text(standing.systemd_unit(command, "daemon", VARIABLES))

    told = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / "rtfleet-agent.service"], capture_output=True, text=True
    )

    assert (told.returncode, told.stderr) == (0, "")


def test_a_property_list_starts_exactly_the_command_unthrottled() -> None:
    document = plistlib.loads(standing.launchd_plist(COMMAND, "lab", VARIABLES).encode())

    assert document["ProgramArguments"] == COMMAND and document["EnvironmentVariables"] == VARIABLES
    assert document["UserName"] == "lab" and document["ProcessType"] == "Interactive"


def service(folder: Path, user: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rtfleet_agent", "service", "--tls-dir", str(folder), "--port", "7412"]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LOGNAME": user}, timeout=30)


def test_it_is_not_printed_for_root_nor_for_keys_that_can_not_work(tmp_path: Path) -> None:
    root, bare = service(tmp_path, "root"), service(tmp_path, "lab")

    assert root.returncode == bare.returncode == 2 and root.stdout == bare.stdout == ""
    assert "never as root" in root.stderr
    assert f"{tmp_path / 'ca.pem'} can't be read" in bare.stderr
