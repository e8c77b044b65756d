"""Models to cases: each model prepared and exported once for all devices, its cases handed to each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from rtfleet import events, plan, profile
from rtfleet.artifact import Artifact
from rtfleet.errors import DeviceError, ExportError, RtfleetError
from rtfleet.export.inspection import inspector
from rtfleet.launching import Campaign
from rtfleet.model import Task
from rtfleet.order import BASELINE, Order
from rtfleet.profile import Budget, Profile
from rtfleet.records import Case, CaseError, CaseResult
from rtfleet.station import Joined
from rtfleet.suite import ModelEntry

T = TypeVar("T")


async def prepare_all(campaign: Campaign) -> None:
    """Bring every artifact into being and hand out its cases; then tell each device that these were all."""
    try:
        for entry in campaign.order.models:
            await _prepare(campaign, entry)
    finally:
        for station in campaign.stations:
            station.inbox.put_nowait(None)


async def _prepare(campaign: Campaign, entry: ModelEntry) -> None:
    order, exports = campaign.order, campaign.exports
    inspect = inspector(campaign.stations[0].client)
    try:
        prepared = await _quietly(
            campaign, entry, "prepare", exports.prepare(entry, inspect, files_only=order.files_only)
        )
    except RtfleetError as error:
        settings, only = order.suite.settings, order.only_variants
        for device in order.devices:
            _fail(campaign, plan.foreseen_of(entry, settings, only, device), error)
        return
    for guess in prepared.guesses:
        campaign.tell(events.Guessed(entry.name, guess))
    for variant in plan.variants_of(entry, prepared.origin, prepared.shipped, order.only_variants):
        try:
            artifact = await _quietly(campaign, entry, f"export {variant}", exports.export(prepared, variant, inspect))
        except RtfleetError as error:
            for device in order.devices:
                of_variant = plan.cases_of(entry, order.suite.settings, variant, prepared.hop_samples, device)
                _fail(campaign, of_variant, error)
            continue
        _hand_out(campaign, entry, artifact)
        # A device that is this machine measures its first round before the next export begins: the first numbers are
        # there soon, and neither disturbs the other. Other devices don't wait.
        for station in campaign.stations:
            if station.facts.is_host:
                await station.inbox.join()


async def _quietly(campaign: Campaign, entry: ModelEntry, step: str, work: Awaitable[T]) -> T:
    """Work of the host, while none of its own devices measures."""
    async with campaign.quiet:
        campaign.tell(events.Working(entry.name, step))
        began_s = asyncio.get_running_loop().time()
        try:
            return await work
        finally:
            campaign.tell(events.Working(entry.name, step, asyncio.get_running_loop().time() - began_s))


def owed_by(order: Order, entry: ModelEntry, task: Task, of: Profile) -> tuple[Budget, ...]:
    """What a model owes on devices of a profile; nothing where it is only compared with."""
    if entry.name.startswith(BASELINE):
        return ()
    owed = profile.budgets_for(of, task, entry.budgets, f"{entry.where}.budgets")
    return profile.laid_over(owed, task, order.budgets)


def _hand_out(campaign: Campaign, entry: ModelEntry, artifact: Artifact) -> None:
    order, settings = campaign.order, campaign.order.suite.settings
    of_case = (entry, settings, artifact.variant, artifact.hop_samples)
    for station in campaign.stations:
        owed = owed_by(order, entry, artifact.task, station.profile)
        for case in plan.cases_of(*of_case, station.device, station.facts, artifact.id):
            station.inbox.put_nowait(Joined(case, artifact, owed))
    for device, problem in campaign.lost.items():
        for case in plan.cases_of(*of_case, device, artifact_id=artifact.id):
            campaign.journal.case(CaseResult(case, artifact, error=problem))
            campaign.tell(events.CaseFailed(case.id, case.device, problem))


def _fail(campaign: Campaign, cases: Sequence[Case], error: RtfleetError) -> None:
    """A row for each case of what could not be made. One that a resumed run has already keeps what it has."""
    kind = error.kind if isinstance(error, DeviceError) else "EXPORT" if isinstance(error, ExportError) else "SOURCE"
    problem = CaseError(kind, error.text, error.hint)
    for case in cases:
        if not campaign.is_complete(case.id):
            campaign.journal.case(CaseResult(case, None, error=problem))
        campaign.tell(events.CaseFailed(case.id, case.device, problem))
