"""The tensors of a file that was made, held against the model's names."""

from __future__ import annotations

from rtfleet.artifact import Tensor
from rtfleet.errors import ExportError


def in_order(tensors: tuple[Tensor, ...], names: list[str], what: str, *, more: bool = False) -> tuple[Tensor, ...]:
    """The tensors in the order of `names`; `what` are they, "inputs" or "outputs".

    Args:
        more: There may be others, which come last: somebody else's file has outputs that its description leaves out.

    Raises:
        ExportError: one is missing, or there is one that the model does not have.
    """
    by_name = {tensor.name: tensor for tensor in tensors}
    others = [tensor for tensor in tensors if tensor.name not in names]
    if not by_name.keys() >= set(names) or (others and not more):
        raise ExportError(
            f"the file's {what} are {', '.join(sorted(by_name))}; the model has {', '.join(names)}",
            "an input that forward() never reads is dropped by converters: leave it out of the SpeechModel",
            step="check",
        )
    return (*(by_name[name] for name in names), *others)
