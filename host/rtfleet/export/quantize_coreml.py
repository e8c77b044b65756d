"""An fp16 ML program to int8 or palettized weights, with coremltools. Activations stay float16: to quantize them,
coremltools must run the model, which only a Mac can.

Made from fp16 and not from fp32, because the Neural Engine computes in float16 alone.
"""

from __future__ import annotations

from pathlib import Path

from rtfleet.export.coreml import coremltools, save

SMALLEST = 512
"""Weights of fewer values stay float16: their tables and scales cost more than they save."""
PALETTE_BITS = 6
"""64 values a tensor. 4 bits ruin a spectral front end (7 dB at the wake word's output, 26 dB with 6), 8 save nothing
over int8."""


def to_int8(base: Path, out: Path) -> Path:
    """int8 weights with a scale an output channel, symmetric about zero; `base` and `out` are packages."""
    ct = coremltools()
    optimize = ct.optimize.coreml
    config = optimize.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=SMALLEST)
    made = optimize.linear_quantize_weights(
        ct.models.MLModel(str(base), skip_model_load=True), optimize.OptimizationConfig(global_config=config)
    )
    return save(made, out)


def to_palettized(base: Path, out: Path) -> Path:
    """Each weight one of 64 values of its tensor, found by k-means."""
    ct = coremltools()
    optimize = ct.optimize.coreml
    config = optimize.OpPalettizerConfig(mode="kmeans", nbits=PALETTE_BITS, weight_threshold=SMALLEST)
    made = optimize.palettize_weights(
        ct.models.MLModel(str(base), skip_model_load=True), optimize.OptimizationConfig(global_config=config)
    )
    return save(made, out)
