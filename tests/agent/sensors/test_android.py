"""What a phone's services say, in texts as phones printed them (published outputs, shortened), and a phone of files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from trees import answering, tree

from rtfleet_agent import device
from rtfleet_agent.launch import Reading
from rtfleet_agent.sensors import android, readings, system

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a phone's Python says that it is Linux")
# A Samsung with Android 12, with sensors of volts and percents as Pixels and Qualcomm boards have them.
HEAT = """IsStatusOverride: false
ThermalEventListeners:
	callbacks: 2
	killed: false
	broadcasts count: -1
Thermal Status: 1
Cached temperatures:
	Temperature{mValue=0.0, mType=2, mName=SUBBAT, mStatus=0}
	Temperature{mValue=38.1, mType=0, mName=AP, mStatus=0}
	Temperature{mValue=38.0, mType=3, mName=SKIN, mStatus=1}
HAL Ready: true
HAL connection:
	ThermalHAL AIDL 1  connected: yes
Current temperatures from HAL:
	Temperature{mValue=44.8, mType=0, mName=AP, mStatus=0}
	Temperature{mValue=32.2, mType=2, mName=BAT, mStatus=0}
	Temperature{mValue=NaN, mType=4, mName=USB, mStatus=0}
	Temperature{mValue=3876.0, mType=6, mName=vbat, mStatus=0}
	Temperature{mValue=100.0, mType=8, mName=soc, mStatus=0}
Current cooling devices from HAL:
	CoolingDevice{mValue=0, mType=2, mName=thermal-cpufreq-0}
Temperature static thresholds from HAL:
	TemperatureThreshold{mType=3, mName=SKIN, mHotThrottlingThresholds=[NaN, 39.0, 41.0]}
"""
# Of a Samsung: the maker's own lines come below and repeat words of those above.
BATTERY = """Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  Max charging current: 0
  Charge counter: 0
  status: 2
  health: 2
  present: true
  level: 84
  scale: 100
  voltage: 4063
  temperature: 326
  technology: Li-ion
  batteryMiscEvent: 0
  LED Charging: true
  level: 12
"""
UNPLUGGED = BATTERY.replace("USB powered: true", "USB powered: false").replace("status: 2", "status: 3")
POWER = """Power Manager State:
  Settings power_manager_constants:
  mDirty=0x0
  mWakefulness=Awake
Display Power: state=ON
"""
ANSWERS = {
    "dumpsys thermalservice": HEAT,
    "dumpsys battery": BATTERY,
    "dumpsys power": POWER,
    "settings get global low_power": "1\n",
}


def test_a_phone_tells_heat_battery_and_screen(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "4:cpuset:/foreground\n3:cpu:/\n0::/uid_2000/pid_9\n",
        "proc/self/status": "Name:\tpython3\nCpus_allowed_list:\t0-3\n",
        "sys/class/thermal/thermal_zone0/type": "cpu-0-0-usr\n",
        "sys/class/thermal/thermal_zone0/temp": "46100\n",
        "sys/devices/system/cpu/cpu4/cpufreq/scaling_cur_freq": "2850000\n",
    }

    found = android.readings(tree(tmp_path, files), answering(ANSWERS))

    values = {name: reading.value for name, reading in found.items() if reading.value is not None}
    temperatures = {name: value for name, value in values.items() if name.startswith("temperature_c")}
    assert temperatures == {"temperature_c.AP": 44.8, "temperature_c.BAT": 32.2, "temperature_c.battery": 32.6}
    assert (values["thermal_pressure"], values["power_mode"], values["screen"]) == ("light", "low-power", "on")
    assert (values["battery_percent"], values["power_source"], values["charging"]) == (84, "USB", "charging")
    assert (values["cpuset_group"], values["cpuset"], values["cgroup"]) == ("/foreground", "0-3", "/uid_2000/pid_9")
    assert values["frequency_khz.cpu4"] == 2_850_000


def test_a_phone_whose_services_are_silent_says_why_and_keeps_what_linux_tells(tmp_path: Path) -> None:
    zone = {"sys/class/thermal/thermal_zone0/type": "cpu\n", "sys/class/thermal/thermal_zone0/temp": "46100\n"}

    found = android.readings(tree(tmp_path, zone), answering({}))

    for name in ("thermal_pressure", "charging", "screen", "power_mode", "battery_percent", "cpuset_group"):
        assert found[name].value is None and found[name].reason, name
    assert "dumpsys can't be run" in found["thermal_pressure"].reason
    assert found["temperature_c.cpu"] == Reading(46.1)


def test_remembered_temperatures_stand_in_where_the_hardware_gives_none() -> None:
    assert android.temperatures_of(HEAT.partition("HAL Ready")[0])["SKIN"] == 38.0


def test_volts_percents_and_no_numbers_are_no_temperatures() -> None:
    assert set(android.temperatures_of(HEAT)) == {"AP", "BAT"}


@pytest.mark.parametrize(("number", "word"), [(0, "none"), (3, "severe"), (6, "shutdown"), (9, "status 9")])
def test_the_thermal_status_has_the_words_of_android(number: int, word: str) -> None:
    assert android.thermal_status_of(f"ThermalStatusListeners:\nThermal Status: {number}\n") == word


def test_a_battery_that_was_set_by_hand_is_not_believed(tmp_path: Path) -> None:
    faked = BATTERY.replace("state:\n", "state:\n  (UPDATES STOPPED -- use 'reset' to restart)\n")

    found = android.readings(tmp_path, answering(ANSWERS | {"dumpsys battery": faked}))

    assert found["charging"].value is None and "dumpsys battery reset" in found["charging"].reason
    assert found["battery_percent"].value is None


@pytest.mark.parametrize(
    ("dump", "source", "charging"),
    [
        (BATTERY.replace("AC powered: false", "AC powered: true"), "Mains", "charging"),
        (UNPLUGGED, "Battery", "discharging"),
        (BATTERY.replace("present: true", "present: false"), "USB", None),
    ],
)
def test_the_power_source_has_the_words_of_linux(dump: str, source: str, charging: str | None) -> None:
    found = android.battery_of(dump)

    assert (found["power_source"].value, found["charging"].value) == (source, charging)


@pytest.mark.parametrize(("setting", "mode"), [("0\n", "normal"), ("1\n", "low-power"), ("null\n", "normal")])
def test_battery_saver_is_the_power_mode(setting: str, mode: str) -> None:
    assert android.power_mode_of(setting) == mode


@pytest.mark.parametrize(
    ("dump", "state"),
    [(POWER, "on"), ("Display Power: state=DOZE\n", "dozing"), ("  mWakefulness=Asleep\n", "off")],
)
def test_the_screen(dump: str, state: str) -> None:
    assert android.screen_of(dump) == state


def _phone(
    root: Path, serial: str, fingerprint: str = "google/shiba/shiba:14/UD1A.231105.004:user/release-keys"
) -> Path:
    """A tree with `system/bin` programs that answer like a Pixel's."""
    properties = {
        "ro.serialno": serial,
        "ro.build.fingerprint": fingerprint,
        "ro.product.model": "Pixel 8",
        "ro.soc.model": "Tensor G3",
        "ro.build.version.release": "14",
        "ro.build.version.sdk": "34",
    }
    cases = "".join(f"  {name}) echo '{value}';;\n" for name, value in properties.items())
    tree(
        root,
        {
            "system/build.prop": "",
            "system/bin/getprop": f"#!/bin/sh\ncase $1 in\n{cases}esac\n",
            "system/bin/dumpsys": '#!/bin/sh\necho "Can\'t find service: $1" >&2; exit 20\n',
            "sys/devices/system/cpu/online": "0,2-3\n",
            "sys/devices/system/cpu/cpu0/cpu_capacity": "160\n",
            "sys/devices/system/cpu/cpu3/cpu_capacity": "1024\n",
            "sys/devices/system/cpu/cpu3/cpufreq/cpuinfo_max_freq": "2914000\n",
        },
    )
    for program in (root / "system/bin").iterdir():
        program.chmod(0o755)
    return root


def test_a_phone_is_known_by_its_system_folder_and_says_what_it_is(tmp_path: Path) -> None:
    root = _phone(tmp_path, "3A041FDJH001")

    facts = device.read_device("phone", root)

    assert (system(root), facts.os, facts.model, facts.soc) == ("android", "android", "Pixel 8", "Tensor G3")
    assert facts.os_version.startswith("Android 14 (API 34), kernel ")
    assert [(core.index, core.capacity, core.max_frequency_khz) for core in facts.cores] == [
        (0, 160, None),
        (2, None, None),
        (3, 1024, 2_914_000),
    ]
    assert (
        facts.missing_sensors["thermal_pressure"] == "dumpsys thermalservice failed: Can't find service: thermalservice"
    )
    assert readings(root)["screen"].reason == "dumpsys power failed: Can't find service: power"


def test_a_phone_s_identity_is_its_serial_number_and_build_and_shows_neither(tmp_path: Path) -> None:
    one, other = _phone(tmp_path / "1", "3A041FDJH001"), _phone(tmp_path / "2", "3A041FDJH002")
    updated = _phone(tmp_path / "3", "3A041FDJH001", "google/shiba/shiba:15/AP3A.241005.015:user/release-keys")
    fallback = tmp_path / "identity"

    identities = [device.identify(fallback, root) for root in (one, other, updated, one)]

    assert len(set(identities)) == 3 and identities[0] == identities[3]
    assert identities[0].startswith("android-") and "3A041" not in identities[0]
    assert not fallback.exists()


def test_a_phone_that_hides_its_serial_number_draws_one(tmp_path: Path) -> None:
    fallback = tmp_path / "identity"

    assert device.identify(fallback, _phone(tmp_path / "phone", "")) == fallback.read_text().strip()
