"""What a speech model is: the one record that a model's author writes.

It holds live objects (a PyTorch module, Python functions), so it exists only inside the export subprocess. What
leaves that subprocess is an `Artifact`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from rtfleet.loop import Loop

Task: TypeAlias = Literal["wake-word", "vad", "asr", "speaker"]
TASKS: tuple[Task, ...] = ("wake-word", "vad", "asr", "speaker")

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class Input:
    """One input of a model.

    Attributes:
        shape: The dims of one frame. A dim of -1 is dynamic; `typical` then says what to measure.
        dtype: A numpy dtype name.
        constant: The value that never changes, for an input that is no audio (a sample rate, a mask).
        typical: Concrete dims to measure and to trace with; needed where `shape` has a -1.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    constant: float | int | bool | None = None
    typical: tuple[int, ...] | None = None

    @property
    def dims(self) -> tuple[int, ...]:
        """Concrete dims: `typical` where given, else `shape`."""
        return self.typical if self.typical is not None else self.shape


@dataclass(frozen=True)
class State:
    """A streaming state: what leaves the model as `output` comes back with the next frame as `input`.

    Attributes:
        input: Name of the state input.
        output: Name of the state output.
        shape: Its dims, batch included. May be empty for a model that is a file: the file knows.
        initial: Its first value, of that shape; None is zeros.
        dtype: A numpy dtype name.
    """

    input: str
    output: str
    shape: tuple[int, ...] = ()
    initial: Array | None = None
    dtype: str = "float32"


@dataclass(frozen=True)
class SpeechModel:
    """A speech model as its author describes it.

    `forward()` of a PyTorch source takes the inputs, then the states, in the order of these mappings; it returns the
    outputs, then the state outputs. (State inputs are positional, like the inputs.)

    Attributes:
        task: What it is for; picks the budgets that it owes.
        source: A `torch.nn.Module` in eval mode, a SavedModel folder, or a model file (path). With a `loop`: name of
            each graph -> its file, in the order in which they run.
        inputs: Name to `Input`, states excluded.
        outputs: Names of the outputs, states excluded. The first is the score that decisions are made on.
        states: Streaming states, in the order in which `forward` takes them after the inputs.
        sample_rate_hz: Of the audio that the model hears.
        hop_ms: Audio that one frame consumes, in milliseconds; None: the model does not stream.
        frames: Front end outside the graph: mono float32 clip in [-1, 1] at `sample_rate_hz` -> per audio input an
            array with a leading frame axis, `[n, *dims]`. None: frames are cut from the raw clip.
        threshold: Score at or above which the model decides "yes"; None: no decision.
        priming_s: Seconds of low noise to run before a clip, for a model that fires on its own empty buffers.
        smoothing_hops: Hops whose mean score is held against the threshold, for a model that does not smooth itself.
        positives: Names of clips that contain what a wake word listens for ("hey-luna*.wav"); all others of the clips
            contain it nowhere. Empty: nobody knows, and its hits can't be counted, unless a suite's `positives` say.
        covers: "part" for a head without its front end: measured, never judged by a task's budget.
        keep_float: Regular expressions on module scopes or node names whose activations must not be quantized
            (a spectral front end; quantizing it ruins a wake word).
        loop: How several graphs make one model; None: there is one, run once a frame.
        vocabulary: Of a model that gives tokens: the piece of text of each id, as bytes; U+2581 is a space.
        lookahead_ms: Audio after a frame's own that a streaming model waits for before it answers, in milliseconds.
        note: One sentence that the report shows with every number of this model.
        coreml_state: In Core ML the states are not inputs and outputs but Core ML's own (macOS 15, iOS 18), which is
            float16 and begins with zeros: for the variants coreml-fp16, -int8 and -palettized.
    """

    task: Task
    source: Any
    inputs: Mapping[str, Input]
    outputs: Sequence[str]
    states: Sequence[State] = ()
    sample_rate_hz: int = 16_000
    hop_ms: float | None = None
    frames: Callable[[Array], Mapping[str, Array]] | None = None
    threshold: float | None = None
    priming_s: float = 0.0
    smoothing_hops: int = 1
    positives: Sequence[str] = ()
    covers: Literal["whole", "part"] = "whole"
    keep_float: Sequence[str] = field(default=())
    loop: Loop | None = None
    vocabulary: Sequence[bytes] = ()
    lookahead_ms: float = 0.0
    note: str = ""
    coreml_state: bool = False

    @property
    def hop_samples(self) -> int | None:
        """Audio samples that one frame consumes; None where the model does not stream."""
        return None if self.hop_ms is None else round(self.hop_ms * self.sample_rate_hz / 1000)


def zeros_of(state: State) -> Array:
    """The initial value of a state: as given, else zeros of its shape and dtype."""
    return np.zeros(state.shape, state.dtype) if state.initial is None else np.asarray(state.initial, state.dtype)
