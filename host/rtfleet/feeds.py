"""Frames on disk: `.npz` without pickle, the same bytes for the same numbers, in a graph's own dtypes for the agent."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rtfleet.artifact import File, Tensor, file_of
from rtfleet.errors import UsageError
from rtfleet.loop import LENGTH
from rtfleet.model import Array

STREAM_STARTS = "@stream_starts"
"""int64: the frames at which a new stream begins. The agent resets the states there when it checks parity."""

_EPOCH = (1980, 1, 1, 0, 0, 0)


def save(arrays: Mapping[str, Array], path: Path) -> File:
    """Write an `.npz` whose bytes follow from the arrays alone: sorted names, no time, no compression."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            member = io.BytesIO()
            np.lib.format.write_array(member, _in_order(np.asarray(arrays[name])), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
            info.create_system = 3  # else the operating system of the host stands in the file
            info.external_attr = 0o644 << 16
            archive.writestr(info, member.getbuffer())
    return file_of(path)


def load(path: Path) -> dict[str, Array]:
    """The arrays of an `.npz`, without pickle.

    Raises:
        UsageError: not such a file, or a damaged one.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise UsageError(f"{path}: not a readable .npz of plain arrays ({error})") from error


def to_feeds(frames_path: Path, tensors: tuple[Tensor, ...], out: Path) -> File:
    """Real-valued frames as a graph takes them: quantized where it is, cast where it wants other numbers.

    Args:
        frames_path: As `clips.frames_of` made and `save` wrote them.
        tensors: The graph's inputs, states excluded.

    Raises:
        UsageError: an input without frames, or frames whose dims or values the input can't take.
    """
    frames = load(frames_path)
    feeds: dict[str, Array] = {}
    for tensor in tensors:
        if tensor.name not in frames:
            there = ", ".join(name for name in frames if not name.startswith("@"))
            raise UsageError(f"there are no frames for input '{tensor.name}'; there are some for {there or 'nothing'}")
        values = frames[tensor.name]
        _check_dims(values, tensor)
        feeds[tensor.name] = _quantized(values, tensor) if tensor.scale is not None else _cast(values, tensor)
    feeds |= {name: frames[name] for name in (STREAM_STARTS, LENGTH) if name in frames}
    return save(feeds, out)


def _in_order(values: Array) -> Array:
    """C order, little-endian: the header says both, so they would change the bytes of equal numbers."""
    ordered = np.asarray(values, order="C")
    return ordered.astype(ordered.dtype.newbyteorder("<"), copy=False)


def _check_dims(values: Array, tensor: Tensor) -> None:
    """Once, of the input's own rank, or with a leading frame axis."""
    rank = len(tensor.shape)
    dims = values.shape if values.ndim == rank else values.shape[1:]
    fits = len(dims) == rank and all(want in (-1, dim) for want, dim in zip(tensor.shape, dims, strict=True))
    if not fits or (values.ndim == rank + 1 and len(values) == 0):
        raise UsageError(
            f"input '{tensor.name}' takes {_dims(tensor.shape)}, its frames are {_dims(values.shape)}",
            "the frames must have those dims, or those behind one axis of frames; a ? may be anything",
        )


def _quantized(values: Array, tensor: Tensor) -> Array:
    """real = (q - zero_point) * scale, as in ONNX QuantizeLinear and TFLite: half to even, saturated."""
    info = np.iinfo(tensor.dtype)
    steps = np.rint(values.astype(np.float32) / np.float32(tensor.scale)) + np.float32(tensor.zero_point or 0)
    result: Array = np.clip(steps, info.min, info.max).astype(tensor.dtype)
    return result


def _cast(values: Array, tensor: Tensor) -> Array:
    dtype = np.dtype(tensor.dtype)
    if np.issubdtype(dtype, np.integer) and not np.issubdtype(values.dtype, np.bool_):
        info = np.iinfo(dtype)
        if values.size and (values.min() < info.min or values.max() > info.max or (np.rint(values) != values).any()):
            raise UsageError(
                f"input '{tensor.name}' takes {dtype}, its frames are no such numbers "
                f"({values.min():g} to {values.max():g})"
            )
    with np.errstate(over="ignore"):
        result: Array = values.astype(dtype)
    if np.issubdtype(dtype, np.floating) and not np.isfinite(result).all():
        raise UsageError(f"input '{tensor.name}' takes {dtype}, its frames hold {np.abs(values).max():g}, too large")
    return result


def _dims(shape: tuple[int, ...]) -> str:
    return "[" + ", ".join("?" if dim < 0 else str(dim) for dim in shape) + "]"
