"""Which variants a model is made and measured in: one rule for exports, runs and dry runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtfleet import plan
from rtfleet.artifact import EXPORTED_VARIANTS, Origin, variants_from
from rtfleet.suite import ModelEntry

ONNX, TFLITE = ("onnx-shipped",), ("tflite-shipped",)
OF_TENSORFLOW = ("tflite-fp32", "tflite-fp16", "tflite-int8-dynamic", "tflite-int8-static")
OF_ONNX = ("onnx-fp16", "onnx-int8-dynamic", "onnx-int8-static", "tensorrt-fp32", "tensorrt-fp16", "tensorrt-int8")


def entry(*variants: str) -> ModelEntry:
    return ModelEntry("m", "luna.py:hey", Path(), variants)


@pytest.mark.parametrize(
    ("origin", "shipped", "every", "usual"),
    [
        ("torch", (), EXPORTED_VARIANTS, ("onnx-fp32", "onnx-int8-static", "tflite-fp32", "tflite-int8-static")),
        ("tensorflow", (), OF_TENSORFLOW, ("tflite-fp32", "tflite-int8-static")),
        ("onnx", ONNX, (*ONNX, *OF_ONNX), ONNX),
        ("file", TFLITE, TFLITE, TFLITE),
    ],
)
def test_all_is_what_a_model_can_be_had_in_and_the_default_is_a_few_of_them(
    origin: Origin, shipped: tuple[str, ...], every: tuple[str, ...], usual: tuple[str, ...]
) -> None:
    assert variants_from(origin, shipped) == every
    assert plan.variants_of(entry("all"), origin, shipped) == every
    assert plan.variants_of(entry(), origin, shipped) == usual


def test_what_is_named_is_asked_for_even_where_it_can_t_be_made() -> None:
    """It becomes a row with its reason."""
    assert plan.variants_of(entry("coreml-fp32", "tflite-shipped"), "file", TFLITE) == ("coreml-fp32", "tflite-shipped")


def test_all_beside_others_names_nothing_twice() -> None:
    named = plan.variants_of(entry("tflite-int8-static", "all"), "tensorflow", ())

    assert named == ("tflite-int8-static", "tflite-fp32", "tflite-fp16", "tflite-int8-dynamic")


def test_a_filter_leaves_what_it_names_and_all_filters_nothing() -> None:
    suite_s = entry("onnx-fp32", "tflite-fp32")

    assert plan.variants_of(suite_s, "torch", (), only=("tflite-fp32", "onnx-fp16")) == ("tflite-fp32",)
    assert plan.variants_of(suite_s, "torch", (), only=("all",)) == ("onnx-fp32", "tflite-fp32")
