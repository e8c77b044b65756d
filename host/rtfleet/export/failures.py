"""What goes wrong in converters, in words that help: their own messages name neither the cause nor the way round."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rtfleet.errors import ExportError, UsageError
from rtfleet.export.jobs import Refused


@dataclass(frozen=True)
class Known:
    """A failure seen before: its `message` (a regular expression), and what to tell."""

    message: str
    text: str
    hint: str


KNOWN = (
    Known(
        r"complex<|aten(\.|::)stft|not currently support complex|view_as_complex|ComplexFloat|torch\.complex",
        "torch.stft (complex numbers) can't be converted",
        "write the STFT as a fixed Conv1d or Conv2d: cosines and sines as weights, then real² + imaginary²",
    ),
    Known(
        r"data-dependent|GuardOnDataDependent|Could not guard|UserError.*control flow",
        "forward() decides by the values of tensors, which no exported graph can",
        "use torch.where or torch.cond in place of `if` on a tensor",
    ),
    Known(
        r"Constraints violated|specialized|not marked as dynamic|Cannot mark|ConstraintViolation",
        "a dim declared as -1 is fixed by the model",
        "give the dim a number, or take sizes from tensor.shape instead of constants in forward()",
    ),
    Known(
        r"new_sizes must all be positive",
        "a dynamic dim reached an operator that needs a number",
        "give the dim a number",
    ),
    Known(
        r"TensorListReserve|SELECT_TF_OPS|Flex ops|neither a custom op nor a flex op",
        "an operator of TensorFlow has no counterpart in TFLite",
        "a recurrent layer: give every dim a number, or unroll it (unroll=True); else compute it outside the graph",
    ),
)
EXTRAS = {"tensorflow": "tensorflow", "keras": "tensorflow"}
"""Package -> the extra that installs it, where that is not `export`."""
OPERATOR = re.compile(
    r"(?:No decompositions? registered for|Lowering not found:|No ONNX function found for|unsupported op\w*:?|"
    r"Op type not registered|is not supported:?)[^\w<]*(?:<OpOverload\(op=')?([\w.:]+)",
    re.IGNORECASE,
)


def refusal(error: BaseException, step: str) -> Refused:
    """What to tell of an exception out of a job. `step` is what was being done."""
    if isinstance(error, ExportError):
        return Refused("export", error.text, error.hint, error.step or step)
    if isinstance(error, UsageError):
        return Refused("usage", error.text, error.hint)
    if isinstance(error, MemoryError):
        return Refused("export", f"{step}: out of memory", "allow more, or export a smaller model", step, spent=True)
    if isinstance(error, ModuleNotFoundError) and error.name:
        extra = EXTRAS.get(error.name.partition(".")[0], "export")
        return Refused(
            "export", f"{step}: the package {error.name} is not installed", f"pip install 'rtfleet[{extra}]'", step
        )
    chain = _messages(error)
    for known in KNOWN:
        if re.search(known.message, chain):
            return Refused("export", f"{step}: {known.text}", known.hint, step)
    if operator := OPERATOR.search(chain):
        return Refused(
            "export",
            f"{step}: the operator {operator[1]} can't be converted",
            "replace it in forward(), or measure the model in another format",
            step,
        )
    return Refused("export", f"{step}: {_first_line(error)}", "the log of the converter has the whole story", step)


def _messages(error: BaseException) -> str:
    """The messages of an exception and of its causes."""
    texts, seen = [], set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        texts.append(f"{type(current).__name__}: {current}")
        current = current.__cause__ or current.__context__
    return "\n".join(texts)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
