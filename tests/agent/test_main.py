"""`rtfleet-agent serve` as a process."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import stat
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from agents import TOKEN, Host, wait_until

from rtfleet_agent.__main__ import main
from rtfleet_protos import agent_pb2 as pb
from rtfleet_protos import agent_pb2_grpc


@dataclass
class Served:
    process: subprocess.Popen
    line: dict

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(20)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "rtfleet_agent", "serve", *map(str, arguments)]


def run(*arguments: object, stdin: str = "") -> subprocess.CompletedProcess:
    """An agent that must not come up."""
    return subprocess.run(command(*arguments), input=stdin, capture_output=True, text=True, timeout=30)


@contextlib.contextmanager
def serving(store: Path, *arguments: object, name: str = "") -> Iterator[Served]:
    name = name or uuid.uuid4().hex
    process = subprocess.Popen(
        command("--store", store, "--as", name, *arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            if "--token-stdin" in arguments:
                process.stdin.write(TOKEN + "\n")
                process.stdin.flush()
            yield Served(process, json.loads(process.stdout.readline()))
        finally:
            process.kill()


@contextlib.contextmanager
def connected(served: Served, token: str) -> Iterator[Host]:
    with grpc.insecure_channel(served.line["address"]) as channel:
        yield Host(agent_pb2_grpc.AgentStub(channel), served.line["address"], None, uuid.uuid4().hex, token)


def alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_a_state_file_that_can_t_be_written_leaves_nothing_of_itself(tmp_path: Path) -> None:
    (tmp_path / "state.json").mkdir()

    refused = run("--as", uuid.uuid4().hex, "--store", tmp_path / "store", "--state-file", tmp_path / "state.json")

    assert refused.returncode == 2 and "state.json" in refused.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state.json", "store"]


def test_one_json_line_says_where_it_listens_and_a_sigterm_ends_it_cleanly(tmp_path: Path) -> None:
    with serving(tmp_path / "store", name="one-line") as served:
        token_file = Path(served.line["token_file"])
        assert served.line["identity"] == "emulated-one-line" and served.line["pid"] == served.process.pid
        assert served.line["protocol_version"] == 1
        assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
        with connected(served, token_file.read_text().strip()) as host:
            assert host.call("Have", pb.HaveRequest(lease_id=acquired(host))).missing == []

        assert served.stop() == 0
        assert served.process.stdout.read() == "", "nothing follows the line"


def acquired(host: Host) -> str:
    host.acquire()
    return host.lease_id


def test_a_second_agent_says_who_holds_the_device(tmp_path: Path) -> None:
    name = uuid.uuid4().hex
    with serving(tmp_path / "first", name=name) as served:
        second = run("--store", tmp_path / "second", "--as", name)
    assert second.returncode == 4 and second.stdout == ""
    assert f"already served by agent pid {served.process.pid} at {served.line['address']} since" in second.stderr
    assert "--as NAME" in second.stderr


def test_two_agents_do_not_share_a_store(tmp_path: Path) -> None:
    with serving(tmp_path / "store"):
        second = run("--store", tmp_path / "store", "--as", uuid.uuid4().hex)
    assert second.returncode == 2 and "in use by another agent" in second.stderr


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("--store", tmp_path, "--as", uuid.uuid4().hex, "--port", port)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert f"can't listen on 127.0.0.1:{port}" in line and "--port" in line


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::"])
def test_beyond_loopback_it_does_not_listen_without_tls(tmp_path: Path, host: str, capsys) -> None:
    assert main(["serve", "--store", str(tmp_path), "--host", host]) == 2
    told = capsys.readouterr()
    assert "mutual TLS" in told.err and host in told.err and told.out == ""


def test_a_token_file_that_others_can_read_is_refused(tmp_path: Path, capsys) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(0o644)
    assert main(["serve", "--store", str(tmp_path / "store"), "--as", "x", "--token-file", str(path)]) == 2
    assert f"chmod 600 {path}" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["", "short\n", "AB" * 32 + "\n"])
def test_what_is_no_token_is_refused_without_being_shown(tmp_path: Path, given: str) -> None:
    result = run("--store", tmp_path / "store", "--as", uuid.uuid4().hex, "--token-stdin", stdin=given)
    assert result.returncode == 2 and "64 lower-case hex digits" in result.stderr
    assert "short" not in result.stderr


def test_sigterm_in_a_launch_reaps_the_worker_and_keeps_its_events(tmp_path: Path) -> None:
    with serving(tmp_path / "store", "--token-stdin") as served, connected(served, TOKEN) as host:
        host.acquire()
        request = host.endless()
        stream = host.call("Launch", request)
        worker = next(event.started.pid for event in stream if event.WhichOneof("event") == "started")
        assert served.stop() == 0
        assert list(stream)[-1].failed.message == "the agent was stopped"
    assert not alive(worker)
    assert list((tmp_path / "store" / "work").iterdir()) == []

    with serving(tmp_path / "store", "--token-stdin") as served, connected(served, TOKEN) as again:
        resume = pb.ResumeRequest(lease_id=host.lease_id, launch_id=request.launch_id)
        assert list(again.call("Resume", resume))[-1].failed.message == "the agent was stopped"


def test_an_agent_that_is_killed_takes_its_worker_along_and_the_next_one_tells_of_the_launch(tmp_path: Path) -> None:
    with serving(tmp_path / "store", "--token-stdin") as served, connected(served, TOKEN) as host:
        host.acquire()
        request = host.endless()
        stream = host.call("Launch", request)
        worker = next(event.started.pid for event in stream if event.WhichOneof("event") == "started")
        served.process.send_signal(signal.SIGKILL)
        served.process.wait(20)
        wait_until(lambda: not alive(worker))

    with serving(tmp_path / "store", "--token-stdin") as served, connected(served, TOKEN) as again:
        events = list(again.call("Resume", pb.ResumeRequest(lease_id=host.lease_id, launch_id=request.launch_id)))
    assert "started" in [event.WhichOneof("event") for event in events]
    assert events[-1].failed.message == "the agent ended while this launch ran"


def test_an_agent_of_a_host_on_this_machine_ends_with_it(tmp_path: Path) -> None:
    with serving(tmp_path / "store", "--token-stdin", "--exit-on-eof") as served:
        served.process.stdin.close()
        assert served.process.wait(20) == 0


def test_the_token_and_the_lease_are_in_no_file_and_no_command_line(tmp_path: Path) -> None:
    with serving(tmp_path / "store", "--token-stdin") as served, connected(served, TOKEN) as host:
        host.acquire()
        stream = host.call("Launch", host.endless())
        worker = next(event.started.pid for event in stream if event.WhichOneof("event") == "started")
        seen = b"".join(
            Path(f"/proc/{pid}/{what}").read_bytes()
            for pid in (served.process.pid, worker)
            for what in ("cmdline", "environ")
        )
        seen += b"".join(path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file())
        served.stop()
    assert TOKEN.encode() not in seen and host.lease_id.encode() not in seen


def test_the_agent_loads_no_runtime_and_nothing_of_the_host() -> None:
    program = "import sys, rtfleet_agent.__main__; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"rtfleet", "onnxruntime", "ai_edge_litert", "torch", "rich", "typer", "cattrs", "tensorflow"}
    assert not heavy & set(loaded)
