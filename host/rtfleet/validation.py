"""Parity of an artifact on an agent: a launch that returns the outputs, held against the original model's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from rtfleet import detections, feeds, launch_log, loop, parity, plan, transcripts
from rtfleet.artifact import Artifact
from rtfleet.client import AgentClient
from rtfleet.fidelity import ParityResult, Recognition
from rtfleet.model import Array
from rtfleet.records import Case, CaseError, Options, RunSettings


@dataclass(frozen=True, eq=False)
class Outputs:
    """What one agent gave for all frames of the feeds: name -> [frames, *dims]. `optimized`: by the runtime."""

    columns: Mapping[str, Array]
    optimized: bool


async def outputs_of(
    client: AgentClient, case: Case, artifact: Artifact, settings: RunSettings, *, runtime: str = ""
) -> Outputs | CaseError:
    """Run the artifact over its feeds once, as the case's options say; its files must be on the agent.

    Args:
        runtime: Another that takes the file, where the artifact's own can't run here.

    Raises:
        DeviceError: the agent gives no answer.
    """
    asked = plan.order_of(case, artifact, settings, "PARITY")
    asked = replace(asked, runtime=runtime or asked.runtime)
    told = [event async for event in client.launch(asked)]
    await client.acknowledge(asked.launch_id)
    failed = next((event for event in told if isinstance(event, launch_log.Failed)), None)
    return launch_log.error_of(failed) if failed else Outputs(launch_log.outputs_of(told), case.options.optimize)


def of_the_file(case: Case) -> Case:
    """The case as its file is worth by itself: on a CPU, with the runtime's optimizer off.

    What the case asks of its device, an accelerator or cores by their numbers, another may not have.
    """
    return replace(case, options=Options(optimize=False))


def against_original(
    artifact: Artifact, found: Outputs | CaseError, plain: Outputs | CaseError | None = None
) -> ParityResult | CaseError:
    """How far `found` is from the original model's outputs, or why that can't be told.

    Args:
        plain: What the file itself gave with the runtime's optimizer off: the original of a file that is used as it
            came. Where nobody could run it so, parity stays open.
    """
    if isinstance(found, CaseError):
        return found
    try:
        if artifact.reference is not None:
            assert artifact.reference.location is not None
            return _compare(artifact, feeds.load(artifact.reference.location), found, "the original model")
        if isinstance(plain, Outputs):
            return _compare(artifact, plain.columns, found, "the same file with the runtime's optimizer off")
    except ValueError as error:
        return CaseError("BAD_OUTPUT", f"parity: {error}", launch_log.HINTS["BAD_OUTPUT"])
    why = f": {plain.text}" if plain else ""
    return unknown(f"nothing ran the file with the runtime's optimizer off{why}")


def unknown(why: str) -> ParityResult:
    """No figure, and the reason."""
    return ParityResult("", 0, None, None, None, unknown=why)


def recognized(artifact: Artifact, found: Outputs | CaseError, on_host: Outputs | None) -> Recognition | CaseError:
    """The text of every clip, its word errors, and how many clips gave the very same tokens on the host."""
    if isinstance(found, CaseError):
        return found
    assert artifact.vocabulary is not None and artifact.vocabulary.location is not None
    tokens = found.columns.get("tokens")
    if tokens is None or len(tokens) != len(artifact.utterances):
        there = "none" if tokens is None else f"{len(tokens)}"
        return CaseError("BAD_OUTPUT", f"{len(artifact.utterances)} clips were given, tokens came back of {there}")
    pieces = transcripts.read_vocabulary(artifact.vocabulary.location)
    texts = tuple(transcripts.text_of(ids, pieces) for ids in tokens)
    errors = transcripts.errors_of([one.transcript for one in artifact.utterances], texts)
    same = None
    if on_host is not None and on_host.columns["tokens"].shape == tokens.shape:
        same = int((on_host.columns["tokens"] == tokens).all(axis=1).sum())
    return Recognition(texts, errors.wrong, errors.words, same)


def _compare(artifact: Artifact, reference: Mapping[str, Array], found: Outputs, against: str) -> ParityResult:
    own = [graph for graph in artifact.graphs if loop.gives(artifact.loop, graph.name)]
    tensors = {tensor.name: tensor for graph in own for tensor in graph.outputs}
    scales = {
        name: (tensor.scale, tensor.zero_point or 0) for name, tensor in tensors.items() if tensor.scale is not None
    }
    starts = _stream_starts(artifact)
    result = parity.compare(
        reference,
        found.columns,
        score=artifact.score,
        threshold=artifact.threshold,
        scales=scales,
        against=against,
        optimized=found.optimized,
        stream_starts=starts,
    )
    rule = detections.rule_of(artifact)
    if rule is None or artifact.score not in reference:
        return result
    original, here = (parity.real(artifact.score, one[artifact.score], scales) for one in (reference, found.columns))
    return replace(result, detections=detections.compare(original, here, starts, rule, artifact.positives))


def _stream_starts(artifact: Artifact) -> list[int]:
    assert artifact.feeds.location is not None
    return [int(start) for start in feeds.load(artifact.feeds.location).get(feeds.STREAM_STARTS, (0,))]
