"""The built-in speech recognition encoder: a small Conformer, batch and time dynamic. Its weights are seeded noise.

It has the operators, sizes and memory traffic of a small recogniser's encoder, so it says how fast such a model runs
and whether two runtimes agree. It recognises no words: parity of numbers, not of words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from rtfleet.model import Array, Input, SpeechModel

SAMPLE_RATE_HZ = 16_000
WINDOW_SAMPLES = 400
STRIDE_SAMPLES = 160
FFT_SAMPLES = 512
MEL_BANDS = 80
TYPICAL_SPECTRA = 96
"""What one measured frame holds: 0.96 s of audio."""
WIDTH = 144
HEADS = 4
BLOCKS = 4
TAPS = 15
SEED = 20261124


class FeedForward(nn.Sequential):  # type: ignore[misc]  # torch is not typed here
    """Half a step: widened four times and back."""

    def __init__(self) -> None:
        super().__init__(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 4 * WIDTH), nn.SiLU(), nn.Linear(4 * WIDTH, WIDTH))


class Attention(nn.Module):  # type: ignore[misc]
    """Every spectrum looks at every other."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        normal = self.norm(x)
        query, key, value = (
            part(normal).unflatten(2, (HEADS, WIDTH // HEADS)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        weights = torch.softmax(query @ key.transpose(2, 3) / math.sqrt(WIDTH // HEADS), dim=3)
        attended: Tensor = self.out((weights @ value).transpose(1, 2).flatten(2))
        return attended


class Convolution(nn.Module):  # type: ignore[misc]
    """Every spectrum looks at its neighbours. Two-dimensional with height 1: TensorRT refuses the other kind."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.widen = nn.Linear(WIDTH, 2 * WIDTH)
        self.depthwise = nn.Conv2d(WIDTH, WIDTH, (1, TAPS), padding=(0, TAPS // 2), groups=WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.widen(self.norm(x)).chunk(2, dim=2)
        gated = (value * torch.sigmoid(gate)).transpose(1, 2).unsqueeze(2)
        mixed: Tensor = self.out(functional.silu(self.depthwise(gated)).squeeze(2).transpose(1, 2))
        return mixed


class Block(nn.Module):  # type: ignore[misc]
    """A Conformer block: half a feed-forward, attention, convolution, the other half."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = FeedForward(), FeedForward()
        self.attention, self.convolution = Attention(), Convolution()
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = x + 0.5 * self.before(x)
        x = x + self.attention(x)
        x = x + self.convolution(x)
        normal: Tensor = self.norm(x + 0.5 * self.after(x))
        return normal


class Encoder(nn.Module):  # type: ignore[misc]
    """Log-mel spectra [batch, time, 80] -> [batch, about time / 4, 144]."""

    def __init__(self) -> None:
        super().__init__()
        self.halve = nn.Conv2d(1, 32, 3, stride=2, padding=1)
        self.halve_again = nn.Conv2d(32, 32, 3, stride=2, padding=1)
        self.project = nn.Linear(32 * MEL_BANDS // 4, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))

    def forward(self, features: Tensor) -> Tensor:
        planes = torch.relu(self.halve_again(torch.relu(self.halve(features.unsqueeze(1)))))
        x = self.project(planes.transpose(1, 2).flatten(2))
        encoded: Tensor = self.blocks(x + _positions(x))
        return encoded


def asr_encoder() -> SpeechModel:
    """The encoder as `SpeechModel`: features [batch, time, 80] -> encoded [batch, about time / 4, 144]."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        encoder = Encoder()
    return SpeechModel(
        task="asr",
        source=encoder.eval(),
        inputs={"features": Input((-1, -1, MEL_BANDS), typical=(1, TYPICAL_SPECTRA, MEL_BANDS))},
        outputs=["encoded"],
        sample_rate_hz=SAMPLE_RATE_HZ,
        frames=log_mel_frames,
        covers="part",
        note="seeded weights: parity of numbers, not of words",
    )


def log_mel_frames(clip: Array) -> Mapping[str, Array]:
    """A mono clip in [-1, 1] -> `features` [frames, 1, 96, 80]: normalised log-mel spectra, 10 ms apart.

    The clip's end is filled up with silence to a whole frame of 0.96 s.
    """
    spectra_wanted = max(1, math.ceil(len(clip) / STRIDE_SAMPLES / TYPICAL_SPECTRA)) * TYPICAL_SPECTRA
    samples = (spectra_wanted - 1) * STRIDE_SAMPLES + WINDOW_SAMPLES
    padded = np.pad(np.asarray(clip, np.float32), (0, max(0, samples - len(clip))))[:samples]
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW_SAMPLES)[::STRIDE_SAMPLES]
    power = np.abs(np.fft.rfft(windows * np.hanning(WINDOW_SAMPLES), FFT_SAMPLES)) ** 2
    log_mel = np.log(power @ _mel_bands() + 1e-6)
    normal = (log_mel - log_mel.mean()) / (log_mel.std() + 1e-3)
    return {"features": normal.astype(np.float32).reshape(-1, 1, TYPICAL_SPECTRA, MEL_BANDS)}


def _positions(x: Tensor) -> Tensor:
    """Sines and cosines of each place in time, [1, time, WIDTH]."""
    place = torch.arange(x.shape[1], dtype=x.dtype, device=x.device)[:, None]
    rate = torch.exp(torch.arange(0, WIDTH, 2, dtype=x.dtype, device=x.device) * (-math.log(10_000) / WIDTH))
    return torch.cat((torch.sin(place * rate), torch.cos(place * rate)), dim=1)[None]


def _mel_bands() -> Array:
    """Triangles on the mel scale from 20 Hz to 8 kHz: [FFT_SAMPLES // 2 + 1, MEL_BANDS]."""
    frequency_hz = np.fft.rfftfreq(FFT_SAMPLES, 1 / SAMPLE_RATE_HZ)
    corners = 700 * np.expm1(np.linspace(np.log1p(20 / 700), np.log1p(8000 / 700), MEL_BANDS + 2))
    rising = (frequency_hz[:, None] - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - frequency_hz[:, None]) / (corners[2:] - corners[1:-1])
    bands: Array = np.maximum(0, np.minimum(rising, falling))
    return bands
