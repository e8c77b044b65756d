"""Which cases there are, and what the agent is asked for each of their launches."""

from __future__ import annotations

from pathlib import Path

import pytest
from invented import artifact, case

from rtfleet import plan
from rtfleet.fleet import LOCAL
from rtfleet.records import Case, Options, RunSettings
from rtfleet.suite import ModelEntry, Settings

ENTRY = ModelEntry("luna", "luna.tflite", Path())


def cases(settings: Settings) -> list[str]:
    return [case.id for case in plan.cases_of(ENTRY, settings, "tflite-shipped", None, LOCAL)]


def test_plain_cases_stand_beside_those_of_the_cpu() -> None:
    settings = Settings(plain=True, accelerators=("cpu", "gpu"), threads=(1, 4))
    luna = f"luna/tflite-shipped@{LOCAL.name}/burst"

    assert cases(settings) == [luna, f"{luna}+plain", f"{luna}+t4", f"{luna}+plain+t4", f"{luna}+gpu", f"{luna}+gpu+t4"]
    assert cases(Settings()) == [luna]


@pytest.mark.parametrize("variant", ["torch-fp32", "coreml-fp16", "tensorrt-fp16"])
def test_what_has_neither_optimizer_nor_delegate_to_switch_off_has_no_plain_twin(variant: str) -> None:
    found = plan.cases_of(ENTRY, Settings(plain=True), variant, None, LOCAL)

    assert [one.options.optimize for one in found] == [True]


def paced(options: Options) -> Case:
    return Case("", "luna", "tflite-fp32", "board", "paced", options)


def test_a_plain_case_is_asked_for_without_the_optimizer_in_every_launch() -> None:
    settings = RunSettings()
    usual, plain = paced(Options()), paced(Options(optimize=False))

    def optimized(of: Case) -> list[bool]:
        return [plan.order_of(of, artifact(), settings, kind).options.optimize for kind in ("LATENCY", "PARITY")]

    assert (optimized(usual), optimized(plain)) == ([True, True], [False, False])


def test_a_profile_launch_keeps_the_pace_and_is_short() -> None:
    settings = RunSettings(min_duration_s=60, timeout_s=None)
    latency, profile = (
        plan.order_of(case().case, artifact(), settings, kind)  # type: ignore[arg-type]
        for kind in ("LATENCY", "PROFILE")
    )

    assert profile.hop_ns == latency.hop_ns > 0
    assert (profile.min_frames, profile.min_duration_ns, profile.block_frames) == (200, 0, 40)
    assert profile.timeout_s < latency.timeout_s


def test_profiles_are_in_the_estimate() -> None:
    usual, profiled = (
        plan.planned(case().case, 80_000_000, RunSettings(), profiled=wanted).seconds for wanted in (False, True)
    )

    assert profiled - usual == plan.LAUNCH_EXTRA_S + 200 * 0.08
