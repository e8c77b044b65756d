"""`rtfleet-agent serve`: one JSON line on stdout says where the agent listens; everything else goes to stderr.
`rtfleet-agent service` prints what makes a standing agent of it.

Exit codes: 0 stopped by a signal or by its host's end, 2 wrong usage or an address that can't be had, 4 the device is
served by another agent.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import ipaddress
import json
import logging
import os
import re
import secrets
import shlex
import signal
import stat
import sys
import threading
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

# Before gRPC is loaded: workers are started by exec, its handlers for fork only cost and warn.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
# The agent imports no runtime, but a plug-in of Python's might.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

from rtfleet_agent import PROTOCOL_VERSION, __version__
from rtfleet_agent.attendance import Attendance
from rtfleet_agent.awake import kept_awake
from rtfleet_agent.device import identify, read_device
from rtfleet_agent.launches import Launches
from rtfleet_agent.lease import LEASE_LASTS_S, DeviceBusy, DeviceLock, Leases, Server, holding_device
from rtfleet_agent.service import PortInUse, Service, create_server
from rtfleet_agent.store import DEFAULT_QUOTA_BYTES, Store, StoreInUse
from rtfleet_agent.tls import BadTlsFolder, TlsFolder

_TOKEN = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# What open streams get to deliver their last event.
_GOODBYE_S = 2.0


class Usage(Exception):
    """The command line asks for something that can't be done; the message says what to change."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="rtfleet-agent: %(message)s")
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except (Usage, BadTlsFolder, PortInUse, StoreInUse) as error:
        return _complain(error, 2)
    except DeviceBusy as error:
        return _complain(error, 4)
    except OSError as error:
        return _complain(error, 2)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rtfleet-agent", description="Measures speech models on this device.")
    parser.add_argument("--version", action="version", version=f"rtfleet-agent {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="serve this device to a host until SIGTERM")
    serve.set_defaults(run=_serve)
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=int, default=0, help="port to listen on (default: any free one)")
    serve.add_argument("--store", type=Path, help="folder for models and events (default: ~/.cache/rtfleet/agent/…)")
    serve.add_argument(
        "--store-quota-gb",
        type=float,
        default=DEFAULT_QUOTA_BYTES / 1e9,
        help="room for models, in 10^9 bytes (default: %(default)g)",
    )
    serve.add_argument("--as", dest="name", help="serve as an emulated device of this name")
    token = serve.add_mutually_exclusive_group()
    token.add_argument("--token-file", type=Path, help="file of mode 0600 with the token, 64 hex digits")
    token.add_argument("--token-stdin", action="store_true", help="read the token from the first line of stdin")
    token.add_argument("--tls-dir", type=Path, help="mutual TLS with this folder's keys, instead of a token")
    serve.add_argument("--exit-on-eof", action="store_true", help="stop when stdin ends: the host is gone")
    serve.add_argument(
        "--linger-s", type=float, help="stop after so long without a lease and a call (SIGUSR1: as soon as it is free)"
    )
    serve.add_argument(
        "--state-file", type=Path, help="file, of mode 0600, with address, pid and token while the agent listens"
    )
    serve.add_argument("--keep-awake", action="store_true", help="on Android: keep the phone awake until the end")
    # For tests and slow emulators: how long a lease lasts without being renewed.
    serve.add_argument("--lease-s", type=float, default=LEASE_LASTS_S, help=argparse.SUPPRESS)
    service = commands.add_parser("service", help="print the unit file of a standing agent (systemd or launchd)")
    service.set_defaults(run=_print_service)
    service.add_argument("--tls-dir", type=Path, required=True, help="folder of this agent's keys (mutual TLS)")
    service.add_argument("--host", default="0.0.0.0", help="address to listen on (default: %(default)s, all)")
    service.add_argument("--port", type=int, default=7411, help="port to listen on (default: %(default)s)")
    service.add_argument("--store", type=Path, help="folder for models and events (default: ~/.cache/rtfleet/agent/…)")
    return parser


def _print_service(options: argparse.Namespace) -> int:
    from rtfleet_agent import standing

    user = getpass.getuser()
    if user == "root":
        raise Usage("an agent loads models that hosts push to it, so never as root: ask as the user that it is to be")
    # What can't work is better said here than in a log.
    tls = TlsFolder(options.tls_dir.absolute())
    _check_address(options.host, tls)
    # In a bundle Python is started by several words, which its launcher has set.
    python = shlex.split(os.environ.get("RTFLEET_PYTHON") or shlex.quote(sys.executable))
    command = [*python, "-m", "rtfleet_agent", "serve", "--host", options.host, "--port", str(options.port)]
    command += ["--tls-dir", str(tls.folder)]
    command += ["--store", str(options.store.absolute())] if options.store is not None else []
    variables = {name: os.environ[name] for name in ("RTFLEET_PYTHON",) if name in os.environ}
    write = standing.launchd_plist if sys.platform == "darwin" else standing.systemd_unit
    print(write(command, user, variables), end="")
    return 0


def _serve(options: argparse.Namespace) -> int:
    tls = TlsFolder(options.tls_dir) if options.tls_dir is not None else None
    _check_address(options.host, tls)
    root = _default_store() if options.store is None else options.store.absolute()
    identity = _emulated(options.name) if options.name else identify(root / "identity")
    folder = root / identity if options.store is None else root
    stop = threading.Event()
    given = _given_token(options)
    token = given or secrets.token_hex(32)
    # From here on what was begun is undone, also where the end comes while the agent starts.
    _stop_on_signals(stop)
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(holding_device(identity))
        device = read_device(identity)
        store = Store(folder, quota_bytes=int(options.store_quota_gb * 1e9))
        stack.callback(store.close)
        if options.keep_awake:
            stack.enter_context(kept_awake(folder / "setting-before"))
        python = os.environ.get("RTFLEET_PYTHON") or shlex.quote(sys.executable)
        leases = Leases(lasts_s=options.lease_s, memory=folder / "leases")
        launches = Launches(folder / "launches", leases, python)
        token_file = None if given or tls else _write_secret(folder / "token", token)
        service = Service(device, store, leases, launches, python)
        server, address = create_server(service, tls or token, options.host, options.port)
        if options.exit_on_eof:
            threading.Thread(target=_wait_for_eof, args=(stop,), name="stdin", daemon=True).start()
        if options.linger_s is not None:
            signal.signal(signal.SIGUSR1, lambda *_: _stop_if_free(stop, leases, launches, service.attendance, 0.0))
        server.start()
        line = _tell(lock, address, identity, token_file)
        if options.state_file is not None:
            _write_secret(options.state_file, json.dumps({**line, "token": token, "python": python}))
            stack.callback(options.state_file.unlink, missing_ok=True)
        if options.linger_s is not None:
            linger = (stop, leases, launches, service.attendance, options.linger_s, options.state_file)
            threading.Thread(target=_linger, args=linger, name="linger", daemon=True).start()
        stop.wait()
        if options.state_file is not None:
            # Nobody is to find it any more.
            options.state_file.unlink(missing_ok=True)
        # First the worker, so that its end reaches who listens; then the calls; then the files.
        launches.close()
        server.stop(_GOODBYE_S).wait()
    return 0


def _check_address(host: str, tls: TlsFolder | None) -> None:
    """Raises Usage for what is no address, and for one beyond loopback without mutual TLS."""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise Usage(f"--host {host}: an IP address, such as 127.0.0.1") from None
    if not loopback and tls is None:
        raise Usage(
            f"--host {host}: beyond loopback an agent must have mutual TLS: --tls-dir with the folder that "
            "`rtfleet pki issue` makes; or listen on 127.0.0.1 and come through ssh or adb"
        )


def _default_store() -> Path:
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rtfleet" / "agent"
    except RuntimeError as error:  # Android's shell user has no home
        raise Usage(f"there is no folder for models ({error}); name one with --store") from error


def _emulated(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise Usage(f"--as {name!r}: 1 to 64 letters, digits, '.', '_' or '-'")
    return f"emulated-{name}"


def _given_token(options: argparse.Namespace) -> str | None:
    if options.token_stdin:
        return _checked(_first_line_of_stdin(), "the first line of stdin")
    if options.token_file is not None:
        path: Path = options.token_file
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise Usage(f"--token-file {path} has mode {mode:04o}: others can read it; chmod 600 {path}")
        return _checked(path.read_text(), str(path))
    return None


def _checked(text: str, source: str) -> str:
    token = text.strip()
    if not _TOKEN.fullmatch(token):
        raise Usage(f"{source} holds no token: 256 random bits as 64 lower-case hex digits")
    return token


def _first_line_of_stdin() -> str:
    # Byte by byte from the descriptor: a buffered reader would hold its lock at exit while _wait_for_eof reads.
    line = b""
    while len(line) < 1024 and not line.endswith(b"\n") and (piece := os.read(0, 1)):
        line += piece
    return line.decode(errors="replace")


def _write_secret(path: Path, text: str) -> Path:
    """A file that only this user can read; whole or not there."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text + "\n")
        return part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def _stop_on_signals(stop: threading.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # nohup means it.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: stop.set())


def _wait_for_eof(stop: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    stop.set()


def _linger(
    stop: threading.Event,
    leases: Leases,
    launches: Launches,
    attendance: Attendance,
    linger_s: float,
    state_file: Path | None,
) -> None:
    """Stops an agent that nobody has wanted for so long, or that nobody can find any more."""
    while not stop.wait(min(1.0, linger_s / 4)):
        if leases.held() is not None:
            attendance.note()
        lost = state_file is not None and not state_file.exists()
        _stop_if_free(stop, leases, launches, attendance, 0.0 if lost else linger_s)


def _stop_if_free(
    stop: threading.Event, leases: Leases, launches: Launches, attendance: Attendance, idle_s: float
) -> None:
    # A launch of a host that is away goes on for a while; whoever just looked does not end it by leaving. Then no lease
    # is given from here on: whoever comes in between is refused, and does not lose what it began.
    if attendance.idle_s > idle_s and not launches.running and leases.retire():
        stop.set()


def _tell(lock: DeviceLock, address: str, identity: str, token_file: Path | None) -> dict[str, object]:
    """Says on stdout where the agent listens; what it said."""
    since = datetime.now(timezone.utc).isoformat(timespec="seconds")
    lock.announce(Server(os.getpid(), address, since))
    line = {
        "address": address,
        "identity": identity,
        "pid": os.getpid(),
        "protocol_version": PROTOCOL_VERSION,
        "agent_version": __version__,
        **({"token_file": str(token_file)} if token_file else {}),
    }
    print(json.dumps(line), flush=True)
    return line


def _complain(error: Exception, code: int) -> int:
    print(f"rtfleet-agent: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
