"""Which cores --cpus means."""

from __future__ import annotations

import pytest

from rtfleet.cores import chosen
from rtfleet.errors import UsageError
from rtfleet.records import CoreFacts

PIXEL = tuple(CoreFacts(at, capacity) for at, capacity in enumerate([160] * 4 + [498] * 4 + [1024]))
PI = tuple(CoreFacts(at, None, 2_400_000) for at in range(4))
HYBRID = tuple(CoreFacts(at, None, khz) for at, khz in enumerate([5_100_000, 5_000_000, 3_800_000, 3_800_000]))
VIRTUAL = tuple(CoreFacts(at) for at in range(2))


@pytest.mark.parametrize(
    ("spec", "cores", "wanted"),
    [
        ("big", PIXEL, (8,)),
        ("little", PIXEL, (0, 1, 2, 3)),
        ("big", HYBRID, (0, 1)),
        ("little", HYBRID, (2, 3)),
        ("big", PI, (0, 1, 2, 3)),
        ("big", VIRTUAL, (0, 1)),
        ("0,2-3", PIXEL, (0, 2, 3)),
        ((3, 1), PI, (1, 3)),
        ((), PI, ()),
        ((5, 6), (), (5, 6)),
    ],
)
def test_cores_by_kind_or_number(
    spec: str | tuple[int, ...], cores: tuple[CoreFacts, ...], wanted: tuple[int, ...]
) -> None:
    assert chosen(spec, cores) == wanted


@pytest.mark.parametrize(
    ("spec", "cores", "said"),
    [
        ("little", PI, "--cpus little: all 4 cores are alike in highest frequency"),
        ("little", PIXEL[:4], "--cpus little: all 4 cores are alike in capacity"),
        ("little", VIRTUAL, "--cpus little: nothing tells the device's cores apart"),
        ("big", (), "--cpus big: the device does not tell its cores"),
        ("2,7-9", PI, "--cpus: the device has no core 7, 8, 9"),
        ("large", PI, "--cpus large: expected big, little or cores like 0,2-3"),
        ("3-1", PI, "--cpus 3-1: expected big"),
    ],
)
def test_what_cannot_be_chosen_says_why(spec: str, cores: tuple[CoreFacts, ...], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        chosen(spec, cores)

    assert refused.value.text.startswith(said)
