"""Times per operator of a TFLite graph, through LiteRT's C interface: its Python Interpreter has no profiler.

The graph is loaded once more, as a CompiledModel with profiling switched on. XNNPACK tells of its own operators, which
are what it made of the file's nodes, and the profiler tells of the nodes that stayed with the built-in kernels. Both
count whole microseconds: what is shorter than one is seen as none, and stands in the row `UNSEEN` instead.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from rtfleet_agent.runtimes.base import Array, OperatorTime, Options, RuntimeFailure, undisturbed_total

UNSEEN = "less than 1 µs each, and between operators"
WARMUP_FRAMES = 20
# A graph of thousands of nodes must not fill the memory with events.
BATCH_FRAMES = 10
BATCHES = 20

_CPU = 1
_BUILTIN_KERNELS = 2
_WRITE = 1
_RUNS = "Invoke"
# Event types of litert_profiler_event.h that are operators -> is it one of the delegate's?
_OPERATORS = {1 << 1: False, 1 << 2: True, 1 << 3: True}
_DEFAULT = 1
# ProfiledEventData, where MemoryUsage has three words: 2.3.0 on 64 bits.
_EVENT = np.dtype(
    {
        "names": ["tag", "type", "elapsed_us", "index", "subgraph", "source"],
        "formats": ["<u8", "<u4", "<u8", "<u8", "<u8", "<u4"],
        "offsets": [0, 8, 24, 80, 88, 96],
        "itemsize": 104,
    }
)
_SOURCES = 3

Handle = ctypes.c_void_p
Key = tuple[bool, str, int]


def operator_times(
    library: Path, model: Path, signature: str, subgraph: int, feeds: Mapping[str, Array], options: Options
) -> tuple[OperatorTime, ...]:
    """Each operator over `BATCHES * BATCH_FRAMES` inferences of one frame, `feeds`: name -> values, states included.

    Raises:
        RuntimeFailure: this version of LiteRT has no profiler, or one that answers in another form.
    """
    if not library.exists():
        raise RuntimeFailure(f"no times per operator: this LiteRT has no {library.name}")
    with ExitStack() as held:
        profiled = _Profiled(_Library(library), held, model, signature, feeds, options)
        profiled.run(WARMUP_FRAMES)
        times: dict[Key, list[int]] = {}
        unseen: list[int] = []
        for _ in range(BATCHES):
            events = profiled.events(BATCH_FRAMES)
            _sort(events[events["subgraph"] == subgraph], times, unseen)
    return tuple(_rows(times, unseen))


def _sort(events: Any, times: dict[Key, list[int]], unseen: list[int]) -> None:
    """Adds the nanoseconds of each operator's calls to `times`, and what is left of each inference to `unseen`."""
    for event in events:
        kind, elapsed_ns = int(event["type"]), int(event["elapsed_us"]) * 1000
        if kind in _OPERATORS:
            key = (_OPERATORS[kind], _text(event["tag"]), int(event["index"]))
            times.setdefault(key, []).append(elapsed_ns)
            unseen[-1] -= elapsed_ns
        elif kind == _DEFAULT and _text(event["tag"]) == _RUNS:
            # Events stand in the order in which they began: an inference before its operators.
            unseen.append(elapsed_ns)


def _rows(times: Mapping[Key, list[int]], unseen: list[int]) -> Iterator[OperatorTime]:
    for (delegated, tag, index), calls in times.items():
        ran_on = "XNNPACK" if delegated else "built-in kernels"
        yield OperatorTime(f"{tag} #{index}", tag, len(calls), undisturbed_total(calls), ran_on, accelerated=delegated)
    if (unseen_ns := undisturbed_total(unseen)) > 0:
        yield OperatorTime(UNSEEN, "", len(unseen), unseen_ns)


def _text(pointer: int) -> str:
    return ctypes.string_at(int(pointer)).decode(errors="replace")


class _Library:
    """libLiteRt.so: functions that answer with a status, and what they make by reference."""

    def __init__(self, path: Path) -> None:
        self._loaded = ctypes.CDLL(str(path))
        self._libc = ctypes.CDLL(None)
        self._libc.strdup.restype = ctypes.c_void_p

    def call(self, name: str, *arguments: Any) -> None:
        try:
            function = getattr(self._loaded, name)
        except AttributeError:
            raise RuntimeFailure(f"no times per operator: this LiteRT has no {name}") from None
        function.restype = ctypes.c_int
        status = function(*arguments)
        if status:
            raise RuntimeFailure(f"no times per operator: LiteRT's {name} answers with status {status}")

    def made(self, name: str, *arguments: Any) -> Handle:
        """What the function writes to its last argument."""
        handle = Handle()
        self.call(name, *arguments, ctypes.byref(handle))
        return handle

    def text(self, name: str, *arguments: Any) -> str:
        return _text(self.made(name, *arguments).value or 0)

    def number(self, name: str, *arguments: Any) -> int:
        return int(self.made(name, *arguments).value or 0)

    def destroy(self, name: str, handle: Handle) -> None:
        function = getattr(self._loaded, name)
        function.restype = None
        function(handle)

    def owned(self, text: str) -> tuple[Handle, Handle]:
        """A C string that the library may keep, and what it frees it with."""
        return Handle(self._libc.strdup(text.encode())), ctypes.cast(self._libc.free, Handle)


class _Profiled:
    """A compiled model with a profiler and its buffers; all of it is gone when `held` closes."""

    def __init__(
        self,
        library: _Library,
        held: ExitStack,
        model: Path,
        signature: str,
        feeds: Mapping[str, Array],
        options: Options,
    ) -> None:
        self._library, self._held = library, held
        self._environment = self._keep("Environment", "LiteRtCreateEnvironment", ctypes.c_int(0), None)
        path = str(model).encode()
        self._model = self._keep("Model", "LiteRtCreateModelFromFile", self._environment, path)
        settings = self._keep("Options", "LiteRtCreateOptions")
        library.call("LiteRtSetOptionsHardwareAccelerators", settings, ctypes.c_int(_CPU))
        kernels = "" if options.optimize else f"kernel_mode = {_BUILTIN_KERNELS}\n"
        self._add(settings, b"runtime_options_string", "enable_profiling = true\n")
        self._add(settings, b"xnnpack", f"num_threads = {options.threads}\n{kernels}")
        self._compiled = self._keep(
            "CompiledModel", "LiteRtCreateCompiledModel", self._environment, self._model, settings
        )
        self._profiler = library.made("LiteRtCompiledModelGetProfiler", self._compiled)
        self._at, self._signature = self._chosen(signature)
        names = self._names("Input")
        for index, name in enumerate(names):
            dims = np.asarray(feeds[name].shape, np.int32)
            where = (self._at, ctypes.c_size_t(index))
            resize = "LiteRtCompiledModelResizeInputTensorNonStrict"
            library.call(resize, self._compiled, *where, dims.ctypes.data_as(Handle), ctypes.c_size_t(dims.size))
        self._inputs = self._buffers("Input", len(names))
        self._outputs = self._buffers("Output", len(self._names("Output")))
        for name, buffer in zip(names, self._inputs, strict=True):
            self._write(Handle(buffer), np.ascontiguousarray(feeds[name]))

    def run(self, frames: int) -> None:
        counts = ctypes.c_size_t(len(self._inputs)), ctypes.c_size_t(len(self._outputs))
        for _ in range(frames):
            self._library.call(
                "LiteRtRunCompiledModel", self._compiled, self._at, counts[0], self._inputs, counts[1], self._outputs
            )

    def events(self, frames: int) -> Any:
        """The events of so many inferences, as an array of `_EVENT`."""
        call = self._library.call
        call("LiteRtResetProfiler", self._profiler)
        call("LiteRtStartProfiler", self._profiler)
        self.run(frames)
        call("LiteRtStopProfiler", self._profiler)
        count = ctypes.c_int()
        call("LiteRtGetNumProfilerEvents", self._profiler, ctypes.byref(count))
        # Twice the room, in case an event is larger than it was: then its types make no sense and are not believed.
        events = np.zeros(2 * count.value, _EVENT)
        call("LiteRtGetProfilerEvents", self._profiler, count, events.ctypes.data_as(Handle))
        events = events[: count.value]
        plausible = (events["tag"] != 0) & (events["source"] < _SOURCES) & (events["type"] > 0) & (events["type"] < 512)
        if not plausible.all():
            raise RuntimeFailure("no times per operator: this version of LiteRT writes its events in another form")
        return events

    def _keep(self, kind: str, name: str, *arguments: Any) -> Handle:
        handle = self._library.made(name, *arguments)
        self._held.callback(self._library.destroy, f"LiteRtDestroy{kind}", handle)
        return handle

    def _add(self, settings: Handle, identifier: bytes, text: str) -> None:
        opaque = self._library.made("LiteRtCreateOpaqueOptions", identifier, *self._library.owned(text))
        self._library.call("LiteRtAddOpaqueOptions", settings, opaque)

    def _chosen(self, wanted: str) -> tuple[Any, Handle]:
        """The signature of that name; "" is the only one, which LiteRT gives a file that has none."""
        count = self._library.number("LiteRtGetNumModelSignatures", self._model)
        for index in map(ctypes.c_size_t, range(count)):
            signature = self._library.made("LiteRtGetModelSignature", self._model, index)
            if wanted in ("", self._library.text("LiteRtGetSignatureKey", signature)):
                return index, signature
        raise RuntimeFailure(f"no times per operator: LiteRT's C interface does not see the signature {wanted}")

    def _names(self, side: str) -> list[str]:
        count = self._library.number(f"LiteRtGetNumSignature{side}s", self._signature)
        name = f"LiteRtGetSignature{side}Name"
        return [self._library.text(name, self._signature, ctypes.c_size_t(index)) for index in range(count)]

    def _buffers(self, side: str, count: int) -> Any:
        """Memory for each tensor, in the order of the signature."""
        buffers = []
        for index in map(ctypes.c_size_t, range(count)):
            tensor = self._library.made(f"LiteRtGetSignature{side}TensorByIndex", self._signature, index)
            kind = (ctypes.c_byte * 256)()  # a LiteRtRankedTensorType, which is only handed on
            self._library.call("LiteRtGetRankedTensorType", tensor, kind)
            needs = self._library.made(
                f"LiteRtGetCompiledModel{side}BufferRequirements", self._compiled, self._at, index
            )
            make = "LiteRtCreateManagedTensorBufferFromRequirements"
            buffers.append(self._keep("TensorBuffer", make, self._environment, kind, needs))
        return (Handle * count)(*buffers)

    def _write(self, buffer: Handle, values: Array) -> None:
        size = self._library.number("LiteRtGetTensorBufferSize", buffer)
        if size < values.nbytes:
            raise RuntimeFailure(f"no times per operator: LiteRT has {size} bytes for an input of {values.nbytes}")
        address = Handle()
        self._library.call("LiteRtLockTensorBuffer", buffer, ctypes.byref(address), ctypes.c_int(_WRITE))
        ctypes.memmove(address, values.ctypes.data, values.nbytes)
        self._library.call("LiteRtUnlockTensorBuffer", buffer)
