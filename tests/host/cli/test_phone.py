"""`rtfleet` with a phone that is plugged in: the real commands and the real adb, the phone is emulated."""

from __future__ import annotations

import gc
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import stage as stages
from stage import Stage, Told, ending, journal, only, read_until, strict, wait_until

from fakes.phone import EmulatedPhone, cannot_emulate, emulated_phone
from rtfleet.cache import cache_folder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(cannot_emulate()), reason=cannot_emulate() or "a phone can be emulated"),
]
# A launch of 500 frames takes 4 s.
SLOW_US = 8_000
# Others are waited for, and devices that went away.
PATIENT = "{ launches = %d, frames = 60, min_duration_s = 0.1, confidence = 0.9, max_wait_s = 0 }"
# PASS, or INCONCLUSIVE where the machine is busy.
MEASURED = {0, 3}


@dataclass(frozen=True)
class Lab(Stage):
    """A stage without a fleet: what there is hangs on an adb server of its own."""

    adb: tuple[tuple[str, str], ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, **dict(self.adb), "RTFLEET_LINGER_S": "2"}

    def launches(self) -> dict[str, list[dict[str, Any]]]:
        """Model -> its launches that measured, as `rtfleet show` has them."""
        shown = strict(self.rtfleet("show", str(self.runs()[-1]), "--json", "-").stdout)
        return {case["model"]: [one for one in case["launches"] if not one["error"]] for case in shown["cases"]}


def lab_in(folder: Path, phone: EmulatedPhone) -> Lab:
    """With `pixel` as the phone's name in a fleet."""
    (folder / "cache").mkdir()
    # An agent's bundle is dear to make, and never changed.
    (cache_folder() / "bundles").mkdir(parents=True, exist_ok=True)
    (folder / "cache" / "bundles").symlink_to(cache_folder() / "bundles")
    (folder / "fleet.toml").write_text(f'[device.pixel]\nconnect = "adb"\nserial = "{phone.serial}"\n')
    names = ("ANDROID_ADB_SERVER_PORT", "HOME")
    return Lab(folder, "no-device", tuple((name, phone.environment[name]) for name in names))


@pytest.fixture(name="lab")
def _lab(phone: EmulatedPhone, tmp_path: Path) -> Iterator[Lab]:
    gc.collect()
    yield lab_in(tmp_path, phone)
    # One that failed spoils none of the others.
    phone.kill("rtfleet")


def workers(phone: EmulatedPhone) -> list[int]:
    return [pid for pid, words in phone.processes().items() if "rtfleet_agent.worker" in words]


def disturbed(lab: Lab, phone: EmulatedPhone, disturb: Callable[[], object], *flags: str) -> tuple[int, str]:
    """A run of two launches; something happens in the middle of the first one. Its exit code, and what it said."""
    suite = lab.suite(lab.model("luna", latency_us=SLOW_US), run=PATIENT % 2)
    with ending(lab.start("run", suite, *flags)) as process:
        wait_until(lambda: lab.runs() and "intent" in [one["type"] for one in journal(lab.runs()[0])])
        wait_until(lambda: workers(phone))
        disturb()
        said = process.communicate(timeout=2 * stages.PATIENCE_S)[0]
    return process.returncode, said


def all_is_there_once(lab: Lab) -> bool:
    """Two good launches, each whole, each once."""
    found = lab.launches()["luna"]
    return len({one["launch_id"] for one in found}) == len(found) == 2 and all(
        len(one["latency_ns"]) == 500 and one["preflight"] for one in found
    )


# ---- as it should be -----------------------------------------------------------------------------------------------


def test_a_phone_that_is_plugged_in_is_measured_without_a_fleet(lab: Lab, phone: EmulatedPhone) -> None:
    (lab.folder / "fleet.toml").unlink()
    before = set(phone.processes().values())
    suite = lab.suite(lab.model("luna"))

    first = lab.rtfleet("run", suite, "--device", "auto")
    second = lab.rtfleet("run", suite, "--device", "auto")
    listed = lab.rtfleet("devices")

    name = f"pixel-8-{phone.serial[-4:]}"
    assert {first.code, second.code} <= MEASURED, first.everything + second.everything
    assert f"luna on {name}" in first.stdout and "CPU, glibc bundle" in first.stdout
    assert "pushed" not in second.stderr
    assert [one["code"] for one in only(strict((lab.runs()[0] / "run.json").read_text())["cases"])["warnings"]].count(
        "glibc-bundle"
    )
    assert set(phone.processes().values()) == before
    assert listed.code == 0 and f"{name}  free" in listed.stdout and "local" in listed.stdout


def test_the_doctor_walks_a_phone_s_steps(lab: Lab, phone: EmulatedPhone) -> None:
    well = lab.rtfleet("doctor", "--device", "pixel")
    phone.unplug()
    ill = lab.rtfleet("doctor", "--device", "pixel")
    phone.connect()

    assert well.code == 0 and "device pixel: numpy" in well.stdout and "not tried" not in well.stdout
    assert ill.code == 4 and re.search(r"bad   device pixel: (authorised|phone   )", ill.stdout)
    assert ill.stdout.count("not tried") > 10


def test_models_are_looked_into_while_those_before_them_are_measured(lab: Lab, phone: EmulatedPhone) -> None:
    names = ("luna", "nova", "juno", "vega")
    suite = lab.suite(*(lab.model(name, latency_us=SLOW_US) for name in names), run=PATIENT % 1)

    ran = lab.rtfleet("run", suite)

    assert ran.code in MEASURED, ran.everything
    assert {model: len(launches) for model, launches in lab.launches().items()} == dict.fromkeys(names, 1)


def test_a_phone_that_goes_away_while_it_is_to_look_into_a_model_costs_none(lab: Lab, phone: EmulatedPhone) -> None:
    names = ("luna", "nova", "juno")
    suite = lab.suite(*(lab.model(name, latency_us=SLOW_US) for name in names), run=PATIENT % 1)
    with ending(lab.start("run", suite)) as process:
        wait_until(lambda: workers(phone))
        phone.unplug()
        time.sleep(6)
        phone.connect()
        said = process.communicate(timeout=2 * stages.PATIENCE_S)[0]

    assert process.returncode in MEASURED, said
    assert {model: len(launches) for model, launches in lab.launches().items()} == dict.fromkeys(names, 1)


def test_two_hosts_take_turns(lab: Lab, phone: EmulatedPhone) -> None:
    suite = lab.suite(lab.model("luna", latency_us=SLOW_US), run=PATIENT % 1)
    with ending(lab.start("run", suite)) as first:
        wait_until(lambda: workers(phone))
        second = lab.rtfleet("run", suite)
        said = first.communicate(timeout=stages.PATIENCE_S)[0]

    assert {first.returncode, second.code} <= MEASURED, said + second.everything
    assert "leased to" in second.stderr
    assert not phone.processes()


def test_a_phone_s_outputs_are_compared_with_this_machine_s_though_that_was_done_long_before(
    lab: Lab, phone: EmulatedPhone
) -> None:
    pixel = (lab.folder / "fleet.toml").read_text()
    (lab.folder / "both.toml").write_text(f'[device.here]\nconnect = "local:{uuid.uuid4().hex}"\n{pixel}')
    slow = lab.suite(lab.model("luna", latency_us=2 * SLOW_US), run=PATIENT % 2)
    quick = lab.suite(lab.model("nova"), run=PATIENT % 1, name="quick.toml")
    with ending(lab.start("run", slow)):
        wait_until(lambda: workers(phone))
        both = lab.rtfleet("run", quick, "--fleet", "both.toml", "--json", "both.json")

    assert both.code in MEASURED and "leased to" in both.stderr, both.everything
    cases = strict((lab.folder / "both.json").read_text())["cases"]
    assert {case["device"]: case["parity"]["device"]["unknown"] for case in cases} == {"here": "", "pixel": ""}


def test_this_machine_is_waited_for_where_somebody_else_has_it_and_then_done_without(
    lab: Lab, phone: EmulatedPhone
) -> None:
    here = f'[device.here]\nconnect = "local:{uuid.uuid4().hex}"\n'
    (lab.folder / "here.toml").write_text(here)
    (lab.folder / "both.toml").write_text(here + (lab.folder / "fleet.toml").read_text())
    slow = lab.suite(lab.model("luna", latency_us=2 * SLOW_US), run=PATIENT % 30, name="slow.toml")
    both = lab.suite(*map(lab.model, ("nova", "juno")), run=PATIENT.replace("}", ", lease_wait_s = 40 }") % 1)
    with ending(lab.start("run", slow, "--out", "others")) as first:
        wait_until(lambda: workers(phone))
        with ending(lab.start("run", both, "--fleet", "both.toml")) as second:
            said = read_until(second, "juno/fake-shipped@here/burst: launch 1 of 1")
            wait_until(lambda: len([one for one in journal(lab.runs()[0]) if one["type"] == "parity"]) == 2)
            with ending(lab.start("run", slow, "--fleet", "here.toml", "--out", "others")) as third:
                read_until(third, "here: connected")
                first.send_signal(signal.SIGINT)
                said += second.communicate(timeout=2 * stages.PATIENCE_S)[0]

    assert second.returncode in MEASURED and said.count("pixel: waiting: device 'here'") >= 1, said
    whole = lab.rtfleet("run", "--resume", str(only(lab.runs())))
    assert whole.code in MEASURED, whole.everything
    cases = strict((only(lab.runs()) / "run.json").read_text())["cases"]
    assert [case["parity"]["device"]["unknown"] for case in cases] == [""] * 4, said + whole.everything


def test_a_host_gets_the_phone_of_one_that_was_killed_though_its_last_block_takes_long(
    lab: Lab, phone: EmulatedPhone
) -> None:
    slow = lab.suite(lab.model("luna", latency_us=8 * SLOW_US), run=PATIENT % 1)
    quick = lab.suite(lab.model("nova"), run=PATIENT % 1, name="quick.toml")
    with ending(lab.start("run", slow)) as first:
        wait_until(lambda: lab.runs() and "intent" in [one["type"] for one in journal(lab.runs()[0])])
        wait_until(lambda: workers(phone))
        first.send_signal(signal.SIGKILL)

    second = lab.rtfleet("run", quick)

    assert second.code in MEASURED and "leased to" in second.stderr, second.everything
    assert len(lab.launches()["nova"]) == 1
    wait_until(lambda: not phone.processes())


def test_a_zoo_model_goes_from_its_file_to_a_verdict(lab: Lab, phone: EmulatedPhone) -> None:
    pytest.importorskip("onnx")
    words = "run wake-word --variant onnx-fp32 --launches 1 --scenario burst --duration 1s --confidence 0.9"
    with ending(lab.start(*words.split())) as process:
        # It is exported first, which takes its time on a busy machine.
        said = process.communicate(timeout=4 * stages.PATIENCE_S)[0]
    assert process.returncode in MEASURED, said
    assert "wake-word on pixel" in said and "ERROR" not in said and not phone.processes()


@pytest.mark.skipif(bool(cannot_emulate("arm64")), reason=cannot_emulate("arm64") or "a phone can be emulated")
def test_the_arm64_bundle_measures_through_qemu_and_says_that_it_is_no_measurement(
    adb_environment: dict[str, str], tmp_path: Path
) -> None:
    with emulated_phone(adb_environment, arch="arm64") as phone:
        lab = lab_in(tmp_path, phone)
        suite = lab.suite(lab.model("luna"), run=stages.ONE_LAUNCH)
        with ending(lab.start("run", suite, "--json", "run.json")) as process:
            # Everything takes ten times as long there.
            said = process.communicate(timeout=5 * stages.PATIENCE_S)[0]
        left = phone.processes()

    assert process.returncode in MEASURED, said
    assert "functional only, not a measurement" in said
    document = strict((tmp_path / "run.json").read_text())
    case = only(document["cases"])
    assert len(case["launches"]) == 1 and not case["launches"][0]["error"]
    assert only(document["devices"].values())["arch"] == "aarch64"
    assert left == {}


# ---- as it should not be -------------------------------------------------------------------------------------------


def test_an_adb_server_that_is_killed_costs_nothing(lab: Lab, phone: EmulatedPhone) -> None:
    code, said = disturbed(lab, phone, phone.kill_server)
    assert code in MEASURED, said
    assert all_is_there_once(lab), said
    assert not phone.processes()


def test_a_cable_that_was_pulled_for_a_moment_costs_nothing(lab: Lab, phone: EmulatedPhone) -> None:
    def pulled() -> None:
        phone.unplug()
        assert phone.connect() == "device"

    code, said = disturbed(lab, phone, pulled)
    assert code in MEASURED, said
    assert all_is_there_once(lab), said


def test_a_cable_that_was_pulled_twice_costs_nothing_either(lab: Lab, phone: EmulatedPhone) -> None:
    suite = lab.suite(lab.model("luna", latency_us=8 * SLOW_US), run=PATIENT % 1)

    def connections() -> int:
        return [one["type"] for one in journal(lab.runs()[0])].count("device")

    with ending(lab.start("run", suite)) as process:
        wait_until(lambda: lab.runs() and "intent" in [one["type"] for one in journal(lab.runs()[0])])
        wait_until(lambda: workers(phone))
        # Long enough for the host to give up the line; and then to listen to the launch, which takes much longer.
        for away_s, there_s in ((5, 1.5), (5, 0)):
            before = connections()
            phone.unplug()
            time.sleep(away_s)
            assert phone.connect() == "device"
            wait_until(lambda before=before: connections() > before)  # type: ignore[misc]
            time.sleep(there_s)
        process.communicate(timeout=2 * stages.PATIENCE_S)

    announced = {one["launch_id"] for one in journal(lab.runs()[0]) if one["type"] == "intent"}
    assert announced == {one["launch_id"] for one in lab.launches()["luna"]}, "nothing is measured twice"


@pytest.mark.parametrize("last", ["parity", "--profile-ops"])
def test_a_cable_that_was_pulled_after_all_was_measured_costs_nothing(
    lab: Lab, phone: EmulatedPhone, last: str
) -> None:
    """What compares outputs, or times operators, is begun again: nothing tells it from a launch that hangs."""
    suite = lab.suite(lab.model("luna", latency_us=8 * SLOW_US), run=PATIENT % 1)
    ends = {"parity": "launch", "--profile-ops": "parity"}[last]
    with ending(lab.start("run", suite, *([last] if last.startswith("--") else []))) as process:
        wait_until(lambda: lab.runs() and ends in [one["type"] for one in journal(lab.runs()[0])])
        wait_until(lambda: workers(phone))
        phone.unplug()
        time.sleep(5)
        assert workers(phone), "it still goes on there"
        assert phone.connect() == "device"
        said = process.communicate(timeout=2 * stages.PATIENCE_S)[0]

    case = only(strict((lab.runs()[0] / "run.json").read_text())["cases"])
    # It is slower than a wake word may be.
    assert process.returncode in {1, 3}, said
    assert len(case["launches"]) == 1 and case["parity"]["device"] and not case["error"], said
    if last == "--profile-ops":
        assert case["operators"]["times"]
    assert not phone.processes()


def test_a_phone_that_comes_back_and_asks_for_trust_again_is_waited_for(lab: Lab, phone: EmulatedPhone) -> None:
    def restarted() -> None:
        phone.unplug()
        phone.authorize(yes=False)
        time.sleep(3)
        assert phone.connect() == "unauthorized"
        time.sleep(6)
        phone.authorize()

    code, said = disturbed(lab, phone, restarted)

    assert code in MEASURED and "it does not trust this computer yet" in said, said
    assert all_is_there_once(lab)


def test_a_phone_that_goes_away_for_good_before_its_parity_is_no_pass(lab: Lab, phone: EmulatedPhone) -> None:
    # Frames enough to settle its latency.
    settings = (PATIENT % 1).replace("frames = 60", "comeback_s = 1, frames = 900")
    suite = lab.suite(lab.model("luna", latency_us=2 * SLOW_US), run=settings)
    with ending(lab.start("run", suite)) as process:
        wait_until(lambda: lab.runs() and "launch" in [one["type"] for one in journal(lab.runs()[0])])
        wait_until(lambda: workers(phone))
        phone.unplug()
        said = process.communicate(timeout=stages.PATIENCE_S)[0]
    assert phone.connect() == "device"
    resumed = lab.rtfleet("run", "--resume", str(lab.runs()[0]))

    assert process.returncode == 3 and "parity stays open" in said, said
    case = only(strict((lab.runs()[0] / "run.json").read_text())["cases"])
    assert resumed.code in MEASURED and len(case["launches"]) == 1, said + resumed.everything
    assert case["parity"]["device"] and not case["parity"]["device"]["unknown"]


def test_a_host_that_sleeps_while_somebody_takes_the_phone_by_force_does_not_take_it_back(
    lab: Lab, phone: EmulatedPhone
) -> None:
    suite = lab.suite(lab.model("luna", latency_us=SLOW_US), run=PATIENT % 4)
    with ending(lab.start("run", suite)) as process:
        read_until(process, "launch 1 of 4")
        process.send_signal(signal.SIGSTOP)
        # Its agent ends with the command that releases it; the next one is told all the same.
        released = lab.rtfleet("devices", "release", "pixel", "--force")
        time.sleep(1)
        process.send_signal(signal.SIGCONT)
        said = process.communicate(timeout=stages.PATIENCE_S)[0]
    resumed = lab.rtfleet("run", "--resume", str(lab.runs()[0]))

    assert released.code == 0 and "is over" in released.stdout
    assert process.returncode == 4 and re.search("ended by force|was released", said), said
    assert resumed.code in MEASURED, resumed.everything
    assert len({one["launch_id"] for one in lab.launches()["luna"]}) == len(lab.launches()["luna"]) == 4
    wait_until(lambda: not phone.processes())


def test_a_host_that_sleeps_while_another_takes_the_phone_waits_for_it_and_goes_on(
    lab: Lab, phone: EmulatedPhone
) -> None:
    suite = lab.suite(lab.model("luna", latency_us=SLOW_US), run=PATIENT % 2)
    other = lab.suite(lab.model("nova", latency_us=SLOW_US), run=PATIENT % 1, name="other.toml")
    with ending(lab.start("run", suite)) as process:
        read_until(process, "launch 1 of 2")
        process.send_signal(signal.SIGSTOP)
        with ending(lab.start("run", other)) as second:
            said = read_until(second, "connected")
            wait_until(lambda: workers(phone))
            process.send_signal(signal.SIGCONT)
            said += second.communicate(timeout=stages.PATIENCE_S)[0]
        woken = process.communicate(timeout=stages.PATIENCE_S)[0]

    assert second.returncode in MEASURED and "leased to" in said, said
    assert process.returncode in MEASURED and "leased to" in woken, woken
    run = next(run for run in lab.runs() if "luna" in (run / "journal.jsonl").read_text())
    shown = strict(lab.rtfleet("show", str(run), "--json", "-").stdout)
    good = [one["launch_id"] for one in only(shown["cases"])["launches"] if not one["error"]]
    assert len(set(good)) == len(good) == 2
    wait_until(lambda: not phone.processes())


def test_an_agent_that_is_killed_costs_its_launch(lab: Lab, phone: EmulatedPhone) -> None:
    code, said = disturbed(lab, phone, lambda: phone.kill("rtfleet_agent serve"))
    assert code in MEASURED, said
    assert all_is_there_once(lab), said
    assert not phone.processes()


def test_another_phone_in_the_place_of_the_one_that_went_away_measures_nothing(
    lab: Lab, phone: EmulatedPhone, adb_environment: dict[str, str]
) -> None:
    (lab.folder / "fleet.toml").write_text('[device.pixel]\nconnect = "adb"\n')
    suite = lab.suite(lab.model("luna", latency_us=SLOW_US), run="{ comeback_s = 4, " + PATIENT[1:] % 2)
    with emulated_phone(adb_environment, connected=False) as other:
        with ending(lab.start("run", suite)) as process:
            said = read_until(process, "launch 1 of 2")
            phone.unplug()
            assert other.connect() == "device"
            said += process.communicate(timeout=stages.PATIENCE_S)[0]
        assert not other.processes()
    assert phone.connect() == "device"

    assert process.returncode == 4 and "another device answers in its place" in said, said
    assert len(lab.launches()["luna"]) == 1
    wait_until(lambda: not phone.processes())


def test_a_worker_that_the_phone_killed_has_the_phone_s_log(lab: Lab, phone: EmulatedPhone) -> None:
    log = phone.inside / "data/log"
    log.write_text("11-27 12:00:00.000  500  500 I lowmemorykiller: Kill 'python3' (1234), uid 2000\n11-27 nothing\n")
    log.chmod(0o644)

    code, said = disturbed(lab, phone, lambda: phone.kill("rtfleet_agent.worker"))
    shown: Told = lab.rtfleet("show", str(lab.runs()[0]), "--case", "luna", "--log")

    assert code in MEASURED, said
    assert "KILLED" in shown.stdout and "the phone's log:" in shown.stdout and "lowmemorykiller: Kill" in shown.stdout
    assert "11-27 nothing" not in shown.stdout
    assert all_is_there_once(lab)


def test_a_host_that_is_killed_is_followed_by_one_that_goes_on(lab: Lab, phone: EmulatedPhone) -> None:
    suite = lab.suite(lab.model("luna", latency_us=SLOW_US), run=PATIENT % 2)
    with ending(lab.start("run", suite)) as process:
        read_until(process, "launch 1 of 2")
        wait_until(lambda: [one["type"] for one in journal(lab.runs()[0])].count("intent") == 2)
        wait_until(lambda: workers(phone))
        process.send_signal(signal.SIGKILL)
    measured = lab.launches()["luna"]

    resumed = lab.rtfleet("run", "--resume", str(lab.runs()[0]))

    assert len(measured) == 1
    assert resumed.code in MEASURED, resumed.everything
    assert "pixel kept what it measured" in resumed.stderr
    assert all_is_there_once(lab)
    wait_until(lambda: not phone.processes())


def test_a_host_that_is_killed_and_does_not_come_back_leaves_nothing(lab: Lab, phone: EmulatedPhone) -> None:
    suite = lab.suite(lab.model("luna", latency_us=SLOW_US), run=PATIENT % 2)
    process: subprocess.Popen[str]
    with ending(lab.start("run", suite)) as process:
        wait_until(lambda: lab.runs() and "intent" in [one["type"] for one in journal(lab.runs()[0])])
        wait_until(lambda: workers(phone))
        process.send_signal(signal.SIGKILL)
    # A lease lasts 30 s, and the agent lingers.
    wait_until(lambda: not phone.processes())


def test_a_full_phone_costs_its_cases_and_says_so(lab: Lab, phone: EmulatedPhone) -> None:
    suite = lab.suite(lab.model("luna"), run=stages.ONE_LAUNCH)
    phone.leave_mb(0)
    try:
        ran = lab.rtfleet("run", suite)
    finally:
        phone.leave_mb(1000)
    assert ran.code == 4 and "there is no room for the agent" in ran.everything, ran.everything
    assert not phone.processes()


def test_an_adb_server_that_can_t_be_reached_says_nothing_against_its_phones(lab: Lab, phone: EmulatedPhone) -> None:
    (lab.folder / "fleet.toml").write_text('[device.pixel]\nconnect = "adb"\nadb_server = "127.0.0.1:1"\n')
    suite = lab.suite(lab.model("luna"), run=stages.ONE_LAUNCH)
    for _ in range(4):
        ran = lab.rtfleet("run", suite)
        assert ran.code == 4 and "can't be reached" in ran.stderr and "set aside" not in ran.everything, ran.everything


def test_a_phone_that_fills_up_in_mid_launch_says_so_and_goes_on_when_there_is_room(
    lab: Lab, phone: EmulatedPhone
) -> None:
    try:
        code, said = disturbed(lab, phone, lambda: phone.leave_mb(0))
    finally:
        phone.leave_mb(1000)
    wait_until(lambda: not phone.processes())
    resumed = lab.rtfleet("run", "--resume", str(lab.runs()[0]))

    assert code == 4 and "No space left on device" in said and "free space on the device" in said, said
    assert "the agent failed" not in said, said
    assert resumed.code in MEASURED, resumed.everything
    assert all_is_there_once(lab)
