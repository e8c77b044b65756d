"""Train the wake word on what synthesize.py spoke: augment, spectra, network, threshold. Minutes on two cores.

    python training/train.py --data /tmp/wake-word

Writes host/rtfleet/models/wake_word.safetensors. The threshold is chosen by evaluate.py, on validation voices only.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import torch
from augment import at_a_level, at_another_speed, coloured, in_a_room, with_noise
from engines import SAMPLE_RATE_HZ, Audio
from safetensors.torch import save_file
from scipy.io import wavfile
from torch import Tensor, nn
from torch.nn import functional

from rtfleet.models.wake_word import (
    HOP_SAMPLES,
    POWER_FLOOR,
    STRIDE_SAMPLES,
    WEIGHTS,
    WINDOW_SAMPLES,
    Front,
    WakeWord,
    states,
    stored,
)

SEGMENT_HOPS = 160
SEGMENT_SAMPLES = SEGMENT_HOPS * HOP_SAMPLES
KINDS = {"phrase": 0.42, "near": 0.24, "broken": 0.08, "sentence": 0.24, "noise": 0.02}
"""How often a segment holds what. `broken` is a part of the phrase, or the phrase backwards or its words swapped."""
POSITIVE_HOPS = (1, 17)
"""The score should be 1 from 20 ms to 340 ms after the phrase's end, and 0 long before and after."""
IGNORED_HOPS = (-8, 30)
POSITIVE_WEIGHT, NEAR_WEIGHT = 2.5, 2.0

_segments: Segments
_front: Front
"""What a worker process holds."""


class Segments:
    """Draws training segments: audio, the hop in which the phrase ends (-1: none), and a weight."""

    def __init__(self, data: Path) -> None:
        # Each engine is as likely as any other, whatever the number of its clips.
        self.clips = {kind: _by_engine(data / "train" / kind) for kind in ("phrase", "near", "sentence")}
        self.babble = [clip for clips in self.clips["sentence"].values() for clip in clips[:60]]

    def draw(self, seed: int) -> tuple[Audio, int, float]:
        rng = np.random.default_rng(seed)
        kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
        audio = np.zeros(SEGMENT_SAMPLES, np.float32)
        end_hop = -1
        if kind == "sentence":
            offset = int(rng.integers(SEGMENT_SAMPLES // 3))
            while offset < SEGMENT_SAMPLES:
                offset = _place(audio, self._clip("sentence", rng), offset) + int(rng.integers(12_000))
        elif kind != "noise":
            clip = self._clip("near" if kind == "near" else "phrase", rng)
            clip = _broken(clip, rng) if kind == "broken" else clip
            offset = int(rng.integers(1_000, max(2_000, SEGMENT_SAMPLES - len(clip) - 4_000)))
            end = _place(audio, clip, offset)
            end_hop = end // HOP_SAMPLES if kind == "phrase" else -1
            if rng.random() < 0.35:
                before = self._clip("sentence", rng)[-offset:]
                _place(audio, before, offset - len(before) - int(rng.integers(0, 4_000)))
            if rng.random() < 0.45:
                _place(audio, self._clip("sentence", rng), end + int(rng.integers(800, 9_000)))
        audio += 1e-5 * rng.standard_normal(SEGMENT_SAMPLES).astype(np.float32)
        if rng.random() < 0.5:
            audio = in_a_room(audio, rng)
        if rng.random() < 0.5:
            audio = coloured(audio, rng)
        if rng.random() < 0.85:
            audio = with_noise(audio, self.babble, rng.uniform(2, 35), rng)
        return at_a_level(audio, rng), end_hop, NEAR_WEIGHT if kind in ("near", "broken") else 1.0

    def _clip(self, kind: str, rng: np.random.Generator) -> Audio:
        engines = self.clips[kind]
        names = list(engines)
        clips = engines[names[int(rng.integers(len(names)))]]
        return at_another_speed(clips[int(rng.integers(len(clips)))], rng)


def features(segments: Segments, count: int, processes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Log-mel spectra [count, 32, 2 * hops] as halves, ends in hops [count], weights [count]."""
    with Pool(processes, initializer=_worker, initargs=(segments,)) as pool:
        rows = pool.map(_feature, range(count), chunksize=64)
    spectra, ends, weights = zip(*rows, strict=True)
    return torch.from_numpy(np.stack(spectra)), torch.tensor(ends), torch.tensor(weights)


def warped(spectra: Tensor, ends: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A batch of log-mel spectra [n, 32, frames] made louder or softer, bent in time and pitch, equalised, with babble
    and holes.
    """
    n, bands, frames = spectra.shape

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator)

    loud = (spectra.exp() - POWER_FLOOR).clamp(min=0) * 10 ** (uniform(-24, 6, n, 1, 1) / 10)
    spectra = (loud + POWER_FLOOR).log()
    pace, anchor = uniform(0.75, 1.3, n, 1), ends.clamp(min=0)[:, None] * 2 / frames * 2 - 1
    away = (torch.linspace(-1, 1, frames)[None] - anchor) * pace
    swing, turns, phase = uniform(0, 0.025, n, 1), uniform(4, 12, n, 1), uniform(0, 6.3, n, 1)
    # Bent around the phrase's end, which so stays where it is; some syllables are drawn out, others hurried.
    time = anchor + away + swing * (torch.sin(turns * away + phase) - torch.sin(phase))
    pitch = torch.linspace(-1, 1, bands)[None] * uniform(0.86, 1.14, n, 1) + uniform(-0.13, 0.13, n, 1)
    grid = torch.stack((time[:, None, :].expand(n, bands, frames), pitch[:, :, None].expand(n, bands, frames)), dim=-1)
    out = functional.grid_sample(spectra[:, None], grid, padding_mode="border", align_corners=True)[:, 0]
    curve = functional.interpolate(uniform(-1.2, 1.2, n, 1, 5), bands, mode="linear", align_corners=True)
    out = out + curve.transpose(1, 2) * (uniform(0, 1, n, 1, 1) < 0.6)
    other = out[torch.randperm(n, generator=generator)] - uniform(1.5, 6, n, 1, 1)
    out = torch.where(uniform(0, 1, n, 1, 1) < 0.25, torch.maximum(out, other), out)
    band = torch.randint(bands, (n, 1, 1), generator=generator)
    width = torch.randint(0, 5, (n, 1, 1), generator=generator)
    index = torch.arange(bands)[None, :, None]
    out = torch.where((index >= band) & (index < band + width), out.mean(dim=(1, 2), keepdim=True), out)
    return out, ends


def losses(logits: Tensor, ends: Tensor, weights: Tensor) -> Tensor:
    """Binary cross-entropy of each hop, the hops around the phrase's edges left out."""
    after = torch.arange(logits.shape[1])[None] - ends[:, None]
    has_phrase = (ends >= 0)[:, None]
    positive = has_phrase & (after >= POSITIVE_HOPS[0]) & (after <= POSITIVE_HOPS[1])
    ignored = has_phrase & ~positive & (after >= IGNORED_HOPS[0]) & (after <= IGNORED_HOPS[1])
    loss = functional.binary_cross_entropy_with_logits(logits, positive.float(), reduction="none")
    weight = weights[:, None] * torch.where(positive, POSITIVE_WEIGHT, 1.0) * ~ignored
    return (loss * weight).sum() / weight.sum()


def train(spectra: Tensor, ends: Tensor, weights: Tensor, steps: int, batch: int = 96) -> WakeWord:
    """A network trained on the spectra, its normalisations folded into its convolutions."""
    torch.manual_seed(1)
    network = WakeWord()
    front = network.front
    sample = spectra[::10].float()
    front.mean.copy_(sample.mean(dim=(0, 2))[None, :, None, None])
    front.scale.copy_(1 / sample.std(dim=(0, 2))[None, :, None, None])
    network.entry = _normalised(network.entry)
    for block in network.blocks:
        block.pointwise = _normalised(block.pointwise)
    pasts = [torch.zeros(batch, *state.shape[1:]) for state in states() if state.input.startswith("past")]
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps, pct_start=0.15)
    generator = torch.Generator().manual_seed(2)
    network.train()
    started, total = time.monotonic(), 0.0
    for step, chosen in enumerate(_batches(len(spectra), batch, steps, generator), 1):
        bent, end = warped(spectra[chosen].float(), ends[chosen], generator)
        inputs = (bent[:, :, None, :] - front.mean) * front.scale
        logits, *_ = network.logits(functional.pad(inputs, (4, 0)), *pasts)
        loss = losses(logits, end, weights[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        total += loss.item()
        if step % 100 == 0:
            print(f"step {step}: loss {total / 100:.4f}, {time.monotonic() - started:.0f} s", flush=True)
            total = 0.0
    network.eval()
    network.entry = _folded(network.entry)
    for block in network.blocks:
        block.pointwise = _folded(block.pointwise)
    return network


def _normalised(convolution: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels))


def _folded(pair: nn.Sequential) -> nn.Conv2d:
    return nn.utils.fusion.fuse_conv_bn_eval(pair[0], pair[1])


def _batches(count: int, batch: int, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(order) < batch:
            order = torch.randperm(count, generator=generator)
        yield order[:batch]
        order = order[batch:]


def _by_engine(folder: Path) -> dict[str, list[Audio]]:
    engines: dict[str, list[Audio]] = {}
    for path in sorted(folder.glob("*.wav")):
        engine = path.name.split("-")[0]
        engines.setdefault(engine, []).append(wavfile.read(path)[1].astype(np.float32) / 32768)
    return engines


def _place(audio: Audio, clip: Audio, offset: int) -> int:
    """Add `clip` at `offset`, as far as it fits; returns where it ends."""
    if offset < 0:
        clip, offset = clip[-offset:], 0
    room = audio[offset : offset + len(clip)]
    room += clip[: len(room)]
    return offset + len(clip)


def _broken(clip: Audio, rng: np.random.Generator) -> Audio:
    """Not the phrase, but made of it."""
    how = rng.choice(["backwards", "swapped", "beginning", "end"])
    if how == "backwards":
        return clip[::-1].copy()
    cut = int(len(clip) * rng.uniform(0.3, 0.65))
    parts = {"swapped": (clip[cut:], clip[:cut]), "beginning": (clip[:cut],), "end": (clip[cut:],)}
    return np.concatenate(parts[str(how)])


def _worker(segments: Segments) -> None:
    global _segments, _front
    torch.set_num_threads(1)
    _segments, _front = segments, Front()


def _feature(seed: int) -> tuple[np.ndarray, int, float]:
    audio, end_hop, weight = _segments.draw(seed)
    with torch.no_grad():
        heard = functional.pad(torch.from_numpy(audio)[None], (WINDOW_SAMPLES - STRIDE_SAMPLES, 0))
        return _front.log_mel(heard)[0, :, 0].numpy().astype(np.float16), end_hop, weight


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--segments", type=int, default=24_000, help=f"{SEGMENT_SAMPLES / SAMPLE_RATE_HZ} s each")
    parser.add_argument("--steps", type=int, default=3_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.processes)
    started = time.monotonic()
    spectra, ends, weights = features(Segments(arguments.data), arguments.segments, arguments.processes)
    share = (ends >= 0).float().mean()
    print(f"{len(spectra)} segments, {share:.0%} with the phrase, {time.monotonic() - started:.0f} s", flush=True)
    network = train(spectra, ends, weights, arguments.steps)
    save_file(stored(network), arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes, {time.monotonic() - started:.0f} s in all")


if __name__ == "__main__":
    main()
