"""A model that is a file: what it says of itself, what the user said of it, and what is guessed between the two.

Every guess is one sentence, printed before it is used; saying the thing oneself overrides it. What can't be guessed
is asked for, with the flag that says it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rtfleet.artifact import Tensor
from rtfleet.errors import UsageError
from rtfleet.model import TASKS, Input, SpeechModel, State
from rtfleet.pairs import pair
from rtfleet.suite import ModelEntry

DEFAULT_RATE_HZ = 16_000
RATE_NAMES = ("sr", "sample_rate", "samplerate", "sampling_rate", "sample_rate_hz")
SHORTEST_AUDIO = 80
"""Samples (5 ms at 16 kHz). A shorter row of numbers is a feature vector, not audio."""


@dataclass
class _Telling:
    """What was guessed so far about the file called `name`."""

    name: str
    guesses: list[str] = field(default_factory=list)

    def wrong(self, text: str, hint: str = "") -> UsageError:
        return UsageError(f"{self.name}: {text}", hint)


def describe(
    entry: ModelEntry, path: Path, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
) -> tuple[SpeechModel, tuple[str, ...]]:
    """The model in the file `path`, and each guess as a sentence.

    An audio input longer than the hop takes the tail of the frame before; an unknown audio length is hop x rate; an
    unknown batch is 1; a scalar int called `sr` or `sample_rate` is the rate; states are paired by `pairs.py`.

    Args:
        inputs: All inputs of the graph, states included, as the runtime that will run it tells them.

    Raises:
        UsageError: something that can't be guessed, or that the file contradicts.
    """
    telling = _Telling(path.name)
    by_input, by_output = {tensor.name: tensor for tensor in inputs}, {tensor.name: tensor for tensor in outputs}
    for name in entry.inputs:
        if name not in by_input:
            raise telling.wrong(f"no input is called '{name}'", f"its inputs are {_listed(inputs)}")
    for name in entry.outputs:
        if name not in by_output:
            raise telling.wrong(f"no output is called '{name}'", f"its outputs are {_listed(outputs)}")
    if entry.task is None:
        raise telling.wrong("what is the model for?", f"say --task {'|'.join(TASKS)} (in a suite: task = …)")
    rate_hz = entry.sample_rate_hz or DEFAULT_RATE_HZ
    if entry.sample_rate_hz is None:
        telling.guesses.append(f"its audio is {rate_hz} Hz (say --sample-rate where it is not)")
    pairs, paired_by = pair(telling.name, entry.states, inputs, outputs)
    telling.guesses += paired_by
    hop_samples = _hop(entry, rate_hz, telling)
    if pairs and hop_samples is None:
        raise telling.wrong(
            f"it streams (state '{next(iter(pairs))}'); how much audio does one frame consume?",
            "say --hop-ms 32 (in a suite: hop_ms or hop_samples)",
        )
    if hop_samples is None:
        telling.guesses.append("it does not stream: whole clips, back to back (say --hop-ms where it does)")
    if named := [name for name in entry.outputs if name in pairs.values()]:
        raise telling.wrong(f"'{named[0]}' is a state's output, so it can't be an output of the model too")
    plain = tuple(tensor for tensor in inputs if tensor.name not in pairs)
    states = tuple(_state(by_input[name], output, entry, telling) for name, output in pairs.items())
    model = SpeechModel(
        task=entry.task,
        source=path,
        inputs=_inputs(plain, entry, rate_hz, hop_samples, telling),
        outputs=entry.outputs or tuple(tensor.name for tensor in outputs if tensor.name not in pairs.values()),
        states=states,
        sample_rate_hz=rate_hz,
        hop_ms=None if hop_samples is None else hop_samples * 1000 / rate_hz,
        threshold=entry.threshold,
        smoothing_hops=entry.smoothing_hops or 1,
    )
    if not model.outputs:
        raise telling.wrong("it has no output besides its states")
    return model, tuple(f"{telling.name}: {guess}" for guess in telling.guesses)


def audio_samples(dims: Sequence[int]) -> int | None:
    """Length of raw audio in an input of these dims: all but one are 1. None: it holds something else."""
    length = math.prod(dims)
    return length if length >= SHORTEST_AUDIO and length in dims else None


def _hop(entry: ModelEntry, rate_hz: int, telling: _Telling) -> int | None:
    from_ms = None if entry.hop_ms is None else entry.hop_ms * rate_hz / 1000
    if from_ms is not None and (not 1 <= from_ms < math.inf or abs(from_ms - round(from_ms)) > 1e-6):
        raise telling.wrong(
            f"a hop of {entry.hop_ms:g} ms is {from_ms:g} samples at {rate_hz} Hz",
            "it must be a whole number of samples: hop_samples says it exactly",
        )
    if from_ms is not None and entry.hop_samples not in (None, round(from_ms)):
        raise telling.wrong(f"hop_ms says {round(from_ms)} samples, hop_samples says {entry.hop_samples}")
    hop = entry.hop_samples if from_ms is None else round(from_ms)
    if hop is not None and hop < 1:
        raise telling.wrong(f"a hop of {hop} samples")
    return hop


def _inputs(
    tensors: Sequence[Tensor], entry: ModelEntry, rate_hz: int, hop_samples: int | None, telling: _Telling
) -> dict[str, Input]:
    """Audio first: an unknown length of any other input is the audio's."""
    found: dict[str, Input] = {}
    length: int | None = None
    constants: list[Tensor] = []
    for tensor in tensors:
        given = entry.inputs.get(tensor.name)
        if tensor.name in entry.inputs and not isinstance(given, tuple):
            constants.append(tensor)
        elif given is None and _is_rate(tensor):
            found[tensor.name] = Input(tensor.shape and (1,), tensor.dtype, constant=rate_hz)
            telling.guesses.append(f"input '{tensor.name}' is the sample rate, {rate_hz}")
        else:
            found[tensor.name] = item = _frame(tensor, given, hop_samples, telling)
            length = length or audio_samples(item.dims)
    for tensor in constants:
        value = entry.inputs[tensor.name]
        if isinstance(value, tuple):
            continue
        dims = _filled(tensor.shape, length)
        if dims is None:
            raise telling.wrong(f"input {_said(tensor)} has unknown dims that no audio tells")
        if tensor.dtype.startswith(("int", "uint")) and tensor.scale is None and float(value) != int(value):
            raise telling.wrong(f"input {_said(tensor)} can't be {value}")
        found[tensor.name] = Input(dims, _real_dtype(tensor), constant=value)
    return {tensor.name: found[tensor.name] for tensor in tensors}


def _frame(tensor: Tensor, given: object, hop_samples: int | None, telling: _Telling) -> Input:
    """An input that carries a frame: its dims from the user, the file and the hop."""
    said = _said(tensor)
    if isinstance(given, tuple):
        dims = _agreed(given, tensor, telling)
    else:
        if not np.issubdtype(np.dtype(tensor.dtype), np.floating) and tensor.dtype not in ("int16", "int8", "uint8"):
            raise telling.wrong(f"input {said} is no audio", f"give it its value: --input {tensor.name}=1")
        dims = _guessed(tensor, hop_samples, telling)
    samples = audio_samples(dims)
    if samples is not None and hop_samples is not None:
        if samples < hop_samples:
            raise telling.wrong(
                f"input {said} holds {samples} samples, fewer than the hop of {hop_samples}",
                "check --hop-ms and --sample-rate",
            )
        if samples > hop_samples:
            telling.guesses.append(
                f"input '{tensor.name}' takes the last {samples - hop_samples} samples of the frame before, "
                f"then {hop_samples} new ones"
            )
    typical = dims if dims != tensor.shape else None
    if _real_dtype(tensor) in ("int16", "int8", "uint8"):
        telling.guesses.append(f"input '{tensor.name}' ({tensor.dtype}) takes audio at the full range of its integers")
    return Input(tensor.shape, _real_dtype(tensor), typical=typical)


def _guessed(tensor: Tensor, hop_samples: int | None, telling: _Telling) -> tuple[int, ...]:
    dims = list(tensor.shape)
    unknown = [axis for axis, dim in enumerate(dims) if dim < 0]
    if 0 in unknown and len(dims) > 1:
        dims[0] = 1
        unknown.remove(0)
        telling.guesses.append(f"the unknown batch of input '{tensor.name}' is 1")
    if not unknown:
        return tuple(dims)
    rest = [dim for dim in dims if dim >= 0]
    if len(unknown) > 1 or any(dim != 1 for dim in rest):
        raise telling.wrong(
            f"input {_said(tensor)} has dims that can't be guessed", f"give them: --input {tensor.name}=1x100x80"
        )
    if hop_samples is None:
        raise telling.wrong(
            f"input {_said(tensor)} has an unknown length",
            f"say --hop-ms, or --input {tensor.name}=1x16000 for a model that does not stream",
        )
    dims[unknown[0]] = hop_samples
    telling.guesses.append(f"the unknown length of input '{tensor.name}' is the hop, {hop_samples} samples")
    return tuple(dims)


def _state(tensor: Tensor, output: str, entry: ModelEntry, telling: _Telling) -> State:
    given = entry.inputs.get(tensor.name)
    if isinstance(given, tuple):
        dims = _agreed(given, tensor, telling)
    else:
        unknown = [axis for axis, dim in enumerate(tensor.shape) if dim < 0]
        if len(unknown) > 1:
            raise telling.wrong(
                f"state {_said(tensor)} has several unknown dims", f"give them: --input {tensor.name}=1x2x3"
            )
        dims = tuple(1 if dim < 0 else dim for dim in tensor.shape)
        if unknown:
            telling.guesses.append(f"the unknown batch of state '{tensor.name}' is 1")
    return State(tensor.name, output, dims, dtype=tensor.dtype)


def _agreed(given: tuple[int, ...], tensor: Tensor, telling: _Telling) -> tuple[int, ...]:
    """The user's dims, if the file takes them."""
    fits = len(given) == len(tensor.shape) and all(
        dim > 0 and known in (-1, dim) for dim, known in zip(given, tensor.shape, strict=True)
    )
    if not fits:
        raise telling.wrong(f"input {_said(tensor)} can't have the dims {'x'.join(map(str, given))}")
    return given


def _filled(shape: tuple[int, ...], length: int | None) -> tuple[int, ...] | None:
    dims = tuple(1 if axis == 0 and dim < 0 and len(shape) > 1 else dim for axis, dim in enumerate(shape))
    if any(dim < 0 for dim in dims) and length is None:
        return None
    return tuple(length if dim < 0 and length is not None else dim for dim in dims)


def _is_rate(tensor: Tensor) -> bool:
    scalar = tensor.shape in ((), (1,))
    return scalar and tensor.dtype in ("int32", "int64") and tensor.name.lower() in RATE_NAMES


def _real_dtype(tensor: Tensor) -> str:
    """Frames are real numbers; `clips.to_feeds` puts them onto the integers of a quantized input."""
    return "float32" if tensor.scale is not None else tensor.dtype


def _said(tensor: Tensor) -> str:
    return f"'{tensor.name}' ({tensor.dtype} {'x'.join('?' if dim < 0 else str(dim) for dim in tensor.shape) or '[]'})"


def _listed(tensors: Sequence[Tensor]) -> str:
    return ", ".join(map(_said, tensors))
