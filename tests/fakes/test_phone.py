"""The emulated phone, as the real adb sees it: whoever builds on it must be able to trust it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fakes import phone as fakes
from fakes.phone import EmulatedPhone, comes_about

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(fakes.cannot_emulate()), reason=fakes.cannot_emulate() or "can"),
]


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_it_says_what_a_phone_says(phone: EmulatedPhone) -> None:
    assert phone.sh("getprop ro.product.model") == "Pixel 8\n"
    assert phone.sh("getprop ro.serialno").strip() == phone.number
    assert phone.sh("getprop no.such.thing") == "\n"
    assert "[ro.build.version.sdk]: [35]" in phone.sh("getprop")
    assert "level: 87" in phone.sh("dumpsys battery") and "Thermal Status: 0" in phone.sh("dumpsys thermalservice")
    assert phone.sh("settings get global stay_on_while_plugged_in") == "null\n"
    phone.sh("settings put global stay_on_while_plugged_in 3")
    assert phone.sh("settings get global stay_on_while_plugged_in") == "3\n"
    phone.sh("settings delete global stay_on_while_plugged_in")


def test_it_is_another_device_than_this_machine(phone: EmulatedPhone) -> None:
    assert phone.sh("cat /proc/sys/kernel/random/boot_id") != Path("/proc/sys/kernel/random/boot_id").read_text()
    if os.geteuid() == 0:
        assert phone.sh("id -u") == "2000\n"


def test_it_has_what_a_phone_has_and_no_more(phone: EmulatedPhone) -> None:
    assert phone.sh("ls -d /tmp /dev/shm /etc/passwd /home /var 2> /dev/null; ls /etc") in ("hosts\n", "/tmp\nhosts\n")
    phone.sh("setsid sh -c 'exit 0' > /dev/null 2>&1 < /dev/null &")
    # Its own processes, and nothing that has ended and lies about.
    comes_about(lambda: "Z" not in phone.sh("ps -A -o stat="))
    assert "pytest" not in phone.sh("ps -A -o args=")


def test_streams_are_apart_and_the_exit_code_comes_through(phone: EmulatedPhone) -> None:
    ran = phone.adb("shell", "echo out; echo err >&2; exit 7", check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (7, "out\n", "err\n")
    fed = subprocess.run(
        [fakes.ADB, "-s", phone.serial, "shell", "cat; exit 3"],
        env=dict(phone.environment), input=b"x" * 3_000_000, capture_output=True, timeout=60,
    )  # fmt: skip
    assert (fed.returncode, len(fed.stdout)) == (3, 3_000_000)
    assert phone.adb("exec-out", "printf 'a\\nb'").stdout == "a\nb"
    assert "hello" in phone.adb("shell", "-tt", "echo hello; tty").stdout


def test_files_and_folders_go_there_and_come_back(phone: EmulatedPhone, tmp_path: Path) -> None:
    content = os.urandom(5_000_000)
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "tree" / "deep" / "file").write_bytes(content)
    (tmp_path / "tree" / "deep" / "empty").touch()
    (tmp_path / "tree" / "run").write_text("#!/bin/sh\necho ran\n")
    (tmp_path / "tree" / "run").chmod(0o755)

    (tmp_path / "tree" / "link").symlink_to("run")
    os.utime(tmp_path / "tree" / "run", (1_000_000_000, 1_000_000_000))

    phone.adb("push", str(tmp_path / "tree"), "/data/local/tmp/tree")
    phone.adb("pull", "/data/local/tmp/tree", str(tmp_path / "back"))

    assert tree(tmp_path / "back") == tree(tmp_path / "tree")
    assert (tmp_path / "back" / "deep" / "file").read_bytes() == content
    assert phone.sh("cd /data/local/tmp/tree; ./run; readlink link; stat -c '%Y %a' run") == (
        "ran\nrun\n1000000000 755\n"
    )
    listed = phone.adb("ls", "/data/local/tmp/tree").stdout.splitlines()
    assert sorted(line.split()[-1] for line in listed) == [".", "..", "deep", "link", "run"]
    missing = phone.adb("pull", "/data/local/tmp/nothing", str(tmp_path), check=False)
    assert missing.returncode == 1 and "No such file" in missing.stdout + missing.stderr
    phone.sh("rm -r /data/local/tmp/tree")


def test_only_what_is_the_shells_can_be_written(phone: EmulatedPhone, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    # In a namespace of one user all is that user's.
    for place in ("/system/bin/file", "/file", "/nowhere/file") if os.geteuid() == 0 else ():
        refused = phone.adb("push", str(tmp_path / "file"), place, check=False)
        assert refused.returncode == 1 and "Permission denied" in refused.stdout + refused.stderr
    phone.adb("push", str(tmp_path / "file"), "/data/local/tmp/made/for/it")
    owned = phone.sh("cat /data/local/tmp/made/for/it; stat -c ' %u' /data/local/tmp/made; rm -r /data/local/tmp/made")
    assert owned == f"content {phone.sh('id -u')}"


def test_a_push_that_is_cut_off_leaves_nothing(phone: EmulatedPhone, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(30_000_000))
    for cut in (phone.kill_server, phone.unplug):
        phone.slow(10_000_000)
        command = [fakes.ADB, "-s", phone.serial, "push", str(tmp_path / "file"), "/data/local/tmp/cut"]
        with subprocess.Popen(
            command, env=dict(phone.environment), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as pushing:
            comes_about(lambda: "cut" in phone.sh("ls /data/local/tmp"))
            cut()
            assert pushing.wait(fakes.PATIENCE_S) != 0
        phone.slow(0)
        assert phone.connect() == "device"
        comes_about(lambda: "cut" not in phone.sh("ls /data/local/tmp"))


def test_many_speak_to_it_at_once(phone: EmulatedPhone) -> None:
    def answers(number: int) -> bool:
        ran = phone.adb("shell", *["-tt"] * (number % 2), f"echo {number}; exit {number}", check=False)
        return (ran.returncode, ran.stdout.strip()) == (number, str(number))

    # Terminals that say nothing are in nobody's way.
    command = [fakes.ADB, "-s", phone.serial, "shell", "-tt", "echo here; exec sleep 600"]
    before = phone.processes()
    with contextlib.ExitStack() as open_terminals:
        for _ in range(12):
            one = open_terminals.enter_context(
                subprocess.Popen(command, env=dict(phone.environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            )
            open_terminals.callback(one.kill)
            assert one.stdout and one.stdout.readline().strip() == b"here"
        with ThreadPoolExecutor(20) as pool:
            assert all(pool.map(answers, range(100)))
    comes_about(lambda: phone.processes() == before)


def test_ports_are_reached_both_ways(phone: EmulatedPhone) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def echo() -> None:
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    connection.sendall(connection.recv(100))

        answering = threading.Thread(target=echo, daemon=True)
        answering.start()
        port = server.getsockname()[1]
        forward = int(phone.adb("forward", "tcp:0", f"tcp:{port}").stdout)
        reverse = int(phone.adb("reverse", "tcp:0", f"tcp:{port}").stdout)
        for way in (forward, reverse):
            with socket.create_connection(("127.0.0.1", way), 10) as line:
                line.sendall(b"there and back")
                assert line.recv(100) == b"there and back"
        answering.join(10)
    assert f"tcp:{reverse}" in phone.adb("reverse", "--list").stdout
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = phone.adb("reverse", f"tcp:{taken.getsockname()[1]}", "tcp:1", check=False)
        assert refused.returncode == 1 and "cannot bind listener" in refused.stderr
    phone.adb("forward", "--remove-all")
    phone.adb("reverse", "--remove-all")
    assert f"tcp:{reverse}" not in phone.adb("reverse", "--list").stdout


def test_what_was_started_stays_when_the_cable_is_pulled_and_the_server_dies(phone: EmulatedPhone) -> None:
    before = phone.processes()
    phone.sh("setsid sleep 600 > /dev/null 2>&1 < /dev/null &")
    (left,) = phone.processes().keys() - before.keys()
    with subprocess.Popen([fakes.ADB, "-s", phone.serial, "shell", "exec sleep 601"], env=dict(phone.environment)):
        comes_about(lambda: "sleep 601" in phone.processes().values())
        phone.unplug()
    comes_about(lambda: phone.state() != "device")
    # A shell is told that its host is gone.
    comes_about(lambda: phone.processes() == {**before, left: "sleep 600"})

    assert phone.connect() == "device"
    phone.kill_server()
    assert phone.connect() == "device"
    assert phone.kill("sleep 600") == [left]
    comes_about(lambda: phone.processes() == before)


def test_a_full_disk_and_one_that_executes_nothing_refuse_as_real_ones(phone: EmulatedPhone, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(5_000_000))
    (tmp_path / "run").write_text("#!/bin/sh\n")
    phone.leave_mb(2)
    pushed = phone.adb("push", str(tmp_path / "big"), "/data/local/tmp/big", check=False)
    phone.leave_mb(1000)
    assert pushed.returncode == 1 and "No space left on device" in pushed.stdout + pushed.stderr
    phone.adb("push", str(tmp_path / "big"), "/data/local/tmp/big")

    phone.adb("push", str(tmp_path / "run"), "/data/local/tmp/run")
    phone.sh("chmod 755 /data/local/tmp/run")
    phone.refuse_to_execute()
    refused = phone.adb("shell", "/data/local/tmp/run", check=False)
    phone.refuse_to_execute(yes=False)
    assert refused.returncode == 126 and "ermission denied" in refused.stderr
    assert phone.adb("shell", "/data/local/tmp/run", check=False).returncode == 0


def test_a_poor_cable_is_slow(phone: EmulatedPhone, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(400_000))
    phone.slow(200_000)
    began_s = time.monotonic()
    phone.adb("push", str(tmp_path / "file"), "/data/local/tmp/file")
    phone.slow(0)
    assert time.monotonic() - began_s >= 1.9


def test_a_phone_that_nobody_allowed_is_unauthorized_until_its_owner_does(adb_environment: dict[str, str]) -> None:
    with fakes.emulated_phone(adb_environment, connected=False) as phone:
        phone.authorize(yes=False)
        assert phone.connect() == "unauthorized"
        assert "unauthorized" in phone.adb("shell", "true", check=False).stderr
        phone.authorize()
        comes_about(lambda: phone.state() == "device")


def test_a_32_bit_phone_says_so_and_the_end_leaves_nothing(adb_environment: dict[str, str]) -> None:
    with fakes.emulated_phone(adb_environment, arch="arm", props={"ro.build.version.sdk": "26"}) as phone:
        assert phone.sh("getprop ro.product.cpu.abi; getprop ro.build.version.sdk") == "armeabi-v7a\n26\n"
        phone.sh("setsid sleep 600 > /dev/null 2>&1 < /dev/null &")
        folder = phone.folder
    assert not folder.exists() and not phone.processes()


def test_one_for_a_person_is_there_until_ctrl_c_and_leaves_nothing(adb_environment: dict[str, str]) -> None:
    path = str(Path(__file__).parent.parent)
    with subprocess.Popen(
        [sys.executable, "-m", "fakes.emulated_phone"], env={**adb_environment, "PYTHONPATH": path},
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout
        serial = process.stdout.readline().partition("connected as ")[2].partition(". ")[0]
        assert f"{serial}\tdevice" in fakes.adb(adb_environment, "devices").stdout
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(fakes.PATIENCE_S) == 0
        assert "rtfleet run wake-word --device auto" in process.stdout.read()
    assert serial not in fakes.adb(adb_environment, "devices").stdout
