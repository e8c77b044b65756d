"""The facts of a run, which are what its directory keeps. Frozen records; each is built whole in one place.

What is judged of them is in `judged.py`, and follows from these alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from rtfleet.artifact import Artifact
from rtfleet.fidelity import ParityResult, Recognition
from rtfleet.operators import Operators
from rtfleet.profile import Budget

Nanoseconds: TypeAlias = npt.NDArray[np.int64]
Scenario: TypeAlias = Literal["paced", "burst"]
Kind: TypeAlias = Literal["LATENCY", "PARITY", "PROFILE"]
CoreKind: TypeAlias = Literal["big", "little"]
# What `cpus` may be asked to be: a kind, or cores by number; () is the scheduler's choice.
CoreSpec: TypeAlias = CoreKind | tuple[int, ...]
Phase: TypeAlias = Literal["WARMUP", "PACED", "BURST"]


# ---- the device ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RuntimeFacts:
    """A runtime on a device; `error` says why it can't be used there, "" where it can."""

    name: str
    version: str
    library_sha256: str
    accelerators: tuple[str, ...] = ()
    unavailable: Mapping[str, str] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class CoreFacts:
    """One core. `capacity` is the kernel's, 1024 for the largest core; None where it is not told."""

    index: int
    capacity: int | None = None
    max_frequency_khz: int | None = None


@dataclass(frozen=True)
class DeviceFacts:
    """What a device said of itself, and what the fleet calls it.

    Attributes:
        alias: The fleet's name; `identity` is the device's own.
        provisos: What a reader of its numbers must know: a word for it, a colon, and a sentence.
        is_host: The device is also the machine that exports and judges: nothing else may run during a block.
    """

    alias: str
    identity: str
    os: str
    os_version: str
    model: str
    soc: str
    arch: str
    cores: int
    memory_bytes: int
    boot_id: str
    agent_version: str
    protocol_version: int
    python_version: str = ""
    runtimes: tuple[RuntimeFacts, ...] = ()
    sensors: tuple[str, ...] = ()
    missing_sensors: Mapping[str, str] = field(default_factory=dict)
    store_free_bytes: int = 0
    lease_holder: str = ""
    lease_expires_in_s: float = 0.0
    lease_since_unix_s: float = 0.0
    lease_reason: str = ""
    is_host: bool = False
    profile: str = ""
    cores_info: tuple[CoreFacts, ...] = ()
    provisos: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """One sensor's value; None with the reason why it can't be read."""

    value: float | str | None
    reason: str = ""


@dataclass(frozen=True)
class BusyProcess:
    """Somebody else's process and its share of one core over the time observed.

    Attributes:
        core: The core that its busiest thread was last seen on; None where nobody looked.
    """

    pid: int
    name: str
    core_share: float
    core: int | None = None


@dataclass(frozen=True)
class DeviceState:
    """What could disturb a launch. Units stand in the readings' names (the agent's sensors/ lists them)."""

    at_mono_ns: int
    readings: Mapping[str, Reading] = field(default_factory=dict)
    busy: tuple[BusyProcess, ...] = ()

    @property
    def temperatures_c(self) -> dict[str, float]:
        """Sensor -> °C, of those that can be read."""
        return {
            name: float(reading.value)
            for name, reading in self.readings.items()
            if name.split(".")[0] == "temperature_c" and isinstance(reading.value, (int, float))
        }


@dataclass(frozen=True)
class Preflight:
    """Whether a device was fit when a launch began.

    Attributes:
        verdict: "ready" at once; "waited" and then ready; "gave-up": measured all the same; "unknown": nothing spoke
            against it, but the device's usual speed is not known yet.
        probe_ns: The last reading; `usual_ns` is what it was held against.
        reasons: What was wrong; of one that had to be waited for, what it was last.
        unknown: What is not known, and why.
    """

    verdict: Literal["ready", "waited", "gave-up", "unknown"]
    waited_s: float
    probe_ns: int
    usual_ns: float | None
    reasons: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Probe:
    """How fast the device is while nothing is measured, and its state. `cpu`: where the probe ran."""

    probe_ns: int
    state: DeviceState
    cpu: int | None = None


# ---- cases and launches --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Options:
    """How a case is run; part of its identity.

    Attributes:
        cpus: The cores it is pinned to; () is the scheduler's choice.
        cores: The kind of cores that was asked for; `cpus` are this device's of that kind, () where it is not known.
        optimize: False is the graph as written: no optimizer of the runtime, no default delegate.
    """

    accelerator: str = "cpu"
    threads: int = 1
    cpus: tuple[int, ...] = ()
    allow_fallback: bool = False
    cores: CoreKind | None = None
    optimize: bool = True


@dataclass(frozen=True)
class Case:
    """The identity of a row: model x variant x device x scenario x options."""

    artifact_id: str
    model: str
    variant: str
    device: str
    scenario: Scenario
    options: Options = field(default_factory=Options)

    @property
    def id(self) -> str:
        """`model/variant@device/scenario`, `+gpu`, `+plain`, `+t4`, `+c0.1`, `+big` for what is no default. Stable."""
        extra = "" if self.options.accelerator == "cpu" else f"+{self.options.accelerator}"
        extra += "" if self.options.optimize else "+plain"
        extra += "" if self.options.threads == 1 else f"+t{self.options.threads}"
        if self.options.cores:
            extra += f"+{self.options.cores}"
        elif self.options.cpus:
            extra += "+c" + ".".join(map(str, self.options.cpus))
        return f"{self.model}/{self.variant}@{self.device}/{self.scenario}{extra}"


@dataclass(frozen=True)
class CaseError:
    """Why a launch or a case gave no result.

    Attributes:
        kind: A failure kind of the wire (BAD_MODEL, KILLED, ...), or of the host: SOURCE (the model can't be fetched,
            built or described), EXPORT (the route failed), DEVICE (the device or agent gave no answer), UNSUPPORTED (no
            device of the run can run the format).
        retryable: Measuring again may give a result; a bad model stays bad.
    """

    kind: str
    text: str
    hint: str = ""
    retryable: bool = False


@dataclass(frozen=True)
class Placement:
    """Where a graph ran.

    Attributes:
        ran: In the runtime's own words; what the share counts comes first.
        accelerated_share: Of the nodes, on the accelerator asked for; on a CPU on the delegate that speeds it up. None:
            the runtime does not tell, and `notes` says why.
        accelerated_nodes, nodes: The counts behind it, where they are known.
    """

    asked: str
    ran: str
    accelerated_share: float | None = None
    notes: tuple[str, ...] = ()
    accelerated_nodes: int | None = None
    nodes: int | None = None

    @property
    def words(self) -> str:
        """`XNNPACK took 56 of 61 nodes`."""
        if not self.nodes:
            return f"ran on {self.ran}"
        if not self.accelerated_nodes:
            return f"all {self.nodes} nodes ran on {self.ran}"
        return f"{self.ran.split(', ')[0]} took {self.accelerated_nodes} of {self.nodes} nodes"

    @property
    def why_unknown(self) -> str:
        """Why the share is unknown, in the runtime's words; "" where it says nothing of it."""
        said = next((note for note in self.notes if "unknown: " in note), "")
        return re.sub(r"share of \w+ unknown: ", "", said)


@dataclass(frozen=True)
class Block:
    """Frames between two readings of the speed probe.

    Attributes:
        first_frame: Index into the launch's column of this phase (warm-up, latency or burst).
        marks: What disturbed it, in words ("suspend", "throttled").
        busy: Others that used processor time while it ran, over about a second with the blocks around it.
        others_core_share: Cores that everybody but the worker used then; None where nobody looked.
    """

    phase: Phase
    first_frame: int
    frames: int
    probe_before_ns: int
    probe_after_ns: int
    cpu: int | None
    started_mono_ns: int = 0
    marks: tuple[str, ...] = ()
    busy: tuple[BusyProcess, ...] = ()
    others_core_share: float | None = None


def _no_frames() -> Nanoseconds:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class Launch:
    """One fresh worker process that measured one case: the unit of replication.

    Attributes:
        latency_ns: int64 [n] of the scenario's own frames (PACED blocks when paced, BURST blocks in a burst).
        lateness_ns: int64 [n] when paced, else empty. Response is lateness + latency.
        burst_latency_ns: int64 of the one burst phase that ends a paced launch; empty in a burst.
        first_token_ns: int64 [n] of a model that gives tokens: from a clip handed in to its first token; else empty.
        tokens: int64 [n], how many each clip has; else empty.
        overhead_ns: p50 of the same loop around a one-op model with as many inputs and outputs.
        preflight: None where none was made (a launch that an earlier host began).
        device_during: Between blocks, every ten seconds or so: only what can be read.
        stopped: Why it was ended before it had its frames (heat, battery); "" where it was not.
        error: None for a good launch.
    """

    launch_id: str
    kind: Kind
    round: int
    started_at: str
    started_mono_ns: int
    boot_id: str
    feeds_sha256: str
    compile_ns: int | None = None
    load_ns: int | None = None
    first_inference_ns: int | None = None
    placement: Placement | None = None
    runtime: RuntimeFacts | None = None
    warmup_latency_ns: Nanoseconds = field(default_factory=_no_frames)
    latency_ns: Nanoseconds = field(default_factory=_no_frames)
    lateness_ns: Nanoseconds = field(default_factory=_no_frames)
    burst_latency_ns: Nanoseconds = field(default_factory=_no_frames)
    first_token_ns: Nanoseconds = field(default_factory=_no_frames)
    tokens: npt.NDArray[np.int64] = field(default_factory=_no_frames)
    blocks: tuple[Block, ...] = ()
    overhead_ns: int | None = None
    rss_before_load_bytes: int | None = None
    rss_after_load_bytes: int | None = None
    peak_rss_bytes: int | None = None
    memory_reason: str = ""
    preflight: Preflight | None = None
    device_before: DeviceState | None = None
    device_during: tuple[DeviceState, ...] = ()
    device_after: DeviceState | None = None
    stopped: str = ""
    error: CaseError | None = None
    stderr_tail: str = ""

    @property
    def response_ns(self) -> Nanoseconds:
        """Lateness + latency of each frame of the scenario; equal to the latency in a burst."""
        return self.latency_ns + self.lateness_ns if self.lateness_ns.size else self.latency_ns


@dataclass(frozen=True)
class CaseResult:
    """All facts of one case.

    Attributes:
        artifact: None where there is no file: the export failed, or the model could not be fetched.
        budgets: What the case owes: its profile's, replaced by the suite's and the command line's.
        parity_host: Of the same artifact on the local agent; `parity_device` on the device itself.
        recognition: Of a model that gives tokens, in the place of parity.
        operators: Only where they were asked for.
    """

    case: Case
    artifact: Artifact | None
    budgets: tuple[Budget, ...] = ()
    launches: tuple[Launch, ...] = ()
    parity_host: ParityResult | None = None
    parity_device: ParityResult | None = None
    recognition: Recognition | None = None
    error: CaseError | None = None
    operators: Operators | None = None


# More than these are slips of the pen; a day's launch is a long one.
_MOST = {
    "launches": 1_000,
    "frames": 100_000_000,
    "min_duration_s": 7 * 86_400,
    "timeout_s": 30 * 86_400,
    "max_temperature_c": 1_000,
}


@dataclass(frozen=True)
class RunSettings:
    """What was asked of a run.

    Attributes:
        frames: Least frames of a launch; None: 1301 in a burst and at hops <= 20 ms, 662 else.
        min_duration_s: Least time of a launch's blocks.
        timeout_s: Longest time of one launch; None: three times its estimate and a minute.
        tolerance: A candidate may be slower than its baseline by this share.
        max_wait_s: Before a launch, for a device that is not fit (slow, hot); then it is measured all the same.
        lease_wait_s: For a device that somebody else measures on; then its cases are errors.
        comeback_s: For a device that was there and went away; likewise.
        max_temperature_c: A launch ends where any sensor shows this much; `min_battery_percent` likewise, unplugged.
    """

    launches: int = 3
    confidence: float = 0.99
    frames: int | None = None
    min_duration_s: float = 10.0
    timeout_s: float | None = None
    tolerance: float = 0.1
    max_temperature_c: float = 95.0
    min_battery_percent: float = 15.0
    max_wait_s: float = 60.0
    lease_wait_s: float = 600.0
    comeback_s: float = 60.0

    def __post_init__(self) -> None:
        """Raises ValueError, "key: what was expected", also for what stands in a file that somebody edited."""
        for name, most in _MOST.items():
            value = getattr(self, name)
            if value is not None and not 0 < value <= most:
                raise ValueError(f"{name}: expected more than 0 and at most {most:,}, found {value}")
        if self.timeout_s is not None and self.timeout_s <= self.min_duration_s:
            raise ValueError(f"timeout_s: {self.timeout_s:g} is no longer than a launch of {self.min_duration_s:g} s")
        if not 0.5 <= self.confidence < 1:
            raise ValueError(f"confidence: expected at least 0.5 and below 1 (like 0.99), found {self.confidence}")
        if not 0 <= self.tolerance < 1:
            raise ValueError(f"tolerance: expected a share of at least 0 and below 1, found {self.tolerance}")
        if not 0 <= self.min_battery_percent <= 100:
            raise ValueError(f"min_battery_percent: expected 0 to 100, found {self.min_battery_percent}")
        for name in ("max_wait_s", "lease_wait_s", "comeback_s"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{name}: expected 0 or more, found {value}")


@dataclass(frozen=True)
class Run:
    """A run: facts only.

    Attributes:
        host: What measured: rtfleet's version, Python, platform (free-form, strings and numbers).
        finished: False while it runs, after Ctrl-C and after a crash.
    """

    id: str
    started_at: str
    rtfleet_version: str
    host: Mapping[str, str | int | float]
    settings: RunSettings
    devices: tuple[DeviceFacts, ...]
    results: tuple[CaseResult, ...]
    finished: bool = True
    interrupted: bool = False


Json: TypeAlias = Any
