"""Several graphs as one model: a chain, or an encoder with a greedy decoder. Their parameters come with the request.

Whatever loop runs, the timed region sees one `Bound`. Ids come back; text is the host's.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from rtfleet_agent.runtimes.base import (
    Array,
    BadOutput,
    Bound,
    Graph,
    OperatorTime,
    Placement,
    Session,
    Tensor,
    UnsupportedModel,
)

LENGTH = "@length"
"""An input of a `Transcriber`, int64 [1]: how much of the others counts along their last axis."""
TOKENS = "tokens"
"""The output of a `Transcriber`, int64 [max_tokens], `NO_TOKEN` behind the last."""
NO_TOKEN = -1


@dataclass(frozen=True)
class Edge:
    """Each frame `output * scale + offset` of one graph goes in at the end of `input` of another along `axis`.

    Attributes:
        fill: What the input holds when a stream begins.
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
class ChainLoop:
    """Graphs that run one after the other, each once a frame."""

    edges: tuple[Edge, ...]


@dataclass(frozen=True)
class Carried:
    """An output or input of the encoder that the decoder gets with every token."""

    source: str
    input: str


@dataclass(frozen=True)
class Cache:
    """A decoder's memory from token to token. `shape`: before the first; `fixed`: of the first token's step alone."""

    input: str
    output: str
    shape: tuple[int, ...]
    fixed: bool = False


@dataclass(frozen=True)
class Seq2SeqLoop:
    """An encoder once a clip, a decoder once a token; fields as in the contract."""

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


Loop: TypeAlias = ChainLoop | Seq2SeqLoop


class Pipeline:
    """The loaded graphs of a model, in the place of one session."""

    def __init__(self, sessions: Mapping[str, Session]) -> None:
        self._sessions = sessions
        self.inputs: tuple[Tensor, ...] = tuple(tensor for one in sessions.values() for tensor in one.inputs)
        self.outputs: tuple[Tensor, ...] = tuple(tensor for one in sessions.values() for tensor in one.outputs)

    def placement(self) -> Placement:
        """What ran each graph: all their nodes together, or the least share where nobody counts them."""
        placed = {name: session.placement() for name, session in self._sessions.items()}
        shares = [one.accelerated_share for one in placed.values() if one.accelerated_share is not None]
        taken = [one.accelerated_nodes for one in placed.values() if one.accelerated_nodes is not None]
        nodes = [one.nodes for one in placed.values() if one.nodes is not None]
        counted = len(taken) == len(nodes) == len(placed) and sum(nodes) > 0
        least = min(shares) if len(shares) == len(placed) else None
        return Placement(
            asked=next(iter(placed.values())).asked,
            ran=", ".join(dict.fromkeys(one.ran for one in placed.values())),
            accelerated_share=sum(taken) / sum(nodes) if counted else least,
            notes=tuple(f"{name}: {note}" for name, one in placed.items() for note in one.notes),
            accelerated_nodes=sum(taken) if counted else None,
            nodes=sum(nodes) if counted else None,
        )

    def operators(self) -> Sequence[OperatorTime]:
        """Those of all graphs, each under its graph's name."""
        return [
            replace(one, name=f"{name}: {one.name}")
            for name, session in self._sessions.items()
            for one in session.operators()
        ]

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()


def assemble(
    graphs: Sequence[Graph], sessions: Sequence[Session], loop: Loop, clock: Callable[[], int]
) -> tuple[Pipeline, Bound]:
    """The graphs as one, and what is timed.

    Args:
        clock: CLOCK_MONOTONIC in nanoseconds, for the first token.

    Raises:
        UnsupportedModel: a name in the loop's parameters that the graphs do not have, or shapes that do not fit.
    """
    loaded = {graph.name: session for graph, session in zip(graphs, sessions, strict=True)}
    by_name = {graph.name: graph for graph in graphs}
    if isinstance(loop, Seq2SeqLoop):
        _need(loaded, loop.encoder, loop.decoder)
        return Pipeline(loaded), Transcriber(
            loaded[loop.encoder], loaded[loop.decoder], by_name[loop.encoder], loop, clock
        )
    for edge in loop.edges:
        _need(loaded, edge.source, edge.target)
        _check_edge(edge, loaded[edge.source], loaded[edge.target])
    _check_ends(by_name, loaded, loop)
    bounds = {name: session.bind(by_name[name].shapes, by_name[name].states) for name, session in loaded.items()}
    return Pipeline(loaded), Chain(bounds, loop)


class Chain:
    """Graphs one after the other, with a window of what came before between each two.

    `inputs` are those that no edge fills, `outputs` those of the graphs that hand nothing on.
    """

    def __init__(self, bounds: Mapping[str, Bound], loop: ChainLoop) -> None:
        self._bounds = bounds
        self._edges = {name: [edge for edge in loop.edges if edge.source == name] for name in bounds}
        order = list(bounds)
        for edge in loop.edges:
            if order.index(edge.source) >= order.index(edge.target):
                raise UnsupportedModel(f"chain: '{edge.target}' must come after '{edge.source}', which feeds it")
            if edge.input not in bounds[edge.target].inputs:
                raise UnsupportedModel(f"chain: graph '{edge.target}' has no input '{edge.input}'")
            if not 0 <= edge.axis < bounds[edge.target].inputs[edge.input].ndim:
                raise UnsupportedModel(f"chain: input '{edge.input}' has no axis {edge.axis}")
        self._filled = {(edge.target, edge.input) for edge in loop.edges}
        self._fill()

    @property
    def inputs(self) -> Mapping[str, Array]:
        return {
            name: values
            for graph, bound in self._bounds.items()
            for name, values in bound.inputs.items()
            if (graph, name) not in self._filled
        }

    @property
    def outputs(self) -> Mapping[str, Array]:
        return {
            name: values
            for graph, bound in self._bounds.items()
            if not self._edges[graph]
            for name, values in bound.outputs.items()
        }

    def step(self) -> None:
        for name, bound in self._bounds.items():
            bound.step()
            for edge in self._edges[name]:
                _hand_on(edge, bound.outputs, self._bounds[edge.target].inputs[edge.input])

    def reset(self) -> None:
        for bound in self._bounds.values():
            bound.reset()
        self._fill()

    def _fill(self) -> None:
        for edges in self._edges.values():
            for edge in edges:
                self._bounds[edge.target].inputs[edge.input][...] = edge.fill


def _hand_on(edge: Edge, outputs: Mapping[str, Array], window: Array) -> None:
    if edge.output not in outputs:
        raise UnsupportedModel(
            f"chain: graph '{edge.source}' has no output '{edge.output}'; it has {', '.join(outputs)}"
        )
    values = outputs[edge.output]
    length = window.shape[edge.axis]
    # Left as they are where nothing is asked: integers would not come back whole from floats.
    given = values if (edge.scale, edge.offset) == (1.0, 0.0) else values * edge.scale + edge.offset
    new = values.size * length // window.size
    if not 0 < new <= length or new * window.size != values.size * length:
        raise UnsupportedModel(
            f"chain: output '{edge.output}' {list(values.shape)} does not fit into input '{edge.input}' "
            f"{list(window.shape)} along axis {edge.axis}"
        )
    along = np.moveaxis(window, edge.axis, 0)
    along[:-new] = along[new:]
    shape = (*window.shape[: edge.axis], new, *window.shape[edge.axis + 1 :])
    along[-new:] = np.moveaxis(given.reshape(shape), edge.axis, 0)


class Transcriber:
    """An encoder and a greedy decoder: a frame is a whole clip, its output the ids of its tokens.

    Clips differ in length: all inputs have the longest one's, and `LENGTH` says what counts.
    """

    def __init__(
        self, encoder: Session, decoder: Session, graph: Graph, loop: Seq2SeqLoop, clock: Callable[[], int]
    ) -> None:
        self._encoder, self._decoder, self._loop, self._clock = encoder, decoder, loop, clock
        self._fed = {tensor.name: np.zeros(_shape_of(tensor, graph.shapes), tensor.dtype) for tensor in encoder.inputs}
        self._length = np.array([min(values.shape[-1] for values in self._fed.values())], np.int64)
        self.inputs: Mapping[str, Array] = {**self._fed, LENGTH: self._length}
        self.outputs: Mapping[str, Array] = {TOKENS: np.full(loop.max_tokens, NO_TOKEN, np.int64)}
        self._check_names()
        dtypes = {tensor.name: tensor.dtype for tensor in decoder.inputs}
        self._first_caches = {cache.input: np.zeros(cache.shape, dtypes[cache.input]) for cache in loop.caches}
        self._token_dtype = dtypes[loop.tokens]
        self._first_token_ns, self._counts = array("q"), array("q")
        self._likeliest = array("d")  # per clip the sum of its tokens' logits: NaN and infinity stay what they are

    def step(self) -> None:
        """Transcribe the clip in `inputs`."""
        began_ns = self._clock()
        loop, ids = self._loop, self.outputs[TOKENS]
        length = int(self._length[0])
        fed = {name: values[..., :length] for name, values in self._fed.items()}
        encoded = {**fed, **self._encoder.run(fed)}
        given: dict[str, Array] = {one.input: encoded[one.source] for one in loop.carried} | self._first_caches
        most = loop.max_tokens
        if loop.samples_per_token:
            most = min(most, max(1, length // loop.samples_per_token))
        ids.fill(NO_TOKEN)
        token, count, likeliest = loop.start_token, 0, 0.0
        while count < most:
            given[loop.tokens] = np.array([[token]], self._token_dtype)
            if loop.use_cache:
                given[loop.use_cache] = np.array([count > 0])
            told = self._decoder.run(given)
            logits = told[loop.logits][0, -1]
            token = int(logits.argmax())  # where one is NaN, that one
            likeliest += float(logits[token])
            if count == 0:
                self._first_token_ns.append(self._clock() - began_ns)
            for cache in loop.caches:
                if count == 0 or not cache.fixed:
                    given[cache.input] = told[cache.output]
            ids[count] = token
            count += 1
            if token == loop.end_token:
                break
        self._counts.append(count)
        self._likeliest.append(likeliest)

    def reset(self) -> None:
        """Nothing is kept from one clip to the next."""

    def taken(self) -> tuple[Array, Array]:
        """Of the clips since the last call: int64 nanoseconds to the first token from the start of `step()` (the
        clip's copy into `inputs` comes before), and tokens, the one that ended it included.

        Raises:
            BadOutput: they follow from logits that were NaN or infinite.
        """
        first, counts = np.array(self._first_token_ns, np.int64), np.array(self._counts, np.int64)
        wrong = int(np.count_nonzero(~np.isfinite(self._likeliest)))
        del self._first_token_ns[:], self._counts[:], self._likeliest[:]
        if wrong:
            raise BadOutput(
                f"output '{self._loop.logits}' of the decoder is NaN or infinite in {wrong} of the last {len(counts)} "
                f"clips: their tokens mean nothing"
            )
        return first, counts

    def _check_names(self) -> None:
        loop = self._loop
        inputs = {tensor.name for tensor in self._decoder.inputs}
        outputs = {tensor.name for tensor in self._decoder.outputs}
        encoded = {tensor.name for tensor in (*self._encoder.inputs, *self._encoder.outputs)}
        given = [loop.tokens, *filter(None, [loop.use_cache]), *(one.input for one in loop.carried)]
        given += [cache.input for cache in loop.caches]
        for what, names, there in (
            ("the decoder has no input", given, inputs),
            ("the decoder has no output", [loop.logits, *(cache.output for cache in loop.caches)], outputs),
            ("the encoder has neither input nor output", [one.source for one in loop.carried], encoded),
        ):
            if unknown := next((name for name in names if name not in there), ""):
                raise UnsupportedModel(f"seq2seq: {what} '{unknown}'; there are {', '.join(sorted(there))}")
        if left := sorted(inputs - set(given)):
            raise UnsupportedModel(f"seq2seq: nothing feeds the decoder's input '{left[0]}'")


def _need(loaded: Mapping[str, Session], *names: str) -> None:
    for name in names:
        if name not in loaded:
            raise UnsupportedModel(f"the loop names a graph '{name}'; the model has {', '.join(loaded)}")


def _check_edge(edge: Edge, source: Session, target: Session) -> None:
    """Raises UnsupportedModel where the values of an output would be other ones in the input.

    A name that is missing is found where the graphs are bound, states left out.
    """
    given = next((tensor for tensor in source.outputs if tensor.name == edge.output), None)
    window = next((tensor for tensor in target.inputs if tensor.name == edge.input), None)
    if given is None or window is None or all(np.dtype(one.dtype).kind == "f" for one in (given, window)):
        return
    plain = (edge.scale, edge.offset) == (1.0, 0.0) and edge.fill.is_integer()
    if given.dtype != window.dtype or given.scale is not None or window.scale is not None or not plain:
        raise UnsupportedModel(
            f"chain: output '{edge.output}' is {_said(given)} and input '{edge.input}' is {_said(window)}: an edge "
            "carries floats, or whole numbers of one dtype as they are (scale 1, offset 0); give graphs whose inputs "
            "and outputs are floats"
        )


def _check_ends(graphs: Mapping[str, Graph], loaded: Mapping[str, Session], loop: ChainLoop) -> None:
    """Raises UnsupportedModel where two graphs have an input that is fed, or an output that comes back, of one name."""
    filled = {(edge.target, edge.input) for edge in loop.edges}
    sources = {edge.source for edge in loop.edges}
    fed, given = list[str](), list[str]()
    for name, session in loaded.items():
        states = graphs[name].states
        inside = {state.input for state in states} | {one for graph, one in filled if graph == name}
        fed += [tensor.name for tensor in session.inputs if tensor.name not in inside]
        if name not in sources:
            kept = {state.output for state in states}
            given += [tensor.name for tensor in session.outputs if tensor.name not in kept]
    for names, said in ((fed, "input '{}' that no edge fills"), (given, "output '{}' that goes no further")):
        if twice := next((name for name in names if names.count(name) > 1), ""):
            raise UnsupportedModel(f"chain: two graphs have an {said.format(twice)}: rename one")


def _said(tensor: Tensor) -> str:
    return tensor.dtype if tensor.scale is None else f"{tensor.dtype} in steps of {tensor.scale:g}"


def _shape_of(tensor: Tensor, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    shape = shapes.get(tensor.name, tensor.shape)
    if len(shape) != len(tensor.shape) or -1 in shape or not shape:
        raise UnsupportedModel(f"seq2seq: the encoder's input '{tensor.name}' needs the dims of the longest clip")
    return shape
