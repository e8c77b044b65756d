"""The smallest TFLite model, built with the flatbuffer schema that LiteRT's package carries."""

from __future__ import annotations

import flatbuffers  # type: ignore[import-untyped]
from ai_edge_litert import schema_py_generated as schema


def relu_model(inputs: int, outputs: int) -> bytes:
    """`y{j} = relu(x{j mod inputs})`, every tensor one float."""
    model = schema.ModelT()
    model.version = 3
    model.buffers = [schema.BufferT()]  # number 0 means "no constant"
    model.operatorCodes = [_code(schema.BuiltinOperator.RELU)]
    graph = schema.SubGraphT()
    graph.tensors = [_tensor(f"x{index}") for index in range(inputs)] + [
        _tensor(f"y{index}") for index in range(outputs)
    ]
    graph.inputs = list(range(inputs))
    graph.outputs = [inputs + index for index in range(outputs)]
    graph.operators = [_operator(index % inputs, inputs + index) for index in range(outputs)]
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _code(builtin: int) -> schema.OperatorCodeT:
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    code.version = 1
    return code


def _tensor(name: str) -> schema.TensorT:
    tensor = schema.TensorT()
    tensor.name = name
    tensor.shape = [1]
    tensor.type = schema.TensorType.FLOAT32
    return tensor


def _operator(source: int, target: int) -> schema.OperatorT:
    operator = schema.OperatorT()
    operator.opcodeIndex = 0
    operator.inputs, operator.outputs = [source], [target]
    return operator
