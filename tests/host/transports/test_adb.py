"""Phones over adb: the real adb server, a phone that is emulated, and an agent that is really brought there."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from stage import wait_until

from fakes.phone import ADB, EmulatedPhone, adb, cannot_emulate, emulated_phone
from rtfleet import discovery, holding, phone_doctor, transports
from rtfleet.cache import cache_folder
from rtfleet.client import AgentClient
from rtfleet.errors import DeviceError, LeaseHeld, UsageError
from rtfleet.fleet import Device
from rtfleet.records import DeviceFacts
from rtfleet.transports import Link, adb_scripts, adb_server
from rtfleet.transports.adb_line import Line

pytestmark = [
    pytest.mark.slow,
    # adbutils leaves sockets of calls that failed to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.skipif(bool(cannot_emulate()), reason=cannot_emulate() or "a phone can be emulated"),
]
PATIENCE_S = 60.0
FOLDER = "/data/local/tmp/rtfleet"


@pytest.fixture(name="_here", autouse=True)
def _environment(adb_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", adb_environment["ANDROID_ADB_SERVER_PORT"])
    monkeypatch.setenv("HOME", adb_environment["HOME"])
    monkeypatch.setenv("RTFLEET_CACHE", str(CACHE))
    monkeypatch.setenv("RTFLEET_LINGER_S", "2")
    yield
    gc.collect()


# What is dear to make is kept where it usually is.
CACHE = cache_folder()


def device_of(phone: EmulatedPhone) -> Device:
    return Device("pixel", "adb", serial=phone.serial)


@contextlib.asynccontextmanager
async def connected(device: Device) -> AsyncIterator[tuple[Link, AgentClient]]:
    async with transports.connect(device, CACHE) as link, AgentClient(link, device.name) as client:
        yield link, client


def describe(device: Device) -> tuple[Link, DeviceFacts]:
    async def ask() -> tuple[Link, DeviceFacts]:
        async with connected(device) as (link, client):
            return link, await client.describe()

    return asyncio.run(ask())


def refused(device: Device) -> DeviceError:
    with pytest.raises(DeviceError) as raised:
        describe(device)
    return raised.value


def agents(phone: EmulatedPhone) -> list[int]:
    return [pid for pid, words in phone.processes().items() if "rtfleet_agent serve" in words]


# ---- there and gone ------------------------------------------------------------------------------------------------


def test_a_phone_is_described_copied_to_once_and_left_as_it_was(phone: EmulatedPhone) -> None:
    phone.sh("settings put global stay_on_while_plugged_in 3")
    before = set(phone.processes().values())

    first, facts = describe(device_of(phone))
    second, _ = describe(device_of(phone))

    assert (facts.os, facts.model, facts.is_host) == ("android", "Pixel 8", False)
    assert {runtime.name for runtime in facts.runtimes if not runtime.error} == {"onnxruntime", "litert", "fake"}
    assert facts.provisos[0].startswith("glibc-bundle: CPU, glibc bundle")
    assert first.brought_bytes in (0, pytest.approx(160e6, rel=0.2)) and second.brought_bytes == 0
    assert set(phone.processes().values()) == before
    assert phone.sh("settings get global stay_on_while_plugged_in").strip() == "3"
    assert "agent.json" not in phone.sh("ls /data/local/tmp/rtfleet")


@pytest.mark.parametrize("damage", ["truncate -s 1000 {}/lib/libc.so.6", "rm -r {}/*"])
def test_a_bundle_that_a_phone_without_power_left_half_written_is_copied_anew(
    phone: EmulatedPhone, damage: str
) -> None:
    describe(device_of(phone))
    phone.sh(f"mkdir -p {FOLDER}/.part-old && touch -t 202001010000 {FOLDER}/.part-old")
    phone.sh(damage.format(f"{FOLDER}/bundles/rtfleet-agent-x86_64-*"))

    link, facts = describe(device_of(phone))

    assert link.brought_bytes > 1e8 and facts.model == "Pixel 8"
    assert ".part" not in phone.sh(f"ls -a {FOLDER}")


def test_a_full_phone_s_room_is_taken_from_old_bundles_and_copies_that_were_never_finished(
    adb_environment: dict[str, str],
) -> None:
    with emulated_phone(adb_environment, data_bytes=300_000_000) as phone:
        phone.sh(f"mkdir -p {FOLDER}/.part-old && head -c 200000000 /dev/zero > {FOLDER}/.part-old/x")
        phone.sh(f"touch -t 202001010000 {FOLDER}/.part-old")
        assert describe(device_of(phone))[0].brought_bytes > 1e8


def test_a_phone_is_kept_awake_while_its_agent_runs(phone: EmulatedPhone) -> None:
    phone.sh("settings delete global stay_on_while_plugged_in")

    async def look() -> str:
        async with connected(device_of(phone)):
            return await asyncio.to_thread(phone.sh, "settings get global stay_on_while_plugged_in")

    assert asyncio.run(look()).strip() == "7"
    assert phone.sh("settings get global stay_on_while_plugged_in").strip() == "null"


def test_a_phone_that_hangs_is_not_copied_to_for_ever(phone: EmulatedPhone, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(200_000_000))

    async def hung_in_mid_copy() -> None:
        line = Line("pixel", adb_server.server_of(""), phone.serial)
        phone.slow(8_000_000)
        copying = asyncio.create_task(line.push(large, size_bytes=200_000_000, to="/data/local/tmp"))
        await asyncio.sleep(2)
        with phone.hanging():
            await asyncio.wait_for(copying, 2 * PATIENCE_S)

    try:
        with pytest.raises(DeviceError, match="does not answer in time"):
            asyncio.run(hung_in_mid_copy())
    finally:
        phone.slow(0)


def test_the_only_phone_needs_no_serial(phone: EmulatedPhone) -> None:
    assert describe(Device("mine", "adb"))[1].model == "Pixel 8"


def test_a_phone_of_another_machine_s_adb_server_is_reached_through_it(phone: EmulatedPhone) -> None:
    far = Device("pixel", "adb", serial=phone.serial, adb_server=f"127.0.0.1:{phone.server_port}")
    assert describe(far)[1].model == "Pixel 8"


# ---- turns ---------------------------------------------------------------------------------------------------------


def test_two_hosts_share_the_agent_and_only_the_last_one_ends_it(phone: EmulatedPhone) -> None:
    async def two() -> list[list[int]]:
        seen = []
        async with connected(device_of(phone)) as (_, first):
            await first.acquire(secrets.token_hex(16), "anna@lab run 1")
            async with connected(device_of(phone)) as (_, second):
                with pytest.raises(LeaseHeld, match="leased to anna@lab run 1"):
                    await second.acquire(secrets.token_hex(16), "ben@lab run 2")
                seen.append(agents(phone))
            seen.append(agents(phone))
            await first.release()
        seen.append(agents(phone))
        return seen

    during, after_the_second, after_both = asyncio.run(two())

    assert len(during) == 1 and after_the_second == during and after_both == []


def test_two_versions_take_turns(phone: EmulatedPhone) -> None:
    describe(device_of(phone))
    (mine,) = phone.sh(f"ls {FOLDER}/bundles").split()
    other = "rtfleet-agent-x86_64-0123456789ab"
    phone.sh(f"cp -r {FOLDER}/bundles/{mine} {FOLDER}/bundles/{other}")

    async def turns() -> list[str]:
        started = await asyncio.to_thread(phone.sh, adb_scripts.start(other, 60))
        found = adb_scripts.agent_of(started)
        assert found is not None and found.bundle == other
        line = Line("pixel", adb_server.server_of(""), phone.serial)
        async with line.tunnel(found.port) as address, AgentClient(Link(address, found.token), "pixel") as client:
            await client.acquire(secrets.token_hex(16), "anna@lab run 1")
            before = agents(phone)
            with pytest.raises(LeaseHeld, match="another version of rtfleet measures on it: anna@lab run 1"):
                async with connected(device_of(phone)):
                    pass
            assert agents(phone) == before
            await client.release()
        async with connected(device_of(phone)) as (link, mine_now):
            assert not link.brought_bytes
            await mine_now.acquire(secrets.token_hex(16), "ben@lab run 2")
            serving = list(phone.processes().values())
            await mine_now.release()
            return serving

    try:
        there = asyncio.run(turns())
    finally:
        phone.sh(f"rm -rf {FOLDER}/bundles/{other}")
    assert not [words for words in there if other in words] and [words for words in there if mine in words]
    assert not phone.processes()


def test_a_phone_is_held_by_hand_without_the_command_and_released(phone: EmulatedPhone, tmp_path: Path) -> None:
    device = device_of(phone)
    (tmp_path / "bundles").symlink_to(CACHE / "bundles")

    held: list[float] = []

    async def both() -> str:
        await holding.hold(device, tmp_path, 600, "a demo", held.append)
        assert agents(phone) and held == [600]
        async with connected(device) as (_, other):
            with pytest.raises(LeaseHeld, match="a demo"):
                await other.acquire(secrets.token_hex(16), "ben@lab run 2")
        walked = await phone_doctor.walk(device, tmp_path)
        told = next(step.text for step in walked.steps if step.error)
        assert "by hand measures on it" in told and ": :" not in told
        return await holding.release(device, tmp_path, force=False)

    said = asyncio.run(both())

    assert "by hand is over" in said and not agents(phone)


def test_a_release_ends_nobody_else_s_lease_and_says_so(phone: EmulatedPhone, tmp_path: Path) -> None:
    device = device_of(phone)
    (tmp_path / "bundles").symlink_to(CACHE / "bundles")
    # A hold that ran out long ago.
    holding.keep(tmp_path, device, holding.Health(errors=1, last="a cable", lease_id=secrets.token_hex(16)))

    async def released() -> str:
        async with connected(device) as (_, bob):
            await bob.acquire(secrets.token_hex(16), "bob@lab run 2")
            with pytest.raises(LeaseHeld, match="your hold is over, and bob@lab run 2 has it now"):
                await holding.release(device, tmp_path, force=False)
            await bob.renew()
            return await holding.release(device, tmp_path, force=True)

    assert "the lease of bob@lab run 2 is over" in asyncio.run(released())
    assert holding.health(tmp_path, device) == holding.Health()


def test_two_hosts_that_bring_a_bundle_at_once_leave_it_there_once(phone: EmulatedPhone) -> None:
    describe(device_of(phone))
    (name,) = phone.sh(f"ls {FOLDER}/bundles").split()
    part = phone.sh(adb_scripts.MAKE_PART).strip()
    phone.sh(f"cp -r {FOLDER}/bundles/{name} {part} && cd {part}/{name} && sha256sum run >../sums")
    # As where the other's has come between the look and the move.
    too_late = adb_scripts.keep(part, name).replace(f"[ -d {FOLDER}/bundles/{name} ] || ", "")
    moved = phone.adb("shell", too_late, check=False)
    there = phone.sh(f"ls {part}").split()
    phone.sh(f"rm -rf {part}")
    assert moved.returncode == 0 and name not in there
    assert name not in phone.sh(f"ls {FOLDER}/bundles/{name}")


def test_a_bundle_that_can_t_be_kept_is_no_success(phone: EmulatedPhone) -> None:
    part = phone.sh(adb_scripts.MAKE_PART).strip()
    phone.sh(
        f"mkdir -p {part}/gone/bin {part}/gone/lib && cd {part}/gone && touch run bin/python3 lib/ld-linux ../sums"
    )
    refused_to = adb_scripts.keep(part, "gone").replace(f"mv {part}/gone", f"mv {part}/elsewhere")
    kept = phone.adb("shell", refused_to, check=False)
    phone.sh(f"rm -rf {part}")
    assert kept.returncode != 0 and "gone" not in phone.sh(f"ls {FOLDER}/bundles")


def test_an_agent_of_another_version_that_was_quicker_is_not_taken_for_one_s_own(phone: EmulatedPhone) -> None:
    describe(device_of(phone))
    (mine,) = phone.sh(f"ls {FOLDER}/bundles").split()
    other = "rtfleet-agent-x86_64-0123456789ab"
    phone.sh(f"cp -r {FOLDER}/bundles/{mine} {FOLDER}/bundles/{other}")
    line = Line("pixel", adb_server.server_of(""), phone.serial)

    async def quicker() -> str:
        found = adb_scripts.agent_of(await asyncio.to_thread(phone.sh, adb_scripts.start(other, 60)))
        assert found is not None
        # As if it had come up after the last look: whoever starts an agent then is given this one.
        told = adb_scripts.agent_of(await asyncio.to_thread(phone.sh, adb_scripts.start(mine, 60)))
        await line.run(adb_scripts.stop(found))
        assert told is not None
        return told.bundle

    try:
        assert asyncio.run(quicker()) == other
    finally:
        phone.sh(f"rm -rf {FOLDER}/bundles/{other}")


# ---- lost ----------------------------------------------------------------------------------------------------------


PROGRAM = """
import asyncio, sys
from pathlib import Path
from rtfleet import transports
from rtfleet.client import AgentClient
from rtfleet.fleet import Device

async def main():
    device = Device("pixel", "adb", serial=sys.argv[1])
    async with transports.connect(device, Path(sys.argv[2])) as link, AgentClient(link, device.name) as client:
        await client.describe()
        print("there", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


def test_a_host_that_is_killed_leaves_nothing_running_after_a_while(phone: EmulatedPhone) -> None:
    phone.sh("settings put global stay_on_while_plugged_in 0")
    command = [sys.executable, "-c", PROGRAM, phone.serial, str(CACHE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as host:
        assert host.stdout and host.stdout.readline() == b"there\n"
        assert agents(phone)
        host.send_signal(signal.SIGKILL)

    wait_until(lambda: not phone.processes())
    assert phone.sh("settings get global stay_on_while_plugged_in").strip() == "0"


def test_an_adb_server_that_is_killed_is_started_again_and_the_agent_is_found(phone: EmulatedPhone) -> None:
    async def interrupted() -> str:
        async with connected(device_of(phone)) as (_, client):
            lease = secrets.token_hex(16)
            await client.acquire(lease, "anna@lab run 1", 60)
            served = agents(phone)
            phone.kill_server()
            with pytest.raises(DeviceError) as raised:
                await client.describe()
            assert raised.value.retryable
        async with connected(device_of(phone)) as (_, client):
            assert agents(phone) == served
            await client.acquire(lease, "anna@lab run 1")
            await client.release()
            return (await client.describe()).model

    assert asyncio.run(interrupted()) == "Pixel 8"
    assert not agents(phone)


def test_a_phone_that_is_unplugged_is_not_looked_for_before_it_is_plugged_in(phone: EmulatedPhone) -> None:
    async def plugged_in_after_a_while() -> None:
        waiting = asyncio.create_task(transports.worth_a_look(Device("pixel", "adb"), PATIENCE_S))
        await asyncio.sleep(2 * transports.LOOK_AGAIN_S)
        assert not waiting.done()
        await asyncio.to_thread(phone.connect)
        await asyncio.wait_for(waiting, 5)

    phone.unplug()
    adb(phone.environment, "disconnect", phone.serial)  # a phone on USB is gone by itself
    asyncio.run(plugged_in_after_a_while())


def test_a_phone_is_looked_for_again_soon_where_nothing_tells_that_it_comes(phone: EmulatedPhone) -> None:
    """One that is plugged in, one behind a server that is gone, and one on the network, which adb has to dial."""

    async def looked_for(*devices: Device) -> None:
        for device in devices:
            await asyncio.wait_for(transports.worth_a_look(device, PATIENCE_S), 2 * transports.LOOK_AGAIN_S)

    asyncio.run(looked_for(Device("pixel", "adb")))
    phone.unplug()
    asyncio.run(looked_for(device_of(phone), Device("far", "adb", adb_server="127.0.0.1:1")))
    phone.connect()


def test_a_phone_that_is_unplugged_leaves_its_agent_to_end_by_itself(phone: EmulatedPhone) -> None:
    async def unplugged() -> None:
        async with connected(device_of(phone)) as (_, client):
            phone.unplug()
            with pytest.raises(DeviceError, match="pixel"):
                await client.describe()

    asyncio.run(unplugged())

    wait_until(lambda: not phone.processes())
    assert phone.connect() == "device"
    describe(device_of(phone))


def test_a_host_that_is_interrupted_does_not_wait_long_for_a_phone_that_hangs(phone: EmulatedPhone) -> None:
    async def interrupted() -> float:
        measuring = asyncio.Event()

        async def measure() -> None:
            async with (
                connected(device_of(phone)) as (_, client),
                client.leased(secrets.token_hex(16), "anna@lab run 1"),
            ):
                measuring.set()
                await asyncio.sleep(600)

        task = asyncio.create_task(measure())
        await measuring.wait()
        with phone.hanging():
            began_s = time.monotonic()
            task.cancel()
            await asyncio.wait([task])
            return time.monotonic() - began_s

    assert asyncio.run(interrupted()) < 25
    wait_until(lambda: phone.connect() == "device" and not phone.processes())


def test_a_cable_that_is_pulled_while_the_agent_is_copied_is_not_called_a_success(
    adb_environment: dict[str, str],
) -> None:
    with emulated_phone(adb_environment) as phone:
        phone.slow(20_000_000)
        pulled = threading.Timer(3, phone.unplug)
        pulled.start()
        error = refused(device_of(phone))
        pulled.join()
    assert "can't be copied there" in error.text and "pushed" not in error.text and error.retryable


def test_an_agent_that_is_killed_is_followed_by_another_one(phone: EmulatedPhone) -> None:
    phone.sh("settings put global stay_on_while_plugged_in 5")

    async def killed() -> None:
        async with connected(device_of(phone)) as (_, client):
            assert phone.kill("rtfleet_agent serve")
            with pytest.raises(DeviceError, match="does not answer") as raised:
                await client.describe()
            assert raised.value.retryable

    asyncio.run(killed())

    assert describe(device_of(phone))[1].model == "Pixel 8"
    assert phone.sh("settings get global stay_on_while_plugged_in").strip() == "5"


# ---- why not -------------------------------------------------------------------------------------------------------


def test_a_serial_that_is_not_there_is_told_who_is(phone: EmulatedPhone) -> None:
    error = refused(Device("pixel", "adb", serial="3A041FDJH001"))
    assert "phone 3A041FDJH001 is not plugged in" in error.text and f"{phone.serial} (device)" in error.text


def test_two_phones_and_no_serial_is_a_question(adb_environment: dict[str, str], phone: EmulatedPhone) -> None:
    with emulated_phone(adb_environment) as other:
        error = refused(Device("pixel", "adb"))
    assert "there are 2 phones and the device has no serial" in error.text
    assert phone.serial in error.text and other.serial in error.text and not error.retryable


def test_an_address_where_no_phone_is_can_t_be_connected_to(phone: EmulatedPhone) -> None:
    error = refused(Device("pixel", "adb", serial="127.0.0.1:1"))
    assert "phone 127.0.0.1:1 can't be connected to" in error.text and "adb pair" in error.hint


def test_a_server_that_nobody_runs_is_not_looked_for_here(phone: EmulatedPhone) -> None:
    error = refused(Device("pixel", "adb", adb_server="127.0.0.1:1"))
    assert "the adb server 127.0.0.1:1 can't be reached" in error.text and "on that machine" in error.hint


def test_a_machine_without_adb_says_how_to_get_it(phone: EmulatedPhone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADBUTILS_ADB_PATH", "/nowhere/adb")
    error = refused(device_of(phone))
    assert "this machine has no `adb` command" in error.text and "apt install adb" in error.hint


def test_a_phone_that_was_not_asked_for_its_trust_says_so(adb_environment: dict[str, str]) -> None:
    with emulated_phone(adb_environment) as phone:
        phone.authorize(yes=False)
        phone.unplug()
        phone.connect()
        error = refused(device_of(phone))
        with pytest.raises(UsageError, match="unknown device 'pixel-8-h001'") as named:
            discovery.chosen(None, ["pixel-8-h001"])
    assert "it does not trust this computer yet" in error.text and "accept the dialog" in error.hint
    assert f"phone {phone.serial}: it does not trust this computer yet" in named.value.hint


@pytest.mark.parametrize(
    ("state", "text", "hint"),
    [
        ("recovery", "it is in recovery mode", "adb reboot"),
        ("sideload", "it waits for an update to be sideloaded", "adb reboot"),
        ("rescue", "it is in rescue mode", "adb reboot"),
        ("bootloader", "it is in its bootloader", "fastboot reboot"),
    ],
)
def test_a_phone_that_runs_no_android_says_what_it_does(phone: EmulatedPhone, state: str, text: str, hint: str) -> None:
    phone.boot_into(state)
    try:
        wait_until(lambda: phone.connect() == state)
        error = refused(device_of(phone))
    finally:
        phone.boot_into("device")
        wait_until(lambda: phone.connect() == "device")
    assert text in error.text and hint in error.hint and error.retryable


def test_a_phone_that_does_not_answer_adb_is_offline(phone: EmulatedPhone) -> None:
    phone.unplug()
    with phone.hanging():
        adb(phone.environment, "disconnect", phone.serial, check=False)
        # It would wait for a phone that says nothing.
        with subprocess.Popen([ADB, "connect", phone.serial], env=dict(phone.environment), stdout=subprocess.PIPE):
            wait_until(lambda: phone.state() in ("offline", "connecting"))
            error = refused(device_of(phone))
            # Without a fleet it is named by the end of its serial; that it can't be used is no wrong word.
            with pytest.raises(DeviceError, match="it is offline") as named:
                discovery.chosen(None, [f"pixel-8-{phone.serial[-4:]}"])
    wait_until(lambda: phone.connect() == "device")
    assert "plugged in, and it does not answer" in error.text and error.retryable
    assert named.value.exit_code == 4


@pytest.mark.parametrize(
    ("launcher", "text", "hint"),
    [
        ("kill -SYS $$", "it forbids a system call that the agent needs", "only"),
        ("kill -KILL $$", "it killed the agent while it started", "adb logcat"),
        ("exec lib/nothing-here", "the agent's loader is missing there", "copied anew"),
        ("echo Segmentation fault >&2; exit 139", "ended while it started, exit code 139: Segmentation", "agent.log"),
    ],
)
def test_an_agent_that_does_not_start_says_why(phone: EmulatedPhone, launcher: str, text: str, hint: str) -> None:
    describe(device_of(phone))
    run = f"$(ls -d {FOLDER}/bundles/rtfleet-agent-x86_64-*)/run"
    phone.sh(f"cp {run} {FOLDER}/run-before")
    try:
        # Of the same size, so that nobody takes it for a copy that was cut off.
        filled = f"{{ echo '{launcher}'; yes '#'; }} | head -c $(stat -c %s {run})"
        phone.sh(f"{filled} >{FOLDER}/run-now; cat {FOLDER}/run-now >{run}")
        error = refused(device_of(phone))
    finally:
        phone.sh(f"cat {FOLDER}/run-before >{run}; rm {FOLDER}/run-before {FOLDER}/run-now")
    assert text in error.text and hint in error.hint
    describe(device_of(phone))


def test_a_32_bit_phone_can_t_be_used(adb_environment: dict[str, str]) -> None:
    with emulated_phone(adb_environment, arch="arm") as phone:
        error = refused(device_of(phone))
    assert "it is 32-bit only (armeabi-v7a)" in error.text and not error.retryable


def test_an_android_of_long_ago_can_t_be_used(adb_environment: dict[str, str]) -> None:
    with emulated_phone(adb_environment, props={"ro.build.version.sdk": "22"}) as phone:
        error = refused(device_of(phone))
    assert "its Android is too old: API level 22" in error.text


def test_what_is_left_of_a_copy_that_was_cut_off_is_removed_after_an_hour(adb_environment: dict[str, str]) -> None:
    with emulated_phone(adb_environment) as phone:
        phone.sh(f"mkdir -p {FOLDER}/.part-old {FOLDER}/.part-now; touch {FOLDER}/.part-old/run")
        phone.sh(f"touch -d 2020-01-01T00:00:00 {FOLDER}/.part-old")
        describe(device_of(phone))
        left = phone.sh(f"ls -A {FOLDER}").split()
    assert ".part-now" in left and not {name for name in left if name.startswith(".part-")} - {".part-now"}


def test_a_full_phone_says_how_much_it_lacks(adb_environment: dict[str, str]) -> None:
    with emulated_phone(adb_environment) as phone:
        phone.leave_mb(30)
        error = refused(device_of(phone))
    assert error.kind == "NO_DISK" and "MB, and 30 MB are free" in error.text


def test_a_phone_that_executes_nothing_says_who_may_have_forbidden_it(adb_environment: dict[str, str]) -> None:
    with emulated_phone(adb_environment) as phone:
        phone.refuse_to_execute()
        error = refused(device_of(phone))
        assert not phone.processes()
    assert "it refuses to execute what lies in /data/local/tmp/rtfleet" in error.text and "avc" in error.hint
