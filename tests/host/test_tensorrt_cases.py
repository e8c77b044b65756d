"""TensorRT's cases are on the GPU, whatever accelerators the others are measured with."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtfleet.fleet import LOCAL
from rtfleet.plan import cases_of
from rtfleet.suite import ModelEntry, Settings


@pytest.mark.parametrize("asked", [("cpu",), ("cpu", "gpu"), ("npu",)])
def test_a_tensorrt_case_is_one_on_the_gpu(asked: tuple[str, ...]) -> None:
    entry, settings = ModelEntry("luna", "luna.py:luna", Path()), Settings(accelerators=asked)

    (case,) = cases_of(entry, settings, "tensorrt-int8", 320, LOCAL)
    others = cases_of(entry, settings, "onnx-fp32", 320, LOCAL)

    assert case.options.accelerator == "gpu"
    assert case.id == "luna/tensorrt-int8@local/paced+gpu"
    assert [other.options.accelerator for other in others] == list(asked)
