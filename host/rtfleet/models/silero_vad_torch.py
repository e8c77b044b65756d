"""Silero VAD 6 (MIT) rebuilt in PyTorch from the weights of its TorchScript file, so that every exporter takes it.

The TorchScript itself can't be exported (it checks its inputs with Python's own exceptions), and the shipped ONNX is
one `If` over both sample rates, which quantizers leave alone. This is its 16 kHz branch: an STFT as a fixed
convolution, four convolutions, an LSTM. Over the default clips its scores are within 5e-7 of the TorchScript's and
within 1.2e-5 of the shipped ONNX's, which is as far as those two are from each other. Written with Conv2d of height 1,
because TensorRT refuses one-dimensional convolutions.

Whole, as `silero-vad`: a frame is 32 ms, its input the last 64 samples of the frame before and 512 new ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rtfleet.fetch import fetch
from rtfleet.model import Input, SpeechModel, State
from rtfleet.models.silero_vad import CONTEXT_SAMPLES, HOP_SAMPLES, SILERO

PACKAGES = (SILERO,)

WINDOW_SAMPLES, STRIDE_SAMPLES = 256, 128
BINS = WINDOW_SAMPLES // 2 + 1
PAD_SAMPLES = 64
"""The last window is filled up with the end of the frame, mirrored."""
CHANNELS = (BINS, 128, 64, 64, 128)
STRIDES = (1, 2, 2, 1)
UNITS = 128
KEPT = ("stft", "encoder")
"""Over the default clips int8-static is 19 dB from the original with the encoder's activations quantized and 28 dB
without, int8-dynamic 9 and 27 dB; the weights are int8 either way, 0.32 MB in all."""


def silero_vad_torch() -> SpeechModel:
    """`input` [1, 576], `memory` [2, 1, 128] -> `output` [1, 1], `memory_out`: "state" is a word of Core ML's."""
    return SpeechModel(
        task="vad",
        source=network(fetch(SILERO) / "silero_vad/data/silero_vad.jit"),
        inputs={"input": Input((1, CONTEXT_SAMPLES + HOP_SAMPLES))},
        outputs=["output"],
        states=[State("memory", "memory_out", (2, 1, UNITS))],
        sample_rate_hz=16_000,
        hop_ms=32,
        threshold=0.5,
        keep_float=KEPT,
    )


def network(path: Path) -> Any:
    """The module in eval mode, with the weights of the 16 kHz model in the TorchScript file `path`."""
    import torch
    from torch import Tensor, nn
    from torch.nn import functional

    class Silero(nn.Module):  # type: ignore[misc]  # torch is not typed here
        def __init__(self) -> None:
            super().__init__()
            self.stft = nn.Conv2d(1, 2 * BINS, (1, WINDOW_SAMPLES), stride=(1, STRIDE_SAMPLES), bias=False)
            self.encoder = nn.ModuleList(
                nn.Conv2d(CHANNELS[i], CHANNELS[i + 1], (1, 3), stride=(1, STRIDES[i]), padding=(0, 1))
                for i in range(len(STRIDES))
            )
            self.rnn = nn.LSTM(CHANNELS[-1], UNITS)
            self.score = nn.Linear(UNITS, 1)

        def forward(self, audio: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            """Audio [1, 576] in [-1, 1], hidden and cell state [2, 1, 128] -> probability [1, 1], the new state."""
            padded = functional.pad(audio[:, None, None, :], (0, PAD_SAMPLES, 0, 0), mode="reflect")
            real, imaginary = self.stft(padded).chunk(2, dim=1)
            features = torch.sqrt(real * real + imaginary * imaginary)
            for convolution in self.encoder:
                features = torch.relu(convolution(features))
            told, (hidden, cell) = self.rnn(features.flatten(1)[None], (state[:1], state[1:]))
            return torch.sigmoid(self.score(torch.relu(told[0]))), torch.cat((hidden, cell))

    made = Silero()
    made.load_state_dict(_weights(path))
    return made.eval()


def _weights(path: Path) -> dict[str, Any]:
    """By the names above: one-dimensional kernels get the height 1, the LSTM cell's weights are its first layer's."""
    import torch

    stored = torch.jit.load(path, map_location="cpu")._model.state_dict()
    found = {"stft.weight": stored["stft.forward_basis_buffer"][:, :, None]}
    for i in range(len(STRIDES)):
        found[f"encoder.{i}.weight"] = stored[f"encoder.{i}.reparam_conv.weight"][:, :, None]
        found[f"encoder.{i}.bias"] = stored[f"encoder.{i}.reparam_conv.bias"]
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        found[f"rnn.{name}_l0"] = stored[f"decoder.rnn.{name}"]
    found["score.weight"] = stored["decoder.decoder.2.weight"][:, :, 0]
    found["score.bias"] = stored["decoder.decoder.2.bias"]
    return found
