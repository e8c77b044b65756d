"""What stands under the table: verdicts explained, warnings, conditions, the end. Plain text, no layout."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rtfleet import savings
from rtfleet.judged import GRAVEST_FIRST, Advice, JudgedCase, JudgedRun, Verdict
from rtfleet.operators import Operators, OperatorTime
from rtfleet.order import only_compared
from rtfleet.records import DeviceFacts, RuntimeFacts
from rtfleet.report import comparison
from rtfleet.report.alike import alike, in_full
from rtfleet.report.rows import labels
from rtfleet.report.words import plural, scale_of, significant, sparkline, times, visible

ADVICE: dict[Advice, str] = {"MET": "recommended", "OPEN": "undecided", "UNMET": "none fits", "NONE": "no result"}

# Cases that a warning names by themselves; the rest are in run.json.
_NAMED = 3
# Operators that are named of a case; the rest are in run.json.
_LONGEST = 3


@dataclass(frozen=True)
class Explained:
    """Why a verdict is no plain PASS, and what would settle it; once for all cases that it holds for."""

    verdict: Verdict
    cases: tuple[str, ...]
    text: str
    hint: str
    limit: str


@dataclass(frozen=True)
class Warned:
    """A warning. `texts` is what was seen -> the cases that it was seen in."""

    code: str
    texts: tuple[tuple[str, tuple[str, ...]], ...]
    more: int
    hint: str


def explanations(judged: JudgedRun) -> tuple[Explained, ...]:
    """The gravest first."""
    named = labels(judged)
    found: dict[Explained, list[str]] = {}
    for case in judged.cases:
        for explained in _explained(case):
            found.setdefault(explained, []).append(named[case.result.case.id])
    return tuple(
        Explained(one.verdict, tuple(cases), one.text, one.hint, one.limit)
        for one, cases in sorted(found.items(), key=lambda item: GRAVEST_FIRST.index(item[0].verdict))
    )


def _explained(case: JudgedCase) -> Iterable[Explained]:
    if only_compared(case.result.case) and case.verdict == "UNJUDGED":
        return
    open_checks = [check for check in case.checks if check.verdict != "PASS"]
    if case.verdict != "ERROR" and open_checks:
        for check in open_checks:
            text = visible(f"{check.metric}: {check.reason}")
            yield Explained(check.verdict, (), text, "", visible(f"limit {check.limit:g}, {check.where}"))
    elif case.reason or case.verdict != "PASS":
        error = case.result.error
        yield Explained(case.verdict, (), visible(case.reason), visible(error.hint) if error else "", "")


def warnings(judged: JudgedRun) -> tuple[Warned, ...]:
    """One a code, in the order in which they came up."""
    named = labels(judged)
    texts: dict[str, dict[str, list[str]]] = {}
    hints: dict[str, str] = {}
    for case in judged.cases:
        for warning in case.warnings:
            seen = texts.setdefault(warning.code, {})
            seen.setdefault(visible(warning.text), []).append(named[case.result.case.id])
            hints.setdefault(warning.code, visible(warning.hint))
    return tuple(
        Warned(
            visible(code),
            tuple((text, tuple(cases)) for text, cases in list(seen.items())[:_NAMED]),
            max(0, len(seen) - _NAMED),
            hints[code],
        )
        for code, seen in texts.items()
    )


def curves(judged: JudgedRun) -> tuple[tuple[str, str], ...]:
    """Of sustained runs: case -> how its p50 went over the launch."""
    named = labels(judged)
    found = []
    for case in judged.cases:
        summary = case.summary
        if summary is None or summary.retention is None:
            continue
        curve, scale = summary.curve_p50_ns, scale_of(summary.curve_p50_ns)
        went = f"p50 {scale.show(curve[0])} at the beginning, {scale.show(curve[-1])} {scale.unit} at the end"
        worst = f"the worst launch ends at {significant(summary.retention)}x its beginning"
        heat = summary.heated_c
        warmed = f"; from {heat[0]:.0f} to {heat[1]:.0f} °C" if heat else "; no temperature can be read"
        found.append((named[case.result.case.id], f"{sparkline(curve)}  {went}; {worst}{warmed}"))
    return tuple(found)


def operators(judged: JudgedRun) -> tuple[tuple[str, str], ...]:
    """Where the time of profiled cases goes: of those that FAIL, and of all where none does. Case -> text."""
    named = labels(judged)
    profiled = [case for case in judged.cases if case.result.operators and case.result.operators.times]
    failing = [case for case in profiled if case.verdict == "FAIL"]
    return tuple(
        (named[case.result.case.id], _longest(case.result.operators))
        for case in failing or profiled
        if case.result.operators
    )


def _longest(found: Operators) -> str:
    total_ns = found.total_ns or 1
    said = [f"{_operator(one)} {one.total_ns / total_ns:.0%}" for one in found.times[:_LONGEST]]
    share = found.accelerated_share
    on = dict.fromkeys(one.ran_on for one in found.times if one.accelerated)
    placed = f"; {share:.0%} of the time on {', '.join(on)}" if on and share is not None and share < 1 else ""
    return visible(", ".join(said) + placed)


def _operator(one: OperatorTime) -> str:
    """What is no operator ("less than 1 µs each") has no kind, and no call of its own."""
    if not one.op_type:
        return f"{one.name}:"
    kind = "" if one.op_type in one.name else f" ({one.op_type})"
    return f"{one.name}{kind}, {plural(one.calls, 'call')} of {significant(one.total_ns / one.calls / 1e3)} µs:"


def _placements(judged: JudgedRun) -> str:
    """How many nodes went where, of the runtimes that tell; once for all cases that it holds for."""
    named = labels(judged)
    cases: dict[str, list[str]] = {}
    for case in judged.cases:
        placements = [launch.placement for launch in case.result.launches if launch.placement]
        if placements and placements[0].nodes:
            cases.setdefault(placements[0].words, []).append(named[case.result.case.id])
    return "; ".join(f"{words} ({', '.join(whose)})" for words, whose in cases.items())


@dataclass(frozen=True)
class Advised:
    """What a device should run of a model, in one sentence."""

    advice: Advice
    whose: str
    text: str


def recommendations(judged: JudgedRun) -> tuple[Advised, ...]:
    """One for each model on each device; where it was measured in two scenarios, for each of them.

    Of many devices alike that should all run the same variant, the slowest speaks for all.
    """
    named = [(one.model, one.device) for one in judged.recommendations]
    many, shown = alike(judged), in_full(judged)
    found = []
    for one in judged.recommendations:
        together = many.get(one.case_id or "")
        agree = [
            other
            for other in judged.recommendations
            if together is not None
            and many.get(other.case_id or "") is together
            and (other.advice, other.model, other.scenario) == (one.advice, one.model, one.scenario)
        ]
        if together is not None and len(agree) == together.devices:
            if one.case_id in shown:
                whose = f"{one.model} on {together.devices} devices of {together.profile}"
                found.append(Advised(one.advice, visible(whose), visible(f"{one.reason} ({one.device})")))
            continue
        scenario = f", {one.scenario}" if named.count((one.model, one.device)) > 1 else ""
        found.append(Advised(one.advice, visible(f"{one.model} on {one.device}{scenario}"), visible(one.reason)))
    return tuple(found)


def conditions(judged: JudgedRun, folder: Path | None) -> tuple[tuple[str, str], ...]:
    """Under which the numbers hold: name -> text."""
    run = judged.run
    found = [(facts.alias, _device(facts, _runtimes(judged, facts.alias))) for facts in run.devices]
    settings = f"{_launches(judged)} a case, {100 * run.settings.confidence:g} % confidence"
    found.append(("measured", settings + _trust(judged)))
    if any(case.result.case.scenario == "paced" for case in judged.cases):
        found.append(("response", "a frame's lateness + its latency; what a paced stream is judged by"))
    if judged.comparisons:
        trusted = comparison.trust(judged.comparisons, run.settings.confidence, run.settings.tolerance)
        found.append(("compared", f"{trusted}; launches {comparison.launches(judged.comparisons)}"))
    if placed := _placements(judged):
        found.append(("placed", placed))
    found += [("PyTorch", text) for text in _gains(judged)]
    limits = dict.fromkeys(
        f"{check.metric} {check.limit:g} ({check.where})" for case in judged.cases for check in case.checks
    )
    if limits:
        found.append(("limits", "; ".join(limits)))
    if folder:
        found.append(("kept in", str(folder)))
    return tuple((visible(name), visible(text)) for name, text in found)


def _gains(judged: JudgedRun) -> Iterable[str]:
    """What each model gains over plain PyTorch, the fastest variant first."""
    gained = savings.gains(judged)
    named = labels(judged)
    models = dict.fromkeys(case.result.case.model for case in judged.cases)
    for model in models:
        of_model = [one.result.case.id for one in judged.cases if one.result.case.model == model]
        fastest = sorted((case for case in of_model if case in gained), key=lambda case: -gained[case])
        if fastest:
            told = ", ".join(
                f"{named[case].removeprefix(f'{visible(model)}/')} {times(gained[case])}" for case in fastest
            )
            yield f"{model}: {told} as fast as {savings.PYTORCH}, by latency p50"


def _launches(judged: JudgedRun) -> str:
    """As asked; with what a resumed run has more, or what is missing."""
    asked = judged.run.settings.launches
    counts = {case.summary.launches for case in judged.cases if case.summary}
    if counts <= {asked}:
        return plural(asked, "launch")
    most = plural(max(counts), "launch")
    return f"{min(counts)} to {most} ({asked} asked for)" if len(counts) > 1 else f"{most} ({asked} asked for)"


def _device(facts: DeviceFacts, runtimes: Iterable[RuntimeFacts]) -> str:
    said = [facts.model, f"{facts.os} {facts.os_version}", facts.soc, facts.arch, plural(facts.cores, "core")]
    said += [f"profile {facts.profile}"] if facts.profile else []
    said += [f"{runtime.name} {runtime.version} ({runtime.library_sha256[:8]})" for runtime in runtimes]
    return ", ".join(part for part in said if part.strip())


def _runtimes(judged: JudgedRun, device: str) -> Iterable[RuntimeFacts]:
    """Those that were used, as each launch told."""
    launches = [launch for one in judged.cases if one.result.case.device == device for launch in one.result.launches]
    used = [launch.runtime for launch in launches if launch.runtime]
    return {(runtime.name, runtime.version, runtime.library_sha256): runtime for runtime in used}.values()


def _trust(judged: JudgedRun) -> str:
    """What a PASS takes for granted."""
    passed = [check for case in judged.cases for check in case.checks if check.verdict == "PASS"]
    clusters = dict.fromkeys(
        f"{check.assumed_cluster:.1f} ({'seen' if check.cluster_measured else 'assumed'})"
        for check in passed
        if check.assumed_cluster is not None
    )
    said = f"; late frames in clusters of {', '.join(clusters)}" if clusters else ""
    promised = dict.fromkeys(
        f"{100 * one.launch_confidence:.3g} %" for one in passed if one.launch_confidence is not None
    )
    return said + (f"; a further launch holds with {', '.join(promised)}" if promised else "")


def ending(judged: JudgedRun) -> str:
    """The run's verdict in one line."""
    verdicts = [case.verdict for case in judged.cases]
    counted = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in GRAVEST_FIRST if verdict in verdicts)
    compared = f"; against the baseline {comparison.counted(judged.comparisons)}" if judged.comparisons else ""
    said = f"{counted or 'nothing was measured'}{compared}; exit code {judged.exit_code}"
    if judged.run.interrupted:
        return f"{said}; interrupted, what was measured is kept"
    return said if judged.run.finished else f"{said}; the run did not come to its end, what was measured is kept"
