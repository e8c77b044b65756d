"""Small TFLite models for tests, built with the schema in LiteRT's package: no exporter needed."""

from __future__ import annotations

from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

OPS = schema.BuiltinOperator
TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "float16": schema.TensorType.FLOAT16,
    "int8": schema.TensorType.INT8,
    "uint8": schema.TensorType.UINT8,
    "int16": schema.TensorType.INT16,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
    "bool": schema.TensorType.BOOL,
    "string": schema.TensorType.STRING,
    "resource": schema.TensorType.RESOURCE,
}


class TfliteModel:
    """Collects subgraphs; `graph` starts one, `tensor` and `op` add to the latest."""

    def __init__(self) -> None:
        self._model = schema.ModelT()
        self._model.version = 3
        self._model.buffers = [schema.BufferT()]
        self._model.operatorCodes = []
        self._model.subgraphs = []
        self._model.signatureDefs = []
        self._names: dict[str, int] = {}

    def graph(self) -> TfliteModel:
        graph = schema.SubGraphT()
        graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], [], []
        self._model.subgraphs.append(graph)
        self._names = {}
        return self

    def tensor(
        self,
        name: str,
        shape: list[int],
        dtype: str = "float32",
        *,
        scale: float | None = None,
        zero_point: int = 0,
        constant: np.ndarray | None = None,
        dynamic: list[int] | None = None,
    ) -> TfliteModel:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, shape, TYPES[dtype]
        tensor.shapeSignature = dynamic
        if scale is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [zero_point]
        if constant is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(constant.tobytes(), np.uint8)
            self._model.buffers.append(buffer)
            tensor.buffer = len(self._model.buffers) - 1
        self._names[name] = len(self._model.subgraphs[-1].tensors)
        self._model.subgraphs[-1].tensors.append(tensor)
        return self

    def op(
        self, builtin: int, inputs: list[str], outputs: list[str], options: object = None, custom: str = ""
    ) -> TfliteModel:
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), 1
        code.customCode = custom or None
        self._model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self._model.operatorCodes) - 1
        operator.inputs = [self._names[name] for name in inputs]
        operator.outputs = [self._names[name] for name in outputs]
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        self._model.subgraphs[-1].operators.append(operator)
        return self

    def io(self, inputs: list[str], outputs: list[str], signature: str = "") -> TfliteModel:
        graph = self._model.subgraphs[-1]
        graph.inputs = [self._names[name] for name in inputs]
        graph.outputs = [self._names[name] for name in outputs]
        if signature:
            definition = schema.SignatureDefT()
            definition.signatureKey = signature
            definition.subgraphIndex = len(self._model.subgraphs) - 1
            definition.inputs = [self._named(name) for name in inputs]
            definition.outputs = [self._named(name) for name in outputs]
            self._model.signatureDefs.append(definition)
        return self

    def save(self, path: Path) -> Path:
        builder = flatbuffers.Builder(1024)
        builder.Finish(self._model.Pack(builder), file_identifier=b"TFL3")
        path.write_bytes(bytes(builder.Output()))
        return path

    def _named(self, name: str) -> schema.TensorMapT:
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name.removeprefix("graph_"), self._names[name]
        return entry


def add() -> object:
    return schema.AddOptionsT()


def accumulator(path: Path, frames: int = 1) -> Path:
    """h_out = h + audio; score = h_out + audio, over [frames, 4] floats, under a signature."""
    model = TfliteModel().graph()
    for name in ("graph_audio", "graph_h", "graph_score", "graph_h_out"):
        model.tensor(name, [frames, 4])
    model.op(OPS.ADD, ["graph_h", "graph_audio"], ["graph_h_out"], add())
    model.op(OPS.ADD, ["graph_h_out", "graph_audio"], ["graph_score"], add())
    return model.io(["graph_audio", "graph_h"], ["graph_score", "graph_h_out"], "serving_default").save(path)


def int8_accumulator(path: Path, out_scale: float = 0.2, out_zero_point: int = 3) -> Path:
    """As above in int8; the state's two ends are on different grids."""
    model = TfliteModel().graph()
    model.tensor("x", [1, 4], "int8", scale=0.1)
    model.tensor("h", [1, 4], "int8", scale=0.15, zero_point=-5)
    model.tensor("h_out", [1, 4], "int8", scale=out_scale, zero_point=out_zero_point)
    model.op(OPS.ADD, ["h", "x"], ["h_out"], add())
    model.tensor("score", [1, 4], "int8", scale=0.3)
    model.op(OPS.ADD, ["h_out", "x"], ["score"], add())
    return model.io(["x", "h"], ["score", "h_out"]).save(path)


def inner_state(path: Path) -> Path:
    """score = the sum of all frames so far, held in a resource variable that starts at 100."""
    handle = schema.VarHandleOptionsT()
    handle.container, handle.sharedName = "", "total"
    once = schema.CallOnceOptionsT()
    once.initSubgraphIndex = 1
    model = TfliteModel().graph()
    model.tensor("x", [1, 4]).tensor("handle", [], "resource").tensor("before", [1, 4]).tensor("score", [1, 4])
    model.op(OPS.CALL_ONCE, [], [], once)
    model.op(OPS.VAR_HANDLE, [], ["handle"], handle)
    model.op(OPS.READ_VARIABLE, ["handle"], ["before"])
    model.op(OPS.ADD, ["before", "x"], ["score"], add())
    model.op(OPS.ASSIGN_VARIABLE, ["handle", "score"], [])
    model.io(["x"], ["score"], "serving_default")
    model.graph().tensor("handle", [], "resource").tensor("first", [1, 4], constant=np.full(4, 100, np.float32))
    model.op(OPS.VAR_HANDLE, [], ["handle"], handle)
    model.op(OPS.ASSIGN_VARIABLE, ["handle", "first"], [])
    return model.save(path)


def two_signatures(path: Path) -> Path:
    """y = x + x for 2 or for 6 frames."""
    model = TfliteModel()
    for frames in (2, 6):
        model.graph().tensor("x", [frames, 3]).tensor("y", [frames, 3])
        model.op(OPS.ADD, ["x", "x"], ["y"], add()).io(["x"], ["y"], f"t{frames}")
    return model.save(path)


def dynamic_batch(path: Path) -> Path:
    """y = x + x, any number of rows."""
    model = TfliteModel().graph().tensor("x", [1, 3], dynamic=[-1, 3]).tensor("y", [1, 3], dynamic=[-1, 3])
    return model.op(OPS.ADD, ["x", "x"], ["y"], add()).io(["x"], ["y"]).save(path)


def shape_from_data(path: Path) -> Path:
    """y = reshape(x, dims): the runtime knows where y lies only once it has run."""
    model = TfliteModel().graph().tensor("x", [6]).tensor("dims", [2], "int32").tensor("y", [], dynamic=[-1, -1])
    return model.op(OPS.RESHAPE, ["x", "dims"], ["y"], schema.ReshapeOptionsT()).io(["x", "dims"], ["y"]).save(path)


def custom_op(path: Path) -> Path:
    """An operator that nobody has."""
    model = TfliteModel().graph().tensor("x", [1]).tensor("y", [1])
    return model.op(OPS.CUSTOM, ["x"], ["y"], custom="Frobnicate").io(["x"], ["y"]).save(path)


def rank_0(path: Path) -> Path:
    """y = n + n for a scalar."""
    model = TfliteModel().graph().tensor("n", []).tensor("y", [])
    return model.op(OPS.ADD, ["n", "n"], ["y"], add()).io(["n"], ["y"]).save(path)
