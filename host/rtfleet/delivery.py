"""Artifacts for a person: made, checked against the original, and laid out in a folder of theirs.

Parity is asked of an emulated agent on this machine, so an export never takes the device from a run that measures.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rtfleet import events, parity, plan, run_json, transports, validation
from rtfleet.artifact import Artifact
from rtfleet.client import AgentClient, new_lease
from rtfleet.errors import DeviceError, RtfleetError, UsageError
from rtfleet.export.inspection import inspector
from rtfleet.export.job import Exports
from rtfleet.fidelity import ParityResult
from rtfleet.fleet import Device
from rtfleet.judged import GRAVEST_FIRST, Check, Verdict
from rtfleet.records import Case, CaseError, RunSettings
from rtfleet.suite import ModelEntry

MANIFEST = "artifact.json"
HOLDER = "rtfleet export"
STAND_INS = {
    "tensorrt": (
        "onnxruntime",
        "the file was checked with ONNX Runtime; its engine is built, and can be checked, on an NVIDIA GPU alone",
    )
}
"""Runtimes that no host needs to have -> the one that runs their files here, and what is said of it."""


@dataclass(frozen=True)
class Delivered:
    """One variant's end.

    Attributes:
        folder: Where its files and `artifact.json` lie; None where it could not be made.
        checks: Its parity held against the defaults of its precision.
        error: Why there is no file, or no parity.
        not_run: Why this machine can't run it, of a file that its exporter checked as far as that goes without.
        note: What a reader of the parity must know; "" where the variant's own runtime gave it.
        seconds: To make it or to find it in the cache, parity aside.
    """

    variant: str
    seconds: float
    artifact: Artifact | None = None
    folder: Path | None = None
    parity: ParityResult | None = None
    checks: tuple[Check, ...] = ()
    error: RtfleetError | None = None
    not_run: str = ""
    note: str = ""

    @property
    def verdict(self) -> Verdict:
        """ERROR without a file or without parity, else its worst check; UNJUDGED where nothing could be judged."""
        if self.error is not None:
            return "ERROR"
        verdicts = {check.verdict for check in self.checks}
        return next((verdict for verdict in GRAVEST_FIRST if verdict in verdicts), "UNJUDGED")


@dataclass(frozen=True)
class Wish:
    """What is to be delivered: the entry's variants, or the model's defaults."""

    entry: ModelEntry
    out: Path
    cache: Path
    files_only: bool = False


async def deliver(wish: Wish, tell: Callable[[events.Event], None]) -> list[Delivered]:
    """Every variant of the wish, one after the other; a route that fails costs the others nothing.

    Raises:
        UsageError: the model can't be built, or the folder can't be written.
        DeviceError: no agent can be started here.
    """
    folder = wish.out / wish.entry.name
    # An identity and a store of its own: several exports at once never wait for each other.
    here = Device("this-machine", f"local:export-{os.getpid()}")
    with tempfile.TemporaryDirectory(prefix="rtfleet-export-") as store:
        async with (
            transports.connect(here, Path(store)) as link,
            AgentClient(link, here.name) as client,
            Exports(wish.cache, folder / "logs") as exports,
            client.leased(new_lease(), "rtfleet export"),
        ):
            return await _delivered(wish, folder, exports, client, tell)


async def _delivered(
    wish: Wish, folder: Path, exports: Exports, client: AgentClient, tell: Callable[[events.Event], None]
) -> list[Delivered]:
    found: list[Delivered] = []
    tell(events.Working(wish.entry.name, "prepare"))
    inspect = inspector(client)
    prepared = await exports.prepare(wish.entry, inspect, files_only=wish.files_only)
    for guess in prepared.guesses:
        tell(events.Guessed(wish.entry.name, guess))
    for variant in plan.variants_of(wish.entry, prepared.origin, prepared.shipped):
        tell(events.Working(wish.entry.name, f"export {variant}"))
        began_s = time.monotonic()
        try:
            artifact = await exports.export(prepared, variant, inspect)
            seconds = time.monotonic() - began_s
            laid_out = _lay_out(artifact, folder / variant)
            found.append(await _checked(client, Delivered(variant, seconds, artifact, laid_out)))
        except RtfleetError as error:
            found.append(Delivered(variant, time.monotonic() - began_s, error=error))
    return found


def exit_code(found: Sequence[Delivered]) -> int:
    """0 all within tolerance, 1 one out of it, else the gravest error's (2 before 4), 3 where parity stays open."""
    verdicts = {one.verdict for one in found}
    if "FAIL" in verdicts:
        return 1
    codes = [one.error.exit_code for one in found if one.error is not None]
    return min(codes) if codes else 3 if "INCONCLUSIVE" in verdicts else 0


def _lay_out(artifact: Artifact, folder: Path) -> Path:
    """The artifact's files and its facts in `folder`, in the place of what an earlier export left there."""
    # A stream that begins anywhere but at its states' first values gives other scores: they belong to the model.
    try:
        shutil.rmtree(folder, ignore_errors=True)
        for graph in artifact.graphs:
            # Graphs of one model may have files of one name.
            below = folder / graph.name if len(artifact.graphs) > 1 else folder
            for file in (*graph.files, *(state.initial for state in graph.states if state.initial)):
                assert file.location is not None
                target = below / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file.location, target)
        facts = json.dumps(run_json.plain(artifact), indent=1, sort_keys=True, allow_nan=False)
        (folder / MANIFEST).write_text(facts + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{folder}: can't be written: {error.strerror}", "choose another --out DIR") from None
    return folder


async def _checked(client: AgentClient, made: Delivered) -> Delivered:
    """With its parity, the runtime's optimizer off: what is checked is the file, not this machine's kernels."""
    artifact = made.artifact
    if artifact is None or artifact.reference is None:
        return made
    if artifact.checked:
        runtimes = (await client.describe(is_host=True)).runtimes
        here = next((runtime for runtime in runtimes if runtime.name == artifact.runtime), None)
        if here is None or here.error:
            return replace(made, not_run=here.error if here else f"this agent has no runtime {artifact.runtime}")
    await client.push(artifact.needs)
    case = validation.of_the_file(Case(artifact.id, artifact.model, artifact.variant, client.device, "burst"))
    runtime, note = STAND_INS.get(artifact.runtime, (artifact.runtime, ""))
    outputs = await validation.outputs_of(client, case, artifact, RunSettings(), runtime=runtime)
    result = validation.against_original(artifact, outputs)
    if isinstance(result, CaseError):
        return replace(made, error=DeviceError(result.text, result.hint, result.kind))
    checks = tuple(parity.judge(owed, result, None) for owed in parity.default_budgets(artifact))
    return replace(made, parity=result, checks=checks, note=note)
