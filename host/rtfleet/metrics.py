"""What a budget can limit: the names that profiles, suites and `--budget` may write."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rtfleet.errors import UsageError

# percentile: a claim about the share of frames over a limit. share: the limit is that share itself.
# worst: the worst launch counts. exact: no statistics. clip: the slowest clip's median counts.
Judging: TypeAlias = Literal["percentile", "share", "worst", "exact", "clip"]


@dataclass(frozen=True)
class Metric:
    """A metric.

    Attributes:
        name: As in `Budget.metric`: with its unit, without `_min`.
        of: What is held against the limit: "response", "latency", "rtf", "load", ...
        percent: The percentile; None where there is none.
        floor: The limit is the least value, written with `_min` in files.
    """

    name: str
    of: str
    judging: Judging
    percent: float | None = None
    floor: bool = False

    @property
    def share_over(self) -> float | None:
        """The share of frames that may be over the limit, of a percentile."""
        return None if self.percent is None else round(1 - self.percent / 100, 9)


_PERCENTS = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p999": 99.9}


def _all() -> tuple[Metric, ...]:
    return (
        *(Metric(f"response_{p}_ms", "response", "percentile", percent) for p, percent in _PERCENTS.items()),
        *(Metric(f"latency_{p}_ms", "latency", "percentile", percent) for p, percent in _PERCENTS.items()),
        *(Metric(f"rtf_{p}", "rtf", "percentile", percent) for p, percent in _PERCENTS.items()),
        Metric("deadline_misses", "deadline", "share"),
        Metric("load_ms", "load", "worst"),
        Metric("first_inference_ms", "first_inference", "worst"),
        Metric("peak_memory_mb", "memory", "worst"),
        Metric("retention", "retention", "worst"),
        Metric("size_mb", "size", "exact"),
        Metric("parity_snr_db", "parity_snr", "exact", floor=True),
        Metric("parity_agreement", "parity_agreement", "exact", floor=True),
        Metric("accelerated_share", "accelerated_share", "exact", floor=True),
        Metric("word_error_rate", "word_error_rate", "exact"),
        Metric("end_of_speech_ms", "end_of_speech", "clip"),
        Metric("first_token_ms", "first_token", "clip"),
    )


METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _all()}


def find(name: str) -> Metric:
    """The metric of that name (without `_min`)."""
    try:
        return METRICS[name]
    except KeyError:
        raise UsageError(
            f"unknown budget {name!r}",
            hint="known: " + ", ".join(metric.name + "_min" * metric.floor for metric in METRICS.values()),
        ) from None


def read_key(key: str) -> tuple[str, bool]:
    """A key as files write it -> (`Budget.metric`, `Budget.floor`): "parity_agreement_min" is a floor."""
    name = key.removesuffix("_min")
    metric, floor = find(name), name != key
    if floor and not metric.floor:
        raise UsageError(f"{key} is no floor: less of {name} is better", hint=f"write {name}")
    if not floor and metric.floor:
        raise UsageError(f"{key} is no ceiling: more of {name} is better", hint=f"write {name}_min")
    return name, floor


def check_limit(key: str, limit: float) -> tuple[str, bool]:
    """As `read_key`, and can the metric have such a value at all? Raises UsageError."""
    name, floor = read_key(key)
    shares = ("parity_agreement", "accelerated_share", "deadline_misses")
    if not 0 <= limit < math.inf or (name in shares and limit > 1):
        raise UsageError(f"{key}: expected {'a share of 0 to 1' if name in shares else '0 or more'}, found {limit:g}")
    return name, floor
