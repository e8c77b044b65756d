"""Which variant a device should run: of those that meet every budget, the one at the least cost. Pure.

Cost is the response's p99, then the size. Variants that the launches can't tell from the fastest one are as fast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rtfleet import statistics
from rtfleet.judged import Advice, Check, JudgedCase, Recommendation, Verdict
from rtfleet.metrics import METRICS
from rtfleet.order import only_compared

# Two launches of one case differ by more than this on most machines.
AS_FAST = 1.05
# Units that stand at the end of a metric's name.
_UNITS = {"ms": "ms", "mb": "MB", "db": "dB"}


def recommend(cases: Sequence[JudgedCase]) -> tuple[Recommendation, ...]:
    """One for each model on each device in each scenario, where anything was judged."""
    groups: dict[tuple[str, str, str], list[JudgedCase]] = {}
    for case in cases:
        identity = case.result.case
        if not only_compared(identity):
            groups.setdefault((identity.model, identity.device, identity.scenario), []).append(case)
    return tuple(found for group in groups.values() if (found := _of_group(group)))


def _of_group(cases: Sequence[JudgedCase]) -> Recommendation | None:
    by_verdict: dict[Verdict, list[JudgedCase]] = {}
    for case in cases:
        by_verdict.setdefault(case.verdict, []).append(case)
    if passed := by_verdict.get("PASS"):
        best, remark = _cheapest(passed)
        return _made(
            cases, "MET", best, f"{_named(best)} meets every budget at the least cost: {_numbers(best)}{remark}"
        )
    if still_open := by_verdict.get("INCONCLUSIVE"):
        best, _ = _cheapest(still_open)
        text = f"nothing is proven to meet every budget; {_named(best)} would if {_open(best)}: {_numbers(best)}"
        return _made(cases, "OPEN", best, text)
    if "UNJUDGED" in by_verdict:
        return None  # what owes no budget can't be chosen by budgets
    if failed := by_verdict.get("FAIL"):
        return _unmet(cases, failed)
    return _made(cases, "NONE", None, f"no variant gave a result; {_named(cases[0])}: {cases[0].reason}")


def _made(
    cases: Sequence[JudgedCase], advice: Advice, named: JudgedCase | None, reason: str, unmet: tuple[str, ...] = ()
) -> Recommendation:
    of = cases[0].result.case
    case_id = named.result.case.id if named else None
    return Recommendation(of.model, of.device, of.scenario, advice, case_id, unmet, reason)


# ---- the least cost ------------------------------------------------------------------------------------------------


def _cheapest(cases: Sequence[JudgedCase]) -> tuple[JudgedCase, str]:
    """The one to choose, and why it is not the fastest; "" where it is."""
    fastest = min(cases, key=_p99_ns)
    best = min((case for case in cases if _as_fast(case, fastest)), key=lambda case: (_size_bytes(case), _p99_ns(case)))
    return best, "" if best is fastest else f"; as fast as {_named(fastest)} within the launches' spread, and smaller"


def _as_fast(case: JudgedCase, fastest: JudgedCase) -> bool:
    """Whether its best launch is no slower than the worst of the fastest's, by p99 and by p50 (which is less noisy)."""
    if case is fastest:
        return True
    mine, its = _of_launches(case), _of_launches(fastest)
    return bool(mine.size and its.size and np.all(mine.min(axis=0) <= AS_FAST * its.max(axis=0)))


def _of_launches(case: JudgedCase) -> npt.NDArray[np.float64]:
    """p50 and p99 of each launch's responses: [launches, 2], in ns."""
    launches = statistics.good_launches(case.result)
    return np.array([np.percentile(launch.response_ns, (50, 99)) for launch in launches])


def _p99_ns(case: JudgedCase) -> float:
    return case.summary.response.p99_ns if case.summary else math.inf


def _size_bytes(case: JudgedCase) -> float:
    return case.result.artifact.size_bytes if case.result.artifact else math.inf


# ---- what came closest ---------------------------------------------------------------------------------------------


def _unmet(cases: Sequence[JudgedCase], failed: Sequence[JudgedCase]) -> Recommendation:
    """The budget that nothing meets, the hardest first, and the case that came closest to it.

    Where each budget is met by some case, it is the case that fails the fewest, and by the least.
    """
    failures = [{check.metric: check for check in _failing(case)} for case in failed]
    never = [metric for metric in failures[0] if all(metric in of_case for of_case in failures)]
    if not never:
        best = min(failed, key=lambda case: (len(_failing(case)), max(map(_over, _failing(case)), default=math.inf)))
        short = "; ".join(map(_missed, _failing(best)))
        return _made(cases, "UNMET", best, f"no variant meets every budget; {_named(best)} came closest: {short}")
    closest = [min((_over(of[metric]), at) for at, of in enumerate(failures)) for metric in never]
    ordered = sorted(zip(closest, never, strict=True), reverse=True)
    said = [f"{_named(failed[at])} came closest: {_missed(failures[at][metric])}" for (_, at), metric in ordered]
    unmet = tuple(metric for _, metric in ordered)
    text = f"nothing meets {' and '.join(unmet)}; {'; '.join(said)}"
    return _made(cases, "UNMET", failed[ordered[0][0][1]], text, unmet)


def _failing(case: JudgedCase) -> list[Check]:
    return [check for check in case.checks if check.verdict == "FAIL"]


def _over(check: Check) -> float:
    """How far beyond its limit a check is: 1 is at the limit, more is worse."""
    if check.value is None:
        return math.inf
    wanted, found = (check.value, check.limit) if _is_floor(check) else (check.limit, check.value)
    return found / wanted if wanted > 0 else math.inf


def _is_floor(check: Check) -> bool:
    return check.metric in METRICS and METRICS[check.metric].floor


# ---- words ---------------------------------------------------------------------------------------------------------


def _named(case: JudgedCase) -> str:
    """The variant, with what else tells the case from the model's others on this device."""
    identity = case.result.case
    return identity.id.removeprefix(f"{identity.model}/").replace(f"@{identity.device}/{identity.scenario}", "")


def _open(case: JudgedCase) -> str:
    """What must hold yet, so that a case that is INCONCLUSIVE passes; why it is open stands with the case itself."""
    metrics = dict.fromkeys(check.metric for check in case.checks if check.verdict == "INCONCLUSIVE")
    return f"{' and '.join(metrics)} held" if metrics else f"further launches held, {case.reason}"


def _numbers(case: JudgedCase) -> str:
    """Response, size and parity, the limits beside them."""
    limits = {check.metric: check.limit for check in case.checks}

    def of_limit(metric: str) -> str:
        return f" of {limits[metric]:g} allowed" if metric in limits else ""

    said = []
    if case.summary:
        p99_ms = case.summary.response.p99_ns / 1e6
        said.append(f"response p99 {p99_ms:.3g} ms{of_limit('response_p99_ms')}")
    if case.result.artifact:
        said.append(f"{case.result.artifact.size_bytes / 1e6:.3g} MB{of_limit('size_mb')}")
    parity = case.result.parity_device
    if parity and parity.snr_db is not None:
        said.append(f"parity {parity.snr_db:.0f} dB")
    elif parity and parity.max_abs_error == 0:
        said.append("parity exact")
    return ", ".join(said)


def _missed(check: Check) -> str:
    """`response_p99_ms 61.3 ms of 50 allowed`; a floor `parity_snr_db 12.1 dB of 15 owed`."""
    unit = _UNITS.get(check.metric.rpartition("_")[2], "")
    value = "has no value" if check.value is None else f"{check.value:.3g} {unit}".strip()
    return f"{check.metric} {value} of {check.limit:g} {'owed' if _is_floor(check) else 'allowed'}"
