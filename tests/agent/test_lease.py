"""Who may use the device."""

from __future__ import annotations

import re
import stat
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from agents import Clock

from rtfleet_agent.lease import DeviceBusy, DeviceLock, Leases, Server, hold_device, hold_file
from rtfleet_agent.refusal import Refusal

ANN, BOB = "ann-secret-0123456789", "bob-secret-0123456789"


@pytest.fixture(name="clock")
def _clock() -> Clock:
    return Clock()


@pytest.fixture(name="leases")
def _leases(clock: Clock) -> Leases:
    return Leases(clock, lasts_s=30)


def test_a_free_device_is_leased_to_the_first_that_asks(leases: Leases) -> None:
    assert leases.held() is None
    assert leases.acquire(ANN, "ann@laptop") == 30

    held = leases.held()
    assert held is not None and held.holder == "ann@laptop"
    leases.check(ANN)


def test_a_refusal_names_the_holder_and_the_time_left(leases: Leases, clock: Clock) -> None:
    leases.acquire(ANN, "ann@laptop run-7")
    clock.now_s = 12
    with pytest.raises(Refusal, match=r"leased to ann@laptop run-7; the lease ends in 18 s"):
        leases.acquire(BOB, "bob")
    with pytest.raises(Refusal, match="ann@laptop run-7 holds the device for 18 s more"):
        leases.check(BOB)


def test_the_same_secret_twice_is_the_same_lease(leases: Leases, clock: Clock) -> None:
    leases.acquire(ANN, "ann")
    clock.now_s = 20
    assert leases.acquire(ANN, "ann") == 30
    clock.now_s = 49
    leases.check(ANN)


def test_a_lease_that_is_taken_again_for_less_says_how_long_it_still_lasts(leases: Leases, clock: Clock) -> None:
    assert leases.acquire(ANN, "ann", 7200) == 7200
    clock.now_s = 200
    assert leases.acquire(ANN, "ann", 600) == 7000
    clock.now_s = 7199
    held = leases.held()
    assert held is not None and held.expires_in_s == 1


def test_a_lease_that_is_not_renewed_is_lost(leases: Leases, clock: Clock) -> None:
    leases.acquire(ANN, "ann")
    clock.now_s = 29
    leases.renew(ANN)
    clock.now_s = 58
    held = leases.held()
    assert held is not None and held.expires_in_s == 1
    clock.now_s = 59

    assert leases.held() is None
    leases.acquire(BOB, "bob")
    assert leases.is_lost(ANN)
    clock.now_s = 100
    for call in (leases.renew, leases.check):
        with pytest.raises(Refusal, match="acquire one first"):
            call(ANN)


@pytest.mark.parametrize("call", [Leases.renew, Leases.check])
def test_a_host_that_slept_has_its_lease_again_where_nobody_took_the_device(
    leases: Leases, clock: Clock, call: Callable[[Leases, str], object]
) -> None:
    leases.acquire(ANN, "ann")
    clock.now_s = 1000
    call(leases, ANN)

    held = leases.held()
    assert held is not None and held.expires_in_s == 30
    with pytest.raises(Refusal, match="leased to ann"):
        leases.acquire(BOB, "bob")


@pytest.mark.parametrize("call", [Leases.renew, Leases.check])
def test_a_lease_that_was_ended_by_force_is_not_had_again(
    leases: Leases, call: Callable[[Leases, str], object]
) -> None:
    leases.acquire(ANN, "ann")
    leases.release("", force=True)
    with pytest.raises(Refusal, match="expired or was released"):
        call(leases, ANN)


def test_nor_by_asking_for_it_anew_and_not_of_the_agent_after_this_one(tmp_path: Path) -> None:
    for since in ("this agent", "the next one"):
        leases = Leases(memory=tmp_path / "leases")
        if since == "this agent":
            leases.acquire(ANN, "ann")
            leases.release(BOB, force=True)
        with pytest.raises(Refusal, match="was ended by force") as refused:
            leases.acquire(ANN, "ann")
        assert refused.value.status == "PERMISSION_DENIED"
        leases.acquire(BOB, "bob")
    assert ANN not in (tmp_path / "leases").read_text()


def test_one_that_ran_out_with_its_agent_can_be_ended_too(tmp_path: Path) -> None:
    Leases(memory=tmp_path / "leases").acquire(ANN, "ann")

    leases = Leases(memory=tmp_path / "leases")
    leases.release(BOB, force=True)

    with pytest.raises(Refusal, match="was ended by force"):
        leases.acquire(ANN, "ann")
    for _ in range(2):  # nobody has it now: force ends nothing more
        leases.release(BOB, force=True)
    leases.acquire(BOB, "bob")


def test_a_lease_that_its_own_host_gave_back_can_be_had_again(leases: Leases) -> None:
    for force in (False, True):
        leases.acquire(ANN, "ann")
        leases.release(ANN, force=force)
    leases.acquire(ANN, "ann")


def test_what_was_begun_goes_on_a_minute_longer_than_its_lease_unless_somebody_else_comes(
    leases: Leases, clock: Clock
) -> None:
    leases.acquire(ANN, "ann")
    clock.now_s = 89
    assert not leases.is_lost(ANN)
    clock.now_s = 91
    assert leases.is_lost(ANN)
    leases.check(ANN)
    clock.now_s = 125
    assert not leases.is_lost(ANN)
    leases.acquire(BOB, "bob")
    assert leases.is_lost(ANN) and not leases.is_lost(BOB)
    leases.release(BOB)
    assert leases.is_lost(BOB)


def test_no_secret_at_all_holds_nothing(leases: Leases) -> None:
    for _ in range(2):
        with pytest.raises(Refusal, match="acquire one first"):
            leases.check("")
        leases.release("", force=True)


def test_an_agent_that_is_ending_is_one_that_does_not_answer(leases: Leases, clock: Clock) -> None:
    leases.acquire(ANN, "ann")
    clock.now_s = 31
    assert leases.retire()
    with pytest.raises(Refusal, match="just ending") as refused:
        leases.check(ANN)
    assert refused.value.status == "UNAVAILABLE"


def test_a_released_device_is_free_and_only_its_holder_can_release_it(leases: Leases) -> None:
    leases.acquire(ANN, "ann")
    leases.release(BOB)
    leases.check(ANN)
    leases.release(ANN)
    leases.acquire(BOB, "bob")


def test_a_lease_id_that_can_be_guessed_is_refused(leases: Leases) -> None:
    with pytest.raises(Refusal, match="128 bits"):
        leases.acquire("1", "ann")


def test_refusals_never_show_the_secret(leases: Leases) -> None:
    leases.acquire(ANN, "ann")
    with pytest.raises(Refusal, match=r"^(?!.*" + re.escape(ANN) + ")"):
        leases.acquire(BOB, "bob")


@pytest.mark.parametrize("way", ["this system's", "a file"])
def test_a_device_is_held_once_and_the_second_learns_by_whom(way: str, tmp_path: Path) -> None:
    def hold(identity: str) -> DeviceLock:
        return hold_device(identity) if way == "this system's" else hold_file(tmp_path / identity)

    identity = uuid.uuid4().hex
    lock = hold(identity)
    lock.announce(Server(4711, "127.0.0.1:5000", "2026-01-01T00:00:00+00:00"))
    try:
        with pytest.raises(DeviceBusy, match=r"agent pid 4711 at 127.0.0.1:5000 since 2026-01-01T00.*--as NAME"):
            hold(identity)
        hold(identity + "-emulated").close()
    finally:
        lock.close()
    hold(identity).close()


def test_a_locked_file_tells_nothing_of_the_agent_before_this_one(tmp_path: Path) -> None:
    before = hold_file(tmp_path / "lock")
    before.announce(Server(4711, "127.0.0.1:5000", "2026-01-01T00:00:00+00:00"))
    before.close()

    lock = hold_file(tmp_path / "lock")
    try:
        with pytest.raises(DeviceBusy, match="served by another agent"):
            hold_file(tmp_path / "lock")
    finally:
        lock.close()


def test_a_locked_file_is_for_every_user_and_follows_nobody_s_link(tmp_path: Path) -> None:
    lock = hold_file(tmp_path / "lock")
    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o666
    lock.close()
    (tmp_path / "mine").write_text("dear to me")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="symbolic links"):
        hold_file(tmp_path / "link")
    assert (tmp_path / "mine").read_text() == "dear to me"
