"""Models to cases: each model prepared and exported once for all devices, its cases handed to each of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import TypeVar

from rtfleet import events, plan, profile
from rtfleet.artifact import Artifact, PreparedModel, Tensor
from rtfleet.client import AgentClient
from rtfleet.errors import DeviceError, ExportError, RtfleetError
from rtfleet.export.inspection import Inspect, inspector
from rtfleet.fleet import Device
from rtfleet.launching import Campaign
from rtfleet.model import Task
from rtfleet.order import BASELINE, Order
from rtfleet.profile import Budget, Profile
from rtfleet.records import Case, CaseError, CaseResult, DeviceFacts
from rtfleet.station import Joined, Station, Tell
from rtfleet.suite import ModelEntry

# How often it is looked whether a device that went away is back.
_LOOK_S = 0.2
# Kinds of errors of one that goes away, or is taken from the run.
_GONE = ("UNAVAILABLE", "LEASE", "LEASE_ENDED")

T = TypeVar("T")


class Handout:
    """What has been made for the devices so far: also for one that comes late, or is lost after it was made."""

    def __init__(self, campaign: Campaign) -> None:
        self._campaign = campaign
        self._made: list[tuple[ModelEntry, Artifact]] = []
        self._inboxes: list[asyncio.Queue[Joined | None]] = []
        self._over = False

    def give(self, entry: ModelEntry, artifact: Artifact) -> None:
        """An artifact's cases, to every device that can run it."""
        self._made.append((entry, artifact))
        for station in self._campaign.stations:
            self._to(station, entry, artifact)
        for device in self._campaign.roster.lost:
            self._refuse(device, entry, artifact)

    def join(self, station: Station) -> None:
        """A device that comes for the first time gets all that is there."""
        self._inboxes.append(station.inbox)
        for entry, artifact in self._made:
            self._to(station, entry, artifact)
        if self._over:
            station.inbox.put_nowait(None)

    def lose(self, device: Device) -> None:
        """A device that never joined: its cases have the error that it was lost with."""
        for entry, artifact in self._made:
            self._refuse(device, entry, artifact)

    def end(self) -> None:
        """These were all."""
        self._over = True
        for inbox in self._inboxes:
            inbox.put_nowait(None)

    def _cases(
        self, entry: ModelEntry, artifact: Artifact, device: Device, facts: DeviceFacts | None = None
    ) -> tuple[Case, ...]:
        settings = self._campaign.order.suite.settings
        of_case = (entry, settings, artifact.variant, artifact.hop_samples)
        return plan.cases_of(*of_case, device, facts, artifact.id)

    def _to(self, station: Station, entry: ModelEntry, artifact: Artifact) -> None:
        if plan.cannot_run(artifact.variant, station.facts):
            return
        owed = owed_by(self._campaign.order, entry, artifact.task, station.profile)
        for case in self._cases(entry, artifact, station.device, station.facts):
            station.inbox.put_nowait(Joined(case, artifact, owed))

    def _refuse(self, device: Device, entry: ModelEntry, artifact: Artifact) -> None:
        problem = self._campaign.roster.lost[device]
        for case in self._cases(entry, artifact, device):
            if self._campaign.is_settled(case):
                continue
            self._campaign.journal.case(CaseResult(case, artifact, error=problem))
            self._campaign.tell(events.CaseFailed(case.id, case.device, problem))


async def prepare_all(campaign: Campaign, handout: Handout) -> None:
    """Bring every artifact into being and hand out its cases; then tell each device that these were all."""
    try:
        for entry in campaign.order.models:
            await _prepare(campaign, handout, entry)
    finally:
        handout.end()


async def _prepare(campaign: Campaign, handout: Handout, entry: ModelEntry) -> None:
    order, exports = campaign.order, campaign.exports
    inspect = inspector_of(campaign)
    try:
        prepared = await _quietly(
            campaign, entry, "prepare", exports.prepare(entry, inspect, files_only=order.files_only)
        )
    except RtfleetError as error:
        of_model = plan.foreseen_of(entry, order.suite.settings, order.only_variants, campaign.fleet)
        _fail(campaign, of_model, _problem(error))
        return
    for guess in prepared.guesses:
        campaign.tell(events.Guessed(entry.name, guess))
    variants = plan.variants_of(entry, prepared.origin, prepared.shipped, order.only_variants)
    tell_left_out(entry, variants, campaign.fleet, campaign.tell)
    for variant in variants:
        if _nobody_can(campaign, entry, prepared, variant):
            continue
        try:
            artifact = await _quietly(campaign, entry, f"export {variant}", exports.export(prepared, variant, inspect))
        except RtfleetError as error:
            for device in campaign.fleet:
                if device not in plan.left_out(variant, campaign.fleet):
                    of_variant = plan.cases_of(entry, order.suite.settings, variant, prepared.hop_samples, device)
                    _fail(campaign, of_variant, _problem(error))
            continue
        handout.give(entry, artifact)
        # A device that is this machine measures its first round before the next export begins: the first numbers are
        # there soon, and neither disturbs the other. Other devices don't wait.
        for station in campaign.stations:
            if station.facts.is_host:
                await station.inbox.join()


def inspector_of(campaign: Campaign) -> Inspect:
    """Files are looked into on this machine where it is a device of the run, else on another between its launches."""

    async def inspect(runtime: str, path: Path) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        clock = asyncio.get_running_loop().time
        gone: list[AgentClient] = []
        problem: DeviceError | None = None
        until_s = 0.0
        while stations := campaign.stations:
            there = [one for one in stations if not one.client.closed and one.client not in gone]
            if not there:
                if problem is not None and clock() > until_s:
                    raise problem
                # Each comes back, or is lost, within comeback_s; one that was idle may not know that it was away.
                gone.clear()
                await asyncio.sleep(_LOOK_S)
                continue
            here = next((one for one in there if one.facts.is_host), there[0])
            # This machine is kept quiet for the whole step already.
            async with contextlib.nullcontext() if here.facts.is_host else here.alone:
                if here.client.closed:
                    continue
                try:
                    return await inspector(here.client)(runtime, path)
                except DeviceError as error:
                    # That it goes away just then says nothing of the model: another looks into it, or it does later.
                    if error.kind not in _GONE:
                        raise
                    if problem is None:
                        until_s = clock() + campaign.order.suite.settings.run.comeback_s
                    problem = error
                    gone.append(here.client)
        raise problem or DeviceError(
            f"no device is left that could look into {path.name}", "see why each of them was lost"
        )

    return inspect


def tell_left_out(entry: ModelEntry, variants: Sequence[str], fleet: plan.Fleet, tell: Tell) -> None:
    """What each device leaves to the others, in a line a device and reason."""
    of_device: dict[tuple[Device, str], list[str]] = {}
    for variant in variants:
        for device, why in plan.left_out(variant, fleet).items():
            of_device.setdefault((device, why), []).append(variant)
    for (device, why), these in of_device.items():
        tell(events.LeftOut(device.name, entry.name, tuple(these), why))


def _nobody_can(campaign: Campaign, entry: ModelEntry, prepared: PreparedModel, variant: str) -> bool:
    """Whether no device that was reached can run a variant: then it is not even made, and each case says why."""
    refusals = {station.device: plan.cannot_run(variant, station.facts) for station in campaign.stations}
    if not all(refusals.values()):
        return False
    left_out = plan.left_out(variant, campaign.fleet)
    hint = "add such a device to fleet.toml"
    if prepared.source_file is None:
        hint += f"; the file alone: rtfleet export {entry.source} --variant {variant}"
    said = "and no device of this run can take it"
    refused = {device: CaseError("UNSUPPORTED", f"{why}, {said}", hint) for device, why in refusals.items()}
    problems = refused | campaign.roster.lost
    for device, problem in problems.items():
        if device not in left_out:
            cases = plan.cases_of(entry, campaign.order.suite.settings, variant, prepared.hop_samples, device)
            _fail(campaign, cases, problem)
    return True


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


def _problem(error: RtfleetError) -> CaseError:
    """Why a model or a variant could not be made, as the error of its cases."""
    kind = error.kind if isinstance(error, DeviceError) else "EXPORT" if isinstance(error, ExportError) else "SOURCE"
    return CaseError(kind, error.text, error.hint)


def _fail(campaign: Campaign, cases: Sequence[Case], problem: CaseError) -> None:
    """A row for each case of what could not be made. One that a resumed run has already keeps what it has."""
    for case in cases:
        if not campaign.is_complete(case.id):
            campaign.journal.case(CaseResult(case, None, error=problem))
        campaign.tell(events.CaseFailed(case.id, case.device, problem))
