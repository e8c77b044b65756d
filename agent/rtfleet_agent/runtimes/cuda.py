"""The little of CUDA that TensorRT's buffers need, through the driver's own library: an agent installs no CUDA package.

`libcuda.so.1` is there wherever a GPU can be used, on JetPack as on x86; the toolkit's runtime is not. Names and
types are those of cuda.h (12 and 13), whose `_v2` functions these libraries have had since CUDA 3.2.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from rtfleet_agent.runtimes.base import Array, OutOfMemory, RuntimeFailure, Shape

_LIBRARY = "libcuda.so.1"
_OUT_OF_MEMORY = 2
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
_NON_BLOCKING_STREAM = 1
_ALIGNMENT_BYTES = 256
_SIGNATURES: Mapping[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDriverGetVersion": (POINTER(c_int),),
    "cuDeviceGetCount": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuCtxSetCurrent": (c_void_p,),
    "cuStreamCreate": (POINTER(c_void_p), c_uint),
    "cuStreamSynchronize": (c_void_p,),
    "cuStreamDestroy_v2": (c_void_p,),
    "cuMemAlloc_v2": (POINTER(c_uint64), c_size_t),
    "cuMemFree_v2": (c_uint64,),
    "cuMemAllocHost_v2": (POINTER(c_void_p), c_size_t),
    "cuMemFreeHost": (c_void_p,),
    "cuMemcpyHtoDAsync_v2": (c_uint64, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_uint64, c_size_t, c_void_p),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
}


class NoGpu(Exception):
    """There is no GPU that CUDA can use; the message says what is missing."""


@dataclass(frozen=True)
class Gpu:
    """The first GPU. `driver` is the newest CUDA version that its driver serves."""

    name: str
    capability: tuple[int, int]
    driver: str


@cache
def gpu() -> Gpu:
    """The GPU that everything here uses. Raises NoGpu."""
    library, device = _device()
    name = ctypes.create_string_buffer(256)
    check("cuDeviceGetName", library.cuDeviceGetName(name, len(name), device))
    numbers = []
    for attribute in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR):
        number = c_int()
        check("cuDeviceGetAttribute", library.cuDeviceGetAttribute(byref(number), attribute, device))
        numbers.append(number.value)
    version = c_int()
    check("cuDriverGetVersion", library.cuDriverGetVersion(byref(version)))
    driver = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return Gpu(name.value.decode(errors="replace"), (numbers[0], numbers[1]), driver)


class Stream:
    """One stream, in the context that TensorRT uses too. Raises NoGpu, OutOfMemory, RuntimeFailure."""

    def __init__(self) -> None:
        library, device = _device()
        context, stream = c_void_p(), c_void_p()
        check("cuDevicePrimaryCtxRetain", library.cuDevicePrimaryCtxRetain(byref(context), device))
        check("cuCtxSetCurrent", library.cuCtxSetCurrent(context))
        check("cuStreamCreate", library.cuStreamCreate(byref(stream), _NON_BLOCKING_STREAM))
        self.handle: int = stream.value or 0
        self.synchronize: Callable[[], int] = partial(library.cuStreamSynchronize, self.handle)

    def wait(self) -> None:
        """Until all that was put into the stream is done. Raises OutOfMemory, RuntimeFailure."""
        check("cuStreamSynchronize", self.synchronize())

    def close(self) -> None:
        _driver().cuStreamDestroy_v2(self.handle)


class Mirror:
    """Named arrays in pinned host memory and their twins on the device. Each side is one block: one copy moves all.

    Attributes:
        host: The arrays, zero at first.
        device: Their addresses on the device.
        upload, download: Put the copy of the whole block into the stream; 0, or CUDA's error code.
    """

    def __init__(self, tensors: Mapping[str, tuple[Shape, str]], stream: Stream) -> None:
        offsets, self._bytes = layout(tensors)
        self._host, self._device = c_void_p(), c_uint64()
        library = _driver()
        check("cuMemAllocHost", library.cuMemAllocHost_v2(byref(self._host), self._bytes))
        check("cuMemAlloc", library.cuMemAlloc_v2(byref(self._device), self._bytes))
        base = self._device.value
        block = np.ctypeslib.as_array((ctypes.c_uint8 * self._bytes).from_address(self._host.value or 0))
        block[...] = 0
        self.host: Mapping[str, Array] = {
            name: np.ndarray(shape, dtype, block, offsets[name]) for name, (shape, dtype) in tensors.items()
        }
        self.device: Mapping[str, int] = {name: base + offset for name, offset in offsets.items()}
        host = self._host.value
        self.upload: Callable[[], int] = partial(library.cuMemcpyHtoDAsync_v2, base, host, self._bytes, stream.handle)
        self.download: Callable[[], int] = partial(library.cuMemcpyDtoHAsync_v2, host, base, self._bytes, stream.handle)

    def close(self) -> None:
        """Frees both sides: `host` must not be touched any more."""
        self.host = {}
        _driver().cuMemFreeHost(self._host)
        _driver().cuMemFree_v2(self._device)


def layout(tensors: Mapping[str, tuple[Shape, str]]) -> tuple[dict[str, int], int]:
    """Offset of each tensor (shape, dtype) in a block, and the block's bytes: at least one alignment."""
    offsets, end = {}, 0
    for name, (shape, dtype) in tensors.items():
        offsets[name] = end
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        end += -(-max(size, 1) // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
    return offsets, max(end, _ALIGNMENT_BYTES)


@cache
def _driver() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise NoGpu(f"no NVIDIA GPU: {_LIBRARY}, which comes with the GPU's driver, can't be loaded") from error
    for name, types in _SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.restype = types, c_int
    return library


@cache
def _device() -> tuple[ctypes.CDLL, int]:
    """The driver, started, and the number of its first device."""
    library = _driver()
    count, device = c_int(), c_int()
    for name, code in (
        ("cuInit", library.cuInit(0)),
        ("cuDeviceGetCount", library.cuDeviceGetCount(byref(count))),
        ("cuDeviceGet", library.cuDeviceGet(byref(device), 0)),
    ):
        if code:
            raise NoGpu(f"no NVIDIA GPU: {name} says '{_words(code)}' ({count.value} devices)")
    return library, device.value


def check(name: str, code: int) -> None:
    """Raises OutOfMemory, RuntimeFailure for a code that is not 0; `name` says what was done."""
    if code == _OUT_OF_MEMORY:
        raise OutOfMemory(f"no memory left on the GPU ({name})")
    if code:
        raise RuntimeFailure(f"{name} failed: {_words(code)}")


def _words(code: int) -> str:
    text = c_char_p()
    _driver().cuGetErrorString(code, byref(text))
    return f"{(text.value or b'unknown').decode()}, error {code}"
