"""Streaming states of a file: which output comes back as which input.

The rule, first match wins: an output belongs to an input of the same dtype and dims (an unknown dim fits any) when
its name is the input's with one of these changes: `N`, `n`, `_n`, `_out`, `_o`, `_new`, `_next` behind it; `new_`,
`next_`, `out_`, `updated_` before it; `in` become `out`, `past` become `present`, `prev` become `next` or `cur` within.
Numbers are kept: `cache_0` goes with `new_cache_0`, `h.1` with `hn.1` or `h.1_out`. An input that is called audio
(`audio`, `input`, `x`, …) is no state, or a denoiser's output would come back as its input.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from rtfleet.artifact import Tensor
from rtfleet.errors import UsageError

_BEHIND = ("N", "n", "_n", "_N", "_out", "Out", "_o", "_new", "_next", "_output")
_BEFORE = ("new_", "next_", "out_", "updated_", "output_")
_WITHIN = (
    ("in", "out"),
    ("past_key_values", "present"),
    ("past", "present"),
    ("prev", "next"),
    ("prev", "cur"),
    ("old", "new"),
)
_AUDIO = ("audio", "audio_in", "in", "input", "inputs", "input_values", "signal", "speech", "wav", "waveform", "x")


def pair(
    file: str, given: Mapping[str, str], inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> tuple[dict[str, str], list[str]]:
    """State input -> state output, in the order of the inputs, and each guess as a sentence.

    Args:
        given: The user's own pairs. Where there are any, nothing is guessed.

    Raises:
        UsageError: a pair whose ends are not in the file, or differ in dtype or dims.
    """
    if given:
        _check(file, given, inputs, outputs)
        return {tensor.name: given[tensor.name] for tensor in inputs if tensor.name in given}, []
    pairs: dict[str, str] = {}
    for tensor in inputs:
        if tensor.name.lower() in _AUDIO:
            continue
        left = {other.name: other for other in outputs if other.name not in pairs.values()}
        match = next((name for name in _names_for(tensor.name) if name in left and _fits(tensor, left[name])), None)
        if match is not None:
            pairs[tensor.name] = match
    return pairs, [f"'{output}' comes back as state '{name}'" for name, output in pairs.items()]


def _names_for(name: str) -> list[str]:
    stem, number = re.fullmatch(r"(.*?)([._]?\d*)", name, re.DOTALL).groups()  # type: ignore[union-attr]  # matches all
    wanted = [name + end for end in _BEHIND] + [start + name for start in _BEFORE]
    wanted += [stem + end + number for end in _BEHIND] if number else []
    wanted += [re.sub(rf"(?<![a-zA-Z]){old}(?![a-zA-Z])", new, name) for old, new in _WITHIN]
    return [candidate for candidate in wanted if candidate != name]


def _fits(one: Tensor, other: Tensor) -> bool:
    if one.dtype != other.dtype or len(one.shape) != len(other.shape):
        return False
    return all(a == b or a < 0 or b < 0 for a, b in zip(one.shape, other.shape, strict=True))


def _check(file: str, given: Mapping[str, str], inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
    by_input, by_output = {tensor.name: tensor for tensor in inputs}, {tensor.name: tensor for tensor in outputs}
    for name, output in given.items():
        for wanted, there, what in ((name, by_input, "input"), (output, by_output, "output")):
            if wanted not in there:
                raise UsageError(
                    f"{file}: state {name}={output}: no {what} is called '{wanted}'",
                    f"its {what}s are {', '.join(there)}",
                )
        one, other = by_input[name], by_output[output]
        if not _fits(one, other):
            raise UsageError(
                f"{file}: state {name}={output}: the two ends differ, "
                f"{one.dtype} {list(one.shape)} and {other.dtype} {list(other.shape)}"
            )
    if len(set(given.values())) < len(given):
        raise UsageError(f"{file}: one output can't come back as two states", "check the pairs given with --state")
