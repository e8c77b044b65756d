"""A variant against fp32 of its own format."""

from __future__ import annotations

import pytest
from builders import judged, judged_case, renamed, streaming, summary, whole_case

from rtfleet.artifact import File, Graph
from rtfleet.report import sentences
from rtfleet.savings import Saving, gains, savings


def test_a_variant_is_held_against_fp32_of_the_same_format_model_and_device() -> None:
    small = streaming(graphs=(Graph("main", (File("m", "a" * 64, 525_000),), (), ()),), variant="onnx-int8-static")
    run = judged(
        judged_case(whole_case(of=small), shown=summary(2.0)),
        judged_case(whole_case(), shown=summary(5.0)),
        judged_case(renamed(whole_case(), variant="tflite-int8-static")),
        judged_case(renamed(whole_case(of=small), device="pixel")),
    )

    assert savings(run) == {"luna/onnx-int8-static@board/paced": Saving(0.25, pytest.approx(2.5))}


def test_a_variant_that_was_not_measured_still_has_a_size() -> None:
    run = judged(judged_case(whole_case()), judged_case(renamed(whole_case(), variant="onnx-fp16"), "ERROR"))

    assert savings(run) == {"luna/onnx-fp16@board/paced": Saving(1.0, None)}


def test_what_is_gained_over_pytorch_is_told_the_fastest_first() -> None:
    run = judged(
        judged_case(renamed(whole_case(), variant="torch-fp32"), shown=summary(6.0)),
        judged_case(renamed(whole_case(), variant="torch-int8-dynamic"), shown=summary(4.0)),
        judged_case(whole_case(), shown=summary(2.0)),
        judged_case(renamed(whole_case(), variant="tflite-fp32"), "ERROR"),
        judged_case(renamed(whole_case(), device="pixel"), shown=summary(1.0)),
    )

    assert gains(run) == {
        "luna/torch-int8-dynamic@board/paced": pytest.approx(1.5),
        "luna/onnx-fp32@board/paced": pytest.approx(3.0),
    }
    told = dict(sentences.conditions(run, None))
    assert told["PyTorch"] == (
        "luna: onnx-fp32@board 3.0x, torch-int8-dynamic@board 1.5x as fast as torch-fp32, by latency p50"
    )


def test_without_a_pytorch_row_nothing_is_said_of_it() -> None:
    run = judged(judged_case(whole_case(), shown=summary(2.0)))

    assert gains(run) == {}
    assert "PyTorch" not in dict(sentences.conditions(run, None))
