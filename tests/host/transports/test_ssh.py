"""Boards over ssh: a real sshd, the system's ssh, and real agents."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from far import Far, another_sshd, board
from stage import PATIENCE_S, QUICK, ending, journal, only, stage, strict, wait_until

from rtfleet import bundle, holding, transports
from rtfleet.artifact import file_of
from rtfleet.bundle import Bundle
from rtfleet.client import AgentClient
from rtfleet.errors import DeviceError, LeaseHeld, UsageError
from rtfleet.fleet import Device
from rtfleet.records import DeviceFacts
from rtfleet.transports import ssh, ssh_line
from rtfleet.version import VERSION

T = TypeVar("T")


@pytest.fixture(name="far")
def _far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Far]:
    with board(tmp_path) as far:
        monkeypatch.setenv("PATH", far.path)
        yield far


@pytest.fixture(name="bundles", scope="module")
def _bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which the bundle for this machine can be had."""
    # Whoever tests often lets the parts be kept.
    cache = Path(os.environ.get("RTFLEET_CACHE") or tmp_path_factory.mktemp("bundles"))
    try:
        bundle.ensure(platform.machine().replace("aarch64", "arm64"), bundle.RUNTIMES, cache)
    except UsageError as error:
        pytest.skip(f"the bundle can't be built here: {error.text}")
    return cache


def describe(far: Far, connect: str = "ssh:board", python: str = "") -> DeviceFacts:
    """What the agent there says."""

    async def ask() -> DeviceFacts:
        device = Device("bench", connect, python=python or str(far.python))
        async with transports.connect(device, far.folder / "cache") as link, AgentClient(link, "bench") as client:
            return await client.describe(is_host=link.is_host)

    return asyncio.run(ask())


def refused(far: Far, connect: str = "ssh:board", python: str = "") -> DeviceError:
    with pytest.raises(DeviceError) as error:
        describe(far, connect, python)
    assert far.agents() == [] and far.connections() == []
    return error.value


def over(far: Far, work: Callable[[ssh_line.Line], Awaitable[T]]) -> T:
    """What comes of work over an open line."""

    async def do() -> T:
        async with ssh_line.opened("bench", "board") as line:
            return await work(line)

    return asyncio.run(do())


# ---- there and back ------------------------------------------------------------------------------------------------


def test_an_agent_is_started_there_and_nothing_is_left_of_it(far: Far) -> None:
    async def both() -> tuple[DeviceFacts, int]:
        device = Device("bench", "ssh:board", python=str(far.python))
        async with transports.connect(device, far.folder / "cache") as link, AgentClient(link, "bench") as client:
            return await client.describe(is_host=link.is_host), len(far.agents())

    facts, running = asyncio.run(both())

    assert facts.identity == f"emulated-{far.emulated}" and running
    assert facts.is_host, "a board that is this machine must not be measured while this machine exports"
    assert far.agents() == [] and far.connections() == []


@pytest.mark.slow
def test_jump_hosts_and_ports_are_the_users_own_affair(far: Far) -> None:
    (far.folder / "known").write_text((far.folder / "known").read_text() * 2)

    assert describe(far, "ssh:behind").identity == f"emulated-{far.emulated}"
    assert describe(far, f"ssh:127.0.0.1:{far.port}").identity == f"emulated-{far.emulated}"


@pytest.mark.slow
def test_a_python_below_the_home_there_is_found(far: Far) -> None:
    shutil.copy(far.python, far.home / "my python")

    assert describe(far, python="~/my python").alias == "bench"


@pytest.mark.slow
def test_what_others_forward_to_the_same_place_is_in_nobodys_way(far: Far) -> None:
    config = far.folder / "client.conf"
    # A forward that can't be had, as when another terminal has it.
    config.write_text(config.read_text() + f"  LocalForward {far.port} 127.0.0.1:1\n")

    assert describe(far).alias == "bench"


@pytest.mark.slow
def test_a_second_agent_on_the_same_device_says_who_holds_it(far: Far) -> None:
    command = [sys.executable, "-m", "rtfleet_agent", "serve", "--as", far.emulated, "--store", far.folder / "first"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as first:
        try:
            assert first.stdout and first.stdout.readline()
            with pytest.raises(LeaseHeld, match=f"device is already served by agent pid {first.pid} at 127"):
                describe(far)
        finally:
            first.terminate()


@pytest.mark.slow
def test_a_host_that_is_killed_leaves_nothing_running_there(far: Far, tmp_path: Path) -> None:
    program = f"""
import asyncio
from pathlib import Path
from rtfleet import transports
from rtfleet.fleet import Device

async def main():
    async with transports.connect(Device("bench", "ssh:board", python="{far.python}"), Path("{tmp_path}")):
        print("there", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as host:
        assert host.stdout and host.stdout.readline() == b"there\n"
        assert far.agents() and far.connections()
        host.send_signal(signal.SIGKILL)

    wait_until(lambda: not far.agents() and not far.connections())


@pytest.mark.slow
def test_a_line_that_is_cut_ends_the_agent_there(far: Far) -> None:
    async def cut() -> None:
        device = Device("bench", "ssh:board", python=str(far.python))
        async with transports.connect(device, far.folder / "cache"):
            for pid in far.connections():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    asyncio.run(cut())

    wait_until(lambda: not far.agents())


@pytest.mark.slow
def test_a_hold_whose_line_is_cut_says_so_instead_of_promising_hours(far: Far) -> None:
    device = Device("bench", "ssh:board", python=str(far.python))

    async def held_until_it_is_cut() -> None:
        held = asyncio.Event()
        keeping = holding.hold(device, far.folder / "cache", 3600, "", lambda _: held.set())
        holds = asyncio.create_task(keeping)
        await asyncio.wait_for(held.wait(), PATIENCE_S)
        for pid in far.connections():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.wait_for(holds, PATIENCE_S)

    with pytest.raises(DeviceError, match="bench"):
        asyncio.run(held_until_it_is_cut())


# ---- why not -------------------------------------------------------------------------------------------------------


def test_an_unknown_host_key_is_for_a_person_to_look_at(far: Far) -> None:
    far.forget_host_key()

    error = refused(far)

    assert error.text.startswith("device 'bench': ssh board: this machine does not know its host key yet")
    assert error.hint == "log in once by hand and compare the fingerprint: ssh board" and not error.retryable


def test_a_host_key_that_is_another_one_is_said_to_be_so(far: Far) -> None:
    known = (far.folder / "known").read_text().split()[0]
    key = (far.folder / "user-key.pub").read_text().split()[:2]
    (far.folder / "known").write_text(f"{known} {' '.join(key)}\n")

    assert "its host key is another one than this machine knows" in refused(far).text


def test_a_board_that_lets_no_key_in_never_asks_for_a_password(far: Far) -> None:
    far.lock_out()

    error = refused(far)

    assert "it lets none of your keys in" in error.text and "Permission denied" in error.text
    assert "ssh-copy-id board" in error.hint


def test_a_board_without_sshd_and_one_without_an_address_are_told_apart(far: Far) -> None:
    nobody, nowhere = refused(far, "ssh:127.0.0.1:1"), refused(far, "ssh:rtfleet-nowhere.invalid")

    assert "ssh ssh://127.0.0.1:1: nothing listens there for ssh" in nobody.text and nobody.retryable
    assert "nobody knows its address" in nowhere.text


@pytest.mark.slow
def test_a_python_that_is_not_there_and_one_without_the_agent_are_told_apart(far: Far) -> None:
    bare = far.folder / "bare-python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    bare.chmod(0o755)

    gone, empty = refused(far, python="/no/such/python"), refused(far, python=str(bare))

    assert "there is no Python to start at /no/such/python" in gone.text and "fleet.toml" in gone.hint
    assert "has no rtfleet agent" in empty.text and f"{bare} -m pip install" in empty.hint


@pytest.mark.slow
def test_an_sshd_that_forbids_tunnels_is_named(far: Far) -> None:
    with another_sshd(far, "AllowTcpForwarding no") as other:
        error = refused(far, f"ssh:127.0.0.1:{other.port}")

    assert "its sshd lets no connection through" in error.text and "AllowTcpForwarding" in error.hint


def test_without_an_ssh_command_it_says_so(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(far.home))

    assert "this machine has no `ssh` command" in refused(far).text


@pytest.mark.slow
def test_a_mac_needs_a_python_of_its_own(far: Far) -> None:
    system = far.home / "uname"
    system.write_text("#!/bin/sh\necho Darwin arm64\n")
    system.chmod(0o755)
    with another_sshd(far, environment=f"PATH={far.home}:/usr/bin:/bin") as other, pytest.raises(DeviceError) as error:
        asyncio.run(_without_python(far, f"ssh:127.0.0.1:{other.port}"))

    assert "it is Darwin arm64" in error.value.text
    assert 'python = "~/rtfleet/bin/python"' in error.value.hint


async def _without_python(far: Far, connect: str) -> None:
    async with transports.connect(Device("bench", connect), far.folder / "cache"):
        pass


# ---- a whole run ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_over_ssh_is_measured_and_judged(far: Far, tmp_path: Path) -> None:
    (tmp_path / "stage").mkdir()
    here = stage(tmp_path / "stage")
    (here.folder / "fleet.toml").write_text(f'[device.bench]\nconnect = "ssh:board"\npython = "{far.python}"\n')

    ran = here.rtfleet("run", here.suite(here.model("quick"), run=QUICK), "--json", "run.json")

    assert ran.code in (0, 3), ran.everything
    document = strict((here.folder / "run.json").read_text())
    case = only(document["cases"])
    assert case["device"] == "bench" and len(case["launches"]) == 3
    assert document["devices"]["bench"]["identity"] == f"emulated-{far.emulated}"
    assert far.agents() == [] and far.connections() == []


@pytest.mark.slow
def test_a_board_that_comes_back_waits_for_its_old_agent_to_end(far: Far, tmp_path: Path) -> None:
    (tmp_path / "stage").mkdir()
    here = stage(tmp_path / "stage")
    (here.folder / "fleet.toml").write_text(f'[device.bench]\nconnect = "ssh:board"\npython = "{far.python}"\n')
    patient = "{ launches = 1, frames = 60, min_duration_s = 0.1, confidence = 0.9, max_wait_s = 0 }"

    with ending(here.start("run", here.suite(here.model("slow", latency_us=8_000), run=patient))) as process:
        wait_until(lambda: here.runs() and "intent" in [one["type"] for one in journal(here.runs()[0])])
        (old,) = (
            pid for pid in far.agents() if b"--exit-on-eof" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        )
        # It does not hear that its line is gone: nor does one behind a network that is.
        os.kill(old, signal.SIGSTOP)
        for pid in far.connections():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            # The host has looked again by then, and was told that the board is taken.
            time.sleep(12)
        finally:
            os.kill(old, signal.SIGCONT)
        said = process.communicate(timeout=PATIENCE_S)[0]

    assert process.returncode in (0, 3), said


# ---- the agent that comes along ------------------------------------------------------------------------------------


def tiny_bundle(folder: Path, size_bytes: int = 1000) -> Bundle:
    """A bundle whose launcher says that it was started, and of which one file is that large."""
    (folder / "lib").mkdir(parents=True)
    (folder / "run").write_text('#!/bin/sh\necho "started with $1"\n')
    (folder / "run").chmod(0o755)
    (folder / "lib" / "large").write_bytes(os.urandom(size_bytes))
    files = tuple(file_of(folder / path, path) for path in ("run", "lib/large"))
    return Bundle(folder, "rtfleet-agent-test-0123456789ab", "x86_64", (), size_bytes, files, 0.0)


def test_a_bundle_is_unpacked_whole_and_a_second_copy_changes_nothing(far: Far, tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle", 3_000_000)
    place = f'"$HOME/.cache/rtfleet/bundles/{bundle.name}"'

    async def twice(line: ssh_line.Line) -> list[str]:
        await ssh.copy(line, bundle)
        first = await line.run(f"ls -i {place}/run; {place}/run serve; cksum < {place}/lib/large")
        await ssh.copy(line, bundle)
        second = await line.run(f"ls -i {place}/run; {place}/run serve; cksum < {place}/lib/large")
        left = await line.run(f"ls -A {place}/..")
        return [first.stdout, second.stdout, left.stdout]

    first, second, left = over(far, twice)

    assert first == second and "started with serve" in first
    assert str(3_000_000) in first
    assert left.split() == [bundle.name]


def test_a_home_that_can_not_be_written_is_told(far: Far, tmp_path: Path) -> None:
    (far.home / ".cache").write_text("no folder")

    with pytest.raises(DeviceError, match=r"the agent can't be copied there: .*cache") as error:
        over(far, lambda line: ssh.copy(line, tiny_bundle(tmp_path / "bundle", 3_000_000)))

    assert "can it be written" in error.value.hint


@contextlib.contextmanager
def room_of(far: Far, megabytes: int) -> Iterator[None]:
    """A home that is a small disk."""
    words = ("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", far.home)
    if subprocess.run(words, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", far.home], check=True)


def test_a_board_without_room_says_how_much_is_needed(far: Far, tmp_path: Path) -> None:
    with room_of(far, 1):
        with pytest.raises(DeviceError, match=r"there is no room for the agent: 3 MB, and 1 MB are free") as error:
            over(far, lambda line: ssh.copy(line, tiny_bundle(tmp_path / "bundle", 3_000_000)))
        left = list(far.home.iterdir())

    assert error.value.kind == "NO_DISK" and left == [], "nothing was sent"


def test_old_bundles_make_room_for_a_new_one_unless_an_agent_runs_from_them(far: Far, tmp_path: Path) -> None:
    brought = tiny_bundle(tmp_path / "bundle", 3_000_000)
    place = far.home / ".cache" / "rtfleet" / "bundles"
    with room_of(far, 5):
        old = place / "rtfleet-agent-test-of-long-ago"
        old.mkdir(parents=True)
        (old / "large").write_bytes(bytes(3_000_000))
        (place / "what-somebody-else-put-there").touch()
        with subprocess.Popen([shutil.copy("/bin/sleep", old / "run"), "600"]) as running:
            with pytest.raises(DeviceError, match="there is no room"):
                over(far, lambda line: ssh.copy(line, brought))
            running.kill()
        over(far, lambda line: ssh.copy(line, brought))

        assert {path.name for path in place.iterdir()} == {brought.name, "what-somebody-else-put-there"}


def test_what_is_left_of_a_copy_that_was_cut_off_is_removed_after_a_day(far: Far, tmp_path: Path) -> None:
    place = far.home / ".cache" / "rtfleet" / "bundles"
    for name, age_s in ((".part-old", 3 * 86_400), (".part-now", 0)):
        (place / name).mkdir(parents=True)
        (place / name / "run").touch()
        os.utime(place / name, (time.time() - age_s,) * 2)

    over(far, lambda line: ssh.copy(line, tiny_bundle(tmp_path / "bundle")))

    assert {path.name for path in place.iterdir()} == {".part-now", "rtfleet-agent-test-0123456789ab"}


@pytest.mark.slow
def test_a_bundle_comes_along_once_and_serves(far: Far, bundles: Path) -> None:
    async def twice() -> list[tuple[str, str]]:
        found = []
        for _ in range(2):
            async with ssh_line.opened("bench", "board") as line:
                launcher = await ssh.bundled(line, bundles)
                told = await line.run(f"ls -di {launcher}; {launcher} -m rtfleet_agent --version")
                found.append((launcher, told.stdout))
        return found

    first, second = asyncio.run(twice())

    assert first == second, "the second time nothing is copied"
    assert f"rtfleet-agent {VERSION}" in first[1]
