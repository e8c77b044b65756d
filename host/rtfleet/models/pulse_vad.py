"""PulseVAD (MIT), as the package `pulsevad` ships it: 2,118 parameters, ONNX fp32 and its int8 QDQ twin.

Whole: the log-mel front end is rewritten here after the package's own; its filter bank is fetched. A window of 200 ms
every 100 ms, the package's own step; no state. `logits` are (no speech, speech): the package decides by a softmax at
0.5, that is by which of the two is larger.

The int8 file (27 kB) is more than twice as large as the fp32 one (12 kB), and that is no mistake: at this size the
added nodes weigh more than the weights saved.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rtfleet.fetch import Package, fetch
from rtfleet.model import Array, Input, SpeechModel

PULSEVAD = Package(
    name="pulsevad",
    version="0.1.3",
    sha256="0f651878ecaf9a6f42cc3adde57756c102759ac090006c007271859218ba39db",
    licence="MIT",
    files={
        "pulsevad/data/pulsevad_2.1k.onnx": "2b8c4874fc4ecd64916fc8726e2a8281b1cb9457c21f42a23a9776a4d538c665",
        "pulsevad/data/pulsevad_2.1k_int8.onnx": "416061347a1e723ed15163acd51006bf3c513b27bb9f57d85e2c694cc44b8389",
        "pulsevad/data/mel_filterbank.npy": "6db831a2412a81992e6a67e2aa4a0a256722decd1ee09cb39bd933de8cbd34ab",
        "pulsevad-0.1.3.dist-info/licenses/LICENSE": "38850c88bdcaba5c183e060e966d10b1eb0d5637ccb71cea96374ff094a7329e",
    },
)
PACKAGES = (PULSEVAD,)

WINDOW_SAMPLES, HOP_SAMPLES = 3_200, 1_600
BANDS, SPECTRA = 64, 21
_HANN_SAMPLES, _FFT_SAMPLES, _STEP_SAMPLES = 400, 512, 160
_PREEMPHASIS, _EPSILON = 0.97, 1e-5


def pulse_vad() -> SpeechModel:
    """`log_mel` [1, 64, 21] -> `logits` [1, 2], float32."""
    return _model("pulsevad_2.1k.onnx")


def pulse_vad_int8() -> SpeechModel:
    """The same with int8 weights and activations inside; inputs and outputs stay float32."""
    return _model("pulsevad_2.1k_int8.onnx")


def log_mel(windows: Array, bank: Array) -> Array:
    """Windows [n, 3200] -> [n, 64, 21]: pre-emphasis, unit variance, log-mel, unit variance of each band in time.

    Args:
        bank: Mel filters [257, 64], the package's.
    """
    emphasized = windows.astype(np.float32)
    emphasized[:, 1:] -= np.float32(_PREEMPHASIS) * windows[:, :-1]
    level = _standardized(emphasized)
    padded = np.pad(level, ((0, 0), (_FFT_SAMPLES // 2, _FFT_SAMPLES // 2)), mode="reflect")
    chunks = np.lib.stride_tricks.sliding_window_view(padded, _FFT_SAMPLES, axis=1)[:, ::_STEP_SAMPLES]
    margin = (_FFT_SAMPLES - _HANN_SAMPLES) // 2
    at = 2 * np.pi * np.arange(_HANN_SAMPLES) / _HANN_SAMPLES
    hann = np.pad(0.5 - 0.5 * np.cos(at), margin).astype(np.float32)
    power = np.abs(np.fft.rfft(chunks * hann, axis=2)) ** 2
    logarithms = np.log(power @ bank + _EPSILON).transpose(0, 2, 1)
    return _standardized(logarithms).astype(np.float32)


def _standardized(values: Array) -> Array:
    """Mean 0 and variance 1 along the last axis."""
    mean, deviation = values.mean(axis=-1, keepdims=True), values.std(axis=-1, keepdims=True)
    result: Array = (values - mean) / (deviation + _EPSILON)
    return result


def _model(file: str) -> SpeechModel:
    folder = fetch(PULSEVAD) / "pulsevad/data"
    bank = np.load(folder / "mel_filterbank.npy", allow_pickle=False)

    def frames(audio: Array) -> Mapping[str, Array]:
        whole = np.pad(audio, (0, max(0, WINDOW_SAMPLES - len(audio))))
        windows = np.lib.stride_tricks.sliding_window_view(whole, WINDOW_SAMPLES)[::HOP_SAMPLES]
        return {"log_mel": log_mel(windows, bank)[:, None]}

    return SpeechModel(
        task="vad",
        source=folder / file,
        inputs={"log_mel": Input((-1, BANDS, SPECTRA), typical=(1, BANDS, SPECTRA))},
        outputs=["logits"],
        sample_rate_hz=16_000,
        hop_ms=100,
        frames=frames,
        threshold=0.0,
    )
