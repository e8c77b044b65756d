"""Many devices of one kind: one row for all of a variant, and in full those that did not pass. No layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from rtfleet.judged import GRAVEST_FIRST, JudgedCase, JudgedRun, Verdict
from rtfleet.records import Case

MANY = 4
"""Devices of one profile; fewer are shown one by one."""

Key = tuple[str, Case]
"""Profile, and what the cases have in common."""


@dataclass(frozen=True)
class Alike:
    """The cases of one variant on many devices of a profile.

    Attributes:
        worst: The slowest of those that were measured, else the first: its numbers stand for all.
        verdict: The gravest.
        said: "9 of 10 PASS, worst pixel8-07".
    """

    profile: str
    devices: int
    worst: JudgedCase
    verdict: Verdict
    said: str


def alike(judged: JudgedRun) -> Mapping[str, Alike]:
    """Case id -> the group that it belongs to; a case of few devices is in none."""
    profiles = {facts.alias: facts.profile for facts in judged.run.devices}
    groups: dict[Key, list[JudgedCase]] = {}
    for case in judged.cases:
        identity = case.result.case
        if profile := profiles.get(identity.device):
            # Cores of a kind may be others on each device; their numbers are not what the cases share.
            options = replace(identity.options, cpus=()) if identity.options.cores else identity.options
            shared = replace(identity, artifact_id="", device="", options=options)
            groups.setdefault((profile, shared), []).append(case)
    found: dict[str, Alike] = {}
    for (profile, _), cases in groups.items():
        if len(cases) >= MANY:
            found.update(dict.fromkeys((case.result.case.id for case in cases), _of(profile, cases)))
    return found


def in_full(judged: JudgedRun) -> frozenset[str]:
    """Ids of the cases that are shown by themselves: of many that passed alike, only the one that stands for them."""
    many = alike(judged)
    return frozenset(
        id_
        for case in judged.cases
        for id_ in [case.result.case.id]
        if id_ not in many or case.verdict != "PASS" or many[id_].worst is case
    )


def _of(profile: str, cases: list[JudgedCase]) -> Alike:
    measured = [case for case in cases if case.summary]
    worst = max(measured, key=_slowness, default=cases[0])
    verdicts = [case.verdict for case in cases]
    gravest = next(verdict for verdict in GRAVEST_FIRST if verdict in verdicts)
    usual = "PASS" if "PASS" in verdicts else gravest
    return Alike(
        profile=profile,
        devices=len(cases),
        worst=worst,
        verdict=gravest,
        said=f"{verdicts.count(usual)} of {len(cases)} {usual}, worst {worst.result.case.device}",
    )


def _slowness(case: JudgedCase) -> float:
    assert case.summary is not None
    return case.summary.response.p99_ns
