"""Where the time of a case goes: its operators, from a launch of its own, since profiling slows what it looks at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OperatorTime:
    """One operator, summed over its calls.

    Attributes:
        ran_on: What ran it, in the runtime's own words.
        accelerated: That is what `Placement.accelerated_share` counts; None where it is not known.
    """

    name: str
    op_type: str
    calls: int
    total_ns: int
    ran_on: str = ""
    accelerated: bool | None = None


@dataclass(frozen=True)
class Operators:
    """Those of one case. None of their times is a latency.

    Attributes:
        times: The longest first.
        failed: Why there are none; "" where there are.
    """

    times: tuple[OperatorTime, ...] = ()
    failed: str = ""

    @property
    def total_ns(self) -> int:
        """Of all of them."""
        return sum(one.total_ns for one in self.times)

    @property
    def accelerated_share(self) -> float | None:
        """Of the time of those of which it is known; None where that is less than half of all time."""
        known = [one for one in self.times if one.accelerated is not None]
        known_ns = sum(one.total_ns for one in known)
        accelerated_ns = sum(one.total_ns for one in known if one.accelerated)
        return accelerated_ns / known_ns if known_ns and 2 * known_ns >= self.total_ns else None
