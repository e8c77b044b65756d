"""A runtime whose models do what a JSON file says: for trying rtfleet without a model, and for testing it.

An artifact is a file `NAME.fake.json`; every key but `inputs` and `outputs` is optional:

    {
      "inputs":  [{"name": "x", "dtype": "float32", "shape": [1, 4]},
                  {"name": "h", "dtype": "float32", "shape": [1]}],
      "outputs": [{"name": "score", "dtype": "float32", "shape": [1], "rule": "sum", "of": ["x", "h"]},
                  {"name": "h_out", "dtype": "float32", "shape": [1], "rule": "sum", "of": ["x", "h"]}],
      "latency_us": 250,
      "jitter_us": 20, "seed": 7,
      "load_ms": 5, "compile_ms": 0, "memory_mb": 30,
      "faults": {"crash_at": 120, "signal": "SIGSEGV"}
    }

`latency_us` is a number, a list that is cycled, or {"p50": 250, "late_every": 100, "late_us": 4000}; `jitter_us` adds
up to that much, uniform, seeded. Below 1 ms the core is kept busy, above it the process mostly sleeps.
A `dim` of -1 is dynamic. Tensors may have `scale` and `zero_point`.
`rule`: "zero" (default), "echo" (a copy of the first of `of`, which defaults to the first input), "sum" (each element
is the sum of all elements of all of `of`, which defaults to all inputs). With a state among `of`, "sum" accumulates.
`faults`, counted in inferences since the load, the first one being 0: {"crash_at": N, "signal": "SIGSEGV"},
{"hang_at": N}, {"slow_from": N, "factor": 3}, {"oom_at": N}, {"nan_at": N} (from then on), {"fail_at": N}.
A list of such objects is several faults.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from rtfleet_agent.runtimes.base import (
    Array,
    BadModel,
    Graph,
    NoAccelerator,
    OperatorTime,
    Options,
    Placement,
    RuntimeFacts,
    RuntimeFailure,
    Shape,
    State,
    Tensor,
    initial_value,
    paired,
    requantize,
    resolved_shape,
)

VERSION = "1"
_KEYS = {
    "inputs", "outputs", "latency_us", "jitter_us", "seed", "load_ms", "compile_ms", "memory_mb", "faults",
}  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """How an output comes about."""

    kind: str
    of: tuple[str, ...]


@dataclass(frozen=True)
class Spec:
    """The file, checked."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    rules: Mapping[str, Rule]
    latency_us: float | Sequence[float] | Mapping[str, float]
    jitter_us: float
    seed: int
    load_ms: float
    compile_ms: float
    memory_mb: int
    faults: tuple[Mapping[str, Any], ...]


def describe(plugs: bool = True) -> RuntimeFacts:
    """This file computes, so its own hash is the library's."""
    return RuntimeFacts(
        name="fake",
        version=VERSION,
        library_sha256=hashlib.sha256(Path(__file__).read_bytes()).hexdigest(),
        accelerators=("cpu",),
        unavailable={"gpu": "the fake runtime pretends to be a CPU", "npu": "the fake runtime pretends to be a CPU"},
    )


def compile(graph: Graph, cache: Path, options: Options) -> Path:
    """Takes `compile_ms` and changes nothing."""
    _wait(int(_read(graph.path).compile_ms * 1e6))
    return graph.path


def load(path: Path, graph: Graph, options: Options) -> Session:
    """Takes `load_ms` and holds `memory_mb`."""
    if options.accelerator != "cpu" and not options.allow_fallback:
        raise NoAccelerator(options.accelerator, ("cpu",), "the fake runtime pretends to be a CPU")
    spec = _read(path)
    _wait(int(spec.load_ms * 1e6))
    return Session(spec, options)


def one_op(folder: Path, inputs: int, outputs: int) -> Graph:
    """A model that answers at once with zeros."""
    path = folder / "one_op.fake.json"
    tensor = {"dtype": "float32", "shape": [1]}
    path.write_text(
        json.dumps(
            {
                "inputs": [{"name": f"x{index}", **tensor} for index in range(inputs)],
                "outputs": [{"name": f"y{index}", **tensor} for index in range(outputs)],
            }
        )
    )
    return Graph("one_op", path)


class Session:
    """A fake model, loaded."""

    def __init__(self, spec: Spec, options: Options) -> None:
        self._spec = spec
        self._asked = options.accelerator
        self._memory = np.ones(spec.memory_mb << 20, np.uint8)
        self._pretend = _pretend(spec)
        self._steps = count()
        self._time_ns = 0
        self._profile = options.profile

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return self._spec.inputs

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return self._spec.outputs

    def placement(self) -> Placement:
        return Placement(self._asked, "fake", 1.0 if self._asked == "cpu" else 0.0)

    def bind(self, shapes: Mapping[str, Shape], states: Sequence[State]) -> Bound:
        return Bound(self, shapes, states)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """One inference; outputs with dynamic dims have 1 there."""
        step = next(self._steps)
        results = {
            tensor.name: _result(tensor, self._spec.rules[tensor.name], feeds, self._spec, step)
            for tensor in self.outputs
        }
        start = time.monotonic_ns()
        self._pretend(step)
        self._time_ns += time.monotonic_ns() - start
        return results

    def operators(self) -> tuple[OperatorTime, ...]:
        """The pretending itself, as one operator."""
        if not self._profile:
            return ()
        return (OperatorTime("fake", "Fake", next(self._steps), self._time_ns, "fake", accelerated=True),)

    def close(self) -> None:
        self._memory = np.empty(0, np.uint8)


class Bound:
    """Fixed shapes and buffers."""

    def __init__(self, session: Session, shapes: Mapping[str, Shape], states: Sequence[State]) -> None:
        self._session = session
        self._pairs = paired(session.inputs, session.outputs, states)
        held = {
            tensor.name: np.zeros(resolved_shape(tensor, shapes.get(tensor.name)), tensor.dtype)
            for tensor in session.inputs
        }
        self._feeds = held
        self._states = {source.name: held[source.name] for _, source, _ in self._pairs}
        ends = {target.name for _, _, target in self._pairs}
        self.inputs: Mapping[str, Array] = {name: held[name] for name in held if name not in self._states}
        self.outputs: Mapping[str, Array] = {
            tensor.name: np.zeros([abs(dim) for dim in tensor.shape], tensor.dtype)
            for tensor in session.outputs
            if tensor.name not in ends
        }
        self.reset()

    def step(self) -> None:
        results = self._session.run(self._feeds)
        for name, target in self.outputs.items():
            target[...] = results[name]
        for _, source, target_end in self._pairs:
            self._states[source.name][...] = requantize(results[target_end.name], target_end, source)

    def reset(self) -> None:
        for state, source, _ in self._pairs:
            self._states[source.name][...] = initial_value(state, source, self._states[source.name].shape)


def _result(tensor: Tensor, rule: Rule, feeds: Mapping[str, Array], spec: Spec, step: int) -> Array:
    shape = [abs(dim) for dim in tensor.shape]
    dtype = np.dtype(tensor.dtype)
    if dtype.kind == "f" and any(step >= fault["nan_at"] for fault in spec.faults if "nan_at" in fault):
        return np.full(shape, np.nan, dtype)
    if rule.kind == "zero":
        return np.zeros(shape, dtype)
    if rule.kind == "echo":
        return np.resize(feeds[rule.of[0]], shape).astype(dtype)
    total = sum(float(feeds[name].sum(dtype=np.float64)) for name in rule.of)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        total = min(max(total, info.min), info.max)
    return np.full(shape, total, dtype)


def _pretend(spec: Spec) -> Callable[[int], None]:
    """What passes the time of one inference, and where the faults happen."""
    latencies = _latencies(spec)

    def pretend(step: int) -> None:
        latency_ns = next(latencies)
        for fault in spec.faults:
            if step == fault.get("crash_at"):
                os.kill(os.getpid(), signal.Signals[fault.get("signal", "SIGSEGV")])
            if step == fault.get("hang_at"):
                time.sleep(1e6)
            if step == fault.get("oom_at"):
                raise MemoryError(f"fault oom_at = {step}")
            if step == fault.get("fail_at"):
                raise RuntimeFailure(f"fault fail_at = {step}")
            if step >= fault.get("slow_from", step + 1):
                latency_ns = int(latency_ns * fault.get("factor", 2))
        _wait(latency_ns)

    return pretend


def _latencies(spec: Spec) -> Iterator[int]:
    jitter = random.Random(spec.seed)
    for step in count():
        if isinstance(spec.latency_us, Mapping):
            every = int(spec.latency_us.get("late_every", 0))
            late = every > 0 and step % every == every - 1
            latency_us = spec.latency_us["late_us" if late else "p50"]
        elif isinstance(spec.latency_us, Sequence):
            latency_us = spec.latency_us[step % len(spec.latency_us)]
        else:
            latency_us = spec.latency_us
        yield int((latency_us + jitter.random() * spec.jitter_us) * 1000)


def _wait(duration_ns: int) -> None:
    """The clock is read here to pretend, not to measure: a millisecond or less by spinning, the rest asleep."""
    end = time.monotonic_ns() + duration_ns
    if duration_ns > 1_000_000:
        time.sleep((duration_ns - 500_000) * 1e-9)
    while time.monotonic_ns() < end:
        pass


def _read(path: Path) -> Spec:
    try:
        raw = json.loads(path.read_text())
        if unknown := sorted(set(raw) - _KEYS):
            raise BadModel(f"{path.name}: unknown key '{unknown[0]}'; known are {', '.join(sorted(_KEYS))}")
        names = tuple(item["name"] for item in raw["inputs"])
        faults = raw.get("faults", [])
        return Spec(
            inputs=tuple(map(_tensor, raw["inputs"])),
            outputs=tuple(map(_tensor, raw["outputs"])),
            rules={item["name"]: _rule(item, names) for item in raw["outputs"]},
            latency_us=raw.get("latency_us", 0),
            jitter_us=float(raw.get("jitter_us", 0)),
            seed=int(raw.get("seed", 0)),
            load_ms=float(raw.get("load_ms", 0)),
            compile_ms=float(raw.get("compile_ms", 0)),
            memory_mb=int(raw.get("memory_mb", 0)),
            faults=tuple(faults) if isinstance(faults, list) else (faults,),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadModel(f"{path.name}: not a model of the fake runtime ({type(error).__name__}: {error})") from error


def _tensor(raw: Mapping[str, Any]) -> Tensor:
    dtype = np.dtype(raw["dtype"]).name
    return Tensor(raw["name"], dtype, tuple(raw["shape"]), raw.get("scale"), raw.get("zero_point"))


def _rule(raw: Mapping[str, Any], inputs: tuple[str, ...]) -> Rule:
    kind = raw.get("rule", "zero")
    if kind not in ("zero", "echo", "sum"):
        raise ValueError(f"output '{raw['name']}' has rule '{kind}'; known are zero, echo, sum")
    of = tuple(raw.get("of", inputs[:1] if kind == "echo" else inputs))
    if unknown := [name for name in of if name not in inputs]:
        raise ValueError(f"output '{raw['name']}' is made of '{unknown[0]}', which is no input")
    return Rule(kind, of)
