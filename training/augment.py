"""Rooms, noises, levels: what happens to speech between a mouth and a microphone. Numpy only, seeded by the caller."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from engines import SAMPLE_RATE_HZ, Audio
from scipy.signal import fftconvolve, resample_poly


def in_a_room(audio: Audio, rng: np.random.Generator) -> Audio:
    """Reverberated: exponentially decaying noise, RT60 0.1-0.7 s, the direct sound 0-12 dB above it; not delayed."""
    rt60_s = rng.uniform(0.1, 0.7)
    time_s = np.arange(int(rt60_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tail = rng.standard_normal(len(time_s)) * 10 ** (-3 * time_s / rt60_s)
    tail[: int(rng.uniform(0.001, 0.008) * SAMPLE_RATE_HZ)] = 0
    tail *= 10 ** (-rng.uniform(0, 12) / 20) / np.sqrt((tail**2).sum())
    tail[0] = 1.0
    return fftconvolve(audio, tail)[: len(audio)].astype(np.float32)


def coloured(audio: Audio, rng: np.random.Generator) -> Audio:
    """Through a random smooth equaliser, often with the band limits of a small microphone."""
    frequency_hz = np.fft.rfftfreq(len(audio), 1 / SAMPLE_RATE_HZ)
    corners_hz = np.array([0, 150, 400, 1000, 2500, 5000, 8000])
    gain_db = np.interp(frequency_hz, corners_hz, rng.uniform(-8, 8, len(corners_hz)))
    if rng.random() < 0.4:
        low_hz, high_hz = rng.uniform(80, 350), rng.uniform(3200, 7500)
        gain_db -= 18 * np.clip(np.log2(low_hz / np.maximum(frequency_hz, 1)), 0, 3)
        gain_db -= 30 * np.clip(np.log2(np.maximum(frequency_hz, 1) / high_hz), 0, 2)
    return np.fft.irfft(np.fft.rfft(audio) * 10 ** (gain_db / 20), len(audio)).astype(np.float32)


def at_another_speed(audio: Audio, rng: np.random.Generator) -> Audio:
    """Pitch, formants and pace together, up to 12 % either way."""
    percent = int(rng.integers(88, 113))
    return resample_poly(audio, 100, percent).astype(np.float32)


def noise(samples: int, speech: Sequence[Audio], rng: np.random.Generator) -> Audio:
    """Noise of unit power: steady of some colour, babble of `speech`, or a hum with harmonics."""
    kind = rng.choice(["colour", "babble", "hum"], p=[0.55, 0.35, 0.1])
    if kind == "colour":
        spectrum = np.fft.rfft(rng.standard_normal(samples))
        frequency = np.maximum(np.fft.rfftfreq(samples), 1 / samples)
        audio = np.fft.irfft(spectrum * frequency ** -rng.uniform(0, 1), samples)
    elif kind == "babble":
        audio = np.zeros(samples)
        for _ in range(int(rng.integers(1, 6))):
            one = speech[int(rng.integers(len(speech)))]
            audio += rng.uniform(0.3, 1) * np.roll(np.resize(one, samples), int(rng.integers(samples)))
    else:
        time_s = np.arange(samples) / SAMPLE_RATE_HZ
        base_hz = rng.uniform(45, 400)
        audio = sum(rng.random() / k * np.sin(2 * np.pi * k * base_hz * time_s) for k in range(1, 9))
        audio = audio + 0.05 * rng.standard_normal(samples)
    slow = np.interp(np.arange(samples), np.linspace(0, samples, 6), rng.uniform(0.5, 1.5, 6))
    return (audio * slow / max(1e-6, float(np.std(audio)))).astype(np.float32)


def with_noise(audio: Audio, speech: Sequence[Audio], snr_db: float, rng: np.random.Generator) -> Audio:
    """`audio` with noise so that its speech (its loud half) stands `snr_db` above it."""
    power = np.sort(audio[: len(audio) // 160 * 160].reshape(-1, 160).var(axis=1))
    loud = float(np.sqrt(power[len(power) // 2 :].mean()) + 1e-6)
    return audio + loud * 10 ** (-snr_db / 20) * noise(len(audio), speech, rng)


def at_a_level(audio: Audio, rng: np.random.Generator) -> Audio:
    """At a peak between 0 and -36 dB, now and then clipped, as 16-bit samples are."""
    peak = 10 ** (-rng.uniform(0, 36) / 20)
    if rng.random() < 0.08:
        audio = np.clip(audio / np.abs(audio).max(), -0.5, 0.5)
    audio = audio * (peak / max(1e-6, float(np.abs(audio).max())))
    return (np.round(audio * 32767) / 32768).astype(np.float32)
