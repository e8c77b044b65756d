"""The front end of microWakeWord: 40 features every 10 ms, with noise subtracted and loudness evened out.

The same stages as TensorFlow's audio micro front end (Hann window of 30 ms, power spectrum, mel bands, square root,
noise reduction, per-channel gain control, logarithm), vectorised and in floating point but for the whole numbers that
it keeps between stages: those decide what silence looks like.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from rtfleet.model import Array

RATE_HZ = 16_000
WINDOW_SAMPLES, STEP_SAMPLES, FFT_SAMPLES = 480, 160, 512
CHANNELS = 40
LOW_HZ, HIGH_HZ = 125.0, 7500.0
FEATURE_SCALE = 10 / 256
"""One step of the front end's 16-bit output, in the features that microWakeWord was trained on."""

_WEIGHT_ONE = 1 << 12
_SMOOTHING = np.where(np.arange(CHANNELS) % 2 == 0, 0.025, 0.06)
"""How fast the noise estimate follows the signal: even channels slower than odd ones."""
_SIGNAL_LEFT = 0.05
_GAIN_STRENGTH, _GAIN_OFFSET, _GAIN_ONE = 0.95, 80.0, 1 << 21
_ESTIMATE_ONE = 1 << 10
_CORRECTION = 1 << 3
"""The FFT divides by its 512 points and the weights multiply by 2^12: their square roots differ by 2^3."""
_LOG_ONE = 1 << 6

_Reals = npt.NDArray[np.float64]


def features(audio: Array) -> Array:
    """Float audio [samples] in [-1, 1] at 16 kHz -> float32 [n, 40], one every 10 ms, the first after 30 ms.

    The noise estimate starts at zero, as after a reset.
    """
    signal = _band_amplitudes(audio)
    estimate, kept = np.zeros(CHANNELS), np.empty_like(signal)
    gains = np.empty_like(signal)
    for index, now in enumerate(signal):
        scaled = now * _ESTIMATE_ONE
        estimate = np.floor(scaled * _SMOOTHING + estimate * (1 - _SMOOTHING))
        subtracted = np.floor((scaled - np.minimum(estimate, scaled)) / _ESTIMATE_ONE)
        kept[index] = np.maximum(subtracted, np.floor(now * _SIGNAL_LEFT))
        level = estimate * _CORRECTION / _ESTIMATE_ONE
        gains[index] = np.rint(_GAIN_ONE * (level + _GAIN_OFFSET) ** -_GAIN_STRENGTH)
    ratio = kept * gains * _CORRECTION / _GAIN_ONE
    evened = np.floor(np.where(ratio < 2, ratio**2 / 4, ratio - 1) * _LOG_ONE) * _CORRECTION
    made: Array = np.rint(np.log(np.maximum(evened, 1)) * _LOG_ONE) * FEATURE_SCALE
    return made.astype(np.float32)


def _band_amplitudes(audio: Array) -> _Reals:
    """Square roots of the energies in the mel bands, whole numbers [n, CHANNELS]."""
    samples = np.clip(np.rint(audio * 32768), -32768, 32767)
    if len(samples) < WINDOW_SAMPLES:
        samples = np.pad(samples, (0, WINDOW_SAMPLES - len(samples)))
    windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW_SAMPLES)[::STEP_SAMPLES]
    at = (np.arange(WINDOW_SAMPLES) + 0.5) * 2 * math.pi / WINDOW_SAMPLES
    hann = np.floor((0.5 - 0.5 * np.cos(at)) * _WEIGHT_ONE + 0.5)
    windowed = np.floor(windows * hann / _WEIGHT_ONE)
    # Each window is shifted up to use 16 bits before the transform; what is lost there depends on its own peak.
    peaks = np.abs(windowed).max(axis=1)
    lift = 2.0 ** (15 - np.ceil(np.log2(peaks + 1)))[:, None]
    spectrum = np.fft.rfft(windowed * lift, FFT_SAMPLES) / FFT_SAMPLES
    energies = np.rint(spectrum.real) ** 2 + np.rint(spectrum.imag) ** 2
    amplitudes: _Reals = np.floor(np.rint(np.sqrt(energies @ _mel_weights())) / lift)
    return amplitudes


def _mel_weights() -> _Reals:
    """Overlapping triangles on the mel scale, [FFT bins, CHANNELS], one being `_WEIGHT_ONE`."""
    bins = np.arange(FFT_SAMPLES // 2 + 1)
    mel = _mel(bins * RATE_HZ / FFT_SAMPLES)
    corners = np.linspace(_mel(LOW_HZ), _mel(HIGH_HZ), CHANNELS + 2)
    rising = (mel[:, None] - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - mel[:, None]) / (corners[2:] - corners[1:-1])
    weights = np.floor(np.clip(np.minimum(rising, falling), 0, 1) * _WEIGHT_ONE + 0.5)
    weights[: int(1.5 + LOW_HZ * FFT_SAMPLES / RATE_HZ)] = 0  # never the constant part
    return weights


def _mel(frequency_hz: float | _Reals) -> _Reals:
    return np.asarray(1127 * np.log1p(np.asarray(frequency_hz) / 700))
