"""Which cores `--cpus big | little | LIST` means on a device. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rtfleet.errors import UsageError
from rtfleet.records import CoreFacts, CoreKind, CoreSpec

# Cores of one kind may differ a little in their highest clock (favoured cores of a desktop chip, by 2 to 5 %);
# the kinds of a big.LITTLE or hybrid chip differ by far more.
ALIKE = 0.9
HIGHEST = 4095


def parse(text: str) -> CoreSpec:
    """`big`, `little`, or `0,2-3`, which is (0, 2, 3). Raises UsageError."""
    if text == "big":
        return "big"
    if text == "little":
        return "little"
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise UsageError(f"--cpus {text}: expected big, little or cores like 0,2-3")
        if int(match[2] or match[1]) > HIGHEST:
            raise UsageError(f"--cpus {text}: there is no core {match[2] or match[1]}")
        found.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return tuple(sorted(found))


def chosen(spec: CoreSpec, cores: Sequence[CoreFacts]) -> tuple[int, ...]:
    """The cores to pin to, in ascending order; () is the scheduler's choice.

    Args:
        spec: "big": the cores of the highest capacity; "little": those of the lowest; else cores by number.
        cores: What the device told; () where it told nothing. Their highest frequency stands in for a capacity that
            the kernel does not tell.

    Raises:
        UsageError: a core that the device lacks, "little" where all cores are alike, or a kind where nothing tells
            the cores apart.
    """
    if isinstance(spec, str):
        return _of_kind(spec, cores)
    wanted = tuple(sorted(set(spec)))
    here = [core.index for core in cores]
    missing = sorted(set(wanted) - set(here)) if here else []
    if missing:
        raise UsageError(f"--cpus: the device has no core {_listed(missing)}", f"it has {_listed(here)}")
    return wanted


def flatters(cpus: Sequence[int], cores: Sequence[CoreFacts]) -> bool | None:
    """Whether pinning to these cores can make a model look faster than a scheduler that may use all of them.

    None where nothing tells the device's cores apart.
    """
    if not cores or not _speeds(cores)[1]:
        return None
    biggest = _of_kind("big", cores)
    return len(biggest) < len(cores) and not set(cpus) <= set(_of_kind("little", cores))


def _of_kind(spec: CoreKind, cores: Sequence[CoreFacts]) -> tuple[int, ...]:
    if not cores:
        raise UsageError(f"--cpus {spec}: the device does not tell its cores", "name them: --cpus 0,2-3")
    speeds, what = _speeds(cores)
    fastest, slowest = max(speeds.values()), min(speeds.values())
    exact = what == "capacity"
    if fastest == slowest or (not exact and slowest >= ALIKE * fastest):
        if spec == "little":
            said = f"all {len(cores)} cores are alike in {what}" if what else "nothing tells the device's cores apart"
            raise UsageError(f"--cpus little: {said}", "leave --cpus out, or name cores: --cpus 0")
        return tuple(sorted(speeds))
    if spec == "big":
        return tuple(sorted(at for at, speed in speeds.items() if speed >= (fastest if exact else ALIKE * fastest)))
    return tuple(sorted(at for at, speed in speeds.items() if speed <= (slowest if exact else slowest / ALIKE)))


def _speeds(cores: Sequence[CoreFacts]) -> tuple[dict[int, int], str]:
    """Core -> how strong it is, and by which figure; "" where there is none for all of them."""
    capacity = {core.index: core.capacity for core in cores if core.capacity is not None}
    if len(capacity) == len(cores):
        return capacity, "capacity"
    frequency = {core.index: core.max_frequency_khz for core in cores if core.max_frequency_khz is not None}
    if len(frequency) == len(cores):
        return frequency, "highest frequency"
    return {core.index: 0 for core in cores}, ""


def _listed(indices: Sequence[int]) -> str:
    return ", ".join(map(str, indices))
