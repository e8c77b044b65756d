"""Files by sha256: pushed, broken off, taken up again, verified, evicted."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import grpc
import pytest
from agents import Host, agent

from rtfleet_agent.refusal import Refusal
from rtfleet_agent.store import Store, StoreInUse

OWNER = "lease-0123456789abcdef"


@pytest.fixture(name="host")
def _host(tmp_path: Path):
    with agent(tmp_path) as host:
        host.acquire()
        yield host


@pytest.fixture(name="store")
def _store(tmp_path: Path):
    store = Store(tmp_path / "store", quota_bytes=1000)
    yield store
    store.close()


def put(store: Store, data: bytes, owner: str = OWNER) -> str:
    sha256 = hashlib.sha256(data).hexdigest()
    incoming = store.receive(owner, sha256, len(data), 0)
    if incoming is not None:
        incoming.write(data)
        assert incoming.close()
    return sha256


def test_a_pushed_file_counts_and_is_not_sent_twice(host: Host) -> None:
    data = os.urandom(300_000)
    reply, sha256 = host.push(data)
    assert (reply.complete, reply.held_bytes) == (True, 300_000)
    assert host.have(sha256) == {}

    again, _ = host.push(data, offset=0, upto=0)
    assert again.complete


def test_a_broken_off_push_goes_on_where_it_stopped(host: Host) -> None:
    data = os.urandom(300_000)
    first, sha256 = host.push(data, upto=200_000)
    assert (first.complete, first.held_bytes) == (False, 200_000)
    assert host.have(sha256) == {sha256: 200_000}

    with pytest.raises(grpc.RpcError, match="goes on at byte 200000, not at 0"):
        host.push(data)
    second, _ = host.push(data, offset=200_000)
    assert second.complete and host.have(sha256) == {}


def test_bytes_with_another_hash_are_thrown_away(host: Host) -> None:
    wrong = "12" * 32
    with pytest.raises(grpc.RpcError) as caught:
        host.push(b"something else", sha256=wrong)
    assert caught.value.code() is grpc.StatusCode.DATA_LOSS and "push again" in caught.value.details()
    assert host.have(wrong) == {wrong: 0}


def test_more_than_was_declared_is_refused(host: Host) -> None:
    with pytest.raises(grpc.RpcError, match="more than the 10 bytes that were declared"):
        host.push(b"x" * 11, size=10)


def test_what_was_damaged_between_two_pushes_is_found_by_the_hash(store: Store) -> None:
    data = b"0123456789"
    sha256 = hashlib.sha256(data).hexdigest()
    incoming = store.receive(OWNER, sha256, 10, 0)
    incoming.write(data[:5])
    assert not incoming.close()
    (store.folder / "partial" / sha256).write_bytes(b"XXXXX")

    resumed = store.receive(OWNER, sha256, 10, 5)
    resumed.write(data[5:])
    with pytest.raises(Refusal, match="declared was"):
        resumed.close()


def test_a_second_push_of_a_file_takes_over_from_one_whose_host_is_gone(store: Store) -> None:
    data = b"0123456789"
    sha256 = hashlib.sha256(data).hexdigest()
    gone = store.receive(OWNER, sha256, 10, 0)
    gone.write(data[:4])

    taken = store.receive(OWNER, sha256, 10, 4)
    with pytest.raises(Refusal, match="took over"):
        gone.write(data[4:])
    assert not gone.close()
    taken.write(data[4:])
    assert taken.close() and store.has(sha256)


def test_a_file_larger_than_the_quota_is_refused_with_the_numbers(store: Store) -> None:
    with pytest.raises(Refusal, match=r"no room for 1001 bytes: 1 bytes too many.*of 1000 bytes") as caught:
        store.receive(OWNER, "12" * 32, 1001, 0)
    assert caught.value.status == "RESOURCE_EXHAUSTED"


def test_a_file_larger_than_the_disk_is_refused_with_the_numbers(tmp_path: Path) -> None:
    store = Store(tmp_path / "large", quota_bytes=10**18)
    with pytest.raises(Refusal, match=r"the disk has \d+ bytes free"):
        store.receive(OWNER, "12" * 32, 10**17, 0)
    store.close()


def test_the_least_recently_used_file_makes_room(store: Store) -> None:
    old, used = put(store, b"a" * 400), put(store, b"b" * 400)
    for seconds, sha256 in enumerate((used, old)):
        os.utime(store.path(sha256), (1000 + seconds, 1000 + seconds))
    store.pin("another-lease-0123456789", [used])  # now its last use is the later one
    put(store, b"c" * 400, owner="a-third-lease-0123456789")
    assert not store.has(old) and store.has(used)


def test_what_the_lease_uses_is_never_evicted(store: Store) -> None:
    kept = [put(store, b"a" * 400), put(store, b"b" * 400)]
    with pytest.raises(Refusal, match="800 of them in use by this lease"):
        put(store, b"c" * 400)
    assert all(store.has(sha256) for sha256 in kept)


def test_two_pushes_at_once_cannot_promise_the_same_room(store: Store) -> None:
    first = store.receive(OWNER, "12" * 32, 600, 0)
    with pytest.raises(Refusal, match="no room for 600 bytes"):
        store.receive(OWNER, "34" * 32, 600, 0)
    first.close()


def test_a_model_is_laid_out_with_its_folders(store: Store) -> None:
    weights, graph = put(store, b"weights"), put(store, b"graph")
    store.lay_out(store.work / "g", {"model.onnx": graph, "data/w.bin": weights})
    assert (store.work / "g" / "model.onnx").read_bytes() == b"graph"
    assert (store.work / "g" / "data" / "w.bin").read_bytes() == b"weights"


def test_a_file_can_lie_in_a_folder_but_not_in_a_file(store: Store) -> None:
    data = put(store, b"x")
    with pytest.raises(Refusal, match="inside another file"):
        store.lay_out(store.work / "g", {"a": data, "a/b": data})


def test_what_an_earlier_agent_left_counts_only_with_its_right_hash(tmp_path: Path) -> None:
    before = Store(tmp_path / "s")
    whole, changed, cut = (put(before, data) for data in (b"whole", b"changed", b"cut short"))
    for sha256, data in ((changed, b"CHANGED"), (cut, b"cut")):
        path = before.path(sha256)
        path.chmod(0o600)
        path.write_bytes(data)
    before.close()

    after = Store(tmp_path / "s")

    assert [missing.sha256 for missing in after.missing("lease", [whole, changed, cut])] == [changed, cut]
    assert put(after, b"changed") == changed and after.has(changed)
    after.close()


def test_a_store_has_one_agent(store: Store) -> None:
    with pytest.raises(StoreInUse, match="--store"):
        Store(store.folder)
