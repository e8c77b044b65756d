"""Does this installation have what a run needs, and is this machine fit to measure on? One finding a question."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rtfleet import phone_doctor, plan
from rtfleet.artifact import RUNTIME_OF_FORMAT
from rtfleet.fleet import Device
from rtfleet.phone_doctor import Walked
from rtfleet.survey import Answer, answer_of, survey

FREE_BYTES_NEEDED = 2_000_000_000
GB = 1_000_000_000

FORMAT_OF_RUNTIME = {runtime: format for format, runtime in RUNTIME_OF_FORMAT.items()}
# What each package is for, and the extra that brings it.
PACKAGES = {
    "torch": ("building and exporting PyTorch models", "export"),
    "onnx": ("ONNX variants", "export"),
    "litert-torch": ("TFLite variants", "export"),
    "onnxruntime": ("running ONNX on this machine's agent", "onnxruntime"),
    "ai-edge-litert": ("running TFLite on this machine's agent", "litert"),
}


@dataclass(frozen=True)
class Finding:
    """One answer. `state` is "ok", "warn" (a run works, with less) or "bad" (a run can't work)."""

    subject: str
    state: str
    text: str
    hint: str = ""


def examine(devices: Sequence[Device], cache: Path, profiles: Path | None) -> list[Finding]:
    """All findings: this installation first, then each device."""
    findings = [*_packages(), _disk(cache), _load()]
    phones = [device for device in devices if device.connect == "adb"]
    others = [device for device in devices if device not in phones]

    async def look() -> tuple[list[Walked], list[Answer]]:
        walks = asyncio.gather(*(phone_doctor.walk(phone, cache) for phone in phones))
        return await walks, await survey(others, cache, profiles)

    walked, answers = asyncio.run(look())
    for device, steps in zip(phones, walked, strict=True):
        findings += _phone(device, steps, cache, profiles)
    for answer in answers:
        findings += _device(answer)
    return findings


def _phone(device: Device, walked: Walked, cache: Path, profiles: Path | None) -> list[Finding]:
    """What has to be there for an agent to run on it, one after the other; then what the agent says."""
    findings = []
    for step in walked.steps:
        state = "bad" if step.error else "ok" if step.tried else "warn"
        findings.append(
            Finding(f"device {device.name}: {step.subject}", state, step.text, step.error.hint if step.error else "")
        )
    if walked.facts is not None:
        findings += _device(answer_of(device, walked.facts, cache, profiles))
    return findings


def _packages() -> list[Finding]:
    findings = [Finding("python", "ok", f"{sys.version.split()[0]} at {sys.prefix}")]
    for package, (purpose, extra) in PACKAGES.items():
        try:
            found = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            findings.append(Finding(package, "warn", f"not installed: no {purpose}", f"pip install 'rtfleet[{extra}]'"))
        else:
            findings.append(Finding(package, "ok", found))
    return findings


def _disk(cache: Path) -> Finding:
    cache.mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(cache).free
    text = f"{free_bytes / GB:.1f} GB free for artifacts and packages in {cache}"
    if free_bytes < FREE_BYTES_NEEDED:
        return Finding("disk", "warn", text, "free some space, or set RTFLEET_CACHE to a folder with more")
    return Finding("disk", "ok", text)


def _load() -> Finding:
    load_1m, cores = os.getloadavg()[0], os.cpu_count() or 1
    text = f"load {load_1m:.1f} on {cores} cores"
    if load_1m > cores / 2:
        return Finding("quiet", "warn", text, "stop what runs beside it, or expect INCONCLUSIVE where a limit is near")
    return Finding("quiet", "ok", text)


def _device(answer: Answer) -> list[Finding]:
    name = f"device {answer.device.name}"
    if answer.facts is None:
        error = answer.error
        return [Finding(name, "bad", error.text if error else "no answer", error.hint if error else "")]
    facts = answer.facts
    what = ", ".join(filter(None, (facts.model, f"{facts.os} {facts.os_version}", f"profile {facts.profile}")))
    findings = [Finding(name, "ok", what)]
    for runtime in facts.runtimes:
        subject = f"{name}: {runtime.name}"
        if never := plan.cannot_run(FORMAT_OF_RUNTIME.get(runtime.name, ""), facts):
            findings.append(Finding(subject, "ok", f"not for this device: {never}"))
        elif runtime.error:
            findings.append(Finding(subject, "warn", runtime.error))
        else:
            findings.append(Finding(subject, "ok", f"{runtime.version} on {', '.join(runtime.accelerators)}"))
    if facts.missing_sensors:
        missing = "; ".join(f"{sensor}: {reason}" for sensor, reason in sorted(facts.missing_sensors.items()))
        findings.append(Finding(f"{name}: sensors", "warn", f"{len(facts.sensors)} can be read; not {missing}"))
    if facts.lease_holder:
        text = f"{facts.lease_holder} measures on it for another {facts.lease_expires_in_s:.0f} s at least"
        findings.append(Finding(f"{name}: lease", "warn", text))
    return findings
