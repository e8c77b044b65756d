"""A model file's inputs and outputs, asked of the runtime that will run it: the host needs no runtime for that."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

from rtfleet.artifact import Graph, Tensor
from rtfleet.client import AgentClient
from rtfleet.export import external

Inspect: TypeAlias = Callable[[str, Path], Awaitable[tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]]
"""(runtime, model file) -> inputs and outputs."""


def inspector(client: AgentClient) -> Inspect:
    """`Inspect` on that client's agent, which gets the file and its external data."""

    async def inspect(runtime: str, path: Path) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        files = external.files_of(path)
        await client.push(files)
        return await client.inspect(runtime, Graph(name=path.stem, files=files, inputs=(), outputs=()))

    return inspect
