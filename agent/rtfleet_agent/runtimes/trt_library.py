"""TensorRT's Python package, whichever is here: `tensorrt` (JetPack, x86) or TensorRT-RTX. Same names in each.

TensorRT-RTX comes from the package index as bindings alone; its libraries lie in the package of ONNX Runtime's plug-in,
under names that the linker does not look for. They are loaded by path first: a library that is loaded already is not
looked for again.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_PACKAGES = ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings")
"""The first that is here is taken."""
_PLUG_IN = "onnxruntime_ep_nv_tensorrt_rtx"
_LIBRARIES = ("libtensorrt_rtx.so.*", "libtensorrt_onnxparser_rtx.so.*")
_MAPPED = re.compile(r"/\S*/(?:libnvinfer|libtensorrt_rtx)\.so\.\S+$", re.MULTILINE)


def _load_plug_in_libraries() -> None:
    spec = find_spec(_PLUG_IN)
    for folder in map(Path, spec.submodule_search_locations or ()) if spec else ():
        for pattern in _LIBRARIES:
            for path in sorted(folder.glob(pattern))[-1:]:
                with suppress(OSError):  # of another system: importing the bindings says it better
                    ctypes.CDLL(str(path))


def _imported() -> Any:
    reasons = []
    for name in _PACKAGES:
        if name.endswith("bindings"):
            _load_plug_in_libraries()
        try:
            module = import_module(name)
        except ImportError as error:
            reasons.append(str(error))
            continue
        if hasattr(module, "Builder"):
            return module
        reasons.append(f"'{name}' is an empty folder on the path")
    raise ImportError("; ".join(reasons))


trt: Any = _imported()
IS_RTX: bool = trt.__name__.startswith("tensorrt_rtx")
VERSION: str = f"{'TensorRT-RTX' if IS_RTX else 'TensorRT'} {trt.__version__}"


class Log(trt.ILogger):  # type: ignore[misc]  # TensorRT is not typed here
    """Warnings go to stderr, which the launch keeps; errors are also held, for what fails returns only None."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self._errors: list[str] = []

    def log(self, severity: Any, message: str) -> None:
        """Called by TensorRT, from any of its threads."""
        if severity <= trt.ILogger.Severity.WARNING:
            print(f"{severity.name}: {message}", flush=True)
        if severity <= trt.ILogger.Severity.ERROR:
            self._errors.append(message)

    def take(self) -> Sequence[str]:
        """The errors since the last call, in order."""
        errors, self._errors = self._errors, []
        return errors


LOG = Log()
"""One a process: TensorRT keeps the first that it is given."""


def library() -> Path | None:
    """The shared library that computes, as it is mapped into this process."""
    found = _MAPPED.search(Path("/proc/self/maps").read_text())
    return Path(found[0]) if found else None
