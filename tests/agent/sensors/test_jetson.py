"""A Jetson's sensors, from trees laid out as the kernel's and NVIDIA's documents and published readers have them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from trees import answering, tree

from rtfleet_agent.launch import Reading
from rtfleet_agent.sensors import jetson, system

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sensors of Linux")
NOTHING = answering({})
INA = "sys/class/hwmon/hwmon1"
ORIN = {
    "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0nvidia,tegra234\0",
    f"{INA}/name": "ina3221\n",
    f"{INA}/in1_label": "VDD_IN\n",
    f"{INA}/in1_input": "5032\n",
    f"{INA}/curr1_input": "952\n",
    f"{INA}/in2_label": "VDD_CPU_GPU_CV\n",
    f"{INA}/in2_input": "5024\n",
    f"{INA}/curr2_input": "104\n",
    f"{INA}/in3_label": "NC\n",
    f"{INA}/in3_input": "5024\n",
    f"{INA}/curr3_input": "1\n",
    f"{INA}/in7_label": "sum of shunt voltages\n",
    "sys/class/hwmon/hwmon2/name": "soctherm_oc\n",
    "sys/class/hwmon/hwmon2/oc1_event_cnt": "0\n",
    "sys/class/hwmon/hwmon2/oc3_event_cnt": "12\n",
    "sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1497600\n",
    "var/lib/nvpmodel/status": "pmode:0002",
    "etc/nvpmodel.conf": (
        "# < POWER_MODEL ID=2 NAME=OLD >\n< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n"
    ),
}


def test_an_orin_tells_rails_clocks_mode_and_over_current_events(tmp_path: Path) -> None:
    found = jetson.readings(tree(tmp_path, ORIN), NOTHING)

    assert {name: reading.value for name, reading in found.items() if name.startswith("power_mw")} == {
        "power_mw.VDD_IN": pytest.approx(4790.464),
        "power_mw.VDD_CPU_GPU_CV": pytest.approx(522.496),
    }
    assert found["power_mode"] == Reading("MAXN_SUPER")
    assert found["frequency_khz.gpu"] == Reading(306_000) and found["frequency_khz.cpu0"] == Reading(1_497_600)
    assert "root" in found["frequency_khz.emc"].reason and "frequency_khz" not in found
    assert found["throttle_count.oc3"] == Reading(12)


def test_power_that_the_chip_computes_itself_is_in_microwatts(tmp_path: Path) -> None:
    found = jetson.readings(tree(tmp_path, ORIN | {f"{INA}/power1_input": "4800000\n"}), NOTHING)

    assert found["power_mw.VDD_IN"] == Reading(4800)


def test_the_driver_of_jetpack_4_tells_milliwatts(tmp_path: Path) -> None:
    rail = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    files = {f"{rail}/rail_name_0": "POM_5V_IN\n", f"{rail}/in_power0_input": "1892\n"}

    assert jetson.readings(tree(tmp_path, files), NOTHING)["power_mw.POM_5V_IN"] == Reading(1892)


def test_nvpmodel_is_asked_where_its_file_is_not_there(tmp_path: Path) -> None:
    asked = jetson.readings(tmp_path, answering({"nvpmodel -q": "NV Power Mode: 15W\n0\n"}))
    silent = jetson.readings(tmp_path, NOTHING)

    assert asked["power_mode"] == Reading("15W")
    assert silent["power_mode"].value is None and "nvpmodel can't be run" in silent["power_mode"].reason


def test_a_mode_without_a_name_keeps_its_number(tmp_path: Path) -> None:
    files = {"var/lib/nvpmodel/status": "pmode:0008 fmode:quiet"}

    assert jetson.readings(tree(tmp_path, files), NOTHING)["power_mode"] == Reading("mode 8")


def test_a_board_without_its_sensors_says_why(tmp_path: Path) -> None:
    found = jetson.readings(tmp_path, NOTHING)

    assert all(found[name].value is None and found[name].reason for name in ("power_mw", "frequency_khz.gpu"))


def test_a_jetson_is_known_by_its_device_tree_or_release(tmp_path: Path) -> None:
    old = tree(tmp_path / "old", {"etc/nv_tegra_release": "# R32 (release), REVISION: 7.1\n"})
    other = tree(tmp_path / "pi", {"proc/device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712\0"})

    assert [system(old), system(tree(tmp_path / "orin", ORIN)), system(other)] == ["jetson", "jetson", "linux"]
