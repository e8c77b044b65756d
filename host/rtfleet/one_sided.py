"""What hit one side of a comparison more than the other. Pure.

Launches measured in turns share what disturbs the machine, and the permutation test allows for the rest. Launches of
two runs, one after the other, do not: what only one run had may be why they differ.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from rtfleet import disturbances, statistics
from rtfleet.likeness import Pair
from rtfleet.records import CaseResult, DeviceFacts, Launch

# A disturbance belongs to one side when it hit so much more of that side's launches than of the other's.
ONE_SIDED_SHARE = 0.5
# Launches in turns change sides at every second one; a resumed run or two that overlap change far less often.
LEAST_CHANGES_A_LAUNCH = 0.25


@dataclass(frozen=True)
class Hit:
    """A disturbance, and how many launches of each side it hit.

    Attributes:
        effect: "slows" or "flatters".
        text: The cause and the launches, in words.
        excess: Share of the candidate's launches hit, less the baseline's.
    """

    effect: str
    text: str
    excess: float

    def may_be_why(self, slower: bool) -> bool:
        """It hit mostly the side that it could make look as it does: slower (or faster) than the other."""
        towards = self.excess if (self.effect == "slows") == slower else -self.excess
        return towards >= ONE_SIDED_SHARE


def interleaved(pair: Pair) -> bool:
    """The launches of both sides were measured in turns (ABBA), not one run after the other."""
    sides = [statistics.good_launches(result) for result in (pair.baseline, pair.candidate)]
    boots = {launch.boot_id for side in sides for launch in side}
    started = [(_started(one, len(boots) == 1), side) for side in (0, 1) for one in sides[side]]
    order = [side for _, side in sorted(started)]
    changes = sum(first != second for first, second in itertools.pairwise(order))
    return changes >= max(2, LEAST_CHANGES_A_LAUNCH * len(order))


def _started(launch: Launch, one_boot: bool) -> tuple[int, str]:
    """By the device's own clock where it ran through, else by the host's."""
    return (launch.started_mono_ns if one_boot else 0, launch.started_at)


def hits(pair: Pair) -> tuple[Hit, ...]:
    """All disturbances of either side. The probe's usual time is that of both together: a slow side shows."""
    sides = [statistics.good_launches(result) for result in (pair.baseline, pair.candidate)]
    if not all(sides):
        return ()
    usual_ns = disturbances.usual_probe([launch for side in sides for launch in side])
    before = _by_code(pair.baseline, pair.baseline_device, sides[0], pair, usual_ns)
    after = _by_code(pair.candidate, pair.candidate_device, sides[1], pair, usual_ns)
    return tuple(
        _hit(before.get(code, []), after.get(code, []), len(sides[0]), len(sides[1])) for code in before | after
    )


def _by_code(
    result: CaseResult, device: DeviceFacts | None, launches: Sequence[Launch], pair: Pair, usual_ns: float | None
) -> dict[str, list[disturbances.Disturbance]]:
    found: dict[str, list[disturbances.Disturbance]] = {}
    for launch in launches:
        for one in disturbances.of_launch(launch, result.case, device, pair.settings, usual_ns):
            found.setdefault(one.code, []).append(one)
    return found


def _hit(
    before: Sequence[disturbances.Disturbance],
    after: Sequence[disturbances.Disturbance],
    baselines: int,
    candidates: int,
) -> Hit:
    first = [*before, *after][0]
    where = f"{len(before)} of {baselines} launches of the baseline, {len(after)} of {candidates} of the candidate"
    return Hit(first.effect, f"{first.text} ({where})", len(after) / candidates - len(before) / baselines)
