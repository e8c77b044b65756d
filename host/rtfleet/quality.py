"""Warnings: what a reader of the numbers must know, and what to do about it. Verdicts never depend on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from rtfleet import binomial, disturbances, launch_log, parity, statistics
from rtfleet.disturbances import Disturbance
from rtfleet.judged import Summary, Warning
from rtfleet.metrics import METRICS
from rtfleet.records import CaseResult, DeviceFacts, Launch, Run, RunSettings, RuntimeFacts

# First inference / p50: 3.5-4 is usual on small models (cold caches, lazy allocation), far more is worth a look.
SLOW_FIRST_RUN = 10.0
# Probes this far above the usual one in so many blocks: the machine ran at two speeds (7 % of blocks are by chance).
TWO_SPEEDS = 1.3
TWO_SPEEDS_SHARE = 0.2
# p50 of the last third of a launch over that of its first third.
DRIFT = 1.15
# Outputs as near as this to the original have no errors that could add up.
DRIFT_MATTERS_DB = 60.0
# p50 of the slowest launch over that of the fastest.
LAUNCHES_DIFFER = 1.25
LONG_TAIL = 2.5
OVERHEAD_SHARE = 0.05
PACING_PENALTY = 2.0
# The device's parity and the file's own differ by more than this, and the lower one is low enough to matter.
KERNELS_DB = 3.0
INAUDIBLE_DB = 60.0
# A response this many times the p50, and longer than the hop, is an event that is named.
STALL = 20.0
STALLS_TOLD = 3


def warnings(
    result: CaseResult,
    summary: Summary | None,
    device: DeviceFacts | None = None,
    settings: RunSettings | None = None,
) -> tuple[Warning, ...]:
    """Each code once, the gravest first."""
    settings = settings or RunSettings()
    found: dict[str, Warning] = {}
    for warning in _all(result, summary, device, settings):
        found.setdefault(warning.code, warning)
    return tuple(found.values())


def unlike_builds(run: Run) -> dict[str, Warning]:
    """Case id -> a warning, for cases of one model and variant whose devices run it on other builds of a runtime.

    Between two builds of one runtime the same model differed 3.3x. Libraries of other processors differ anyway: there
    only the version counts.
    """
    archs = {device.alias: device.arch for device in run.devices}
    builds: dict[tuple[str, str, str], dict[str, RuntimeFacts]] = {}
    for result in run.results:
        for runtime in (launch.runtime for launch in result.launches if launch.runtime):
            builds.setdefault((result.case.model, result.case.variant, runtime.name), {})[result.case.device] = runtime
    found: dict[str, Warning] = {}
    for (model, variant, name), of_device in builds.items():
        versions = {runtime.version for runtime in of_device.values()}
        libraries = {(archs.get(device), runtime.library_sha256) for device, runtime in of_device.items()}
        if len(versions) == 1 and len(libraries) == len({arch for arch, _ in libraries}):
            continue
        told = ", ".join(f"{one.version} ({one.library_sha256[:8]}) on {device}" for device, one in of_device.items())
        warning = Warning(
            "unlike-builds",
            f"its devices have unlike builds of {name}: {told}",
            "install the same on all of them before comparing their numbers",
        )
        cases = (one.case for one in run.results if (one.case.model, one.case.variant) == (model, variant))
        found.update({case.id: warning for case in cases})
    return found


def _all(
    result: CaseResult, summary: Summary | None, device: DeviceFacts | None, settings: RunSettings
) -> Iterator[Warning]:
    yield from _what_it_is(result)
    yield from _provisos(device)
    yield from _repeats(result)
    yield from _drifting_state(result)
    if result.operators and result.operators.failed:
        yield Warning(
            "no-operators", f"no times per operator: {result.operators.failed}", "the numbers themselves miss nothing"
        )
    if result.parity_host and result.parity_host.unknown:
        yield Warning(
            "no-host-parity",
            f"nobody ran the file on this machine, to compare its outputs: {result.parity_host.unknown}",
            "--resume does",
        )
    yield from _other_kernels(result)
    yield from _other_detections(result)
    if summary is None:
        return
    launches = statistics.good_launches(result)
    yield from _stopped(launches)
    yield from _disturbed(result, launches, device, settings)
    yield from _placement(launches)
    yield from _numbers(result, summary, settings)
    yield from _steadiness(launches)
    yield from _stalls(result, launches, summary)
    yield from _unknown(launches)


def _what_it_is(result: CaseResult) -> Iterator[Warning]:
    artifact = result.artifact
    if artifact is None:
        return
    if artifact.covers == "part":
        yield Warning("part", artifact.part_of, "its front end's time comes on top of these numbers")
    if artifact.synthetic:
        yield Warning(
            "synthetic-input", "synthetic input: seeded data, no audio", "give clips, or a front end with frames="
        )
    if result.case.scenario == "burst" and artifact.hop_ns:
        yield Warning("burst-of-a-stream", "a stream measured back to back", "--scenario paced measures it as it runs")


def _provisos(device: DeviceFacts | None) -> Iterator[Warning]:
    for proviso in device.provisos if device else ():
        code, _, text = proviso.partition(": ")
        yield Warning(code, text, "compare it with its like only")


def _repeats(result: CaseResult) -> Iterator[Warning]:
    failed = [launch for launch in result.launches if launch.kind == "LATENCY" and statistics.why_void(launch)]
    if failed and statistics.good_launches(result):
        yield Warning(
            "repeated",
            f"{len(failed)} launch{'es' if len(failed) > 1 else ''} failed and did not count: "
            f"{statistics.why_void(failed[-1])}",
            "nothing of the model: the device's line, lease or room was lost"
            if all(launch.error and launch.error.kind in launch_log.OF_THE_DEVICE for launch in failed)
            else "a model that fails now and then fails its users now and then: see the launch's stderr",
        )


def _stopped(launches: Sequence[Launch]) -> Iterator[Warning]:
    for launch in launches:
        if launch.stopped:
            yield Warning(
                "stopped",
                f"launch {launch.round} was ended after {launch.latency_ns.size:,} frames: {launch.stopped}",
                "let the device cool down, or plug it in, and go on with --resume",
            )


def _drifting_state(result: CaseResult) -> Iterator[Warning]:
    found = result.parity_device
    if found is None or found.drift is None or found.snr_db is None or found.snr_db > DRIFT_MATTERS_DB:
        return
    if found.drift > parity.DRIFT:
        yield Warning(
            "state-drift",
            f"towards the end of a stream the outputs are {found.drift:.0f}x further from the original than in its "
            "middle: errors add up in the state",
            "keep the state in floating point, or reset it from time to time; a longer stream will be worse",
        )


def _other_kernels(result: CaseResult) -> Iterator[Warning]:
    """The device's outputs against those of the file itself: run on the host, the runtime's optimizer off."""
    device, host = result.parity_device, result.parity_host
    if device is None or host is None or device.snr_db is None or host.snr_db is None:
        return
    if abs(device.snr_db - host.snr_db) > KERNELS_DB and min(device.snr_db, host.snr_db) < INAUDIBLE_DB:
        worse = device.snr_db < host.snr_db
        yield Warning(
            "device-kernels",
            f"parity on the device {device.snr_db:.0f} dB, of the file itself {host.snr_db:.0f} dB: the device's "
            "kernels, not the quantizer",
            "8-bit weights overflow on x86 without VNNI: judge the file on the devices that will run it"
            if worse
            else "the file is worse than this device shows: other devices may show it",
        )


def _other_detections(result: CaseResult) -> Iterator[Warning]:
    found = result.parity_device.detections if result.parity_device else None
    if found is not None and (found.missed or found.extra):
        yield Warning(
            "other-detections",
            f"it missed {found.missed} of the original's {found.original} detections and made {found.extra} of its own",
            "hits and false alarms are what users notice: look at them before decibels, and give more clips",
        )


def _disturbed(
    result: CaseResult, launches: Sequence[Launch], device: DeviceFacts | None, settings: RunSettings
) -> Iterator[Warning]:
    usual_probe_ns = disturbances.usual_probe(launches)
    for launch in launches:
        for one in disturbances.of_launch(launch, result.case, device, settings, usual_probe_ns):
            yield _of(one, launch)


def _of(disturbance: Disturbance, launch: Launch) -> Warning:
    effect = "can only slow" if disturbance.effect == "slows" else "can only flatter"
    return Warning(disturbance.code, f"{disturbance.text} in launch {launch.round}; it {effect}", disturbance.hint)


def _placement(launches: Sequence[Launch]) -> Iterator[Warning]:
    for launch in launches:
        placement = launch.placement
        # `ran` is in the runtime's own words (CPUExecutionProvider, XNNPACK): only the share tells of a fall-back.
        # On a CPU it is a delegate's share, and what that leaves is run there all the same.
        if placement is None or placement.asked == "cpu":
            continue
        if (share := placement.accelerated_share) is not None and share < 1:
            yield Warning(
                "fallback",
                f"asked for {placement.asked}, ran on {placement.ran} ({share:.0%} of the nodes as asked)",
                "leave allow_fallback out to make this an error",
            )


def _numbers(result: CaseResult, summary: Summary, settings: RunSettings) -> Iterator[Warning]:
    p50_ns = summary.latency.p50_ns
    yield from _too_few(result, summary, settings)
    if summary.latency.p99_ns > LONG_TAIL * p50_ns:
        yield Warning(
            "long-tail",
            f"p99 is {summary.latency.p99_ns / p50_ns:.1f}x p50",
            "look at the speed probe and at what else ran; a quiet device shortens a tail that is not the model's",
        )
    if summary.overhead_ns is not None and summary.overhead_ns > OVERHEAD_SHARE * p50_ns:
        yield Warning(
            "overhead",
            f"the harness itself takes {summary.overhead_ns / 1e3:.1f} us, {summary.overhead_ns / p50_ns:.0%} of p50",
            "nothing was subtracted; the model is faster than shown by up to that much",
        )
    if summary.pacing_penalty is not None and summary.pacing_penalty > PACING_PENALTY:
        yield Warning(
            "pacing-penalty",
            f"paced, the model takes {summary.pacing_penalty:.1f}x its back-to-back time (cold caches, sleeping cores)",
            "believe the paced numbers: a stream runs that way",
        )
    first_ns = summary.first_inference_ns
    if first_ns is not None and first_ns > SLOW_FIRST_RUN * p50_ns:
        yield Warning(
            "slow-first-run",
            f"the first inference took {first_ns / 1e6:.3g} ms, {first_ns / p50_ns:.0f}x p50",
            "run one inference on silence when the app starts",
        )


def _too_few(result: CaseResult, summary: Summary, settings: RunSettings) -> Iterator[Warning]:
    """The highest percentile that a budget asks for, else p99, and the frames that one launch needs for it."""
    known = [METRICS[budget.metric].share_over for budget in result.budgets if budget.metric in METRICS]
    share = min((one for one in known if one is not None), default=0.01)
    needed = binomial.frames_needed(0, share, settings.confidence)
    frames = min(launch.latency_ns.size for launch in statistics.good_launches(result))
    if frames < needed and not summary.clips:
        yield Warning(
            "few-frames",
            f"{frames} frames in a launch say little of p{100 * (1 - share):g}: {needed} are the least",
            "measure longer (--duration), unless a launch was ended early because it had failed",
        )
    if summary.launches < settings.launches:
        yield Warning(
            "few-launches",
            f"{summary.launches} of {settings.launches} launches",
            "launches differ more than frames do: measure the rest (--resume)",
        )


def _steadiness(launches: Sequence[Launch]) -> Iterator[Warning]:
    usual_ns, probes = disturbances.usual_probe(launches), disturbances.probe_readings(launches)
    if usual_ns and probes.size:
        share = float(np.mean(probes > TWO_SPEEDS * usual_ns))
        if share > TWO_SPEEDS_SHARE:
            yield Warning(
                "two-speeds",
                f"the machine ran at two speeds: the probe was over {TWO_SPEEDS:g}x its usual time in {share:.0%} "
                "of the blocks",
                "close what else runs; on a virtual machine, expect numbers to move by as much",
            )
    for launch in launches:
        third = launch.latency_ns.size // 3
        if third >= 100:
            first, last = float(np.median(launch.latency_ns[:third])), float(np.median(launch.latency_ns[-third:]))
            if last > DRIFT * first:
                yield Warning(
                    "drift",
                    f"launch {launch.round} ended {last / first:.2f}x slower than it began",
                    "heat, or a model whose state grows: see the temperatures, or run it longer (--duration 10m)",
                )
    medians = [float(np.median(launch.latency_ns)) for launch in launches]
    if len(medians) > 1 and max(medians) > LAUNCHES_DIFFER * min(medians):
        yield Warning(
            "launches-differ",
            f"the slowest launch's p50 is {max(medians) / min(medians):.2f}x the fastest's",
            "more launches show how far they differ (--launches 5)",
        )


def _stalls(result: CaseResult, launches: Sequence[Launch], summary: Summary) -> Iterator[Warning]:
    hop = statistics.hop_ns(result)
    if summary.clips:
        return  # frames are clips, which differ in length
    over_ns = max(STALL * summary.response.p50_ns, float(hop or 0))
    found = [
        (event, launch.round)
        for launch in launches
        for event in statistics.events(launch, launch.response_ns > over_ns, hop)
    ]
    if not found:
        return
    longest = sorted(found, key=lambda pair: -pair[0].length_ms)[:STALLS_TOLD]
    named = ", ".join(f"{event.length_ms:.3g} ms at {event.at_s:.1f} s of launch {number}" for event, number in longest)
    yield Warning(
        "stall",
        f"{len(found)} stall{'s' if len(found) > 1 else ''}: {named}",
        "one stall fails nothing; if they come back, look for what else runs at those times",
    )


def _unknown(launches: Sequence[Launch]) -> Iterator[Warning]:
    for launch in launches:
        if launch.peak_rss_bytes is None or launch.rss_before_load_bytes is None:
            reason = launch.memory_reason or "the agent reported no figure"
            yield Warning("memory-unknown", f"peak memory is unknown: {reason}", "no budget on memory can be judged")
    if any(launch.overhead_ns is None for launch in launches):
        yield Warning(
            "overhead-unknown",
            "the harness's own cost was not measured in every launch",
            "a model of a few microseconds may be faster than shown",
        )
