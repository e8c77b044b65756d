"""The built-in recognition encoder is dynamic, deterministic and small."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from rtfleet.models.asr_encoder import asr_encoder  # noqa: E402  # torch may be missing


@pytest.mark.parametrize(("batch", "spectra", "encoded"), [(1, 96, 24), (3, 57, 15), (2, 8, 2)])
def test_batch_and_time_are_free(batch: int, spectra: int, encoded: int) -> None:
    """Any batch and any length go through; time comes out at a quarter."""
    model = asr_encoder()

    with torch.no_grad():
        out = model.source(torch.zeros(batch, spectra, 80))

    assert tuple(out.shape) == (batch, encoded, 144)


def test_two_builds_have_the_same_weights_and_leave_the_generator_alone() -> None:
    """The seed is the model's own: building it changes nobody's random numbers."""
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)

    one, two = asr_encoder().source.state_dict(), asr_encoder().source.state_dict()

    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_it_has_about_two_million_parameters() -> None:
    """The size of a small recogniser's encoder."""
    parameters = sum(parameter.numel() for parameter in asr_encoder().source.parameters())

    assert 1_500_000 < parameters < 2_500_000


@pytest.mark.parametrize(("samples", "frames"), [(0, 1), (100, 1), (16_000, 2), (15_360, 1), (64_000, 5)])
def test_clips_become_whole_frames_of_typical_dims(samples: int, frames: int) -> None:
    """Frames have a leading axis, the typical dims and the graph's dtype, and are finite."""
    model = asr_encoder()
    assert model.frames is not None
    clip = np.random.default_rng(0).standard_normal(samples).astype(np.float32) * 0.1

    features = model.frames(clip)["features"]

    assert features.shape == (frames, *model.inputs["features"].dims)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()


def test_it_is_a_part_and_says_so() -> None:
    """An encoder without its decoder never owes the task's budget."""
    model = asr_encoder()

    assert (model.covers, model.hop_ms) == ("part", None)
    assert "not of words" in model.note
