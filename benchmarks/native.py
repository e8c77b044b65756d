"""The C loop of `reference_loop.c`: compiled here, loaded into this process, run block by block."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime


def runtime_library() -> Path:
    """The shared library in onnxruntime's wheel; its Python module is a second, static build of the same sources.

    Raises:
        SystemExit: a wheel without one (other systems).
    """
    folder = Path(onnxruntime.__file__).parent / "capi"
    found = sorted(folder.glob("libonnxruntime.so.*"))
    if not found:
        raise SystemExit(f"no libonnxruntime.so in {folder}: this benchmark needs the Linux wheel of onnxruntime")
    return found[0]


class NativeLoop:
    """One model in the C loop."""

    def __init__(self, folder: Path, model: Path, pairs: int, width: int) -> None:
        library = folder / "reference_loop.so"
        if not library.exists():
            source = Path(__file__).with_name("reference_loop.c")
            flags = ["-O2", "-Wall", "-Wextra", "-shared", "-fPIC"]
            subprocess.run(["cc", *flags, "-o", library, source, "-ldl"], check=True)
        self._native = ctypes.CDLL(str(library))
        self._native.loop_open.restype = ctypes.c_void_p
        self._native.loop_score.restype = ctypes.POINTER(ctypes.c_float)
        opened = self._native.loop_open(
            str(runtime_library()).encode(), str(model).encode(), 1, pairs, ctypes.c_int64(width)
        )
        if not opened:
            raise SystemExit(f"the C loop can't open {model.name}; its reason stands above")
        self._loop = ctypes.c_void_p(opened)
        self._width = width

    def block(self, frames: np.ndarray, count: int) -> np.ndarray:
        """Latencies of `count` frames back to back, in nanoseconds; `frames` [rows, 1, width] are looped."""
        latency = np.zeros(count, np.int64)
        pointer = ctypes.c_void_p
        if self._native.loop_block(
            self._loop, pointer(frames.ctypes.data), len(frames), count, pointer(latency.ctypes.data)
        ):
            raise SystemExit("the C loop failed; its reason stands above")
        return latency

    def score(self) -> np.ndarray:
        """The score of the last frame."""
        return np.ctypeslib.as_array(self._native.loop_score(self._loop), (1, self._width)).copy()
