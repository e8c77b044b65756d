"""Silero VAD 6 (MIT), as the package `silero-vad` ships it: ONNX, fp32, 2.3 MB, one `If` over both sample rates.

Whole: audio in, probability of speech out. A frame is 32 ms; its input is the last 64 samples of the frame before and
512 new ones. The state [2, 1, 128] is an explicit pair and starts at zero, like the context.
"""

from __future__ import annotations

from rtfleet.fetch import Package, fetch
from rtfleet.model import Input, SpeechModel, State

_LICENCE = "silero_vad-6.2.3.dist-info/licenses/LICENSE"

SILERO = Package(
    name="silero-vad",
    version="6.2.3",
    sha256="7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
    licence="MIT",
    files={
        "silero_vad/data/silero_vad.onnx": "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
        "silero_vad/data/silero_vad.jit": "e1122837f4154c511485fe0b9c64455f7b929c96fbb8d79fbdb336383ebd3720",
        _LICENCE: "2e63e9a38b6e8fc0c7bc37ce174caca1862870856c6daf5697cfb785e925520b",
    },
)
PACKAGES = (SILERO,)

CONTEXT_SAMPLES = 64
HOP_SAMPLES = 512


def silero_vad() -> SpeechModel:
    """`input` [1, 576], `state` [2, 1, 128], `sr` -> `output` [1, 1], `stateN`."""
    return SpeechModel(
        task="vad",
        source=fetch(SILERO) / "silero_vad/data/silero_vad.onnx",
        inputs={
            "input": Input((-1, -1), typical=(1, CONTEXT_SAMPLES + HOP_SAMPLES)),
            "sr": Input((), "int64", constant=16_000),
        },
        outputs=["output"],
        states=[State("state", "stateN", (2, 1, 128))],
        sample_rate_hz=16_000,
        hop_ms=32,
        threshold=0.5,
    )
