"""Who may use the device."""

from __future__ import annotations

import re
import uuid

import pytest
from agents import Clock

from rtfleet_agent.lease import DeviceBusy, Leases, Server, hold_device
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


def test_a_lease_that_is_not_renewed_is_lost(leases: Leases, clock: Clock) -> None:
    leases.acquire(ANN, "ann")
    clock.now_s = 29
    leases.renew(ANN)
    clock.now_s = 58
    assert leases.remaining_s(ANN) == 1
    clock.now_s = 59

    assert leases.held() is None
    with pytest.raises(Refusal, match="acquire one first"):
        leases.renew(ANN)
    leases.acquire(BOB, "bob")
    assert leases.remaining_s(ANN) == 0


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


def test_a_device_is_held_once_and_the_second_learns_by_whom() -> None:
    identity = uuid.uuid4().hex
    lock = hold_device(identity)
    lock.announce(Server(4711, "127.0.0.1:5000", "2026-01-01T00:00:00+00:00"))
    try:
        with pytest.raises(DeviceBusy, match=r"agent pid 4711 at 127.0.0.1:5000 since 2026-01-01T00.*--as NAME"):
            hold_device(identity)
        hold_device(identity + "-emulated").close()
    finally:
        lock.close()
    hold_device(identity).close()
