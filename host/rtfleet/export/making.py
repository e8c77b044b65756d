"""Model files out of models and model files: the two jobs that end in a graph, and the check that it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rtfleet import feeds, source
from rtfleet.artifact import Graph, PreparedModel, Tensor, file_of
from rtfleet.errors import ExportError
from rtfleet.export import (
    coreml,
    coreml_check,
    onnx,
    quantize_coreml,
    quantize_onnx,
    quantize_tflite,
    streaming,
    tensorflow,
    tensorrt,
    tflite,
    torchscript,
)
from rtfleet.export.building import REFERENCE
from rtfleet.export.jobs import Convert, Made, Quantize, Reference, Referred
from rtfleet.export.streaming import Step
from rtfleet.export.tensors import in_order
from rtfleet.model import SpeechModel

CALIBRATION_FRAMES = {"onnx": 500, "tflite": 250}
"""Ranges of a streaming model settle within a few seconds of speech; TFLite's calibrator takes 10 to 30 ms a frame."""


def convert(model: SpeechModel, job: Convert) -> Made:
    """The graph that a module becomes. Raises ExportError, and whatever the converter raises."""
    if job.prepared.origin == "tensorflow":
        return _from_tensorflow(model.source, job)
    if job.variant.startswith("coreml"):
        from rtfleet.export import original

        package = coreml.export(model, job.prepared, job.out, fp16=job.variant == "coreml-fp16")
        return coreml_check.converted(package, job.prepared, original.weights_of(model))
    if job.variant.startswith("onnx"):
        path, kept = onnx.export(model, job.out), tuple(job.prepared.keep_float)
    elif job.variant.startswith("torch"):
        path, kept = torchscript.export(model, job.out, int8=job.variant == "torch-int8-dynamic"), ()
    else:
        path, kept = tflite.export(model, job.out)
    return Made(checked(path, job.prepared), kept)


def quantize(job: Quantize) -> Made:
    """A graph from a file. Raises ExportError, and whatever the quantizer raises."""
    if job.prepared.origin == "tensorflow":
        return _from_tensorflow(job.base, job)
    format, _, precision = job.variant.partition("-")
    if format == "coreml":
        base, package = job.base.parent, job.out / coreml.PACKAGE
        to_smaller = quantize_coreml.to_int8 if precision == "int8" else quantize_coreml.to_palettized
        return coreml_check.quantized(to_smaller(base, package), base, job.prepared, precision)
    if job.prepared.origin == "onnx":
        quantize_onnx.refuse_quantized(job.base)
    if format == "tensorrt":
        return Made(checked(tensorrt.export(job, CALIBRATION_FRAMES["onnx"]), job.prepared))
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


def _from_tensorflow(model: Any, job: Convert | Quantize) -> Made:
    served = tensorflow.as_described(tensorflow.opened(model), job.prepared)
    samples = []
    if job.variant == "tflite-int8-static":
        streams = streaming.streams_of(job.prepared)
        samples = streaming.calibration(tensorflow.step_of(served), streams, CALIBRATION_FRAMES["tflite"])
    path = tensorflow.convert(served, job.prepared, job.variant, job.out, samples)
    return Made(checked(path, job.prepared))


def reference(job: Reference) -> Referred:
    """The outputs of a file over the frames, the runtime's optimizer off. Raises whatever its runtime raises."""
    if source.is_tensorflow(job.path):
        step = tensorflow.step_of(tensorflow.as_described(tensorflow.opened(job.path), job.prepared))
    else:
        step = onnx.step_of(onnx.open_session(job.path, optimize=False))
    outputs = streaming.reference(step, streaming.streams_of(job.prepared), job.prepared.outputs)
    return Referred(feeds.save(outputs, job.out / REFERENCE))


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
    states = {state.input: (state.dtype, state.shape) for state in prepared.states}
    ordered = in_order(inputs, [*wanted, *states], "inputs")
    for tensor in ordered:
        dtype, shape = (wanted | states)[tensor.name]
        if tensor.name in states:  # a ready file may leave their batch open
            shape = tuple(-1 if own == -1 else dim for own, dim in zip(tensor.shape, shape, strict=False))
        if path.suffix == ".tflite":  # it knows no dynamic dims: the first signature has the measured ones
            shape = next((facts.dims for facts in prepared.inputs if facts.name == tensor.name), shape)
        if (tensor.dtype, tensor.shape) != (dtype, shape):
            raise ExportError(
                f"input '{tensor.name}' became {tensor.dtype}{list(tensor.shape)}; the model has {dtype}{list(shape)}",
                "a dim that forward() fixes can't be declared as -1" if -1 in shape else "",
                step="check",
            )
    names = [*prepared.outputs, *(state.output for state in prepared.states)]
    ordered_outputs = in_order(outputs, names, "outputs", more=prepared.origin not in ("torch", "tensorflow"))
    _run_once(step, prepared, names)
    return Graph("model", (file_of(path),), ordered, ordered_outputs)


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
