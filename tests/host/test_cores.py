"""Which cores --cpus means."""

from __future__ import annotations

from pathlib import Path

import pytest
from invented import device

from rtfleet.cores import chosen, parse
from rtfleet.errors import UsageError
from rtfleet.fleet import LOCAL
from rtfleet.plan import cases_of
from rtfleet.records import CoreFacts, CoreSpec
from rtfleet.suite import ModelEntry, Settings

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
        (parse("0,2-3"), PIXEL, (0, 2, 3)),
        (parse("little"), PIXEL, (0, 1, 2, 3)),
        ((3, 1), PI, (1, 3)),
        ((), PI, ()),
        ((5, 6), (), (5, 6)),
    ],
)
def test_cores_by_kind_or_number(spec: CoreSpec, cores: tuple[CoreFacts, ...], wanted: tuple[int, ...]) -> None:
    assert chosen(spec, cores) == wanted


@pytest.mark.parametrize(
    ("spec", "cores", "said"),
    [
        ("little", PI, "--cpus little: all 4 cores are alike in highest frequency"),
        ("little", PIXEL[:4], "--cpus little: all 4 cores are alike in capacity"),
        ("little", VIRTUAL, "--cpus little: nothing tells the device's cores apart"),
        ("big", (), "--cpus big: the device does not tell its cores"),
        ((2, 7, 8, 9), PI, "--cpus: the device has no core 7, 8, 9"),
    ],
)
def test_what_cannot_be_chosen_says_why(spec: CoreSpec, cores: tuple[CoreFacts, ...], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        chosen(spec, cores)

    assert refused.value.text.startswith(said)


def test_a_case_of_a_kind_of_cores_is_known_by_the_kind() -> None:
    """On a device that was not reached too, whose cores nobody knows."""
    entry, settings = ModelEntry("luna", "luna.onnx", Path()), Settings(cpus="little")
    here = device(cores_info=PIXEL)

    (reached,) = cases_of(entry, settings, "onnx-shipped", None, LOCAL, here)
    (lost,) = cases_of(entry, settings, "onnx-shipped", None, LOCAL)

    assert reached.options.cpus == (0, 1, 2, 3) and lost.options.cpus == ()
    assert reached.id == lost.id == "luna/onnx-shipped@local/burst+little"
