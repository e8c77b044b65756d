"""Whole runs, fabricated and judged: what a campaign would have left, with every kind of verdict in it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from invented import MS, REFERENCE, artifact, budget, case, device, launch, parity, state

from rtfleet.artifact import Artifact, File, Graph, State, Tensor
from rtfleet.judged import Check, JudgedCase, JudgedRun, Percentiles, Summary, Verdict, Warning
from rtfleet.operators import Operators, OperatorTime
from rtfleet.profile import Budget
from rtfleet.records import CaseError, CaseResult, Launch, Options, Placement, Run, RunSettings, RuntimeFacts
from rtfleet.run_file import Journal

ORT = RuntimeFacts("onnxruntime", "1.32.0", "d" * 64, ("cpu",))
HOSTILE = "ev[red]il|\x1b[2J\u202e\nname"
P99 = Budget("wake-word", "response_p99_ms", 50, False, "device_profiles/generic-linux.toml: wake-word.response_p99_ms")


def streaming(**changes: object) -> Artifact:
    """An artifact with everything that one can have."""
    model = File("model.onnx", "a" * 64, 2_100_000)
    graph = Graph(
        name="main",
        files=(model,),
        inputs=(Tensor("audio", "float32", (1, -1)), Tensor("h", "int8", (1, 1, 64), 0.02, -3)),
        outputs=(Tensor("score", "float32", (1, 1)), Tensor("h_out", "int8", (1, 1, 64), 0.01, 4)),
        states=(State("h", "h_out", File("h.npy", "e" * 64, 192)),),
        shapes={"audio": (1, 1280), "h": (1, 1, 64)},
    )
    facts = {"graphs": (graph,), "reference": REFERENCE, "exporters": {"torch": "2.13.0"}, "threshold": 0.5}
    facts |= {"score": "score", "priming_s": 0.5, "smoothing_hops": 3, "positives": (0, 2)}
    return artifact(**(facts | changes))


def measured_launch(launch_id: str = "l1", frames: int = 459, round_: int = 1, **changes: object) -> Launch:
    """A good paced launch with every field set."""
    latency_ms = 3 + np.arange(frames) % 7 / 10
    facts = {
        "launch_id": launch_id,
        "round": round_,
        "started_at": "2026-11-24T04:00:00.000+00:00",
        "runtime": ORT,
        "placement": Placement("cpu", "cpu", 1.0, ("one graph",)),
        "warmup_latency_ns": np.arange(50, dtype=np.int64) + 4 * MS,
        "burst_latency_ns": np.arange(200, dtype=np.int64) + 2 * MS,
        "device_before": state(1.0, temperature_c=41.5, governor="powersave"),
        "device_after": state(9.0, temperature_c=44.0),
        "compile_ns": 7,
    }
    return launch(latency_ms, **(facts | changes))


OPERATORS = Operators(
    (
        OperatorTime("Convolution #2", "Convolution", 200, 6_000_000, "XNNPACK", accelerated=True),
        OperatorTime("SPLIT_V #25", "SPLIT_V", 200, 3_000_000, "built-in kernels", accelerated=False),
        OperatorTime("less than 1 µs each", "", 200, 1_000_000),
    )
)


def whole_case(*launches: Launch, **changes: object) -> CaseResult:
    """A case with launches, budgets and both parities."""
    facts = {
        "of": streaming(),
        "budgets": (P99, budget("size_mb", 50)),
        "parity_host": parity(optimized=False),
        "parity_device": parity(snr_db=None, max_abs_error=0.0),
        "operators": OPERATORS,
    }
    return case(*(launches or (measured_launch(),)), **(facts | changes))


def renamed(result: CaseResult, **changes: object) -> CaseResult:
    """The same case under another model, variant, device or scenario."""
    of_artifact = {name: value for name, value in changes.items() if name in ("model", "variant")}
    return dataclasses.replace(
        result,
        case=dataclasses.replace(result.case, **changes),
        artifact=dataclasses.replace(result.artifact, **of_artifact) if result.artifact else None,
    )


def run_of(*results: CaseResult, **changes: object) -> Run:
    facts = {
        "id": "20261124-040000-5f3a",
        "started_at": "2026-11-24T04:00:00.000+00:00",
        "rtfleet_version": "0.1.0",
        "host": {"platform": "Linux", "python": "3.11.7", "cores": 2},
        "settings": RunSettings(frames=459),
        "devices": (device(alias="board", model="Board of tests", runtimes=(ORT,), profile="generic-linux"),),
        "results": results,
    }
    return Run(**(facts | changes))


def journalled(run: Run, folder: Path) -> Path:
    """The directory that a campaign would have written for that run."""
    with Journal.create(folder, run) as journal:
        for facts in run.devices:
            journal.device(facts)
        for result in run.results:
            journal.case(dataclasses.replace(result, launches=(), parity_host=None, parity_device=None, operators=None))
            for one in result.launches:
                journal.intent(result.case.id, one.launch_id, one.preflight)
                journal.launch(result.case.id, one)
            if result.parity_host:
                journal.parity(result.case.id, "host", result.parity_host)
            if result.parity_device:
                journal.parity(result.case.id, "device", result.parity_device)
            if result.recognition:
                journal.recognition(result.case.id, result.recognition)
            if result.operators:
                journal.operators(result.case.id, result.operators)
        if run.finished or run.interrupted:
            journal.end(run.interrupted)
    return folder


# ---- judged --------------------------------------------------------------------------------------------------------


def summary(p50_ms: float = 3.0, *, paced: bool = True, lateness_ms: float = 0.2, **changes: object) -> Summary:
    def spread(by_ms: float) -> Percentiles:
        return Percentiles(*((p50_ms * share + by_ms) * MS for share in (1, 1.1, 1.2, 1.5, 3)))

    facts = {
        "launches": 3,
        "frames": 3 * 459,
        "latency": spread(0),
        "response": spread(lateness_ms if paced else 0),
        "rtf_p50": p50_ms / 80 if paced else None,
        "rtf_p99": p50_ms * 1.5 / 80 if paced else None,
        "deadline_misses": 0 if paced else None,
        "duty_cycle": p50_ms / 80 if paced else None,
        "pacing_penalty": 1.7 if paced else None,
    }
    return Summary(**(facts | changes))


def check(verdict: Verdict = "PASS", metric: str = "response_p99_ms", **changes: object) -> Check:
    facts = {
        "metric": metric,
        "limit": 50.0,
        "value": 4.7,
        "verdict": verdict,
        "reason": {
            "PASS": "0 of 1,377 frames over 50 ms in 3 launches (clusters of 3.0 frames assumed)",
            "FAIL": "12 % of the frames of launch 2 are over 50 ms, 1 % allowed",
            "INCONCLUSIVE": "5 of 1,377 frames over 50 ms: 1,301 frames a launch (--duration 105s) would settle it",
            "UNJUDGED": "part of a wake-word model: the budget is for the whole of it",
            "ERROR": "2 of 3 launches failed",
        }[verdict],
        "where": P99.where,
        "confidence": 0.99,
    }
    return Check(**(facts | changes))


def judged_case(
    result: CaseResult,
    verdict: Verdict = "PASS",
    shown: Summary | None = None,
    warnings: tuple[Warning, ...] = (),
    **changes: object,
) -> JudgedCase:
    one = check(verdict)
    facts = {
        "result": result,
        "summary": None if verdict == "ERROR" else shown or summary(),
        "checks": () if verdict == "ERROR" else (one, check(metric="size_mb", value=2.1, confidence=None)),
        "warnings": warnings,
        "verdict": verdict,
        "reason": "" if verdict == "PASS" else f"{one.metric}: {one.reason}",
    }
    return JudgedCase(**(facts | changes))


def judged(*cases: JudgedCase, verdict: Verdict = "PASS", exit_code: int = 0, **changes: object) -> JudgedRun:
    return JudgedRun(run_of(*(one.result for one in cases), **changes), cases, verdict, exit_code)


def every_verdict() -> JudgedRun:
    """A run as `quick` could leave it: every verdict, a missing model, a part, a burst, a warning held in common."""
    busy = Warning("busy", "a busy neighbour: make used 1.8 cores in launch 2; it can only slow", "stop it")
    penalty = Warning(
        "pacing-penalty", "paced, the model takes 6.7x its back-to-back time", "believe the paced numbers"
    )
    fp32 = whole_case()
    speaker = whole_case(of=streaming(task="speaker", model="speaker-encoder", hop_samples=None), scenario="burst")
    missing = CaseResult(
        dataclasses.replace(fp32.case, artifact_id="", model="silero-vad", variant="onnx-shipped"),
        None,
        error=CaseError("SOURCE", "silero-vad can't be fetched: no route to the package index", "rtfleet models fetch"),
    )
    part = whole_case(of=streaming(covers="part", model="openwakeword-alexa"))
    return judged(
        judged_case(renamed(fp32, model="wake-word"), "PASS", summary(0.412, lateness_ms=0.08), (busy,)),
        judged_case(
            renamed(fp32, model="wake-word", variant="onnx-int8-static"), "FAIL", summary(0.208), (busy, penalty)
        ),
        judged_case(renamed(fp32, model="wake-word", variant="tflite-fp32"), "INCONCLUSIVE", summary(33.0)),
        judged_case(missing, "ERROR", reason=missing.error.text if missing.error else ""),
        judged_case(renamed(speaker, model="speaker-encoder"), "PASS", summary(41.2, paced=False)),
        judged_case(part, "UNJUDGED", summary(0.9)),
        verdict="FAIL",
        exit_code=1,
    )


def hostile() -> JudgedRun:
    """A run in which every name and text wants to be markup, a table's border or a terminal's command."""
    warning = Warning("w", HOSTILE, HOSTILE)
    named = renamed(whole_case(), model=HOSTILE, options=Options(threads=4))
    broken = dataclasses.replace(named, artifact=None, error=CaseError("SOURCE", HOSTILE, HOSTILE))
    return judged(
        judged_case(named, "FAIL", warnings=(warning,), reason=HOSTILE, checks=(check("FAIL", reason=HOSTILE),)),
        judged_case(renamed(broken, variant="onnx-fp16"), "ERROR", reason=HOSTILE),
        verdict="FAIL",
        exit_code=1,
        devices=(device(alias="board", model=HOSTILE, runtimes=(dataclasses.replace(ORT, version=HOSTILE),)),),
    )
