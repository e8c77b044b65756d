"""Flags of the command line mean what they say, and say what is wrong with them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from rtfleet.cli import description, options
from rtfleet.errors import UsageError
from rtfleet.suite import ModelEntry, Settings, Suite


@pytest.mark.parametrize(
    ("text", "value"),
    [("x=1x576", (1, 576)), ("x=[576]", (576,)), ("x=16000", 16_000), ("x=0.5", 0.5), ("x=true", True)],
)
def test_an_input_is_a_shape_or_a_constant(text: str, value: object) -> None:
    assert description.inputs([text]) == {"x": value}


@pytest.mark.parametrize("text", ["x", "x=", "=3", "x=a", "x=nan", "x=1x"])
def test_an_unreadable_input_names_the_flag(text: str) -> None:
    with pytest.raises(UsageError, match="--input"):
        description.inputs([text])


def test_an_input_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="twice"):
        description.inputs(["x=1", "x=2"])


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1h", 3600), ("1.5m", 90)])
def test_a_time_has_a_unit_or_is_seconds(text: str, seconds: float) -> None:
    assert options.duration_s(text, "--timeout") == seconds


@pytest.mark.parametrize("text", ["", "0", "m", "-3s", "3d"])
def test_an_unreadable_time_shows_examples(text: str) -> None:
    with pytest.raises(UsageError, match="90s, 10m or 1h"):
        options.duration_s(text, "--timeout")


def test_cores_are_numbers_and_ranges() -> None:
    assert options.cpus("0,2-3") == (0, 2, 3)
    assert (options.cpus("big"), options.cpus("little"), options.cpus(None)) == ("big", "little", ())


@pytest.mark.parametrize("text", ["", "a", "large", "3-1", "1,"])
def test_unreadable_cores_show_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="0,2-3"):
        options.cpus(text)


def test_a_budget_needs_a_known_metric() -> None:
    assert options.budgets(["response_p99_ms=30", "parity_agreement_min=0.9"]) == {
        "response_p99_ms": 30,
        "parity_agreement_min": 0.9,
    }
    with pytest.raises(UsageError, match="--budget unknown budget 'speed'"):
        options.budgets(["speed=3"])


@pytest.mark.parametrize("value", [1.0, 0.2, 99.0])
def test_a_confidence_is_a_fraction(value: float) -> None:
    with pytest.raises(UsageError, match=r"like 0\.99"):
        options.confidence(value)


def test_names_of_a_closed_set_are_checked_and_listed() -> None:
    with pytest.raises(UsageError, match="paced, burst"):
        options.scenario("server")
    with pytest.raises(UsageError, match="wake-word, vad"):
        description.task("music")
    with pytest.raises(UsageError, match="cpu, gpu, npu"):
        options.accelerators(["tpu"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("response_p99_ms=-1", "response_p99_ms: expected 0 or more, found -1"),
        ("response_p99_ms=nan", "expected 0 or more"),
        ("parity_agreement_min=2", "expected a share of 0 to 1, found 2"),
        ("parity_snr_db=80", "parity_snr_db is no ceiling"),
        ("size_mb=many", "expected a number"),
    ],
)
def test_a_limit_that_a_metric_can_not_have_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match="--budget ") as refused:
        options.budgets([text])

    assert said in refused.value.text


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"duration_s": 30.0, "timeout_s": 1.0}, "timeout_s: 1 is no longer than a launch of 30 s"),
        ({"launches": 5000}, "launches: expected more than 0 and at most 1,000"),
        ({"duration_s": 1e300}, "min_duration_s: expected more than 0"),
    ],
)
def test_settings_that_can_not_be_are_wrong_usage(flags: dict[str, float], said: str) -> None:
    none = dict.fromkeys(("launches", "confidence", "duration_s", "timeout_s", "tolerance", "scenario"))
    given: dict[str, Any] = {**none, "threads": [], "cpus": (), "accelerators": (), "plain": False, **flags}

    with pytest.raises(UsageError, match=re.escape(said)):
        options.settings_over(Settings(), **given)


def test_what_is_asked_for_twice_is_measured_once() -> None:
    settings = options.settings_over(
        Settings(), launches=None, confidence=None, duration_s=None, timeout_s=None, tolerance=None, scenario=None,
        threads=[1, 4, 1], cpus=(), accelerators=options.accelerators(["cpu", "cpu"]), plain=False,
    )  # fmt: skip

    assert (settings.threads, settings.accelerators) == ((1, 4), ("cpu",))


def test_a_baseline_that_is_a_file_is_described_as_the_candidate_is() -> None:
    entry = ModelEntry("luna", "new.onnx", Path("models"), task="vad", hop_ms=32, where="suite.toml: model[0]")
    nothing = description.Description(None, None, None, {}, {}, ())

    (before,) = options.baseline("old.onnx", Suite("suite", (entry,)), nothing, None).models

    assert (before.name, before.source, before.folder) == ("luna", "old.onnx", Path.cwd())
    assert (before.task, before.hop_ms, before.where) == ("vad", 32, "--against old.onnx")
