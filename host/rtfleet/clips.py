"""Audio becomes frames: what a model is given, frame by frame. The agent knows nothing of audio.

Latency, calibration and parity use the same frames. They are real numbers here; `to_feeds` puts them into the dtypes
of one graph.
"""

from __future__ import annotations

import glob
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from rtfleet import feeds, transcripts
from rtfleet.artifact import File, Utterance
from rtfleet.errors import UsageError
from rtfleet.feeds import STREAM_STARTS, load, to_feeds
from rtfleet.guess import audio_samples
from rtfleet.loop import LENGTH, Seq2Seq
from rtfleet.model import Array, Input, SpeechModel
from rtfleet.models import ZOO
from rtfleet.suite import ModelEntry
from rtfleet.users_code import blame

__all__ = ["STREAM_STARTS", "Frames", "find", "find_positives", "frames_of", "load", "read", "save", "to_feeds"]

SHIPPED = Path(__file__).with_name("audio")
SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif")
LONGEST_S = 60.0
"""Of all clips together, priming aside: frames are looped, so more audio only costs time and room."""
LONGEST_LABELLED_S = 600.0
"""Where hits and false alarms are counted, more audio is more evidence."""
MOST_WINDOWS = 40
"""Frames of a model that does not stream."""
SYNTHETIC_FRAMES = 100
MOST_ELEMENTS = 10_000_000
"""Of one frame of one input: ten minutes of raw audio."""
_NOISE = 1000 / 32768
_SEED = 20_261_124


@dataclass(frozen=True, eq=False)
class Frames:
    """What a model is given.

    Attributes:
        arrays: Per input that changes an array `[n, *dims]`, per constant one of the input's own rank, and int64
            `@stream_starts`, the frame at which each clip begins.
        synthetic: Seeded numbers of a plausible range, not audio: the row says "synthetic input".
        utterances: The clips, of a model that takes them whole: then each is a frame, and `@length` says how much of
            it counts along the last axis.
        positives: Clips, by their number, that contain what a wake word listens for; None where nobody said.
        cut_short: One sentence where there were more clips than are heard; else "".
    """

    arrays: dict[str, Array]
    synthetic: bool
    utterances: tuple[Utterance, ...] = ()
    positives: tuple[int, ...] | None = None
    cut_short: str = ""


def find(entry: ModelEntry) -> list[Path]:
    """The entry's clips, sorted; the shipped ones where it names none. A folder stands for the audio files in it.

    Raises:
        UsageError: a pattern that no file matches.
    """
    if not entry.clips:
        own = ZOO[entry.source].clips if entry.source in ZOO else ""
        return sorted(path for path in (SHIPPED / own).iterdir() if _is_audio(path))
    return _matching(entry, "clips", entry.clips)


def find_positives(entry: ModelEntry) -> list[Path]:
    """The clips that the entry says to contain what a wake word listens for. Raises UsageError as `find` does."""
    return _matching(entry, "positives", entry.positives)


def _matching(entry: ModelEntry, key: str, patterns: Sequence[str]) -> list[Path]:
    found: list[Path] = []
    for pattern in patterns:
        matches = [Path(name) for name in sorted(glob.glob(str(_below(entry.folder, pattern)), recursive=True))]
        inside = [path for match in matches if match.is_dir() for path in sorted(match.iterdir()) if _is_audio(path)]
        files = [match for match in matches if match.is_file()] + inside
        if not files:
            raise UsageError(
                f"{entry.where or entry.name}: {key} '{pattern}': no audio file matches in {entry.folder}",
                f"name a folder, or a pattern like clips/*.wav ({', '.join(SUFFIXES)})",
            )
        found += [file for file in files if file not in found]
    return found


def read(path: Path, rate_hz: int) -> Array:
    """A clip as float32 [samples] in [-1, 1], mono, at `rate_hz`. Any rate, width and number of channels.

    Raises:
        UsageError: a file that is missing, empty, damaged or no audio.
    """
    import soundfile
    import soxr

    if not path.is_file():
        raise UsageError(f"{path}: no such audio file")
    if path.stat().st_size == 0:
        raise UsageError(f"{path}: the file is empty")
    try:
        audio, its_rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        said = getattr(error, "error_string", None) or str(error)
        raise UsageError(f"{path}: not readable as audio: {said}", "WAV, FLAC, OGG and MP3 can be read") from error
    if len(audio) == 0:
        raise UsageError(f"{path}: there is no audio in it")
    if not np.isfinite(audio).all():
        raise UsageError(f"{path}: its samples are not all finite")
    mono: Array = audio.mean(axis=1, dtype=np.float32)
    if its_rate_hz != rate_hz:
        mono = np.asarray(soxr.resample(mono, its_rate_hz, rate_hz), np.float32)
    if len(mono) == 0:
        raise UsageError(f"{path}: {len(audio)} samples at {its_rate_hz} Hz are too short")
    return np.clip(mono, -1.0, 1.0)


def frames_of(model: SpeechModel, clips: Sequence[Path], positives: Sequence[Path] = ()) -> Frames:
    """The frames that `clips` become for `model`, one clip a stream.

    Where some are `positives`, or have a name that the model knows, those come first, so that none is cut off.

    The model's own front end makes them where it has one. Else raw audio is cut by the hop, an input longer than that
    beginning with the tail of the frame before; a model that does not stream gets whole windows. What takes no audio
    gets seeded numbers.

    Raises:
        UsageError: a clip that can't be read, a front end that fails or returns something else than it must, or
            `positives` of a model that is no wake word.
    """
    with_phrase = _with_phrase(model, clips, positives)
    varying = {name: item for name, item in model.inputs.items() if item.constant is None}
    constants = {
        name: np.full(item.dims, item.constant, item.dtype)
        for name, item in model.inputs.items()
        if item.constant is not None
    }
    for name, item in model.inputs.items():
        if math.prod(item.dims) > MOST_ELEMENTS:
            raise UsageError(
                f"input '{name}' has the dims {list(item.dims)}: more than {MOST_ELEMENTS:,} numbers a frame",
                f"say its shape: --input {name}=1x16000",
            )
    if isinstance(model.loop, Seq2Seq):
        return _whole(model, varying, constants, clips)
    hop = model.hop_samples
    raw = all(_takes_audio(item, hop) for item in varying.values())
    if not varying or (model.frames is None and not raw):
        return Frames({**_synthetic(varying), **constants, STREAM_STARTS: np.zeros(1, np.int64)}, bool(varying))
    columns: dict[str, list[Array]] = {name: [] for name in varying}
    starts: list[int] = []
    heard_s, count = 0.0, 0
    most = None if hop is not None else MOST_WINDOWS
    longest_s = LONGEST_LABELLED_S if with_phrase else LONGEST_S
    ordered = dict.fromkeys((*with_phrase, *clips))
    for path in ordered:
        room = round((longest_s - heard_s) * model.sample_rate_hz)
        if room <= 0 or count == most:
            break
        whole = read(path, model.sample_rate_hz)
        if path in with_phrase and len(whole) > room:
            break  # what is left of it may not hold the phrase
        audio = whole[:room]
        heard_s += len(audio) / model.sample_rate_hz
        primed = np.concatenate((_noise(model), audio))
        made = _front_end(model, varying, primed, path) if model.frames else _cut(varying, hop, primed)
        length = len(next(iter(made.values())))
        starts.append(count)
        count += length if most is None else min(length, most - count)
        for name, values in made.items():
            columns[name].append(values)
    if not starts:
        raise UsageError("there are no clips to make frames of")
    arrays = {name: np.concatenate(parts)[:count] for name, parts in columns.items()}
    return Frames(
        {**arrays, **constants, STREAM_STARTS: np.array(starts, np.int64)},
        synthetic=False,
        positives=tuple(range(min(len(with_phrase), len(starts)))) if with_phrase else None,
        cut_short=_cut_short(len(starts), len(ordered), longest_s) if hop is not None else "",
    )


def _whole(
    model: SpeechModel, varying: Mapping[str, Input], constants: Mapping[str, Array], clips: Sequence[Path]
) -> Frames:
    """A frame a clip, all as long as the longest; what is behind a clip's end is 0 and does not count."""
    made: list[Mapping[str, Array]] = []
    utterances: list[Utterance] = []
    heard_s = 0.0
    for path, name in zip(clips, _told_apart(clips), strict=True):
        audio = read(path, model.sample_rate_hz)
        duration_s = len(audio) / model.sample_rate_hz
        heard_s += duration_s
        if heard_s > LONGEST_S and made:
            break
        raw = dict.fromkeys(varying, audio[None])
        made.append(_front_end(model, varying, audio, path, whole=True) if model.frames else raw)
        utterances.append(Utterance(name, duration_s, transcripts.beside(path)))
    if not made:
        raise UsageError("there are no clips to make frames of")
    lengths = [min(values.shape[-1] for values in one.values()) for one in made]
    arrays: dict[str, Array] = {}
    for name, item in varying.items():
        padded = np.zeros((len(made), *made[0][name].shape[:-1], max(lengths)), item.dtype)
        for index, one in enumerate(made):
            padded[index, ..., : lengths[index]] = one[name][..., : lengths[index]]
        arrays[name] = padded
    counted = np.array(lengths, np.int64)[:, None]
    starts = np.arange(len(made), dtype=np.int64)
    return Frames(
        {**arrays, **constants, LENGTH: counted, STREAM_STARTS: starts},
        synthetic=False,
        utterances=tuple(utterances),
        cut_short=_cut_short(len(made), len(clips), LONGEST_S),
    )


def _told_apart(clips: Sequence[Path]) -> list[str]:
    """The name of each clip's file, with as many of its folders as tell it from the others of that name."""

    def ends(path: Path) -> list[str]:
        return ["/".join(path.parts[-count:]) for count in range(1, len(path.parts) + 1)]

    theirs = Counter(end for path in dict.fromkeys(clips) for end in ends(path))
    return [next((end for end in ends(path) if theirs[end] == 1), str(path)) for path in clips]


def save(frames: Frames | Mapping[str, Array], path: Path) -> File:
    """Frames, or any arrays by name, as an `.npz`: equal numbers give equal bytes."""
    return feeds.save(frames.arrays if isinstance(frames, Frames) else frames, path)


def _with_phrase(model: SpeechModel, clips: Sequence[Path], positives: Sequence[Path]) -> list[Path]:
    """The clips that contain what a wake word listens for, as far as somebody says so. Raises UsageError."""
    if positives and model.task != "wake-word":
        raise UsageError(f"positives are clips that a wake word must hear, and this model is for {model.task}")
    named = [path for path in clips if any(fnmatchcase(path.name, pattern) for pattern in model.positives)]
    return list(dict.fromkeys((*positives, *named)))


def _cut_short(heard: int, clips: int, longest_s: float) -> str:
    return f"{heard} of {clips} clips are heard: {longest_s:g} s are the most" if heard < clips else ""


def _below(folder: Path, pattern: str) -> Path:
    expanded = Path(pattern).expanduser()
    return expanded if expanded.is_absolute() else Path(glob.escape(str(folder))) / expanded


def _is_audio(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in SUFFIXES


def _takes_audio(item: Input, hop: int | None) -> bool:
    """Raw audio: one long row of numbers, no shorter than the hop."""
    samples = audio_samples(item.dims)
    numeric = item.dtype in ("float16", "float32", "float64", "int16", "int8", "uint8")
    return numeric and samples is not None and (hop is None or samples >= hop)


def _noise(model: SpeechModel) -> Array:
    """Low noise to run before a clip: heads fire on their own empty buffers."""
    samples = round(model.priming_s * model.sample_rate_hz)
    return np.random.default_rng(_SEED).uniform(-_NOISE, _NOISE, samples).astype(np.float32)


def _cut(inputs: Mapping[str, Input], hop: int | None, audio: Array) -> dict[str, Array]:
    """Raw audio, hop by hop; the last frame is filled up with silence. Before the first there was silence too."""
    found = {}
    for name, item in inputs.items():
        length = audio_samples(item.dims) or len(audio)
        step = length if hop is None else hop
        count = -(-len(audio) // step)
        padded = np.zeros(length - step + count * step, np.float32)
        padded[length - step :][: len(audio)] = audio
        windows = np.lib.stride_tricks.sliding_window_view(padded, length)[::step]
        found[name] = _in_dtype(windows.reshape(count, *item.dims), item.dtype)
    return found


def _in_dtype(audio: Array, dtype: str) -> Array:
    """[-1, 1] over the full range of an integer dtype; floats as they are."""
    if not np.issubdtype(np.dtype(dtype), np.integer):
        return audio.astype(dtype)
    info = np.iinfo(dtype)
    half = (info.max - info.min + 1) / 2
    return np.clip(np.rint(audio * half) + (info.max + info.min + 1) / 2, info.min, info.max).astype(dtype)


def _front_end(
    model: SpeechModel, inputs: Mapping[str, Input], audio: Array, path: Path, *, whole: bool = False
) -> dict[str, Array]:
    """Per input its frames [n, *dims]; of a `whole` clip the one frame that it is, its last axis of any length."""
    assert model.frames is not None
    said = f"the model's front end (frames) on {path.name}"
    try:
        made = model.frames(audio)
    except UsageError:
        raise
    except Exception as error:
        raise blame(error, said, Path.cwd()) from error
    if not isinstance(made, Mapping) or set(made) != set(inputs):
        got = ", ".join(map(str, made)) if isinstance(made, Mapping) else type(made).__name__
        raise UsageError(f"{said} returned {got}, not a mapping with {', '.join(inputs)}")
    arrays = {name: np.asarray(made[name]) for name in inputs}
    for name, values in arrays.items():
        dims = inputs[name].dims
        wanted = (*dims[:-1], "n") if whole else ("n", *dims)
        fits = values.ndim == len(wanted) and all(
            dim in ("n", size) for dim, size in zip(wanted, values.shape, strict=True)
        )
        if not fits or values.size == 0:
            there = ", ".join(map(str, wanted))
            raise UsageError(f"{said} returned {list(values.shape)} for input '{name}', not [{there}]")
        if not np.isfinite(values).all():
            raise UsageError(f"{said} returned values for input '{name}' that are not finite")
    if not whole and len({len(values) for values in arrays.values()}) > 1:
        raise UsageError(f"{said} returned different numbers of frames for its inputs")
    return {name: values.astype(inputs[name].dtype) for name, values in arrays.items()}


def _synthetic(inputs: Mapping[str, Input]) -> dict[str, Array]:
    """Standard normal numbers; 0 and 1 where integers are wanted, because they may be an index."""
    random = np.random.default_rng(_SEED)
    found = {}
    for name, item in inputs.items():
        shape = (SYNTHETIC_FRAMES, *item.dims)
        if np.issubdtype(np.dtype(item.dtype), np.floating):
            found[name] = random.standard_normal(shape).astype(item.dtype)
        else:
            found[name] = random.integers(0, 2, shape).astype(item.dtype)
    return found
