"""Resemblyzer's speaker encoder (Apache-2.0): the weights of the package `resemblyzer`, rebuilt in PyTorch.

Whole, but for the package's removal of long silences, which needs a voice detector of its own. Three LSTMs (40 -> 256)
and a linear layer: 1.6 s of mel spectra -> an embedding of length 1. It does not stream; the windows of a clip overlap
as the package's do.

Its weights resist int8: with ONNX Runtime's dynamic quantization the embeddings are 0.5 dB from the original's (19
windows of the default clips), and rounding the first LSTM's input weights alone to 12 bits leaves 5 dB. A smaller and
faster file that is no longer the same model: what the parity check is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rtfleet.fetch import Package, fetch
from rtfleet.model import Array, Input, SpeechModel

RESEMBLYZER = Package(
    name="resemblyzer",
    version="0.1.4",
    sha256="8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f",
    licence="Apache-2.0",
    files={
        "resemblyzer/pretrained.pt": "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
        "Resemblyzer-0.1.4.dist-info/LICENSE": "835cbdc5bdc6c60fae874e544e7d5ba648d77d25ec72e4c2efc26b5fde0862c3",
    },
)
PACKAGES = (RESEMBLYZER,)

RATE_HZ = 16_000
BANDS, SPECTRA, UNITS, LAYERS = 40, 160, 256, 3
WINDOW_SAMPLES, STEP_SAMPLES = 400, 160
WINDOW_STEP_SPECTRA = 77
"""1.3 windows a second."""
_LOUDNESS_DB = -30.0
_LINEAR_HZ, _LOG_STEP = 1000.0, np.log(6.4) / 27
"""Slaney's mel scale: 200/3 Hz a mel below 1 kHz, logarithmic above."""


def speaker_encoder() -> SpeechModel:
    """`mels` [1, 160, 40] -> `embedding` [1, 256]."""
    return SpeechModel(
        task="speaker",
        source=_network(fetch(RESEMBLYZER) / "resemblyzer/pretrained.pt"),
        inputs={"mels": Input((1, SPECTRA, BANDS))},
        outputs=["embedding"],
        sample_rate_hz=RATE_HZ,
        frames=frames,
    )


def frames(audio: Array) -> Mapping[str, Array]:
    """Audio [samples] -> mel windows [n, 1, 160, 40]; a clip below 1.6 s is filled up with silence.

    A rest at the end is left out unless three quarters of a window are audio.
    """
    made = mel_spectra(_louder(audio))
    whole = 1 + (max(0, len(made) - SPECTRA)) // WINDOW_STEP_SPECTRA
    rest = len(made) - whole * WINDOW_STEP_SPECTRA
    count = whole + (rest >= 0.75 * SPECTRA and len(made) > SPECTRA)
    needed = (count - 1) * WINDOW_STEP_SPECTRA + SPECTRA
    padded = np.pad(made, ((0, max(0, needed - len(made))), (0, 0)))
    starts = range(0, count * WINDOW_STEP_SPECTRA, WINDOW_STEP_SPECTRA)
    return {"mels": np.stack([padded[start : start + SPECTRA] for start in starts])[:, None]}


def mel_spectra(audio: Array) -> Array:
    """Power in 40 mel bands (no logarithm), [1 + samples // 160, 40], as librosa's `melspectrogram` has it."""
    padded = np.pad(audio, WINDOW_SAMPLES // 2)
    chunks = np.lib.stride_tricks.sliding_window_view(padded, WINDOW_SAMPLES)[::STEP_SAMPLES]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW_SAMPLES) / WINDOW_SAMPLES)
    power = np.abs(np.fft.rfft(chunks * hann, axis=1)) ** 2
    return (power @ _mel_filters()).astype(np.float32)


def _louder(audio: Array) -> Array:
    """Quiet audio is raised to -30 dB below full scale; loud audio stays."""
    level = float(np.sqrt(np.mean(audio.astype(np.float64) ** 2)))
    gain = 10 ** (_LOUDNESS_DB / 20) / level if level > 0 else 1.0
    result: Array = audio * np.float32(max(1.0, gain))
    return result


def _mel_filters() -> Array:
    """Triangles of equal area, [201 bins, 40]."""
    top = _LINEAR_HZ * 3 / 200 + np.log(RATE_HZ / 2 / _LINEAR_HZ) / _LOG_STEP
    mel = np.linspace(0, top, BANDS + 2)
    linear = _LINEAR_HZ * 3 / 200
    corners = np.where(mel < linear, mel * 200 / 3, _LINEAR_HZ * np.exp(_LOG_STEP * (mel - linear)))
    bins = np.arange(WINDOW_SAMPLES // 2 + 1)[:, None] * RATE_HZ / WINDOW_SAMPLES
    rising = (bins - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - bins) / (corners[2:] - corners[1:-1])
    filters: Array = np.clip(np.minimum(rising, falling), 0, None) * 2 / (corners[2:] - corners[:-2])
    return filters


def _network(weights: Path) -> Any:
    import torch
    from torch import nn

    class Encoder(nn.Module):  # type: ignore[misc]  # torch is not typed here
        """mels [batch, time, 40] -> embeddings [batch, 256] of length 1, none negative."""

        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(BANDS, UNITS, LAYERS, batch_first=True)
            self.linear = nn.Linear(UNITS, UNITS)

        def forward(self, mels: torch.Tensor) -> torch.Tensor:
            _, (hidden, _) = self.lstm(mels)
            raw = torch.relu(self.linear(hidden[-1]))
            return raw / torch.sqrt((raw * raw).sum(dim=1, keepdim=True))

    network = Encoder()
    state = torch.load(weights, map_location="cpu", weights_only=True)["model_state"]
    network.load_state_dict({name: value for name, value in state.items() if name.startswith(("lstm", "linear"))})
    return network.eval()
