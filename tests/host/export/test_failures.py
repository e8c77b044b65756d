"""What converters say becomes the step that failed, the cause in words, and a way round."""

from __future__ import annotations

import pytest

from rtfleet.errors import ExportError, RtfleetError, UsageError
from rtfleet.export.failures import refusal


@pytest.mark.parametrize(
    ("message", "text", "hint"),
    [
        ("Unsupported ir element type: complex<f32>", "torch.stft", "Conv1d"),
        ("STFT does not currently support complex types", "torch.stft", "Conv1d"),
        ("Lowering not found: aten.view_as_complex.default", "torch.stft", "Conv1d"),
        ("Could not guard on data-dependent expression Eq(u0, 1)", "by the values of tensors", "torch.where"),
        ("Constraints violated (T)! For more information", "a dim declared as -1", "give the dim a number"),
        ("reshape new_sizes must all be positive, got (-9223372036854775808, 80)", "a dynamic dim", "a number"),
        ("Lowering not found: aten._fft_r2c.default", "the operator aten._fft_r2c.default", "replace it"),
        (
            "No ONNX function found for <OpOverload(op='aten.nonzero', overload='default')>",
            "the operator aten.nonzero",
            "replace it",
        ),
    ],
)
def test_a_known_message_becomes_its_cause_and_a_way_round(message: str, text: str, hint: str) -> None:
    found = refusal(RuntimeError(message), "exporting tflite-fp32")

    assert found.kind == "export"
    assert found.text.startswith("exporting tflite-fp32: ")
    assert text in found.text
    assert hint in found.hint
    assert found.step == "exporting tflite-fp32"


def test_the_cause_of_an_exception_is_looked_at_too() -> None:
    try:
        try:
            raise ValueError("Could not guard on data-dependent expression u0 > 0")
        except ValueError as error:
            raise RuntimeError("Failed to export the model with torch.export") from error
    except RuntimeError as error:
        found = refusal(error, "exporting onnx-fp32")

    assert "by the values of tensors" in found.text


def test_an_unknown_failure_keeps_its_kind_and_first_line() -> None:
    found = refusal(IndexError("\n  list index out of range\n" + "trace " * 1000), "quantizing to onnx-fp16")

    assert found.text == "quantizing to onnx-fp16: IndexError: list index out of range"
    assert "log" in found.hint
    assert not found.spent


def test_an_exception_without_words_is_named_by_its_kind() -> None:
    assert refusal(AssertionError(), "exporting onnx-fp32").text == "exporting onnx-fp32: AssertionError"


def test_out_of_memory_ends_the_subprocess() -> None:
    found = refusal(MemoryError(), "exporting onnx-fp32")

    assert "out of memory" in found.text
    assert found.spent


def test_a_missing_package_names_the_extra_that_installs_it() -> None:
    found = refusal(ModuleNotFoundError("No module named 'litert_torch'", name="litert_torch"), "exporting tflite-fp32")

    assert "litert_torch is not installed" in found.text
    assert "rtfleet[export]" in found.hint


@pytest.mark.parametrize(
    ("error", "kind"),
    [(ExportError("no", "do", "load"), ExportError), (UsageError("no", "do"), UsageError)],
)
def test_our_own_errors_pass_as_they_are(error: UsageError, kind: type[RtfleetError]) -> None:
    raised = refusal(error, "exporting onnx-fp32").error()

    assert type(raised) is kind
    assert (raised.text, raised.hint) == ("no", "do")
    assert getattr(raised, "step", "load") == "load"
