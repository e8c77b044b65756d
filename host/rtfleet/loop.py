"""How several graphs make one model: the parameters of the loops that an agent runs. No code is ever pushed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Edge:
    """What one graph of a chain hands to another, frame by frame.

    Each frame `output * scale + offset` goes in at the end of `input` along `axis`, and as much leaves at its
    beginning: the input is a window over what the output was of late.

    Attributes:
        source, target: Names of graphs.
        fill: What the window holds when a stream begins.
    """

    source: str
    output: str
    target: str
    input: str
    axis: int
    scale: float = 1.0
    offset: float = 0.0
    fill: float = 0.0


@dataclass(frozen=True)
class Chain:
    """Graphs that run one after the other, each once a frame, in the order in which the model names them."""

    edges: tuple[Edge, ...]


@dataclass(frozen=True)
class Carried:
    """What the decoder gets of the encoder: one of its outputs or inputs, the same for every token of a clip."""

    source: str
    input: str


@dataclass(frozen=True)
class Cache:
    """A decoder's memory from one token to the next.

    Attributes:
        shape: Before the first token; the axis that grows is 0.
        fixed: Taken from the first token's step and kept (what attends to the encoder), else from every step.
    """

    input: str
    output: str
    shape: tuple[int, ...]
    fixed: bool = False


@dataclass(frozen=True)
class Seq2Seq:
    """An encoder run once a clip, then a decoder run once a token, the likeliest token each time.

    Attributes:
        encoder, decoder: Names of graphs.
        tokens, logits: The decoder's input of one token id, int64 [1, 1], and its output [1, 1, vocabulary].
        use_cache: A boolean input [1] that is false for the first token; "" where the decoder has none.
        max_tokens: Of any clip, at most `MOST_TOKENS`; `samples_per_token`: a clip has no more tokens than its
            samples / this (0: no limit), which ends a decoder that repeats itself.
    """

    encoder: str
    decoder: str
    carried: tuple[Carried, ...]
    caches: tuple[Cache, ...]
    tokens: str
    logits: str
    start_token: int
    end_token: int
    max_tokens: int
    use_cache: str = ""
    samples_per_token: int = 0


Loop: TypeAlias = Chain | Seq2Seq


def fills(loop: Loop | None, graph: str, input: str) -> bool:
    """Whether an input of a graph gets its values from the loop: then no frame holds any, whatever it is called."""
    if isinstance(loop, Chain):
        return any((edge.target, edge.input) == (graph, input) for edge in loop.edges)
    return loop is not None and graph == loop.decoder


def gives(loop: Loop | None, graph: str) -> bool:
    """Whether the outputs of a graph are the model's: of a chain those that hand nothing on, of a recognizer none."""
    if isinstance(loop, Chain):
        return all(edge.source != graph for edge in loop.edges)
    return loop is None


MOST_TOKENS = 10_000
"""That an agent gives of one clip."""
LENGTH = "@length"
"""Beside a Seq2Seq's feeds, int64 [clips, 1]: how much of each clip's inputs counts along the last axis."""
