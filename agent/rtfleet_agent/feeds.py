"""Feeds: the frames that a launch gives to a model, as the host made them. The agent knows nothing of audio."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rtfleet_agent.launch import STREAM_STARTS
from rtfleet_agent.runtimes.base import Array, BadModel


@dataclass(frozen=True, eq=False)
class Feeds:
    """Feeds that fit a model.

    Attributes:
        columns: Input -> [frames, *dims].
        constants: Input -> [*dims], the same for every frame.
        stream_starts: Frames at which a new stream begins; always holds 0.
    """

    columns: Mapping[str, Array]
    constants: Mapping[str, Array]
    stream_starts: frozenset[int]

    @property
    def frames(self) -> int:
        """How many frames; 1 where every input is a constant."""
        return min((len(values) for values in self.columns.values()), default=1)


def read_arrays(path: Path | None) -> dict[str, Array]:
    """The file's arrays, without pickle.

    Raises:
        BadModel: not an `.npz`, or one that holds objects.
    """
    if path is None:
        return {}
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: np.ascontiguousarray(file[name]).reshape(file[name].shape) for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise BadModel(f"feeds {path.name}: not a readable .npz of plain arrays ({error})") from error


def fit(arrays: Mapping[str, Array], inputs: Mapping[str, Array]) -> Feeds:
    """Feeds for inputs with the dtype and dims of `inputs` (the bound buffers; states are not among them).

    Raises:
        BadModel: an input that is missing, unknown, or has another dtype or shape; lengths that differ.
    """
    named = {name: values for name, values in arrays.items() if name != STREAM_STARTS}
    if missing := [name for name in inputs if name not in named]:
        raise BadModel(
            f"feeds: no values for input '{missing[0]}' ({_says(inputs[missing[0]])}); "
            f"the file has {', '.join(named) or 'nothing'}"
        )
    if unknown := [name for name in named if name not in inputs]:
        raise BadModel(f"feeds: the model has no input '{unknown[0]}'; its inputs are {', '.join(inputs) or 'none'}")
    columns: dict[str, Array] = {}
    constants: dict[str, Array] = {}
    for name, wanted in inputs.items():
        values = named[name]
        if values.dtype != wanted.dtype:
            raise BadModel(f"feeds: input '{name}' came as {_says(values)}, the model takes {_says(wanted)}")
        if values.shape == wanted.shape:
            constants[name] = values
        elif values.shape[1:] == wanted.shape and values.ndim == wanted.ndim + 1:
            columns[name] = values
        else:
            raise BadModel(
                f"feeds: input '{name}' came as {_says(values)}, the model takes {_says(wanted)} "
                "once, or with a leading frame axis"
            )
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        said = ", ".join(f"'{name}' {length}" for name, length in lengths.items())
        raise BadModel(f"feeds: every input must have the same number of frames, at least one; they have {said}")
    starts = frozenset(int(index) for index in np.ravel(arrays.get(STREAM_STARTS, np.zeros(1, np.int64))))
    return Feeds(columns, constants, starts | {0})


def _says(values: Array) -> str:
    return f"{values.dtype} {list(values.shape)}"
