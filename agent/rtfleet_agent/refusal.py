"""How the agent says no: a gRPC status by name, and a message for people."""

from __future__ import annotations

from typing import Literal, TypeAlias

Status: TypeAlias = Literal[
    "ABORTED",
    "DATA_LOSS",
    "FAILED_PRECONDITION",
    "INTERNAL",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
]


class Refusal(Exception):
    """A call that can't be served.

    Attributes:
        status: The name of a gRPC status.
        failure_kind: Where a worker failed: its kind ("BAD_MODEL"), for the host to tell cases apart.
    """

    def __init__(self, status: Status, message: str, failure_kind: str = "") -> None:
        self.status: Status = status
        self.failure_kind = failure_kind
        super().__init__(message)
