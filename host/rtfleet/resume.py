"""Going on with a stored run: the same order again, and the evidence that it has so far.

Launches are added to the same evidence; measuring anew until it passes would not be the same thing. Conditions are
never mixed in silence: another device, runtime build, artifact or feeds is refused, naming both values.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rtfleet import budget, run_file, statistics
from rtfleet import order as orders
from rtfleet.artifact import Artifact
from rtfleet.errors import UsageError
from rtfleet.judged import JudgedCase
from rtfleet.order import Evidence, Order
from rtfleet.records import Case, CaseResult, DeviceFacts, Run


def order_of(folder: Path, launches: int | None) -> Order:
    """The order of the run in `folder`, with its evidence.

    Args:
        launches: Good launches that each case is to have in the end. None: what is missing is measured, and a case that
            has them all and is INCONCLUSIVE in more than its parity gets as many again.

    Raises:
        UsageError: no run, or one of a rtfleet that did not keep its order.
    """
    order, run = orders.of_json(run_file.order(folder)), run_file.read(folder)
    judged = budget.judge(run)
    return replace(
        order,
        evidence=Evidence(
            results={result.case.id: result for result in run.results},
            launches={case.result.case.id: launches or _wanted(case, run) for case in judged.cases},
            unfinished=run_file.unfinished(folder),
            devices={facts.alias: facts for facts in run.devices},
        ),
    )


def _wanted(case: JudgedCase, run: Run) -> int:
    good = len(statistics.good_launches(case.result))
    # Parity takes one launch of its own, and no more of latency.
    unsettled = [check.metric for check in case.checks if check.verdict == "INCONCLUSIVE"]
    of_parity = bool(unsettled) and all(metric.startswith("parity") for metric in unsettled)
    if case.verdict == "INCONCLUSIVE" and good >= run.settings.launches and not of_parity:
        return good + run.settings.launches
    return max(good, run.settings.launches)


def check_device(evidence: Evidence, facts: DeviceFacts) -> None:
    """Raises UsageError where the device is not the one that the run has launches of, or has another runtime build."""
    earlier = evidence.devices.get(facts.alias)
    measured = [result for result in evidence.results.values() if result.case.device == facts.alias and result.launches]
    if earlier is None or not measured:
        return
    _same(f"device '{facts.alias}'", "identity", earlier.identity, facts.identity)
    now = {runtime.name: runtime for runtime in facts.runtimes}
    for then in (launch.runtime for result in measured for launch in result.launches):
        if then is not None and (found := now.get(then.name)) is not None:
            what = f"device '{facts.alias}', {then.name}"
            _same(what, "version", then.version, found.version)
            _same(what, "library_sha256", then.library_sha256, found.library_sha256)


def check_case(evidence: Evidence, case: Case, artifact: Artifact) -> None:
    """Raises UsageError where the case has launches of another file or of other feeds."""
    held: CaseResult | None = evidence.results.get(case.id)
    if held is None or held.artifact is None or not held.launches:
        return
    _same(case.id, "artifact", held.artifact.id, artifact.id)
    _same(case.id, "feeds", held.artifact.feeds.sha256, artifact.feeds.sha256)


def _same(what: str, field: str, then: str, now: str) -> None:
    if then != now:
        raise UsageError(
            f"{what}: {field} was {then} when the run began and is {now} now",
            "launches under unlike conditions are no one evidence: start a new run, or bring the old state back",
        )
