"""Model files out of models and model files: the two jobs that end in a graph, and the check that it runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rtfleet.artifact import Graph, PreparedModel, Tensor, file_of
from rtfleet.errors import ExportError
from rtfleet.export import onnx, quantize_onnx, quantize_tflite, streaming, tflite, torchscript
from rtfleet.export.jobs import Convert, Made, Quantize
from rtfleet.export.streaming import Step
from rtfleet.model import SpeechModel

CALIBRATION_FRAMES = {"onnx": 500, "tflite": 250}
"""Ranges of a streaming model settle within a few seconds of speech; TFLite's calibrator takes 10 to 30 ms a frame."""


def convert(model: SpeechModel, job: Convert) -> Made:
    """The graph that a module becomes. Raises ExportError, and whatever the converter raises."""
    if job.variant.startswith("onnx"):
        path, kept = onnx.export(model, job.out), tuple(job.prepared.keep_float)
    elif job.variant.startswith("torch"):
        path, kept = torchscript.export(model, job.out, int8=job.variant == "torch-int8-dynamic"), ()
    else:
        path, kept = tflite.export(model, job.out)
    return Made(checked(path, job.prepared), kept)


def quantize(job: Quantize) -> Made:
    """A smaller graph from the fp32 one. Raises ExportError, and whatever the quantizer raises."""
    format, _, precision = job.variant.partition("-")
    quantizer = quantize_onnx if format == "onnx" else quantize_tflite
    out = job.out / f"model.{format}"
    if precision == "fp16":
        quantizer.to_fp16(job.base, out)
    elif precision == "int8-dynamic":
        quantizer.to_int8_dynamic(job.base, out, job.kept)
    else:
        step = open_file(job.base)[0]
        samples = streaming.calibration(step, streaming.streams_of(job.prepared), CALIBRATION_FRAMES[format])
        quantizer.to_int8_static(job.base, out, job.kept, samples)
    return Made(checked(out, job.prepared))


def open_file(path: Path) -> tuple[Step, tuple[Tensor, ...], tuple[Tensor, ...]]:
    """How to run a model file, its inputs and its outputs."""
    if path.suffix == ".tflite":
        interpreter = tflite.open_interpreter(path)
        return (tflite.step_of(interpreter), *tflite.tensors_of(interpreter))
    if path.suffix == ".pt":
        opened = torchscript.open_module(path)
        return (torchscript.step_of(*opened), *opened[1:])
    session = onnx.open_session(path)
    return (onnx.step_of(session), *onnx.tensors_of(session))


def checked(path: Path, prepared: PreparedModel) -> Graph:
    """The file as a graph, in the model's own order of tensors, once it took a frame and gave numbers.

    Raises:
        ExportError: it does not load, its tensors are not the model's, or it gives NaN.
    """
    try:
        step, inputs, outputs = open_file(path)
    except Exception as error:
        raise ExportError(f"the file that was made does not load: {error}", step="load") from error
    wanted = {facts.name: (facts.dtype, facts.shape) for facts in prepared.inputs}
    wanted |= {state.input: (state.dtype, state.shape) for state in prepared.states}
    ordered = _in_order(inputs, list(wanted), "inputs")
    for tensor in ordered:
        dtype, shape = wanted[tensor.name]
        if path.suffix == ".tflite":  # it knows no dynamic dims: the first signature has the measured ones
            shape = next((facts.dims for facts in prepared.inputs if facts.name == tensor.name), shape)
        if (tensor.dtype, tensor.shape) != (dtype, shape):
            raise ExportError(
                f"input '{tensor.name}' became {tensor.dtype}{list(tensor.shape)}; the model has {dtype}{list(shape)}",
                "a dim that forward() fixes can't be declared as -1" if -1 in shape else "",
                step="check",
            )
    names = [*prepared.outputs, *(state.output for state in prepared.states)]
    ordered_outputs = _in_order(outputs, names, "outputs")
    _run_once(step, prepared, names)
    return Graph("model", (file_of(path),), ordered, ordered_outputs)


def _in_order(tensors: tuple[Tensor, ...], names: list[str], what: str) -> tuple[Tensor, ...]:
    by_name = {tensor.name: tensor for tensor in tensors}
    if set(by_name) != set(names):
        raise ExportError(
            f"the file's {what} are {', '.join(sorted(by_name))}; the model has {', '.join(names)}",
            "an input that forward() never reads is dropped by converters: leave it out of the SpeechModel",
            step="check",
        )
    return tuple(by_name[name] for name in names)


def _run_once(step: Step, prepared: PreparedModel, names: list[str]) -> None:
    """One inference on the first frame. Raises ExportError for numbers that are none and states that do not fit."""
    outputs = step(streaming.streams_of(prepared).first())
    for name in names:
        if np.issubdtype(outputs[name].dtype, np.inexact) and not np.isfinite(outputs[name]).all():
            raise ExportError(
                f"output '{name}' is not finite on the first frame",
                "fp16 ends at 65504 and int8 at the calibrated range: try fp32",
                step="check",
            )
    for state in prepared.states:
        if (given := outputs[state.output]).shape != state.shape or given.dtype != np.dtype(state.dtype):
            raise ExportError(
                f"state output '{state.output}' is {given.dtype}{list(given.shape)}; its input '{state.input}' is "
                f"{state.dtype}{list(state.shape)}",
                step="check",
            )
