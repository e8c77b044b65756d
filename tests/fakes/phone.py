"""An emulated Android phone behind the real adb: its root, its properties and services, and the daemon in it.

For tests, and for trying rtfleet without a phone (`make emulated-phone`). It needs the right to mount, in a namespace
of its own: root's, or a user namespace's.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import adbutils

HERE = Path(__file__).parent
QEMU = shutil.which("qemu-aarch64-static")
PATIENCE_S = 60.0
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
_ARM_CPUINFO = "\n".join(f"processor\t: {core}\n{_ARM_CORE}" for core in range(os.cpu_count() or 1))
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


def _adb_binary() -> str:
    """The system's adb, else the one that adbutils brings; "" where there is neither."""
    try:
        return str(adbutils.adb_path())
    except adbutils.AdbError:
        return ""


ADB = _adb_binary()


@dataclass
class EmulatedPhone:
    """A phone that runs. Commands of `adb` go to `server_port`'s server.

    Attributes:
        folder: Of its root and logs.
        number: Of the phone itself, as `getprop ro.serialno` tells; the adb server knows it by `serial`.
        port: Where its daemon listens.
    """

    folder: Path
    number: str
    port: int
    server_port: int
    daemon: subprocess.Popen[str]
    environment: Mapping[str, str] = field(repr=False)

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def serial(self) -> str:
        """What the adb server calls it."""
        return f"127.0.0.1:{self.port}"

    def adb(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`adb -s` this phone."""
        return adb(self.environment, "-s", self.serial, *words, check=check)

    def sh(self, command: str) -> str:
        """What a command of the phone's shell prints."""
        return self.adb("shell", command).stdout

    def connect(self) -> str:
        """As plugging it in; its state then, as `adb get-state` says it."""
        self._tell("plug")
        adb(self.environment, "disconnect", self.serial, check=False)
        adb(self.environment, "connect", self.serial, check=False)
        return self.state()

    def state(self) -> str:
        listed = adb(self.environment, "devices").stdout.splitlines()
        return next((line.split("\t")[1] for line in listed if line.startswith(f"{self.serial}\t")), "")

    def unplug(self) -> None:
        """The cable is pulled. What runs on the phone goes on."""
        self._tell("unplug")

    def kill_server(self) -> None:
        """The adb server dies without a word, with all its forwards."""
        for pid in _servers(self.server_port):
            os.kill(pid, signal.SIGKILL)

    def authorize(self, *, yes: bool = True) -> None:
        """What its owner says to "Allow USB debugging?"."""
        self._tell(f"authorize {'yes' if yes else 'no'}")

    def slow(self, bytes_per_s: int) -> None:
        """A poor cable; 0 is a good one."""
        self._tell(f"slow {bytes_per_s}")

    def leave_mb(self, megabytes: int) -> None:
        """So much room on /data and no more."""
        self._tell(f"leave {megabytes}")

    def refuse_to_execute(self, *, yes: bool = True) -> None:
        """Nothing below /data may be executed."""
        self._tell(f"noexec {'yes' if yes else 'no'}")

    def processes(self) -> dict[int, str]:
        """pid, as this machine counts, -> command line of all that runs on it, but its daemon."""
        return {pid: words for pid, words in self._processes() if "adbd.py" not in words}

    @property
    def inside(self) -> Path:
        """Its root with all that is mounted there."""
        return next(Path(f"/proc/{pid}/root") for pid, words in self._processes() if "adbd.py" in words)

    def _processes(self) -> Iterator[tuple[int, str]]:
        for process in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                if os.readlink(process / "root") == str(self.root):
                    words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                    if words:  # what has ended has none
                        yield int(process.name), words

    def kill(self, words: str) -> list[int]:
        """SIGKILL for whatever has these words in its command line, as Android's low-memory killer would."""
        killed = [pid for pid, command in self.processes().items() if words in command]
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        return killed

    def _tell(self, order: str) -> None:
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(self.root / "control"))
            line.sendall(f"{order}\n".encode())
            answer = line.recv(1000).decode()
        if answer != "done":
            raise AssertionError(f"{order}: {answer or 'no answer'}")


def adb(environment: Mapping[str, str], *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """The real adb, as a person would call it."""
    return subprocess.run(
        [ADB, *words], env=dict(environment), capture_output=True, text=True, timeout=PATIENCE_S, check=check
    )


def cannot_emulate(arch: str = "x86_64") -> str:
    """Why there can't be one here; "" where there can."""
    if not ADB:
        return "there is no adb here"
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        return "phones are emulated on x86-64 Linux only"
    if arch == "arm64" and QEMU is None:
        return "there is no qemu-aarch64-static here"
    try_it = "mount -t tmpfs none /mnt && mkdir /mnt/proc && mount -t proc proc /mnt/proc"
    tried = subprocess.run([*_unshare(), "sh", "-c", try_it], capture_output=True, text=True)
    return f"an emulated phone needs the right to mount: {tried.stderr.strip()}" if tried.returncode else ""


def _unshare() -> list[str]:
    own = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    return own if os.geteuid() == 0 else [*own, "--map-root-user"]


@contextlib.contextmanager
def adb_server(folder: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """An adb server of one's own, on a free port: its port, and the environment in which adb finds it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    home = folder / "adb-home"
    home.mkdir(exist_ok=True)
    environment = {**os.environ, "ANDROID_ADB_SERVER_PORT": str(port), "HOME": str(home)}
    try:
        yield port, environment
    finally:
        adb(environment, "kill-server", check=False)


def _servers(port: int) -> list[int]:
    """Pids of adb servers on that port."""
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if "fork-server" in words and f"tcp:{port}" in " ".join(words):
                found.append(int(process.name))
    return found


@contextlib.contextmanager
def emulated_phone(
    environment: Mapping[str, str],
    *,
    arch: str = "x86_64",
    data_bytes: int = 2_000_000_000,
    props: Mapping[str, str] | None = None,
    connected: bool = True,
    port: int = 0,
) -> Iterator[EmulatedPhone]:
    """A phone, connected to the adb server of that environment, until the block ends.

    Args:
        arch: x86_64, arm64 (through qemu-user: functional only, its times mean nothing), or arm (32 bits).
        props: Properties in place of the usual ones.
    """
    # Sockets have short paths.
    folder = Path(tempfile.mkdtemp(prefix="phone-"))
    number = f"EMU{uuid.uuid4().hex[:9].upper()}"
    _furnish(folder / "root", number, arch, dict(props or {}))
    (folder / "boot-id").write_text(f"{uuid.uuid4()}\n")
    (folder / "cpuinfo").write_text(_ARM_CPUINFO)
    inside = {name: value for name, value in os.environ.items() if name in ("LANG", "TERM")}
    inside |= {"PATH": "/system/bin:/usr/bin:/bin:/usr/sbin:/sbin", "ANDROID_ROOT": "/system", "HOME": "/"}
    cpuinfo = ""
    if arch == "arm64":
        cpuinfo = str(folder / "cpuinfo")
        inside |= {"RTFLEET_EMULATOR": str(QEMU), "QEMU_CPU": "cortex-a76"}
    model, _, product, *_ = _NAMES
    banner = f"device::ro.product.name={product};ro.product.model={model};ro.product.device={product};"
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(
            [*_unshare(), "sh", str(HERE / "world.sh"), str(folder / "root"), str(data_bytes), str(folder / "boot-id"),
             cpuinfo, sys.base_prefix, str(HERE), "", os.path.realpath(sys.executable), str(HERE / "adbd.py"),
             str(port), "/control", f"{banner}features={FEATURES}"],
            # Its input is what it lives for: it ends with this process, however that ends. Ctrl-C is for this one.
            env=inside, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
        )  # fmt: skip
    assert daemon.stdin and daemon.stdout
    try:
        told = daemon.stdout.readline()
        assert told, (folder / "log").read_text()
        server_port = int(environment.get("ANDROID_ADB_SERVER_PORT", "5037"))
        phone = EmulatedPhone(folder, number, int(told), server_port, daemon, environment)
        if connected:
            deadline = time.monotonic() + PATIENCE_S
            while phone.connect() != "device":
                assert time.monotonic() < deadline, phone.state()
                time.sleep(0.2)
        try:
            yield phone
        finally:
            adb(environment, "disconnect", phone.serial, check=False)
    finally:
        daemon.stdin.close()
        try:
            daemon.wait(PATIENCE_S)  # the kernel ends what still runs there
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
        daemon.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)


def _furnish(root: Path, number: str, arch: str, props: Mapping[str, str]) -> None:
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
