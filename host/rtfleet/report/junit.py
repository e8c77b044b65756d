"""JUnit XML: one testcase a check, named by case and metric, so that CI can follow it from run to run.

classname is the case's id, name the metric; each case has a further one, `measured`: did it give a result at all? Where
there is a baseline, each of its metrics is one more; and so is the run itself, which must have come to its end.

FAIL is a failure. INCONCLUSIVE and ERROR are errors, told apart by their type: a CI that shows them as skipped would
show what was never proven as harmless. UNJUDGED is skipped. Whether a job passes is for the exit code to say.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter

from rtfleet import compare
from rtfleet.judged import Check, Comparison, JudgedCase, JudgedRun, Verdict
from rtfleet.report.sentences import conditions, ending
from rtfleet.report.words import visible

_TAGS: dict[Verdict, str] = {"FAIL": "failure", "INCONCLUSIVE": "error", "ERROR": "error", "UNJUDGED": "skipped"}


def render(judged: JudgedRun) -> str:
    """The document as text."""
    suite = ET.Element("testsuite", name="rtfleet", timestamp=visible(judged.run.started_at))
    properties = ET.SubElement(suite, "properties")
    about = (("run", judged.run.id), ("rtfleet", judged.run.rtfleet_version), *conditions(judged, None))
    for name, value in (*about, ("verdict", judged.verdict), ("ending", ending(judged))):
        ET.SubElement(properties, "property", name=visible(name), value=visible(value))
    ended = _testcase(suite, "rtfleet", "the run came to its end")
    if not judged.run.finished:
        _outcome(ended, "INCONCLUSIVE", "INCONCLUSIVE", "cases that it did not reach are not here", "")
    for case in judged.cases:
        _add_case(suite, case)
    for one in judged.comparisons:
        _add_comparison(suite, one, judged.run.settings.tolerance)
    tags = Counter(outcome.tag for testcase in suite.iter("testcase") for outcome in testcase)
    root = ET.Element("testsuites", name="rtfleet")
    root.append(suite)
    for element in (root, suite):
        element.set("tests", str(len(suite.findall("testcase"))))
        element.set("failures", str(tags["failure"]))
        element.set("errors", str(tags["error"]))
    suite.set("skipped", str(tags["skipped"]))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _add_case(suite: ET.Element, case: JudgedCase) -> None:
    error = case.result.error
    measured = _testcase(suite, case.result.case.id, "measured")
    if case.verdict == "ERROR":
        hint = f"\nhint: {visible(error.hint)}" if error and error.hint else ""
        _outcome(measured, "ERROR", error.kind if error else "ERROR", visible(case.reason), hint)
    elif not case.checks:
        _outcome(measured, "UNJUDGED", "UNJUDGED", visible(case.reason), "")
    seen: Counter[str] = Counter()
    for check in case.checks:
        seen[check.metric] += 1
        again = f" ({seen[check.metric]})" if seen[check.metric] > 1 else ""
        _add_check(suite, case, check, check.metric + again)


def _add_check(suite: ET.Element, case: JudgedCase, check: Check, name: str) -> None:
    testcase = _testcase(suite, case.result.case.id, name)
    if check.verdict != "PASS":
        _outcome(testcase, check.verdict, check.verdict, visible(check.reason), f"\n{_evidence(check)}")
    else:
        ET.SubElement(testcase, "system-out").text = f"{visible(check.reason)}\n{_evidence(check)}"


def _add_comparison(suite: ET.Element, one: Comparison, tolerance: float) -> None:
    """Against the baseline. Slower within the tolerance is no failure, as the exit code says too."""
    testcase = _testcase(suite, one.case_id, f"against the baseline: {one.metric}")
    failed = compare.exit_code((one,), tolerance)
    if failed:
        _outcome(testcase, "FAIL" if failed == 1 else "INCONCLUSIVE", one.verdict, visible(one.reason), "")
    else:
        ET.SubElement(testcase, "system-out").text = f"{one.verdict}: {visible(one.reason)}"


def _testcase(suite: ET.Element, case_id: str, name: str) -> ET.Element:
    return ET.SubElement(suite, "testcase", classname=visible(case_id), name=visible(name))


def _outcome(testcase: ET.Element, verdict: Verdict, type_: str, message: str, more: str) -> None:
    outcome = ET.SubElement(testcase, _TAGS[verdict], message=message)
    if verdict != "UNJUDGED":
        outcome.set("type", visible(type_))
    outcome.text = message + more


def _evidence(check: Check) -> str:
    measured = f"measured {check.value:g}, " if check.value is not None else ""
    said = f"{measured}limit {check.limit:g} ({visible(check.where)})"
    bound = f", bound {check.bound:g}" if check.bound is not None else ""
    return said + bound + (f", {100 * check.confidence:g} % confidence" if check.confidence is not None else "")
