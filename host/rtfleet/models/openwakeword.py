"""openWakeWord (Apache-2.0): whole, as a chain of three graphs, and each graph by itself as a part.

The graphs are mel, speech embedding, and the head for "alexa". ONNX from the package `openwakeword` (0.4.0; later
versions ship no weights), TFLite from `pyopen-wakeword`; float32. A frame is 80 ms for each: 1280 samples and 480 of
context -> 8 mel spectra; 76 of those -> an embedding; 16 of those -> a score.

What a graph remembers lies outside of it. The chain carries the two windows on the device, 8 spectra and one embedding
further with every frame; a part by itself is fed the whole window every time. The frames of the parts are made of real
audio by the graphs before them, with the runtime that the file is for. Where that runtime is not installed they are
synthetic, and the row says so. The heads fire on their own empty buffers: 4 s of low noise come before each clip.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from rtfleet.fetch import Package, fetch
from rtfleet.loop import Chain, Edge
from rtfleet.model import Array, Input, SpeechModel

_ONNX_FOLDER, _TFLITE_FOLDER = "openwakeword/resources/models", "pyopen_wakeword/models"
_LICENCE_SHA256 = "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4"

ONNX = Package(
    name="openwakeword",
    version="0.4.0",
    sha256="2c353f49a35d384507403efde3db439353d8281a52d08a0e42a5b493e5145075",
    licence="Apache-2.0",
    files={
        f"{_ONNX_FOLDER}/melspectrogram.onnx": "ba2b0e0f8b7b875369a2c89cb13360ff53bac436f2895cced9f479fa65eb176f",
        f"{_ONNX_FOLDER}/embedding_model.onnx": "ba754db3cd768a524c655ea90655ee5e6055a43b8dfd29366a11e93716ae9e51",
        f"{_ONNX_FOLDER}/alexa_v0.1.onnx": "6ff566a01d12670e8d9e3c59da32651db1575d17272a601b7f8a39283dfbae3e",
        "openwakeword-0.4.0.dist-info/LICENSE": _LICENCE_SHA256,
    },
)
TFLITE = Package(
    name="pyopen-wakeword",
    version="1.1.0",
    sha256="754347a59de2b3d378a0cbc404a8b41164036e74fa1c185f88056974e4bfb6b4",
    licence="Apache-2.0",
    files={
        f"{_TFLITE_FOLDER}/melspectrogram.tflite": "96fa0adccb6e8cf95cb14465409a1a2898ee4a96a85bb9ed3c7eb0e68bf163e8",
        f"{_TFLITE_FOLDER}/embedding_model.tflite": "c0aea21eb84a4ce90a08c870da41b7a7173b45269e6a3207c71d67c40f3a59d8",
        f"{_TFLITE_FOLDER}/alexa.tflite": "7333a317a790070a7f3432b81d9439c779481cc4ebd67c73da7174ea3cf48397",
        "pyopen_wakeword-1.1.0.dist-info/licenses/LICENSE": _LICENCE_SHA256,
    },
)
PACKAGES = (ONNX, TFLITE)

CONTEXT_SAMPLES, HOP_SAMPLES, HOP_MS = 480, 1280, 80
BANDS, SPECTRA, SPECTRA_A_HOP = 32, 76, 8
EMBEDDINGS, EMBEDDING = 16, 96
PRIMING_S = 4.0

Stage: TypeAlias = Callable[[Array], Array]
"""Frames [n, *dims of the input] -> [n, *dims of the output]."""


def openwakeword() -> SpeechModel:
    """`input` [1, 1760], in the range of 16-bit samples -> `13` [1, 1], the score."""
    mel, embedding, head = (_onnx(file) for file in ("melspectrogram.onnx", "embedding_model.onnx", "alexa_v0.1.onnx"))
    source = {"mel": mel, "embedding": embedding, "head": head}
    return _chain(source, ("input", "output"), ("input_1", "conv2d_19"), ("onnx::Flatten_0", "13"))


def openwakeword_tflite() -> SpeechModel:
    """As `openwakeword`."""
    mel, embedding, head = (
        _tflite(file) for file in ("melspectrogram.tflite", "embedding_model.tflite", "alexa.tflite")
    )
    source = {"mel": mel, "embedding": embedding, "head": head}
    return _chain(source, ("input", "output"), ("input_1", "conv2d_19"), ("onnx_tf__tf_Flatten_0_79e3d279", "13"))


def mel() -> SpeechModel:
    """`input` [1, 1760], in the range of 16-bit samples -> `output`, 8 spectra of 32 bands."""
    return _part(_onnx("melspectrogram.onnx"), _MEL, "input", "output", audio_frames)


def embedding() -> SpeechModel:
    """`input_1` [1, 76, 32, 1] -> `conv2d_19` [1, 1, 1, 96]."""
    frames = _if_here("onnxruntime", lambda audio: mel_windows(audio, _run_onnx(_onnx("melspectrogram.onnx"))))
    return _part(_onnx("embedding_model.onnx"), _EMBEDDING, "input_1", "conv2d_19", frames)


def alexa() -> SpeechModel:
    """`onnx::Flatten_0` [1, 16, 96] -> `13` [1, 1], the score."""

    def frames(audio: Array) -> Array:
        run = _run_onnx
        return embedding_windows(audio, run(_onnx("melspectrogram.onnx")), run(_onnx("embedding_model.onnx")))

    return _head(_onnx("alexa_v0.1.onnx"), "onnx::Flatten_0", _if_here("onnxruntime", frames))


def mel_tflite() -> SpeechModel:
    """As `mel`."""
    return _part(_tflite("melspectrogram.tflite"), _MEL, "input", "output", audio_frames)


def embedding_tflite() -> SpeechModel:
    """As `embedding`."""
    frames = _if_here("ai_edge_litert", lambda audio: mel_windows(audio, _run_tflite(_tflite("melspectrogram.tflite"))))
    return _part(_tflite("embedding_model.tflite"), _EMBEDDING, "input_1", "conv2d_19", frames)


def alexa_tflite() -> SpeechModel:
    """As `alexa`."""

    def frames(audio: Array) -> Array:
        run = _run_tflite
        return embedding_windows(audio, run(_tflite("melspectrogram.tflite")), run(_tflite("embedding_model.tflite")))

    return _head(_tflite("alexa.tflite"), "onnx_tf__tf_Flatten_0_79e3d279", _if_here("ai_edge_litert", frames))


def audio_frames(audio: Array) -> Array:
    """Audio [samples] in [-1, 1] -> [n, 1, 1760] in the range of 16-bit samples; 480 samples overlap."""
    count = max(1, -(-len(audio) // HOP_SAMPLES))
    padded = np.zeros(CONTEXT_SAMPLES + count * HOP_SAMPLES, np.float32)
    padded[CONTEXT_SAMPLES:][: len(audio)] = np.rint(audio * 32768)
    windows = np.lib.stride_tricks.sliding_window_view(padded, CONTEXT_SAMPLES + HOP_SAMPLES)[::HOP_SAMPLES]
    return windows[:, None].copy()


def mel_windows(audio: Array, mel_stage: Stage) -> Array:
    """Audio [samples] -> [n, 1, 76, 32, 1], 8 spectra further each time; before the first there were ones."""
    spectra = mel_stage(audio_frames(audio)).reshape(-1, BANDS) / 10 + 2
    padded = np.concatenate((np.ones((SPECTRA - SPECTRA_A_HOP, BANDS), np.float32), spectra))
    windows = np.lib.stride_tricks.sliding_window_view(padded, SPECTRA, axis=0)[::SPECTRA_A_HOP]
    return windows.transpose(0, 2, 1)[:, None, :, :, None].astype(np.float32)


def embedding_windows(audio: Array, mel_stage: Stage, embedding_stage: Stage) -> Array:
    """Audio [samples] -> [n, 1, 16, 96], one embedding further each time; before the first there were zeros."""
    embeddings = embedding_stage(mel_windows(audio, mel_stage)).reshape(-1, EMBEDDING)
    padded = np.concatenate((np.zeros((EMBEDDINGS - 1, EMBEDDING), np.float32), embeddings))
    windows = np.lib.stride_tricks.sliding_window_view(padded, EMBEDDINGS, axis=0)
    return windows.transpose(0, 2, 1)[:, None].astype(np.float32)


_MEL = Input((-1, -1), typical=(1, CONTEXT_SAMPLES + HOP_SAMPLES))
_EMBEDDING = Input((-1, SPECTRA, BANDS, 1), typical=(1, SPECTRA, BANDS, 1))


def _chain(
    source: Mapping[str, Path], mel_ends: tuple[str, str], embedding_ends: tuple[str, str], head_ends: tuple[str, str]
) -> SpeechModel:
    edges = (
        Edge("mel", mel_ends[1], "embedding", embedding_ends[0], axis=1, scale=0.1, offset=2.0, fill=1.0),
        Edge("embedding", embedding_ends[1], "head", head_ends[0], axis=1),
    )
    return SpeechModel(
        task="wake-word",
        source=source,
        inputs={mel_ends[0]: _MEL},
        outputs=[head_ends[1]],
        sample_rate_hz=16_000,
        hop_ms=HOP_MS,
        frames=lambda audio: {mel_ends[0]: audio_frames(audio)},
        threshold=0.5,
        priming_s=PRIMING_S,
        positives=["alexa-*"],
        loop=Chain(edges),
    )


def _part(source: Path, item: Input, name: str, output: str, frames: Stage | None, **more: Any) -> SpeechModel:
    def named(audio: Array) -> Mapping[str, Array]:
        assert frames is not None
        return {name: frames(audio)}

    return SpeechModel(
        task="wake-word",
        source=source,
        inputs={name: item},
        outputs=[output],
        sample_rate_hz=16_000,
        hop_ms=HOP_MS,
        frames=None if frames is None else named,
        covers="part",
        **more,
    )


def _head(source: Path, name: str, frames: Stage | None) -> SpeechModel:
    item = Input((1, EMBEDDINGS, EMBEDDING))
    return _part(source, item, name, "13", frames, threshold=0.5, priming_s=PRIMING_S)


def _onnx(file: str) -> Path:
    return fetch(ONNX) / _ONNX_FOLDER / file


def _tflite(file: str) -> Path:
    return fetch(TFLITE) / _TFLITE_FOLDER / file


def _if_here(package: str, frames: Stage) -> Stage | None:
    return frames if importlib.util.find_spec(package) else None


def _run_onnx(path: Path) -> Stage:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda frames: np.stack([session.run(None, {name: frame})[0] for frame in frames])


def _run_tflite(path: Path) -> Stage:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    before, after = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def run(frames: Array) -> Array:
        # The mel graph can't be allocated with the dims in its file: resize first.
        interpreter.resize_tensor_input(before, frames.shape[1:])
        interpreter.allocate_tensors()
        made = []
        for frame in frames:
            interpreter.set_tensor(before, frame)
            interpreter.invoke()
            made.append(interpreter.get_tensor(after))
        return np.stack(made)

    return run
