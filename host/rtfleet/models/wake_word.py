"""The built-in wake word: "hey computer", a small streaming network whose front end is part of the graph.

Trained on synthetic speech: a benchmark payload, not a product. No person's "hey computer" was ever tried. Measured by
`python training/evaluate.py --data DATA` (training/README.md says how DATA is made) at the threshold below:

    voice, never heard in training               clips  hits clean  noisy  near misses taken clean  noisy
    espeak-ng, variants held out                   150        100 %   96 %                    9.5 %   12.5 %
    slt (flite; the engine, but not she, trained)  120         98 %   56 %                    0 %      1.2 %
    joe (piper, neural; the whole engine unheard)  120         78 %   92 %                    3.1 %    5.0 %

False alarms: in synthetic sentences of these voices 0 in 1.46 h clean and 5 in 1.46 h noisy (3.4 an hour; about half of
those hours is the quiet around the sentences); in recorded speech 5 in 1.49 h (3.4 an hour: telephone prompts read by
two women in English, Spanish and French, and 1.3 minutes of books). "Noisy" is in a room and 5-20 dB above noise at any
level. On training engines hits are near 100 %, so unheard natural voices are the weak side, and it is uneven: level and
room move slt and joe in opposite directions. The phrase stands after two seconds of quiet; a quarter of a second after
another sentence, clean, 99, 72 and 71 % are heard (measured once, by hand).

piper draws noise of its own without a seed, so joe's row moves from one synthesis to the next: an earlier one gave 75 %
clean hits, 7.5 % near misses taken noisy and one more false alarm. All other rows came out the same.

How far to trust it: one seed. The threshold is the lowest with at most 3 false alarms an hour on the validation voices
(espeak-ng variants and awb); that rule, and stronger augmentation, came after the first model's test figures had been
seen (threshold 0.85: slt 6 % clean, joe 9 %), so these test figures are not untouched. At 0.8 recorded speech raises
none, and clean hits fall to 98, 8 and 42 %.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from rtfleet.model import Input, SpeechModel, State

PHRASE = "hey computer"
SAMPLE_RATE_HZ = 16_000
HOP_MS = 20
HOP_SAMPLES = SAMPLE_RATE_HZ * HOP_MS // 1000
WINDOW_SAMPLES = 256
STRIDE_SAMPLES = 160
"""Two spectra a hop. A longer window costs too many bytes: its Fourier matrix is most of the file."""
MEL_BANDS = 32
POWER_FLOOR = 1e-3
"""Added before the logarithm: below it all is silence."""
MEL_FRAMES = 6
"""Spectra that one step of the network sees at once: 60 ms."""
CHANNELS = 72
TAPS = 5
DILATIONS = (1, 2, 4, 8, 8)
"""With `TAPS` and a hop of 20 ms the network looks back 1.9 s."""
SMOOTHED_HOPS = 6
"""The score is the mean of the last 120 ms: one hop's spike is no detection."""
THRESHOLD = 0.6
WEIGHTS = Path(__file__).with_name("wake_word.safetensors")


class Front(nn.Module):  # type: ignore[misc]  # torch is not typed here
    """Log-mel spectra as fixed convolutions. Nothing here is trained but `mean` and `scale`, measured once."""

    def __init__(self) -> None:
        super().__init__()
        bins = WINDOW_SAMPLES // 2 - 16  # up to 7 kHz; the rest is outside the mel bands
        self.stft = nn.Conv2d(1, 2 * bins, (1, WINDOW_SAMPLES), stride=(1, STRIDE_SAMPLES), bias=False)
        self.mel = nn.Conv2d(bins, MEL_BANDS, 1, bias=False)
        self.stft.weight = nn.Parameter(_fourier(bins)[:, None, None, :], requires_grad=False)
        self.mel.weight = nn.Parameter(_mel_bands(bins)[:, :, None, None], requires_grad=False)
        self.mean = nn.Parameter(torch.zeros(1, MEL_BANDS, 1, 1), requires_grad=False)
        self.scale = nn.Parameter(torch.ones(1, MEL_BANDS, 1, 1), requires_grad=False)

    def log_mel(self, audio: Tensor) -> Tensor:
        """Audio [batch, samples], the tail included, in [-1, 1] -> natural logarithms [batch, band, 1, spectrum]."""
        real, imaginary = self.stft(audio[:, None, None, :]).chunk(2, dim=1)
        return torch.log(self.mel(real * real + imaginary * imaginary) + POWER_FLOOR)

    def forward(self, audio: Tensor) -> Tensor:
        return (self.log_mel(audio) - self.mean) * self.scale


class Block(nn.Module):  # type: ignore[misc]  # torch is not typed here
    """One causal step in time (depthwise, dilated), one across channels, and the way around both."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.depthwise = nn.Conv2d(CHANNELS, CHANNELS, (1, TAPS), dilation=(1, dilation), groups=CHANNELS)
        self.pointwise = nn.Conv2d(CHANNELS, CHANNELS, 1)

    @property
    def past_hops(self) -> int:
        """Hops of its own input that the block must remember."""
        return (TAPS - 1) * self.dilation

    def forward(self, past_and_now: Tensor) -> Tensor:
        """[batch, channel, 1, past_hops + hops] -> [batch, channel, 1, hops]."""
        now = past_and_now[..., self.past_hops :]
        return now + torch.relu(self.pointwise(torch.relu(self._in_time(past_and_now, now.shape[-1]))))

    def _in_time(self, past_and_now: Tensor, hops: int) -> Tensor:
        if not self.training:
            filtered: Tensor = self.depthwise(past_and_now)
            return filtered
        # The gradient of a depthwise convolution is slow on a CPU: in training it is a sum of shifted copies.
        taps = self.depthwise.weight.unbind(dim=-1)
        total = self.depthwise.bias[None, :, None, None].expand(1, -1, 1, hops)
        for i, tap in enumerate(taps):
            total = total + tap[None] * past_and_now[..., i * self.dilation : i * self.dilation + hops]
        return total


class WakeWord(nn.Module):  # type: ignore[misc]  # torch is not typed here
    """Audio in, score out. The states are plain past input, so an error in one fades within two seconds.

    One call takes any whole number of hops: a clip at once and the same clip hop by hop give the same scores.
    """

    def __init__(self) -> None:
        super().__init__()
        self.front = Front()
        self.entry = nn.Conv2d(MEL_BANDS, CHANNELS, (1, MEL_FRAMES), stride=(1, 2))
        self.blocks = nn.ModuleList(Block(dilation) for dilation in DILATIONS)
        self.head = nn.Conv2d(CHANNELS, 1, 1)

    def forward(
        self, audio: Tensor, audio_tail: Tensor, mel_tail: Tensor, *pasts_and_scores: Tensor
    ) -> tuple[Tensor, ...]:
        """One hop, or several.

        Args:
            audio: [1, hops * 320], in [-1, 1].
            audio_tail: [1, 96]: the samples before, which the first window still needs.
            mel_tail: [1, 32, 1, 4]: the spectra before.
            pasts_and_scores: What each block remembers, [1, 72, 1, past_hops], then the last raw scores, [1, 5].

        Returns:
            The score [1, hops], then the states, in the order in which they came.
        """
        *pasts, scores_tail = pasts_and_scores
        heard = torch.cat((audio_tail, audio), dim=1)
        spectra = torch.cat((mel_tail, self.front(heard)), dim=3)
        raw, *pasts_out = self.logits(spectra, *pasts)
        scores = torch.cat((scores_tail, torch.sigmoid(raw)), dim=1)
        smooth = functional.avg_pool2d(scores[:, None, None, :], (1, SMOOTHED_HOPS), stride=1).flatten(1)
        return (
            smooth,
            heard[:, -audio_tail.shape[1] :],
            spectra[..., -mel_tail.shape[3] :],
            *pasts_out,
            scores[:, -scores_tail.shape[1] :],
        )

    def logits(self, spectra: Tensor, *pasts: Tensor) -> tuple[Tensor, ...]:
        """Normalised spectra [batch, 32, 1, 4 + 2 * hops] and pasts -> logits [batch, hops], the new pasts."""
        now = torch.relu(self.entry(spectra))
        pasts_out = []
        for block, past in zip(self.blocks, pasts, strict=True):
            past_and_now = torch.cat((past, now), dim=3)
            pasts_out.append(past_and_now[..., -block.past_hops :])
            now = block(past_and_now)
        return (self.head(now).flatten(1), *pasts_out)


def states() -> list[State]:
    """The streaming states, all zero at the start."""
    shapes = {
        "audio_tail": (1, WINDOW_SAMPLES - STRIDE_SAMPLES),
        "mel_tail": (1, MEL_BANDS, 1, MEL_FRAMES - 2),
        **{f"past_{i}": (1, CHANNELS, 1, (TAPS - 1) * dilation) for i, dilation in enumerate(DILATIONS)},
        "scores_tail": (1, SMOOTHED_HOPS - 1),
    }
    return [State(name, f"{name}_out", shape) for name, shape in shapes.items()]


def wake_word() -> SpeechModel:
    """The trained network as `SpeechModel`: audio [1, 320] (20 ms) and states -> score [1, 1] and new states."""
    network = WakeWord()
    network.load_state_dict(load_file(WEIGHTS), strict=False)  # the Fourier and mel matrices are computed, not stored
    return SpeechModel(
        task="wake-word",
        source=network.eval(),
        inputs={"audio": Input((1, HOP_SAMPLES))},
        outputs=["score"],
        states=states(),
        sample_rate_hz=SAMPLE_RATE_HZ,
        hop_ms=HOP_MS,
        threshold=THRESHOLD,
        positives=["hey-computer*.wav"],
        keep_float=["front"],
        note=f'"{PHRASE}", trained on synthetic speech: a benchmark payload, not a product',
    )


def stored(network: WakeWord) -> dict[str, Tensor]:
    """What belongs into the weights file: all but the fixed matrices."""
    fixed = ("front.stft.weight", "front.mel.weight")
    return {name: value.contiguous() for name, value in network.state_dict().items() if name not in fixed}


def _fourier(bins: int) -> Tensor:
    """Rows of cosines, then of sines, under a Hann window: [2 * bins, WINDOW_SAMPLES]; bin 0 (DC) is left out."""
    sample = torch.arange(WINDOW_SAMPLES, dtype=torch.float64)
    window = 0.5 - 0.5 * torch.cos(2 * math.pi * sample / WINDOW_SAMPLES)
    angle = 2 * math.pi / WINDOW_SAMPLES * torch.outer(torch.arange(1, bins + 1, dtype=torch.float64), sample)
    return (torch.cat((torch.cos(angle), torch.sin(angle))) * window).float()


def _mel_bands(bins: int) -> Tensor:
    """Triangles of equal width on the mel scale, from 60 Hz to 7 kHz, each with sum 1: [MEL_BANDS, bins]."""
    frequency_hz = torch.arange(1, bins + 1, dtype=torch.float64) * SAMPLE_RATE_HZ / WINDOW_SAMPLES
    mel = 1127 * torch.log1p(frequency_hz / 700)
    low, high = 1127 * math.log1p(60 / 700), 1127 * math.log1p(7000 / 700)
    corners = torch.linspace(low, high, MEL_BANDS + 2, dtype=torch.float64)[:, None]
    rising = (mel - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - mel) / (corners[2:] - corners[1:-1])
    triangles = torch.minimum(rising, falling).clamp(min=0)
    # The lowest bands are narrower than a bin: each owns at least the bin nearest to its middle.
    nearest = (mel - corners[1:-1]).abs().argmin(dim=1)
    empty = triangles.sum(dim=1) == 0
    triangles[empty, nearest[empty]] = 1.0
    return (triangles / triangles.sum(dim=1, keepdim=True)).float()
