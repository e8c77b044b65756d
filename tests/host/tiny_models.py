"""Small models as a user's own module: tests copy this file into a folder and export from there."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from rtfleet import Input, SpeechModel, State

SEED = 7
HOP_MS = 20
HOP = 320


class Echo(nn.Module):
    """Convolutions whose features fade slowly: 2 s later a frame still counts by a third."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Conv2d(1, 32, (1, 80), stride=(1, 40))
        self.inner = nn.Conv2d(32, 64, (1, 3))
        self.score = nn.Linear(64, 1)

    def forward(self, audio: Tensor, tail: Tensor, memory: Tensor) -> tuple[Tensor, ...]:
        heard = torch.cat((tail, audio), dim=1)
        features = torch.relu(self.inner(torch.relu(self.entry(heard[:, None, None, :])))).mean(dim=(2, 3))
        memory = 0.99 * memory + features
        return self.score(0.1 * memory), heard[:, -80:], memory


class Gated(nn.Module):
    """A GRU, or an LSTM, over projected audio."""

    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.entry = nn.Linear(HOP, 24)
        self.cell = kind(24, 48, batch_first=True)
        self.score = nn.Linear(48, 4)

    def forward(self, audio: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        told, after = self.cell(self.entry(audio)[:, None, :], states if len(states) > 1 else states[0])
        return self.score(told[:, 0]), *(after if len(states) > 1 else (after,))


class Front(nn.Module):
    """A spectrum as fixed convolutions, and its logarithm."""

    def __init__(self) -> None:
        super().__init__()
        turns = 2 * np.pi * np.outer(np.arange(1, 25), np.arange(64)) / 64
        waves = np.concatenate((np.cos(turns), np.sin(turns))) * np.hanning(64)
        self.stft = nn.Conv2d(1, 48, (1, 64), stride=(1, 32), bias=False)
        self.stft.weight = nn.Parameter(torch.tensor(waves[:, None, None, :], dtype=torch.float32))

    def forward(self, audio: Tensor) -> Tensor:
        real, imaginary = self.stft(audio[:, None, None, :]).chunk(2, dim=1)
        return torch.log(real * real + imaginary * imaginary + 1e-3)


class Spectral(nn.Module):
    """A classifier on the spectrum."""

    def __init__(self) -> None:
        super().__init__()
        self.front = Front()
        self.body = nn.Conv2d(24, 48, (1, 3))
        self.score = nn.Linear(48, 4)

    def forward(self, audio: Tensor) -> Tensor:
        return self.score(torch.relu(self.body(self.front(audio))).mean(dim=(2, 3)))


class Flat(nn.Module):
    """One-dimensional convolutions of every kind, and the number added before a logarithm that TensorRT trips over."""

    def __init__(self) -> None:
        super().__init__()
        self.waves = nn.Conv1d(1, 16, 32, stride=16, padding=8, bias=False)
        self.bands = nn.Conv1d(16, 8, 1, bias=False)
        self.bands.weight = nn.Parameter(self.bands.weight.abs())
        self.deep = nn.Conv1d(8, 8, 3, dilation=2, groups=8)
        self.wide = nn.ConvTranspose1d(8, 4, 4, stride=2, padding=1, output_padding=1)
        self.score = nn.Linear(4, 2)

    def forward(self, audio: Tensor, past: Tensor) -> tuple[Tensor, ...]:
        power = self.bands(self.waves(audio[:, None, :]) ** 2)
        heard = torch.cat((past, torch.log(power + 1e-3)), dim=2)
        return self.score(self.wide(torch.relu(self.deep(heard))).mean(dim=2)), heard[..., -4:]


class Encoder(nn.Module):
    """Features of any length."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(16, 32)
        self.second = nn.Linear(32, 8)

    def forward(self, features: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(features)))


class Streamed(nn.Module):
    """An encoder of chunks of eight features that also hears the two after them, and remembers the four before."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(16, 24, (1, 7))
        self.out = nn.Linear(24, 8)

    def forward(self, features: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        heard = torch.cat((past, features), dim=1)
        mixed = torch.relu(self.mix(heard.transpose(1, 2)[:, :, None, :]))[:, :, 0].transpose(1, 2)
        return self.out(mixed), heard[:, -6:-2]


class Fourier(nn.Module):
    """Complex numbers inside."""

    def forward(self, audio: Tensor) -> Tensor:
        return torch.stft(audio, 64, window=torch.ones(64), return_complex=True).abs().mean(dim=(1, 2))[:, None]


class Branching(nn.Module):
    """Decides by what it hears."""

    def forward(self, audio: Tensor) -> Tensor:
        return audio.mean(dim=1) if audio.sum() > 0 else -audio.mean(dim=1)


def _streaming(source: nn.Module, states: tuple[State, ...] = (), **more: object) -> SpeechModel:
    return SpeechModel(
        task="wake-word",
        source=source,
        inputs={"audio": Input((1, HOP))},
        outputs=["score"],
        states=states,
        hop_ms=HOP_MS,
        **more,
    )


def echo() -> SpeechModel:
    torch.manual_seed(SEED)
    initial = np.full((1, 64), 0.5, np.float32)
    states = (State("tail", "tail_out", (1, 80)), State("memory", "memory_out", (1, 64), initial))
    return _streaming(Echo(), states, threshold=-0.16)


def gru() -> SpeechModel:
    torch.manual_seed(SEED)
    return _streaming(Gated(nn.GRU), (State("h", "h_out", (1, 1, 48)),))


def lstm() -> SpeechModel:
    torch.manual_seed(SEED)
    return _streaming(Gated(nn.LSTM), (State("h", "h_out", (1, 1, 48)), State("c", "c_out", (1, 1, 48))))


def spectral() -> SpeechModel:
    torch.manual_seed(SEED)
    return _streaming(Spectral(), keep_float=("front",))


def spectral_whole() -> SpeechModel:
    torch.manual_seed(SEED)
    return _streaming(Spectral())


def flat() -> SpeechModel:
    torch.manual_seed(SEED)
    return _streaming(Flat(), (State("past", "past_out", (1, 8, 4)),))


def encoder() -> SpeechModel:
    torch.manual_seed(SEED)

    def frames(clip: np.ndarray) -> dict[str, np.ndarray]:
        return {"features": np.resize(clip, (4, 1, 12, 16))}

    inputs = {"features": Input((1, -1, 16), typical=(1, 12, 16))}
    return SpeechModel(task="asr", source=Encoder(), inputs=inputs, outputs=["encoded"], frames=frames)


def streamed() -> SpeechModel:
    torch.manual_seed(SEED)

    def frames(clip: np.ndarray) -> dict[str, np.ndarray]:
        """A feature is 16 samples apart, a chunk 8 features; two of the next chunk are looked at."""
        count = max(1, len(clip) // (8 * 16) - 1)
        features = np.resize(clip, (count * 8 + 2, 16)).astype(np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(features, 10, axis=0)[::8][:count]
        return {"features": windows.transpose(0, 2, 1)[:, None].copy()}

    return SpeechModel(
        task="asr",
        source=Streamed(),
        inputs={"features": Input((1, 10, 16))},
        outputs=["encoded"],
        states=(State("past", "past_out", (1, 4, 16)),),
        hop_ms=8,
        lookahead_ms=2,
        frames=frames,
        covers="part",
    )


def fourier() -> SpeechModel:
    return _streaming(Fourier())


def branching() -> SpeechModel:
    return _streaming(Branching())


class Curve(nn.Module):
    """The same weights, another network: only the function that makes it tells `bent` from `straight`."""

    def __init__(self, bend: bool) -> None:
        super().__init__()
        self.entry = nn.Linear(HOP, 8)
        self.bend = bend

    def forward(self, audio: Tensor) -> Tensor:
        return torch.tanh(self.entry(audio)) if self.bend else self.entry(audio)


def bent() -> SpeechModel:
    torch.manual_seed(SEED)
    return _streaming(Curve(True))


def straight() -> SpeechModel:
    torch.manual_seed(SEED)
    return _streaming(Curve(False))


class Factors(nn.Module):
    """An operator that no converter has."""

    def forward(self, audio: Tensor) -> Tensor:
        return torch.linalg.svdvals(audio.reshape(1, 16, 20))


def factors() -> SpeechModel:
    return _streaming(Factors())
