"""What a campaign tells while it runs: values for the live view, plain lines and logs. Nothing here is judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from rtfleet.records import Case, CaseError, CaseResult, DeviceFacts, Kind, Launch


@dataclass(frozen=True)
class Planned:
    """The plan as far as it is known: names of the cases that will be tried, rounds, seconds of measuring."""

    devices: tuple[str, ...]
    case_ids: tuple[str, ...]
    launches: int
    estimate_s: float


@dataclass(frozen=True)
class DeviceConnected:
    """A device answered and is leased to this run."""

    facts: DeviceFacts


@dataclass(frozen=True)
class DeviceLost:
    """A device gave no (further) answer."""

    device: str
    error: CaseError


@dataclass(frozen=True)
class Working:
    """The host works on a model: "build", "fetch", "export onnx-int8-static", ... `seconds` None: begins now."""

    model: str
    step: str
    seconds: float | None = None


@dataclass(frozen=True)
class Guessed:
    """Something about a model was guessed; printed before it is used."""

    model: str
    text: str


@dataclass(frozen=True)
class LeftOut:
    """Variants of a model that a device can't run, and others of the fleet can."""

    device: str
    model: str
    variants: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class CaseJoined:
    """A case has its artifact on its device and can be measured."""

    case: Case


@dataclass(frozen=True)
class CaseFailed:
    """A case ends without a result: its model, its export, or its device."""

    case_id: str
    device: str
    error: CaseError


@dataclass(frozen=True)
class Pushed:
    """Bytes that a device lacked and got."""

    device: str
    size_bytes: int
    seconds: float


@dataclass(frozen=True)
class Waiting:
    """A device is not fit to be measured yet, and why."""

    device: str
    case_id: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class LaunchStarted:
    """A fresh worker measures a case."""

    device: str
    case_id: str
    kind: Kind
    round: int
    rounds: int
    target_frames: int


@dataclass(frozen=True)
class Progress:
    """After a batch of blocks. p50 and p99 are of the response of this launch's frames so far, in ns."""

    device: str
    case_id: str
    phase: Literal["load", "warm-up", "paced", "burst", "parity", "profile"]
    frames: int
    target_frames: int
    p50_ns: float | None
    p99_ns: float | None


@dataclass(frozen=True)
class LaunchEnded:
    """A launch is in the journal. `decision` says why it ended."""

    device: str
    case_id: str
    launch: Launch
    decision: str = ""


@dataclass(frozen=True)
class LaunchTakenUp:
    """A launch whose end no host saw: its device kept it, and it counts like any other."""

    device: str
    case_id: str
    launch: Launch


@dataclass(frozen=True)
class CaseMeasured:
    """All launches of a case are in."""

    result: CaseResult


@dataclass(frozen=True)
class Ended:
    """The campaign is over; what was measured is in the run directory."""

    interrupted: bool


Event: TypeAlias = (
    Planned
    | DeviceConnected
    | DeviceLost
    | Working
    | Guessed
    | LeftOut
    | CaseJoined
    | CaseFailed
    | Pushed
    | Waiting
    | LaunchStarted
    | Progress
    | LaunchEnded
    | LaunchTakenUp
    | CaseMeasured
    | Ended
)
