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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import adbutils

from fakes import pixel

HERE = Path(__file__).parent
QEMU = shutil.which("qemu-aarch64-static")
PATIENCE_S = 60.0


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
    daemon: subprocess.Popen[str]
    environment: Mapping[str, str] = field(repr=False)

    @property
    def server_port(self) -> int:
        return int(self.environment.get("ANDROID_ADB_SERVER_PORT", "5037"))

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

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """It takes what is sent to it and answers nothing until the block ends."""
        daemons = [pid for pid, words in self._processes() if "adbd.py" in words and "world.sh" not in words]
        for pid in daemons:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in daemons:
                os.kill(pid, signal.SIGCONT)

    def kill_server(self) -> None:
        """The adb server dies without a word, with all its forwards."""
        for pid in _servers(self.server_port):
            os.kill(pid, signal.SIGKILL)

    def authorize(self, *, yes: bool = True) -> None:
        """What its owner says to "Allow USB debugging?"."""
        self._tell(f"authorize {'yes' if yes else 'no'}")

    def boot_into(self, state: str) -> None:
        """It is restarted into Android ("device"), "recovery", "sideload", ..., as far as adb can see."""
        self._tell(f"boot {state}")

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
        for process, words in _commands():
            with contextlib.suppress(OSError):
                if os.readlink(process / "root") == str(self.root):
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
def adb_server(folder: Path) -> Iterator[dict[str, str]]:
    """An adb server of one's own, on a free port: the environment in which adb finds it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    home = folder / "adb-home"
    home.mkdir(exist_ok=True)
    environment = {**os.environ, "ANDROID_ADB_SERVER_PORT": str(port), "HOME": str(home)}
    try:
        yield environment
    finally:
        adb(environment, "kill-server", check=False)


def _servers(port: int) -> list[int]:
    """Pids of adb servers on that port."""
    return [int(process.name) for process, words in _commands() if f"tcp:{port} fork-server" in words]


def _commands() -> Iterator[tuple[Path, str]]:
    """Folder in /proc and command line of all that can be seen; what has ended has none."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if words := (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip():
                yield process, words


def comes_about(true: Callable[[], object]) -> None:
    """Waits for what other processes do."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


@contextlib.contextmanager
def emulated_phone(
    environment: Mapping[str, str],
    *,
    arch: str = "x86_64",
    data_bytes: int = 2_000_000_000,
    props: Mapping[str, str] | None = None,
    connected: bool = True,
) -> Iterator[EmulatedPhone]:
    """A phone, connected to the adb server of that environment, until the block ends.

    Args:
        arch: x86_64, arm64 (through qemu-user: functional only, its times mean nothing), or arm (32 bits).
        props: Properties in place of the usual ones.
    """
    # Sockets have short paths.
    folder = Path(tempfile.mkdtemp(prefix="phone-"))
    number = f"EMU{uuid.uuid4().hex[:9].upper()}"
    pixel.furnish(folder / "root", number, arch, dict(props or {}))
    (folder / "boot-id").write_text(f"{uuid.uuid4()}\n")
    (folder / "cpuinfo").write_text(pixel.ARM_CPUINFO)
    inside = {name: value for name, value in os.environ.items() if name in ("LANG", "TERM")}
    inside |= {"PATH": "/system/bin:/usr/bin:/bin:/usr/sbin:/sbin", "ANDROID_ROOT": "/system", "HOME": "/"}
    cpuinfo = ""
    if arch == "arm64":
        cpuinfo = str(folder / "cpuinfo")
        inside |= {"RTFLEET_EMULATOR": str(QEMU), "QEMU_CPU": "cortex-a76"}
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(
            [*_unshare(), "sh", str(HERE / "world.sh"), str(folder / "root"), str(data_bytes), str(folder / "boot-id"),
             cpuinfo, sys.base_prefix, str(HERE), "", os.path.realpath(sys.executable), str(HERE / "adbd.py"),
             "/control", pixel.banner()],
            # Its input is what it lives for: it ends with this process, however that ends. Ctrl-C is for this one.
            env=inside, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
        )  # fmt: skip
    assert daemon.stdin and daemon.stdout
    try:
        told = daemon.stdout.readline()
        assert told, (folder / "log").read_text()
        phone = EmulatedPhone(folder, number, int(told), daemon, environment)
        if connected:
            comes_about(lambda: phone.connect() == "device")
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
