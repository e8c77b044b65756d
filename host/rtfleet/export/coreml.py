"""PyTorch to Core ML, fp32 or fp16: a traced module becomes an ML program, whose bytes depend on it alone.

`torch.jit.trace` and not `torch.export`: coremltools knows GRU and LSTM only from a trace. That a trace is the module
is proved before it is converted (`tracing.py`).
"""

from __future__ import annotations

import json
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np

from rtfleet.artifact import PreparedModel
from rtfleet.errors import ExportError
from rtfleet.export.external import MANIFEST
from rtfleet.model import SpeechModel

PACKAGE = "model.mlpackage"
LONGEST = 32
"""A dynamic dim may be from 1 to this many times its typical size: an ML program needs a bound."""
MODEL = "com.apple.CoreML/model.mlmodel"
DTYPES = {
    "bool": "float32",
    "float64": "float32",
    **{f"{u}int{bits}": "int32" for u in ("", "u") for bits in (8, 16, 64)},
}
"""Dtypes that inputs and outputs of an ML program can't have -> what they become."""


def coremltools() -> Any:
    """The package. It would import TensorFlow too where it finds it: 20 s and 500 MB for a converter not used here."""
    if "coremltools" not in sys.modules and "tensorflow" not in sys.modules:
        sys.modules["tensorflow"] = None  # type: ignore[assignment]  # an import of it says that it is not installed
        try:
            import coremltools
        finally:
            del sys.modules["tensorflow"]
    import coremltools

    return coremltools


def export(model: SpeechModel, prepared: PreparedModel, folder: Path, *, fp16: bool) -> Path:
    """`model.mlpackage` in `folder`: float inputs and outputs are float32 in fp16 too, dims of -1 are ranges.

    fp32 and fp16 say what is computed in; weights are of that precision. States are inputs and outputs, or, with
    `coreml_state`, Core ML's own.

    Raises:
        ExportError: what Core ML can't do, or a trace that is not the module. The converter's own exceptions pass.
    """
    ct = coremltools()
    _mend_int()

    from rtfleet.export import original, tracing

    if model.coreml_state:
        _refuse_own_state(model, fp16)
    _refuse_names(model)
    if scalars := [name for name, given in model.inputs.items() if not given.dims]:
        raise ExportError(
            f"input '{scalars[0]}' has no dims, and Core ML takes none without",
            f"declare it as Input((1,)), and read it in forward() as {scalars[0]}[0]",
            step="inputs",
        )
    own = model.states if model.coreml_state else ()
    traced = tracing.traced(model, prepared)
    made = ct.convert(
        tracing.with_own_states(model, traced) if own else traced,
        convert_to="mlprogram",
        inputs=_inputs(ct, model),
        outputs=_outputs(ct, model, original.step_of(model)),
        states=[
            ct.StateType(wrapped_type=ct.TensorType(shape=state.shape, dtype=np.float16), name=state.input)
            for state in own
        ],
        compute_precision=ct.precision.FLOAT16 if fp16 else ct.precision.FLOAT32,
        # Below iOS 17 the weights of an LSTM stay float32; states came with iOS 18.
        minimum_deployment_target=ct.target.iOS18 if own else ct.target.iOS17,
        skip_model_load=True,
    )
    return save(made, folder / PACKAGE)


def save(made: Any, package: Path) -> Path:
    """Save a model of coremltools: without dates and versions, with fixed ids, in one order of bytes."""
    made.save(str(package))
    manifest = json.loads((package / MANIFEST).read_text())
    # coremltools draws ids at random; they only link the manifest's own entries.
    ids = {
        old: str(uuid.uuid5(uuid.NAMESPACE_URL, entry["path"])) for old, entry in manifest["itemInfoEntries"].items()
    }
    manifest["itemInfoEntries"] = {ids[old]: entry for old, entry in manifest["itemInfoEntries"].items()}
    manifest["rootModelIdentifier"] = ids[manifest["rootModelIdentifier"]]
    (package / MANIFEST).write_text(json.dumps(manifest, indent=4, sort_keys=True) + "\n")
    spec = made.get_spec()
    spec.description.ClearField("metadata")
    spec.mlProgram.attributes.clear()
    (package / "Data" / MODEL).write_bytes(spec.SerializeToString(deterministic=True))
    return package


def _mend_int() -> None:
    """coremltools 9.0 calls int() on arrays of one element, which numpy 2.4 refuses: so each size in a trace fails."""
    from coremltools.converters.mil import Builder, register_torch_op
    from coremltools.converters.mil.frontend.torch import ops

    @register_torch_op(torch_alias=["int"], override=True)  # type: ignore[untyped-decorator]
    def _int(context: Any, node: Any) -> None:
        value = context[node.inputs[0]]
        if value.can_be_folded_to_const():
            context.add(Builder.const(val=int(np.asarray(value.val).item()), name=node.name), node.name)
        else:
            ops._cast(context, node, int, "int32")


def _refuse_names(model: SpeechModel) -> None:
    """Core ML's language has words of its own, and coremltools gives a tensor of such a name another one in silence."""
    from coremltools.converters.mil.mil.passes.defs.preprocess import NameSanitizer

    from rtfleet.export import original

    for name in (*original.input_names(model), *original.output_names(model)):
        if NameSanitizer().sanitize_name(name) != name:
            raise ExportError(
                f"Core ML can't have a tensor called '{name}'",
                "in the SpeechModel, call it something else: letters, digits, '_', and no word of Core ML's language",
                step="names",
            )


def _refuse_own_state(model: SpeechModel, fp16: bool) -> None:
    if not model.states:
        raise ExportError("coreml_state is asked for, but the model has no states", "leave it out", step="states")
    if not fp16:
        raise ExportError(
            "Core ML's own state is float16 only, so a float32 model can't have it",
            "measure coreml-fp16, coreml-int8 or coreml-palettized, or leave coreml_state out",
            step="states",
        )
    if begun := [state.input for state in model.states if state.initial is not None and np.any(state.initial)]:
        raise ExportError(
            f"Core ML's own state begins with zeros, and state '{begun[0]}' does not",
            "leave coreml_state out, or have forward() add the first value to a state that begins with zeros",
            step="states",
        )


def _inputs(ct: Any, model: SpeechModel) -> list[Any]:
    # One range for all dims of one typical size: those that must agree, like features and their mask, then do.
    ranges: dict[int, Any] = {}

    def dims(shape: tuple[int, ...], typical: tuple[int, ...]) -> tuple[Any, ...]:
        return tuple(
            ranges.setdefault(size, ct.RangeDim(1, LONGEST * size, default=size)) if dim == -1 else dim
            for dim, size in zip(shape, typical, strict=True)
        )

    inputs = [
        ct.TensorType(name, shape=dims(given.shape, given.dims), dtype=_dtype(given.dtype))
        for name, given in model.inputs.items()
    ]
    if model.coreml_state:
        return inputs
    return inputs + [ct.TensorType(state.input, shape=state.shape, dtype=_dtype(state.dtype)) for state in model.states]


def _outputs(ct: Any, model: SpeechModel, step: Any) -> list[Any]:
    """Names, and float32 for floats: an fp16 program would give float16, which no host reads without care."""
    from rtfleet.export import original

    given = step(dict(zip(original.input_names(model), original.samples(model), strict=True)))
    names = model.outputs if model.coreml_state else original.output_names(model)
    return [
        ct.TensorType(name, dtype=np.float32 if np.issubdtype(given[name].dtype, np.floating) else np.int32)
        for name in names
    ]


def _dtype(name: str) -> type[np.generic]:
    return np.dtype(DTYPES.get(name, name)).type if name != "bool" else np.bool_
