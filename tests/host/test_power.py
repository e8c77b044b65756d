"""The exact chance of a PASS, held against the rule itself applied to simulated frames."""

from __future__ import annotations

import numpy as np
import pytest

from rtfleet import percentile_claims, power
from rtfleet.percentile_claims import Evidence
from rtfleet.profile import Budget
from rtfleet.records import RunSettings


def seen_to_pass(true_share: float, share: float, frames: int, launches: int, cluster: float, tries: int) -> float:
    """How often the product's own rule holds for independent frames."""
    over = np.random.default_rng(frames).binomial(frames, true_share, (tries, launches))
    return float(
        np.mean(
            [
                percentile_claims.proves(
                    Evidence(tuple(map(int, row)), (frames,) * launches, cluster, True), share, 0.99
                )
                for row in over
            ]
        )
    )


@pytest.mark.parametrize(
    ("true_share", "share", "frames", "launches", "cluster"),
    [
        (0.001, 0.01, 459, 3, 3.0),
        (0.001, 0.01, 1301, 3, 1.0),
        (0.004, 0.01, 1301, 3, 4.7),
        (0.002, 0.01, 1400, 10, 3.0),
        (0.02, 0.05, 300, 1, 1.0),
    ],
)
def test_the_chance_is_that_of_the_rule_on_simulated_frames(
    true_share: float, share: float, frames: int, launches: int, cluster: float
) -> None:
    chance = power.pass_probability(true_share, share, frames, launches, 0.99, cluster)

    seen = seen_to_pass(true_share, share, frames, launches, cluster, 20_000)

    assert seen == pytest.approx(chance, abs=4 * (chance * (1 - chance) / 20_000) ** 0.5 + 1e-4)


def test_with_459_frames_a_pass_takes_none_over_at_all() -> None:
    chance = power.pass_probability(0.001, 0.01, 459, 3, 0.99, 3.0)

    assert chance == pytest.approx(0.999 ** (3 * 459))


def test_a_case_at_its_limit_passes_no_more_often_than_the_confidence_allows() -> None:
    assert power.pass_probability(0.01, 0.01, 1001, 1, 0.99, 1.0) == pytest.approx(0.01, rel=0.01)
    assert power.pass_probability(0.01, 0.01, 1301, 3, 0.99, 3.0) < 1e-5


@pytest.mark.parametrize(("true_share", "frames", "chance"), [(0.0, 458, 0.0), (0.0, 459, 1.0), (1.0, 459, 0.0)])
def test_the_ends(true_share: float, frames: int, chance: float) -> None:
    assert power.pass_probability(true_share, 0.01, frames, 3, 0.99, 3.0) == chance


def test_the_largest_likely_share_is_where_the_chance_is_the_one_asked_for() -> None:
    largest = power.largest_share_likely_to_pass(0.01, 1301, 3, 0.99, 0.9)

    assert power.pass_probability(largest, 0.01, 1301, 3, 0.99, 3.0) == pytest.approx(0.9, abs=1e-6)


def test_more_frames_let_a_larger_share_pass_and_too_few_let_none() -> None:
    likely = [power.largest_share_likely_to_pass(0.01, frames, 3, 0.99) for frames in (458, 459, 662, 1301)]

    assert likely[0] == 0.0
    assert likely == sorted(likely)


@pytest.mark.parametrize(
    ("metric", "limit", "settings", "frames", "said"),
    [
        (
            "response_p99_ms",
            50,
            RunSettings(),
            1301,
            "3 launches of 1,301 frames PASS 9 times in 10 where 0.14 % are over",
        ),
        ("response_p99_ms", 50, RunSettings(), 300, "can't show a PASS: 459 frames a launch are the least"),
        ("response_p99_ms", 50, RunSettings(launches=1), 500, "can't show a PASS: 1,377 frames a launch are the least"),
        ("deadline_misses", 0.05, RunSettings(), 662, "are over (5 % allowed)"),
        ("size_mb", 50, RunSettings(), 1301, ""),
    ],
)
def test_a_plan_says_what_its_frames_can_show(
    metric: str, limit: float, settings: RunSettings, frames: int, said: str
) -> None:
    told = power.foretold(Budget("all", metric, limit, False, "here"), frames, settings)

    assert said in told and bool(said) == bool(told)


def test_as_many_frames_as_the_least_can_show_a_pass() -> None:
    owed = Budget("all", "response_p99_ms", 50, False, "here")

    assert "can't" in power.foretold(owed, 1376, RunSettings(launches=1))
    assert "PASS 9 times" in power.foretold(owed, 1377, RunSettings(launches=1))
