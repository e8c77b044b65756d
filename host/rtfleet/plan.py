"""The plan of a run: which cases, in which order, for how long. Pure."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

from rtfleet import budget, clip_checks, cores, power, source
from rtfleet.artifact import ALL, Artifact, Origin, variants_from
from rtfleet.fleet import Device
from rtfleet.launch_order import LaunchOrder
from rtfleet.order import BASELINE
from rtfleet.profile import Budget
from rtfleet.records import Case, DeviceFacts, Kind, Options, RunSettings, Scenario
from rtfleet.suite import ModelEntry, Settings

DEFAULT_VARIANTS = ("onnx-fp32", "onnx-int8-static", "tflite-fp32", "tflite-int8-static")

# Worker start, imports, device state before and after, the model's load and the overhead's measurement: seconds that
# a launch takes besides its frames, seen on two x86 cores.
LAUNCH_EXTRA_S = 3.0
WARMUP_FRAMES = 50
WARMUP_S = 0.5
# The burst phase that ends a paced launch.
CLOSING_BURST_S = 0.5
LONG_HOP_MS = 30
NS = 1_000_000_000
# One export that is not cached, by format: seconds on two x86 cores, the converters' imports shared among several.
EXPORT_S = {"onnx": 10.0, "tflite": 20.0, "coreml": 20.0, "tensorrt": 5.0, "torch": 5.0}
# Outputs on the device and on the host, after all latency.
PARITY_S = 6.0
# A PROFILE launch tells shares, no percentiles; five blocks are the least that a launch has.
PROFILE_FRAMES = 200
# Of its clips, which are far longer than a launch where hits are counted, at the pace of a device that keeps up.
PARITY_TIMEOUT_S = 660.0
# What a model's hop is taken for until it is known: those of the zoo are 20 to 80 ms.
TYPICAL_HOP_NS = 25_000_000


# Format -> the systems that its runtime can be had on, and how that is said.
ONLY_ON = {
    "coreml": (("macos",), "Core ML runs on macOS"),
    "tensorrt": (("linux",), "TensorRT runs on Linux, on an NVIDIA GPU"),
    "torch": (("linux", "macos"), "PyTorch runs where a Python of the device has it, and a phone has none"),
}

# The devices of a run; None is one that was not reached.
Fleet: TypeAlias = Mapping[Device, DeviceFacts | None]


class HasCase(Protocol):
    """Whatever carries a case."""

    @property
    def case(self) -> Case: ...


C = TypeVar("C", bound=HasCase)


@dataclass(frozen=True)
class PlannedCase:
    """A case that a run would measure.

    Attributes:
        seconds: Of all its launches and its parity.
        power: What its launches can show, one sentence for each limit on a percentile.
    """

    case_id: str
    launches: int
    seconds: float
    power: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes:
        failures: What can't be measured, and why: one sentence each.
        export_s: Seconds of exports that are not cached yet.
        estimate_s: Of the whole run. Devices measure at the same time, the slowest counts.
    """

    cases: tuple[PlannedCase, ...]
    failures: tuple[str, ...]
    export_s: float
    estimate_s: float


def planned(
    case: Case, hop_ns: int | None, settings: RunSettings, owed: Sequence[Budget] = (), *, profiled: bool = False
) -> PlannedCase:
    """What a case will take, and what it can show of the budgets that it owes."""
    paced_ns = hop_ns if case.scenario == "paced" and hop_ns else 0
    frames = budget.target_frames(settings, paced_ns or None)
    launch_s = launch_estimate_s(paced_ns, frames, settings.min_duration_s)
    if paced_ns:
        frames = max(frames, int(settings.min_duration_s * NS / paced_ns))
    shown = dict.fromkeys(power.foretold(limit, frames, settings) for limit in owed)
    said = tuple(sentence for sentence in shown if sentence)
    profile_s = LAUNCH_EXTRA_S + PROFILE_FRAMES * paced_ns / NS if profiled else 0.0
    return PlannedCase(case.id, settings.launches, settings.launches * launch_s + PARITY_S + profile_s, said)


def foreseen(
    models: Sequence[ModelEntry], settings: Settings, only: Sequence[str], fleet: Fleet, *, profiled: bool = False
) -> list[PlannedCase]:
    """The cases before any of the models was built, so that their hops are not known yet."""
    return [
        planned(case, TYPICAL_HOP_NS, settings.run, profiled=profiled)
        for entry in models
        for case in foreseen_of(entry, settings, only, fleet)
    ]


def foreseen_of(entry: ModelEntry, settings: Settings, only: Sequence[str], fleet: Fleet) -> list[Case]:
    """The cases of a model as far as its name and its description tell."""
    format = source.ready_format(entry.source)
    shipped = (f"{format}-shipped",) if format else ()
    origin = source.origin_of(entry)
    hop_samples = 1 if source.streams(entry) else None
    return [
        case
        for variant in variants_of(entry, origin, shipped, only)
        for device in fleet
        if device not in left_out(variant, fleet)
        for case in cases_of(entry, settings, variant, hop_samples, device)
    ]


def cannot_run(variant: str, facts: DeviceFacts | None) -> str:
    """Why a variant's runtime can't be had on a device at all; "" where it can, or where nothing is known of it.

    What is not installed yet is no such reason: it is an error that the device itself tells.
    """
    systems, said = ONLY_ON.get(variant.partition("-")[0], ((), ""))
    return said if facts is not None and systems and facts.os not in systems else ""


def left_out(variant: str, fleet: Fleet) -> Mapping[Device, str]:
    """The devices that leave a variant to others, and why. None where no other can take it: that is an error on all."""
    refusals = {device: cannot_run(variant, facts) for device, facts in fleet.items()}
    return {device: why for device, why in refusals.items() if why} if not all(refusals.values()) else {}


def variants_of(
    entry: ModelEntry, origin: Origin, shipped: tuple[str, ...], only: Sequence[str] = ()
) -> tuple[str, ...]:
    """The variants to make and measure: as the suite says, else the shipped file, else fp32 and int8-static.

    "all" stands for every variant that a model of this origin can be had in, and filters nothing.
    """
    every = variants_from(origin, shipped)
    wanted = entry.variants or shipped or tuple(variant for variant in DEFAULT_VARIANTS if variant in every)
    named = dict.fromkeys(one for variant in wanted for one in (every if variant == ALL else (variant,)))
    return tuple(variant for variant in named if not only or ALL in only or variant in only)


def scenario_of(entry: ModelEntry, settings: Settings, hop_samples: int | None) -> Scenario:
    """As asked of a model that streams, else paced. One that does not can only be measured back to back."""
    return (settings.scenario or entry.scenario or "paced") if hop_samples else "burst"


def cases_of(
    entry: ModelEntry,
    settings: Settings,
    variant: str,
    hop_samples: int | None,
    device: Device,
    facts: DeviceFacts | None = None,
    artifact_id: str = "",
) -> tuple[Case, ...]:
    """The cases of one variant on one device: one per accelerator and number of threads, plain ones beside those.

    Args:
        facts: What the device said of itself; None: it was not reached, so that a kind of cores stays one.

    Raises:
        UsageError: cores that the device does not have.
    """
    scenario = scenario_of(entry, settings, hop_samples)
    threads = (entry.threads,) if entry.threads else settings.threads
    asked = settings.cpus or device.cpus
    kind = asked if isinstance(asked, str) else None
    cpus = cores.chosen(asked, facts.cores_info) if facts else () if isinstance(asked, str) else asked
    return tuple(
        Case(
            artifact_id=artifact_id,
            model=entry.name,
            variant=variant,
            device=device.name,
            scenario=scenario,
            options=Options(accelerator, count, cpus, settings.allow_fallback, kind, optimize),
        )
        for accelerator in _accelerators(variant, settings)
        for count in threads
        # What a delegate gains on a CPU shows beside the same without it; a GPU is nothing but a delegate.
        for optimize in (
            (True, False) if settings.plain and accelerator == "cpu" and _can_be_plain(variant) else (True,)
        )
    )


def _can_be_plain(variant: str) -> bool:
    """Whether its runtime has an optimizer or a delegate that can be switched off."""
    return variant.partition("-")[0] in ("onnx", "tflite")


def _accelerators(variant: str, settings: Settings) -> tuple[str, ...]:
    """Those asked for; TensorRT has a GPU and nothing else."""
    return ("gpu",) if variant.startswith("tensorrt-") else settings.accelerators


def round_order(cases: Sequence[C], round_: int, *, paired: bool) -> list[C]:
    """The order of one round.

    Each round begins one case later, so that no case always follows the same one. Cases that are compared stand beside
    their baseline, and change places with it every round (ABBA), so that a slow drift falls on both alike.
    """
    if not paired:
        start = (round_ - 1) % len(cases) if cases else 0
        return [*cases[start:], *cases[:start]]
    ordered = sorted(cases, key=lambda one: (one.case.id.removeprefix(BASELINE), one.case.id.startswith(BASELINE)))
    return ordered if round_ % 2 else ordered[::-1]


def order_of(case: Case, artifact: Artifact, settings: RunSettings, kind: Kind) -> LaunchOrder:
    """What the agent is asked for one launch of a case, under a fresh launch id."""
    paced = case.scenario == "paced"
    hop_ns = artifact.hop_ns if paced and artifact.hop_ns else 0
    min_frames = budget.target_frames(settings, hop_ns or None)
    warmup_frames, min_duration_s, block_frames = WARMUP_FRAMES, settings.min_duration_s, _block_frames(hop_ns)
    if kind == "PROFILE":
        min_frames, min_duration_s, block_frames = PROFILE_FRAMES, 0.0, PROFILE_FRAMES // 5
    estimate_s = launch_estimate_s(hop_ns, min_frames, min_duration_s)
    if clips := len(artifact.utterances):
        # A frame is a whole clip: a block is one pass over them, so that each has all of them.
        min_frames = clips if kind == "PROFILE" else settings.frames or clip_checks.repeats(clips, settings) * clips
        warmup_frames, block_frames = clip_checks.WARMUP_REPEATS * clips, clips
        heard_s = sum(one.duration_s for one in artifact.utterances)
        estimate_s = max(estimate_s, heard_s * (min_frames + warmup_frames) / clips)  # if it is as slow as speech
    usual_timeout_s = PARITY_TIMEOUT_S if kind == "PARITY" else 3 * estimate_s + 60
    return LaunchOrder(
        launch_id=secrets.token_hex(8),
        kind=kind,
        runtime=artifact.runtime,
        graphs=artifact.graphs,
        feeds_sha256=artifact.feeds.sha256,
        options=case.options,
        hop_ns=0 if kind == "PARITY" else hop_ns,
        min_frames=min_frames,
        min_duration_ns=round(min_duration_s * NS),
        block_frames=block_frames,
        timeout_s=settings.timeout_s if settings.timeout_s is not None else usual_timeout_s,
        loop=artifact.loop,
        warmup_frames=warmup_frames,
        warmup_ns=round(WARMUP_S * NS),
    )


def _block_frames(hop_ns: int) -> int:
    return 50 if hop_ns >= LONG_HOP_MS * 1_000_000 else 100


def launch_estimate_s(hop_ns: int, min_frames: int, min_duration_s: float) -> float:
    """Seconds that one launch takes. A burst's frames are taken to fit into its least time."""
    hop_s = hop_ns / NS
    blocks = max(5, -(-min_frames // _block_frames(hop_ns)))
    frames_s = max(min_duration_s, blocks * (_block_frames(hop_ns) + 1) * hop_s)
    warmup_s = max(WARMUP_S, WARMUP_FRAMES * hop_s)
    return LAUNCH_EXTRA_S + warmup_s + frames_s + (CLOSING_BURST_S if hop_ns else 0)
