"""A model run over its frames as it runs on a device: frame after frame, states carried, reset where a stream starts.

The same loop gives the original model's reference outputs and the quantizers' calibration samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from rtfleet.artifact import PreparedModel
from rtfleet.feeds import STREAM_STARTS, load
from rtfleet.model import Array

Step: TypeAlias = Callable[[Mapping[str, Array]], Mapping[str, Array]]
"""One inference: every input by name, states included -> every output by name."""


@dataclass(frozen=True, eq=False)
class Streams:
    """What a model is fed.

    Attributes:
        frames: Per audio input [n, *dims].
        constants: Inputs that never change, in their own rank.
        starts: Indices of the frames that begin a stream, int64.
        states: State input -> (state output, initial value).
    """

    frames: Mapping[str, Array]
    constants: Mapping[str, Array]
    starts: frozenset[int]
    states: Mapping[str, tuple[str, Array]]

    @property
    def length(self) -> int:
        """Frames; 1 for a model that has constants only."""
        return min((len(array) for array in self.frames.values()), default=1)

    def initial(self) -> dict[str, Array]:
        """The states at the start of a stream."""
        return {name: value for name, (_, value) in self.states.items()}

    def first(self) -> dict[str, Array]:
        """Everything for one inference: frame 0 and the initial states."""
        return {**self.constants, **{name: array[0] for name, array in self.frames.items()}, **self.initial()}


def streams_of(prepared: PreparedModel) -> Streams:
    """Read a prepared model's frames and initial states from their files."""
    assert prepared.frames.location is not None
    arrays = load(prepared.frames.location)
    starts = frozenset(int(i) for i in arrays.pop(STREAM_STARTS, np.zeros(1, np.int64)))
    constant = {facts.name for facts in prepared.inputs if facts.constant is not None}
    states = {}
    for state in prepared.states:
        location = state.initial.location if state.initial else None
        value = np.load(location, allow_pickle=False) if location else np.zeros(state.shape, state.dtype)
        states[state.input] = (state.output, value)
    return Streams(
        frames={name: array for name, array in arrays.items() if name not in constant},
        constants={name: array for name, array in arrays.items() if name in constant},
        starts=starts,
        states=states,
    )


def run(step: Step, streams: Streams) -> Iterator[tuple[dict[str, Array], dict[str, Array]]]:
    """Each frame's complete feeds and outputs, in order."""
    states = streams.initial()
    for i in range(streams.length):
        if i in streams.starts:
            states = streams.initial()
        feeds = {**streams.constants, **{name: array[i] for name, array in streams.frames.items()}, **states}
        outputs = {name: np.array(value) for name, value in step(feeds).items()}  # a step may reuse its buffers
        yield feeds, outputs
        states = {name: outputs[output] for name, (output, _) in streams.states.items()}


def reference(step: Step, streams: Streams, outputs: Sequence[str]) -> dict[str, Array]:
    """Outputs (states excluded) over all frames: name -> [n, *dims]."""
    rows = [[np.asarray(result[name]) for name in outputs] for _, result in run(step, streams)]
    return {name: np.stack([row[i] for row in rows]) for i, name in enumerate(outputs)}


def calibration(step: Step, streams: Streams, most: int) -> list[dict[str, Array]]:
    """At most `most` frames' feeds, states included, spread evenly over all streams.

    All frames are run: states must be as they are in the middle of speech, and the loudest part of a clip is seldom
    its beginning.
    """
    chosen = set(np.linspace(0, streams.length - 1, min(most, streams.length)).round().astype(int).tolist())
    return [
        {name: np.array(value) for name, value in feeds.items()}
        for i, (feeds, _) in enumerate(run(step, streams))
        if i in chosen
    ]
