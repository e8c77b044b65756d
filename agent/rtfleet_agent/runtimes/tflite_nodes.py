"""Which nodes of a TFLite graph delegates have taken.

An interpreter lists the nodes of the file and, behind them, a DELEGATE node for each part that a delegate runs in their
place; it does not say which node went into which part. That follows from the tensors between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

DELEGATE = "DELEGATE"


@dataclass(frozen=True)
class Node:
    """An operator with the numbers of its tensors; -1 stands for an optional input that is left out."""

    op_type: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def split(nodes: Sequence[Node]) -> tuple[list[int], list[int]]:
    """Indices of the file's own nodes: those that delegates have taken, and those left to the built-in kernels."""
    own = {index: node for index, node in enumerate(nodes) if node.op_type != DELEGATE}
    taken: set[int] = set()
    for node in nodes:
        if node.op_type == DELEGATE:
            taken |= _inside(node, {index: one for index, one in own.items() if index not in taken})
    return sorted(taken), [index for index in own if index not in taken]


def _inside(part: Node, own: Mapping[int, Node]) -> set[int]:
    """The nodes that `part` stands for: all between its inputs and its outputs.

    A node that nothing comes out of (ASSIGN_VARIABLE) leads to no output: it is inside where all that it is made of is.
    """
    maker = {tensor: index for index, node in own.items() for tensor in node.outputs}
    inside, _ = _behind(part.outputs, part, own, maker)
    for index, node in own.items():
        if node.inputs and not node.outputs:
            behind, closed = _behind(node.inputs, part, own, maker)
            inside |= behind | {index} if closed else set()
    return inside


def _behind(
    tensors: Iterable[int], part: Node, own: Mapping[int, Node], maker: Mapping[int, int]
) -> tuple[set[int], bool]:
    """The nodes that make these tensors of what enters `part`, and whether they need nothing else."""
    enters = {-1, *part.inputs}
    found: set[int] = set()
    closed = True
    open_ = [tensor for tensor in tensors if tensor not in enters]
    while open_:
        index = maker.get(open_.pop())
        if index is None:
            closed = False
        elif index not in found:
            found.add(index)
            open_ += [tensor for tensor in own[index].inputs if tensor not in enters]
    return found, closed
