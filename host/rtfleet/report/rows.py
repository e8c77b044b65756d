"""The table of a run as text cells: one row a case, grouped by what the rows have in common. No layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rtfleet.artifact import Artifact
from rtfleet.fidelity import ParityResult
from rtfleet.judged import JudgedCase, JudgedRun, Verdict
from rtfleet.records import Case
from rtfleet.report.alike import Alike, alike
from rtfleet.report.words import Scale, scale_of, significant, times, visible
from rtfleet.savings import Saving, savings

NONE = "-"


@dataclass(frozen=True)
class Row:
    """The cells of one case; `-` where it has no such figure."""

    variant: str
    p50: str
    p90: str
    p99: str
    rtf: str
    pacing: str
    size: str
    size_ratio: str
    speed_ratio: str
    parity: str
    agreement: str
    verdict: Verdict
    said: str = ""

    @property
    def verdict_text(self) -> str:
        """What stands under "verdict": of many devices, how many passed."""
        return self.said or self.verdict


@dataclass(frozen=True)
class Group:
    """Cases of one model on one device in one scenario.

    Attributes:
        shows: Which times the rows show: responses of a paced stream, else latencies.
        notes: What a reader must know of every number in it.
    """

    model: str
    device: str
    shows: str
    notes: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Rows:
    """The whole table; all its times are in one unit."""

    unit: str
    groups: tuple[Group, ...]


def rows_of(judged: JudgedRun) -> Rows:
    """The cases in the order in which they were planned, those of a group together."""
    scale = scale_of(case.summary.response.p99_ns for case in judged.cases if case.summary)
    saved = savings(judged)
    many = alike(judged)
    groups: dict[tuple[str, str, str], list[tuple[JudgedCase, Alike | None]]] = {}
    told: set[int] = set()
    for case in judged.cases:
        identity = case.result.case
        together = many.get(identity.id)
        if together is not None and id(together) not in told:
            told.add(id(together))
            where = f"{together.devices} devices of {together.profile}, the slowest's numbers"
            groups.setdefault((identity.model, where, identity.scenario), []).append((together.worst, together))
        if together is None or case.verdict != "PASS":
            groups.setdefault((identity.model, identity.device, identity.scenario), []).append((case, None))
    return Rows(scale.unit, tuple(_group(where, cases, scale, saved) for (_, where, _), cases in groups.items()))


def labels(judged: JudgedRun) -> Mapping[str, str]:
    """Case id -> the shortest name that tells it from the run's other cases."""
    cases = [case.result.case for case in judged.cases]
    ids = [case.id for case in cases]
    on_device = [f"{case.model}/{case.variant}@{case.device}" for case in cases]
    short = [f"{case.model}/{case.variant}" for case in cases]
    with_options = [f"{case.model}/{case.variant}{_options(case)}" for case in cases]
    for names in (short, with_options, on_device):
        if len(set(names)) == len(set(ids)):
            return dict(zip(ids, map(visible, names), strict=True))
    return {name: visible(name) for name in ids}


def _group(
    where: str, members: list[tuple[JudgedCase, Alike | None]], scale: Scale, saved: Mapping[str, Saving]
) -> Group:
    cases = [case for case, _ in members]
    identity = cases[0].result.case
    artifacts = [case.result.artifact for case in cases if case.result.artifact]
    notes = [artifact.part_of for artifact in artifacts if artifact.part_of]
    notes += ["synthetic input" for artifact in artifacts if artifact.synthetic]
    notes += [_chunk(artifact) for artifact in artifacts if artifact.lookahead_ms]
    notes += [artifact.note for artifact in artifacts if artifact.note]
    return Group(
        model=visible(identity.model),
        device=visible(where),
        shows=_shows(cases),
        notes=tuple(map(visible, dict.fromkeys(notes))),
        rows=tuple(_row(case, together, scale, saved.get(case.result.case.id)) for case, together in members),
    )


def _chunk(artifact: Artifact) -> str:
    """What a streaming model waits for before it can answer, whatever its speed."""
    chunk_ms = (artifact.hop_ns or 0) / 1e6
    return f"chunks of {chunk_ms:g} ms and {artifact.lookahead_ms:g} ms of lookahead: they come on top of the response"


def _shows(cases: list[JudgedCase]) -> str:
    if any(case.result.artifact and case.result.artifact.utterances for case in cases):
        return "whole clips: from the end of the slowest clip to its text"
    if cases[0].result.case.scenario == "burst":
        return "burst: latency back to back"
    hops_ns = [case.result.artifact.hop_ns for case in cases if case.result.artifact]
    return f"paced: response to a frame every {hops_ns[0] / 1e6:g} ms" if hops_ns and hops_ns[0] else "paced: response"


def _row(case: JudgedCase, together: Alike | None, scale: Scale, saving: Saving | None) -> Row:
    identity, artifact, summary = case.result.case, case.result.artifact, case.summary
    parity = case.result.parity_device
    return Row(
        variant=visible(identity.variant + _options(identity)),
        p50=scale.show(summary.response.p50_ns) if summary else NONE,
        p90=scale.show(summary.response.p90_ns) if summary else NONE,
        p99=scale.show(summary.response.p99_ns) if summary else NONE,
        rtf=significant(summary.rtf_p50, 2) if summary and summary.rtf_p50 is not None else NONE,
        pacing=times(summary.pacing_penalty) if summary and summary.pacing_penalty is not None else NONE,
        size=significant(artifact.size_bytes / 1e6) if artifact else NONE,
        size_ratio=times(saving.size) if saving else NONE,
        speed_ratio=times(saving.speed) if saving and saving.speed is not None else NONE,
        parity=snr(parity) if parity else NONE,
        agreement=agreement(parity) if parity else NONE,
        verdict=together.verdict if together else case.verdict,
        said=visible(together.said) if together else "",
    )


def _options(case: Case) -> str:
    """What stands behind the scenario in its id: `+gpu`, `+plain`, `+t4`; "" where all is as usual."""
    return case.id.removeprefix(f"{case.model}/{case.variant}@{case.device}/{case.scenario}")


def snr(parity: ParityResult) -> str:
    """`41 dB`, "exact" for bit-equal outputs, "NaN"."""
    if parity.nan_frames:
        return "NaN"
    if parity.snr_db is None:
        return "exact" if parity.max_abs_error == 0 else "?"
    return f"{parity.snr_db:.0f} dB"


def agreement(parity: ParityResult) -> str:
    """The share of equal decisions; `-` where the model decides nothing."""
    # A share just below 100 % is not shown as 100 %.
    share = parity.decision_agreement
    return NONE if share is None else f"{share:.0%}" if share == 1 else f"{min(share, 0.999):.1%}"
