"""What the emulated phone says of itself: properties, services, and the commands of Android's shell. A Pixel 8's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

ABIS = {"x86_64": "x86_64", "arm64": "arm64-v8a", "arm": "armeabi-v7a"}
FEATURES = "shell_v2,cmd,stat_v2,ls_v2,fixed_push_mkdir"
_NAMES = ("Pixel 8", "Google", "shiba", "Tensor G3", "zuma")

# What a 64-bit Arm core tells; qemu-user shows this machine's own, which cpuinfo's parsers die of.
_ARM_CORE = """\
BogoMIPS	: 49.15
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x4
CPU part	: 0xd0b
CPU revision	: 1
"""
ARM_CPUINFO = "\n".join(f"processor\t: {core}\n{_ARM_CORE}" for core in range(os.cpu_count() or 1))
_DUMPS = {
    "battery": """Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  Dock powered: false
  Max charging current: 500000
  status: 2
  health: 2
  present: true
  level: 87
  scale: 100
  voltage: 4312
  temperature: 281
  technology: Li-ion
""",
    "thermalservice": """IsStatusOverride: false
ThermalEventListeners:
Thermal Status: 0
Cached temperatures:
\tTemperature{mValue=33.1, mType=3, mName=VIRTUAL-SKIN, mStatus=0}
HAL Ready: true
HAL connection:
Current temperatures from HAL:
\tTemperature{mValue=41.0, mType=0, mName=BIG, mStatus=0}
\tTemperature{mValue=33.1, mType=3, mName=VIRTUAL-SKIN, mStatus=0}
\tTemperature{mValue=28.1, mType=2, mName=battery, mStatus=0}
Current cooling devices from HAL:
""",
    "power": """POWER MANAGER (dumpsys power)
Power Manager State:
  mWakefulness=Awake
  mIsPowered=true
Display Power: state=ON
""",
}
_SCRIPTS = {
    "getprop": """
if [ $# -eq 0 ]; then sed 's/^\\([^=]*\\)=\\(.*\\)$/[\\1]: [\\2]/' /system/props; exit; fi
while IFS='=' read -r key value; do [ "$key" != "$1" ] || { echo "$value"; exit; }; done < /system/props
echo "$2"
""",
    "dumpsys": """
[ -r "/system/dumps/$1" ] || { echo "Can't find service: $1"; exit; }
cat "/system/dumps/$1"
""",
    "settings": """
case $1 in
  get) cat "/data/settings/$2.$3" 2>/dev/null || echo null ;;
  put) echo "$4" > "/data/settings/$2.$3" ;;
  delete) rm -f "/data/settings/$2.$3"; echo "Deleted 1 rows" ;;
  *) echo "Invalid command: $1" >&2; exit 255 ;;
esac
""",
    "logcat": """
cat /data/log 2>/dev/null || echo '11-27 12:00:00.000  1000  1000 I boot    : nothing to tell'
""",
    **dict.fromkeys(("am", "cmd", "input", "pm", "svc", "wm"), "exit 0\n"),
}


def banner() -> str:
    """What its daemon greets a host with."""
    model, _, product, *_ = _NAMES
    return f"device::ro.product.name={product};ro.product.model={model};ro.product.device={product};features={FEATURES}"


def furnish(root: Path, number: str, arch: str, props: Mapping[str, str]) -> None:
    """What is the phone's own in its root."""
    model, maker, product, soc, board = _NAMES
    told = {
        "ro.serialno": number,
        "ro.boot.serialno": number,
        "ro.build.fingerprint": f"google/{product}/{product}:15/AP4A.250105.002/{number}:user/release-keys",
        "ro.build.version.release": "15",
        "ro.build.version.sdk": "35",
        "ro.product.manufacturer": maker,
        "ro.product.model": model,
        "ro.product.device": product,
        "ro.soc.manufacturer": maker,
        "ro.soc.model": soc,
        "ro.board.platform": board,
        "ro.hardware": product,
        "ro.product.cpu.abi": ABIS[arch],
        "ro.product.cpu.abilist": ABIS[arch],
        "sys.boot_completed": "1",
        **({"ro.kernel.qemu": "1"} if arch == "arm64" else {}),
        **props,
    }
    system = root / "system"
    for folder in (root / "data", root / "sdcard", system / "bin", system / "dumps", system / "etc"):
        folder.mkdir(parents=True)
    (root / "etc").symlink_to("system/etc")
    (system / "etc" / "hosts").write_text("127.0.0.1 localhost\n::1 ip6-localhost\n")
    (system / "bin" / "sh").symlink_to("/bin/sh")
    (system / "build.prop").write_text("# see /system/props\n")
    (system / "props").write_text("".join(f"{key}={value}\n" for key, value in told.items()))
    for name, text in _DUMPS.items():
        (system / "dumps" / name).write_text(text)
    for name, script in _SCRIPTS.items():
        (system / "bin" / name).write_text(f"#!/bin/sh\n{script.lstrip()}")
        (system / "bin" / name).chmod(0o755)
    root.chmod(0o755)
    root.parent.chmod(0o755)
