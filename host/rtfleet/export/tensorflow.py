"""TensorFlow to TFLite: a SavedModel's folder, a `.keras` file or a live Keras model, by `tf.lite.TFLiteConverter`.

Whatever came is saved once more with one signature: the measured dims, which the runtime's fast kernels need, and the
model's own names. (Converting Keras 3's concrete functions directly fails on its variables.) Inputs, outputs and states
stay float in int8 as well, for the reasons that `quantize_tflite` has.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rtfleet.artifact import PreparedModel, Tensor
from rtfleet.errors import ExportError, UsageError
from rtfleet.export.streaming import Step
from rtfleet.export.tflite import SIGNATURE
from rtfleet.model import Array

_BY_A_FUNCTION = "return the model from a function (luna.py:hey_luna) as the SpeechModel's source"


@dataclass(frozen=True)
class Served:
    """A TensorFlow model as a function of named tensors.

    Attributes:
        call: Every input by name -> every output by name.
        inputs: As the model tells them, states among them; -1 is dynamic. `outputs` likewise.
        kept: What holds the variables.
        ordered: Inputs and outputs have an order; the names may be Keras's own inventions ("keras_tensor_3").
    """

    call: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    kept: Any
    ordered: bool


def is_tensorflow(source: Any) -> bool:
    """Whether it is a live model of TensorFlow's or Keras's; tells it without importing either."""
    return any(kind.__module__.partition(".")[0] in ("keras", "tensorflow") for kind in type(source).__mro__)


def opened(source: Any) -> Served:
    """A SavedModel or `.keras` file (paths), or a live Keras model.

    Raises:
        UsageError: it can't be loaded, or does not say what it takes.
    """
    if not isinstance(source, Path):
        return _of_keras(source, f"the {type(source).__name__}")
    return _of_keras(_load_keras(source), source.name) if source.suffix.lower() == ".keras" else _of_saved(source)


def _of_saved(path: Path) -> Served:
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(path))
    except Exception as error:  # whatever its readers run into
        raise UsageError(f"{path.name}: TensorFlow can't load it: {_first_line(error)}", "save it again") from error
    names = list(loaded.signatures)
    name = SIGNATURE if SIGNATURE in names else names[0] if len(names) == 1 else ""
    if not name:
        told = f"its signatures are {', '.join(names)}" if names else "it has no signature"
        raise UsageError(f"{path.name}: {told}, and one must be called {SIGNATURE}", "name it when saving")
    signature = loaded.signatures[name]

    def call(given: Mapping[str, Any]) -> Mapping[str, Any]:
        results: Mapping[str, Any] = signature(**given)
        return results

    inputs = tuple(_tensor(path.name, *item) for item in signature.structured_input_signature[1].items())
    outputs = tuple(_tensor(path.name, *item) for item in signature.structured_outputs.items())
    return Served(call, inputs, outputs, loaded, ordered=False)


def _load_keras(path: Path) -> Any:
    import keras

    try:
        # In safe mode: a Lambda layer is Python code in the file.
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # whatever its readers run into
        said = "a Lambda layer" if "`Lambda` layer" in str(error) else _first_line(error)
        raise UsageError(f"{path.name}: Keras can't load it: {said}", f"if it has Python: {_BY_A_FUNCTION}") from error


def _of_keras(model: Any, said: str) -> Served:
    if not getattr(model, "inputs", None):
        raise UsageError(
            f"{said} does not say what it takes: it is no Keras model, or was never called",
            "build it with keras.Input, or save it (tf.saved_model.save) and give the folder",
        )
    named = getattr(model, "output_names", None) or [tensor.name for tensor in model.outputs]
    inputs = tuple(_tensor(said, tensor.name, tensor) for tensor in model.inputs)
    outputs = tuple(_tensor(said, name, tensor) for name, tensor in zip(named, model.outputs, strict=True))

    def call(given: Mapping[str, Any]) -> Mapping[str, Any]:
        import keras

        tensors = [given[tensor.name] for tensor in inputs]
        results = keras.tree.flatten(model(tensors if len(tensors) > 1 else tensors[0], training=False))
        return {tensor.name: result for tensor, result in zip(outputs, results, strict=True)}

    return Served(call, inputs, outputs, [variable.value for variable in model.variables], ordered=True)


def _tensor(said: str, name: str, spec: Any) -> Tensor:
    import tensorflow as tf

    shape = tf.TensorShape(spec.shape)
    if shape.rank is None:
        raise UsageError(f"{said}: '{name}' has an unknown rank", "save it with a shape, its open dims as None")
    dtype = tf.as_dtype(spec.dtype)
    if not (dtype.is_floating or dtype.is_integer or dtype.is_bool):
        raise UsageError(f"{said}: '{name}' is a {dtype.name}; only numbers and booleans can be fed")
    return Tensor(name, dtype.name, tuple(-1 if dim is None else int(dim) for dim in shape.as_list()))


def as_described(served: Served, prepared: PreparedModel) -> Served:
    """Under the names of its description. Where Keras's own are others, their order counts, as in PyTorch's `forward`.

    Raises:
        ExportError: names that a SavedModel does not have, or another number of tensors.
    """
    inputs = [*(facts.name for facts in prepared.inputs), *(state.input for state in prepared.states)]
    outputs = [*prepared.outputs, *(state.output for state in prepared.states)]
    takes = _renamed([tensor.name for tensor in served.inputs], inputs, "inputs", served.ordered, every=True)
    gives = _renamed([tensor.name for tensor in served.outputs], outputs, "outputs", served.ordered, every=False)

    def call(given: Mapping[str, Any]) -> Mapping[str, Any]:
        results = served.call({takes[name]: value for name, value in given.items()})
        return {name: results[own] for name, own in gives.items()}

    its = {tensor.name: tensor for tensor in (*served.inputs, *served.outputs)}
    return Served(
        call,
        tuple(its[takes[name]] for name in inputs),
        tuple(its[gives[name]] for name in outputs),
        served.kept,
        served.ordered,
    )


def _renamed(own: list[str], wanted: Sequence[str], what: str, ordered: bool, *, every: bool) -> dict[str, str]:
    """Wanted name -> own name."""
    if set(wanted) == set(own) or (not every and set(wanted) <= set(own)):
        return {name: name for name in wanted}
    if ordered and len(wanted) == len(own):
        return dict(zip(wanted, own, strict=True))
    raise ExportError(
        f"the TensorFlow model's {what} are {', '.join(own)}; the SpeechModel has {', '.join(wanted)}",
        "inputs are named as its signature names them, states among them",
        step="source",
    )


def step_of(served: Served) -> Step:
    """One inference of the original."""
    import tensorflow as tf

    call = tf.function(served.call)

    def step(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        results = call({name: tf.constant(np.asarray(value)) for name, value in feeds.items()})
        return {name: np.asarray(value) for name, value in results.items()}

    return step


def convert(
    served: Served, prepared: PreparedModel, variant: str, folder: Path, samples: Sequence[Mapping[str, Array]]
) -> Path:
    """`model.tflite` in `folder`.

    Args:
        samples: Feeds, states included, over which int8-static takes the ranges of its activations.

    Raises:
        ExportError: a module is to stay float, which this converter can't do. Its own exceptions pass.
    """
    import tensorflow as tf

    precision = variant.partition("-")[2]
    if prepared.keep_float and precision.startswith("int8"):
        raise ExportError(
            "TensorFlow's quantizer has no rule by which keep_float could leave modules out",
            "move the front end out of the graph (frames=…), or take tflite-fp16",
            step="TFLiteConverter",
        )
    specs = {facts.name: tf.TensorSpec(facts.dims, facts.dtype, name=facts.name) for facts in prepared.inputs}
    specs |= {state.input: tf.TensorSpec(state.shape, state.dtype, name=state.input) for state in prepared.states}
    module = tf.Module()
    module.kept = served.kept
    with tempfile.TemporaryDirectory() as scratch:
        serve = tf.function(lambda **given: served.call(given)).get_concrete_function(**specs)
        tf.saved_model.save(module, scratch, signatures={SIGNATURE: serve})
        converter = tf.lite.TFLiteConverter.from_saved_model(scratch, signature_keys=[SIGNATURE])
        if precision != "fp32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "fp16":
            converter.target_spec.supported_types = [tf.float16]
        elif precision == "int8-static":
            # An operator without an integer kernel stays float.
            converter.representative_dataset = lambda: ((SIGNATURE, dict(sample)) for sample in samples)
        content = converter.convert()
    path = folder / "model.tflite"
    path.write_bytes(content)
    return path


def weights_digest(model: Any) -> str:
    """sha256 of all variables of a live Keras model, in its own order."""
    digest = hashlib.sha256()
    for variable in model.variables:
        value = np.ascontiguousarray(variable.numpy())
        digest.update(f"{variable.path} {value.dtype} {value.shape}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
