"""PyTorch to ONNX, fp32: torch's own exporter, then a file that is the same wherever it is made.

Node names carry the module they came from ("front.stft/Conv_2"), so that a quantizer that never sees the original can
leave some modules alone.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rtfleet.artifact import Tensor
from rtfleet.errors import ExportError
from rtfleet.export.streaming import Step
from rtfleet.model import Array, SpeechModel

OPSET = 18
"""The newest that both the exporter honours without conversion and the oldest supported runtime (1.23) loads."""
SCOPES = "pkg.torch.onnx.name_scopes"


def export(model: SpeechModel, folder: Path) -> Path:
    """`model.onnx` in `folder`: float32, states as named inputs and outputs, dims of -1 dynamic.

    Raises:
        ExportError: for a source that is no module, and where the file is not what was asked for. The exporter's own
            exceptions pass.
    """
    import onnx
    import torch

    from rtfleet.export import original

    module, names = original.module_of(model), original.input_names(model)
    declared = original.inputs_of(model)
    program = torch.onnx.export(
        module,
        original.samples(model, sizes=_traced_sizes(model)),
        dynamo=True,
        opset_version=OPSET,
        external_data=False,
        input_names=names,
        output_names=original.output_names(model),
        dynamic_shapes=_dynamic_shapes(module, declared) if any(-1 in tensor.shape for tensor in declared) else None,
        verbose=False,
    )
    proto = program.model_proto
    opset = next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    if opset != OPSET:
        raise ExportError(f"the exporter made opset {opset} instead of {OPSET}", step="torch.onnx.export")
    normalise(proto)
    path = folder / "model.onnx"
    write(proto, path)
    onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True)
    return path


def _traced_sizes(model: SpeechModel) -> dict[str, tuple[int, ...]]:
    """Dims to trace with: a dynamic dim of 1 is traced as 2, for a 1 would be taken for a fixed size."""
    return {
        name: tuple(2 if dim == -1 and size == 1 else size for dim, size in zip(given.shape, given.dims, strict=True))
        for name, given in model.inputs.items()
    }


def _dynamic_shapes(module: Any, declared: tuple[Tensor, ...]) -> Any:
    """In the shape of `forward`'s signature: per tensor its dynamic dims."""
    import inspect

    from torch.export import Dim

    dims = [{i: Dim.DYNAMIC for i, dim in enumerate(tensor.shape) if dim == -1} or None for tensor in declared]
    parameters = inspect.signature(module.forward).parameters.values()
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        fixed = sum(parameter.kind is parameter.POSITIONAL_OR_KEYWORD for parameter in parameters)
        return (*dims[:fixed], tuple(dims[fixed:]))
    return tuple(dims)


def normalise(proto: Any) -> None:
    """Make the bytes depend on the network alone: no traces, no texts of this machine, one order of everything."""
    import onnx

    for graph in graphs_of(proto.graph):
        for i, node in enumerate(graph.node):
            scope = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), None)
            if scope is not None:
                node.name = f"{_module(ast.literal_eval(scope))}/{node.op_type}_{i}"
            node.ClearField("metadata_props")
            node.ClearField("doc_string")
        for named in (graph.input, graph.output, graph.initializer):
            for value in named:
                value.ClearField("metadata_props")
                value.ClearField("doc_string")
        weights = sorted(graph.initializer, key=lambda value: value.name)
        del graph.initializer[:]
        graph.initializer.extend(weights)
        graph.ClearField("value_info")  # runtimes infer it; converters leave it stale
        graph.ClearField("metadata_props")
        graph.ClearField("doc_string")
    proto.graph.name = "model"
    proto.ClearField("metadata_props")
    proto.ClearField("doc_string")
    onnx.checker.check_model(proto, full_check=True)


def _module(scopes: list[str]) -> str:
    """The innermost module of ['', 'front', 'front.stft', 'conv2d']: its last entry is the operation itself."""
    return scopes[-2] if len(scopes) > 1 else ""


def graphs_of(graph: Any) -> Iterator[Any]:
    """A graph and all graphs inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from graphs_of(inner)


def write(proto: Any, path: Path) -> None:
    """Serialize in one fixed order of bytes."""
    path.write_bytes(proto.SerializeToString(deterministic=True))


def open_session(path: Path, *, optimize: bool = True) -> Any:
    """An ONNX Runtime session on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def step_of(session: Any) -> Step:
    """One inference of a session."""
    names = [output.name for output in session.get_outputs()]

    def step(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        # np.asarray: the runtime refuses numpy scalars where an input has no dims.
        results = session.run(names, {name: np.asarray(value) for name, value in feeds.items()})
        return dict(zip(names, results, strict=True))

    return step


def tensors_of(session: Any) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Inputs and outputs of a session; a dim without a number is -1."""

    def described(values: Any) -> tuple[Tensor, ...]:
        return tuple(
            Tensor(value.name, DTYPES[value.type], tuple(dim if isinstance(dim, int) else -1 for dim in value.shape))
            for value in values
        )

    return described(session.get_inputs()), described(session.get_outputs())


DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
    **{f"tensor({kind}{bits})": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
}
