"""The driver's own copies and memory, on a GPU of any kind: no TensorRT is needed."""

from __future__ import annotations

import numpy as np
import pytest

from rtfleet_agent.runtimes import cuda
from rtfleet_agent.runtimes.base import OutOfMemory


@pytest.fixture(name="stream")
def _stream() -> cuda.Stream:
    try:
        return cuda.Stream()
    except cuda.NoGpu as error:
        pytest.skip(str(error))


def test_what_goes_up_comes_down(stream: cuda.Stream) -> None:
    mirror = cuda.Mirror({"a": ((3, 5), "float32"), "b": ((7,), "int8"), "c": ((1 << 20,), "float32")}, stream)
    rng = np.random.default_rng(1)
    sent = {name: rng.integers(-100, 100, array.shape).astype(array.dtype) for name, array in mirror.host.items()}
    for name, values in sent.items():
        mirror.host[name][...] = values
    cuda.check("up", mirror.upload())
    stream.wait()
    for array in mirror.host.values():
        array[...] = 0
    cuda.check("down", mirror.download())
    stream.wait()
    for name, values in sent.items():
        np.testing.assert_array_equal(mirror.host[name], values)
    mirror.close()
    stream.close()


def test_no_memory_left_is_said_as_such() -> None:
    with pytest.raises(OutOfMemory, match="no memory left on the GPU"):
        cuda.check("cuMemAlloc", 2)
