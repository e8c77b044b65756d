"""Agents on the network: real agents with mutual TLS, and every certificate that is refused, by name."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from stage import QUICK, Stage, only, stage, strict
from transports.standing import standing

from rtfleet import pki, transports
from rtfleet.client import AgentClient
from rtfleet.errors import DeviceError, LeaseHeld
from rtfleet.fleet import Device
from rtfleet.records import DeviceFacts
from rtfleet_protos import agent_pb2 as pb
from rtfleet_protos.agent_pb2_grpc import AgentStub

# All of 127.0.0.0/8 is this machine on Linux; elsewhere only the first address is.
ADDRESS = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"
LONG_AGO = datetime.now(UTC) - timedelta(days=100)
LEASE = "a secret of this test's own"


@pytest.fixture(name="lab", scope="module")
def _lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority with an agent `bench` and a host `ann`."""
    return lab_in(tmp_path_factory.mktemp("keys"), "ours")


@pytest.fixture(name="other", scope="module")
def _other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another lab, whose agent and host have the same names."""
    return lab_in(tmp_path_factory.mktemp("other"), "theirs")


def lab_in(folder: Path, name: str) -> Path:
    pki.init(folder, name)
    pki.issue(folder, "bench", "agent")
    pki.issue(folder, "ann", "host")
    return folder


@contextlib.contextmanager
def serving(keys: Path, store: Path) -> Iterator[str]:
    """A standing agent with that folder's keys; its address."""
    with standing(keys, store, ADDRESS) as agent:
        yield agent.address


@pytest.fixture(name="address", scope="module")
def _address(lab: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The agent `bench`."""
    with serving(lab / "agents" / "bench", tmp_path_factory.mktemp("store")) as address:
        yield address


def describe(address: str, keys: Path, name: str = "bench") -> DeviceFacts:
    """What the agent says to a host with these keys."""

    async def ask() -> DeviceFacts:
        device = Device(name, f"grpc:{address}", tls=keys)
        async with transports.connect(device, Path("/nowhere")) as link, AgentClient(link, name) as client:
            return await client.describe()

    return asyncio.run(ask())


def refused(address: str, keys: Path, name: str = "bench") -> DeviceError:
    with pytest.raises(DeviceError) as error:
        describe(address, keys, name)
    assert not error.value.retryable
    assert error.value.hint
    return error.value


def copied(keys: Path, folder: Path, **replaced: Path) -> Path:
    """The folder's keys with some of another's: `cert="..."` replaces cert.pem."""
    shutil.copytree(keys, folder)
    for name, source in replaced.items():
        shutil.copy(source / f"{name}.pem", folder / f"{name}.pem")
    return folder


# ---- those who may come in -----------------------------------------------------------------------------------------


def test_a_host_with_its_certificate_needs_no_token(lab: Path, address: str) -> None:
    facts = describe(address, lab / "hosts" / "ann")

    assert facts.alias == "bench" and facts.identity.startswith("emulated-network-")
    assert facts.is_host, "an agent on this machine disturbs what this machine does, however it was reached"


def test_a_lease_is_held_by_the_certificates_name_whatever_the_host_says(lab: Path, address: str) -> None:
    ben, _ = pki.issue(lab, "ben", "host")

    async def both() -> tuple[str, str]:
        async with contextlib.AsyncExitStack() as stack:
            clients = []
            for name in ("ann", ben.name):
                device = Device("bench", f"grpc:{address}", tls=lab / "hosts" / name)
                link = await stack.enter_async_context(transports.connect(device, Path("/nowhere")))
                clients.append(await stack.enter_async_context(AgentClient(link, "bench")))
            ann, other = clients
            await ann.acquire(LEASE, "ben@pretends run 1")
            with pytest.raises(LeaseHeld) as held:
                await other.acquire(f"{LEASE} 2", "ben@here run 2")
            holder = (await other.describe()).lease_holder
            await ann.release()
            return holder, held.value.text

    holder, told = asyncio.run(both())

    assert holder == "ann (ben@pretends run 1)"
    assert "the device is leased to ann (ben@pretends run 1)" in told


# ---- this host's certificate ---------------------------------------------------------------------------------------


def test_a_missing_certificate_names_the_file_and_how_to_get_it(address: str, tmp_path: Path) -> None:
    error = refused(address, tmp_path / "none")

    assert error.text.startswith("device 'bench': this host has no certificate to show: ")
    assert "rtfleet pki issue" in error.hint and "--client" in error.hint


def test_an_expired_certificate_says_when(lab: Path, address: str, tmp_path: Path) -> None:
    made, keys = pki.issue(lab, "old", "host", now=LONG_AGO, out=tmp_path / "old")

    assert f"expired on {made.valid_until.date()}" in refused(address, keys).text


def test_a_certificate_of_another_authority_is_found_before_dialling(
    lab: Path, other: Path, address: str, tmp_path: Path
) -> None:
    theirs = other / "hosts" / "ann"
    keys = copied(lab / "hosts" / "ann", tmp_path / "mixed", cert=theirs, key=theirs)

    text = refused(address, keys).text

    assert "is from another authority, 'rtfleet lab theirs', than ca.pem beside it, 'rtfleet lab ours'" in text


def test_an_agents_certificate_is_no_good_for_a_host(lab: Path, address: str) -> None:
    assert "('bench', " in (error := refused(address, lab / "agents" / "bench")).text
    assert "is an agent's" in error.text


def test_a_revoked_certificate_is_named_by_the_hosts_own_list(lab: Path, address: str, tmp_path: Path) -> None:
    _, keys = pki.issue(lab, "eve", "host", out=tmp_path / "eve")
    pki.revoke(lab, "eve")
    shutil.copy(lab / "revoked.txt", keys)

    text = refused(address, keys).text

    assert "this host's certificate ('eve', " in text and "was revoked on 20" in text


@pytest.mark.slow
def test_a_revoked_certificate_is_refused_by_an_agent_that_runs(lab: Path, tmp_path: Path) -> None:
    _, keys = pki.issue(lab, "mallory", "host", out=tmp_path / "mallory")
    agents = copied(lab / "agents" / "bench", tmp_path / "bench")
    with serving(agents, tmp_path / "store") as address:
        assert describe(address, keys).alias == "bench"
        # The agent's copy of the list only: this host does not know yet.
        pki.revoke(lab, "mallory")
        shutil.copy(lab / "revoked.txt", agents)

        text = refused(address, keys).text

    assert "the agent refused this host: the certificate of 'mallory' was revoked on 20" in text


@pytest.mark.slow
def test_an_agent_whose_list_is_damaged_lets_nobody_in(lab: Path, tmp_path: Path) -> None:
    agents = copied(lab / "agents" / "bench", tmp_path / "bench")
    with serving(agents, tmp_path / "store") as address:
        (agents / "revoked.txt").write_text("half a line\n")
        damaged = refused(address, lab / "hosts" / "ann").text
        (agents / "revoked.txt").unlink()
        missing = refused(address, lab / "hosts" / "ann").text
        shutil.copy(lab / "revoked.txt", agents)
        assert describe(address, lab / "hosts" / "ann").alias == "bench"

    assert "lets nobody in" in damaged and "revoked.txt:1" in damaged
    assert "lets nobody in" in missing and "can't be read" in missing


def test_a_key_that_is_not_the_certificates_is_said_to_be_so(
    lab: Path, other: Path, address: str, tmp_path: Path
) -> None:
    keys = copied(lab / "hosts" / "ann", tmp_path / "mixed", key=other / "hosts" / "ann")

    assert "cert.pem and key.pem do not belong together" in refused(address, keys).text


# ---- the agent's certificate ---------------------------------------------------------------------------------------


def test_an_agent_of_another_lab_is_named_with_both(other: Path, address: str) -> None:
    text = refused(address, other / "hosts" / "ann").text

    assert "the agent's certificate ('bench', " in text
    assert "is from another authority, 'rtfleet lab ours', than this host's, 'rtfleet lab theirs'" in text


def test_an_agent_that_is_another_device_is_named(lab: Path, address: str) -> None:
    error = refused(address, lab / "hosts" / "ann", name="pixel")

    assert error.text == f"device 'pixel': the agent at {address} is 'bench', not 'pixel'"
    assert "rtfleet pki issue pixel" in error.hint


@pytest.mark.slow
def test_an_agents_expired_certificate_is_named_and_a_new_one_needs_no_restart(lab: Path, tmp_path: Path) -> None:
    made, keys = pki.issue(lab, "worn", "agent", now=LONG_AGO, out=tmp_path / "worn")
    with serving(keys, tmp_path / "store") as address:
        text = refused(address, lab / "hosts" / "ann", name="worn").text
        pki.issue(lab, "worn", "agent", out=keys, renew=True)
        facts = describe(address, lab / "hosts" / "ann", name="worn")

    assert f"the agent's certificate ('worn', {address}) expired on {made.valid_until.date()}" in text
    assert facts.alias == "worn"


@pytest.mark.slow
def test_an_agents_revoked_certificate_is_refused_by_the_host(lab: Path, tmp_path: Path) -> None:
    _, keys = pki.issue(lab, "lost", "agent", out=tmp_path / "lost")
    with serving(keys, tmp_path / "store") as address:
        pki.revoke(lab, "lost")

        text = refused(address, lab / "hosts" / "ann", name="lost").text

    assert "the agent's certificate ('lost', serial " in text and "was revoked on 20" in text


@pytest.mark.slow
def test_an_agent_that_trusts_another_authority_closes_the_line_and_that_is_said(
    lab: Path, other: Path, tmp_path: Path
) -> None:
    keys = copied(lab / "agents" / "bench", tmp_path / "mixed", ca=other)
    with serving(keys, tmp_path / "store") as address:
        error = refused(address, lab / "hosts" / "ann")

    assert "closed the line on this host's certificate ('ann', from 'rtfleet lab ours'" in error.text
    assert "clock" in error.hint and "ca.pem" in error.hint


def test_what_speaks_no_tls_and_what_does_not_listen_are_told_apart(lab: Path) -> None:
    with socket.create_server((ADDRESS, 0)) as server:
        address = f"{ADDRESS}:{server.getsockname()[1]}"

        def hang_up() -> None:
            server.accept()[0].close()

        async def both() -> str:
            hanging_up = asyncio.create_task(asyncio.to_thread(hang_up))
            with pytest.raises(DeviceError) as error:
                async with transports.connect(
                    Device("bench", f"grpc:{address}", tls=lab / "hosts" / "ann"), Path("/nowhere")
                ):
                    pass
            await hanging_up
            return error.value.text

        plain = asyncio.run(both())
    with pytest.raises(DeviceError) as nobody:
        describe(address, lab / "hosts" / "ann")

    assert f"what listens at {address} speaks no TLS" in plain
    assert f"nothing listens at {address}" in nobody.value.text and nobody.value.retryable


# ---- the agent itself keeps the door ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["a host's", "missing", "wrong", "expired", "an agent's"])
def test_a_client_that_does_not_look_first_is_not_let_in_either(
    lab: Path, other: Path, address: str, tmp_path: Path, kind: str
) -> None:
    keys = {
        "a host's": lab / "hosts" / "ann",
        "wrong": other / "hosts" / "ann",
        "an agent's": lab / "agents" / "bench",
    }.get(kind)
    if kind == "expired":
        _, keys = pki.issue(lab, f"late-{uuid.uuid4().hex[:8]}", "host", now=LONG_AGO, out=tmp_path / "late")
    shown = [(keys / file).read_bytes() for file in ("key.pem", "cert.pem")] if keys else []
    credentials = grpc.ssl_channel_credentials((lab / "ca.pem").read_bytes(), *shown)
    options = [("grpc.ssl_target_name_override", "bench")]

    with grpc.secure_channel(address, credentials, options) as channel:
        describing = AgentStub(channel).Describe.future(pb.DescribeRequest(), timeout=60)
        answer = describing.code()

    assert answer == (grpc.StatusCode.OK if kind == "a host's" else grpc.StatusCode.UNAVAILABLE)


@pytest.mark.parametrize("name", ["ca.pem", "cert.pem", "key.pem", "revoked.txt"])
@pytest.mark.slow
def test_an_agent_does_not_start_without_one_of_its_files(lab: Path, tmp_path: Path, name: str) -> None:
    keys = copied(lab / "agents" / "bench", tmp_path / "keys")
    (keys / name).unlink()

    ended = started(keys, tmp_path)

    assert ended.returncode == 2 and str(keys / name) in ended.stderr and "rtfleet pki issue" in ended.stderr


@pytest.mark.slow
def test_an_agent_does_not_start_with_a_key_that_others_can_read_or_that_is_anothers(
    lab: Path, other: Path, tmp_path: Path
) -> None:
    keys = copied(lab / "agents" / "bench", tmp_path / "keys")
    (keys / "key.pem").chmod(0o644)
    readable = started(keys, tmp_path)
    shutil.copy(other / "agents" / "bench" / "key.pem", keys)
    (keys / "key.pem").chmod(0o600)
    anothers = started(keys, tmp_path)

    assert readable.returncode == anothers.returncode == 2
    assert f"chmod 600 {keys / 'key.pem'}" in readable.stderr
    assert "do not belong together" in anothers.stderr


def started(keys: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """An agent that must not come up."""
    command = [sys.executable, "-m", "rtfleet_agent", "serve", "--as", uuid.uuid4().hex, "--tls-dir", str(keys)]
    command += ["--host", ADDRESS, "--store", str(folder / "store")]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


# ---- a whole run ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_on_a_network_agent_is_measured_and_judged(lab: Path, address: str, tmp_path: Path) -> None:
    here: Stage = stage(tmp_path)
    (tmp_path / "fleet.toml").write_text(
        f'[device.bench]\nconnect = "grpc:{address}"\ntls = "{lab / "hosts" / "ann"}"\n'
    )
    ran = here.rtfleet("run", here.suite(here.model("quick"), run=QUICK), "--json", "run.json")

    assert ran.code in (0, 3), ran.everything
    document = strict((tmp_path / "run.json").read_text())
    case = only(document["cases"])
    assert case["device"] == "bench" and len(case["launches"]) == 3
    assert document["devices"]["bench"]["identity"].startswith("emulated-network-")


# ---- a standing agent ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="reads a systemd unit")
@pytest.mark.slow
def test_what_is_printed_for_a_service_is_what_serves(lab: Path, tmp_path: Path) -> None:
    ask = [sys.executable, "-m", "rtfleet_agent", "service", "--tls-dir", str(lab / "agents" / "bench")]
    told = subprocess.run(ask, capture_output=True, text=True, env={**os.environ, "LOGNAME": "lab"}, timeout=30)
    assert told.returncode == 0, told.stderr
    (command,) = re.findall(r"^ExecStart=(.*)$", told.stdout, re.MULTILINE)
    assert "User=lab\n" in told.stdout and "--host 0.0.0.0 --port 7411" in command

    # The last of two flags counts: not this machine, nor a port that somebody may have.
    apart = ["--as", f"network-{uuid.uuid4().hex[:12]}", "--port", "0", "--store", str(tmp_path / "store")]
    with subprocess.Popen([*shlex.split(command), *apart], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            port = json.loads(process.stdout.readline())["address"].rpartition(":")[2]
            assert describe(f"{ADDRESS}:{port}", lab / "hosts" / "ann").alias == "bench"
        finally:
            process.terminate()
