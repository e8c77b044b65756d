"""Moonshine tiny, English (MIT), as the package `moonshine-voice` ships it: a whole recognizer, int8, in ORT's format.

Whole clips in, tokens out: an encoder over raw audio, and a decoder that attends to it with a cache of its own, one
token a step. The mask that the decoder asks for is the audio's, in samples. A clip has at most 6.5 tokens a second;
the package itself stops there, since the model may repeat itself for ever.

The files are quantized and in ORT's own format, which nothing converts back: there is one variant, `onnx-shipped`, and
no other encoder to combine with another decoder.

Measured on the five sentences that it hears by default (read by a volunteer of LibriVox, 71 words): 2 words wrong,
"ill-sposed" for "ill disposed", and one "a" that the reader stumbled over and the model did not write.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from rtfleet.fetch import Package, fetch
from rtfleet.loop import Cache, Carried, Seq2Seq
from rtfleet.model import Array, Input, SpeechModel

_FOLDER = "moonshine_voice/assets/tiny-en"

MOONSHINE = Package(
    name="moonshine-voice",
    version="0.0.59",
    sha256="631f3fc4bc1ea98ed921a8387d916fa674b60649cfaf869d94d18f1393e192e6",
    licence="MIT",
    files={
        f"{_FOLDER}/encoder_model.ort": "94e90a4654fc45cdfedb77c4c08e1739f48862998e58fada384b25118134f221",
        f"{_FOLDER}/decoder_model_merged.ort": "cf524c4862d36e9e5ab032eddc73637efd822d70e868ac575cf1a46e1e4708a0",
        f"{_FOLDER}/tokenizer.bin": "6884b35fd6377d4c4d32336a0bc152f36b64d1e45b6503683cdc238250a8472d",
        "moonshine_voice-0.0.59.dist-info/licenses/LICENSE": (
            "5da20e09cad096fb153b6c80b26c270027f9601285c498e571fc74fee5ab7157"
        ),
    },
)
PACKAGES = (MOONSHINE,)

RATE_HZ = 16_000
LAYERS, HEADS, HEAD_SIZE = 6, 8, 36
START_TOKEN, END_TOKEN = 1, 2
MOST_TOKENS = 194
SAMPLES_PER_TOKEN = round(RATE_HZ / 6.5)
TYPICAL_S = 5


def moonshine_tiny() -> SpeechModel:
    """`input_values` and `attention_mask` [1, samples] -> token ids."""
    folder = fetch(MOONSHINE) / _FOLDER
    shape, typical = (-1, -1), (1, TYPICAL_S * RATE_HZ)
    return SpeechModel(
        task="asr",
        source={"encoder": folder / "encoder_model.ort", "decoder": folder / "decoder_model_merged.ort"},
        inputs={
            "input_values": Input(shape, typical=typical),
            "attention_mask": Input(shape, "int64", typical=typical),
        },
        outputs=["tokens"],
        sample_rate_hz=RATE_HZ,
        frames=whole,
        loop=LOOP,
        vocabulary=vocabulary(folder / "tokenizer.bin"),
    )


def whole(audio: Array) -> Mapping[str, Array]:
    """A clip [samples] as one frame: audio [1, samples], and a mask of ones."""
    return {"input_values": audio[None].astype(np.float32), "attention_mask": np.ones((1, len(audio)), np.int64)}


def vocabulary(path: Path) -> list[bytes]:
    """The pieces of `tokenizer.bin`: each is its length (one byte, or two from 128 on) and its bytes."""
    return list(_pieces(path.read_bytes()))


def _pieces(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        length, at = data[at], at + 1
        if length >= 128:
            length, at = data[at] * 128 + length - 128, at + 1
        yield data[at : at + length]
        at += length


def _caches() -> Iterator[Cache]:
    """The decoder's own memory grows by a token each step; what it attends to of the encoder is made once."""
    for layer in range(LAYERS):
        for part in ("decoder", "encoder"):
            for name in ("key", "value"):
                yield Cache(
                    input=f"past_key_values.{layer}.{part}.{name}",
                    output=f"present.{layer}.{part}.{name}",
                    shape=(1, HEADS, 0, HEAD_SIZE),
                    fixed=part == "encoder",
                )


LOOP = Seq2Seq(
    encoder="encoder",
    decoder="decoder",
    carried=(
        Carried("last_hidden_state", "encoder_hidden_states"),
        Carried("attention_mask", "encoder_attention_mask"),
    ),
    caches=tuple(_caches()),
    tokens="input_ids",
    logits="logits",
    use_cache="use_cache_branch",
    start_token=START_TOKEN,
    end_token=END_TOKEN,
    max_tokens=MOST_TOKENS,
    samples_per_token=SAMPLES_PER_TOKEN,
)
