"""The smallest ONNX model, written as protobuf by hand: an agent has no onnx package.

Field numbers are those of onnx.proto (ModelProto, GraphProto, NodeProto, ValueInfoProto).
"""

from __future__ import annotations

_FLOAT = 1
_IR_VERSION = 8
_OPSET = 13


def identity_model(inputs: int, outputs: int) -> bytes:
    """`y{j} = Identity(x{j mod inputs})`, every tensor one float."""
    nodes = [_text(1, f"x{index % inputs}") + _text(2, f"y{index}") + _text(4, "Identity") for index in range(outputs)]
    graph = b"".join(
        [
            *(_bytes(1, node) for node in nodes),
            _text(2, "one_op"),
            *(_bytes(11, _value(f"x{index}")) for index in range(inputs)),
            *(_bytes(12, _value(f"y{index}")) for index in range(outputs)),
        ]
    )
    opset = _text(1, "") + _number(2, _OPSET)
    return _number(1, _IR_VERSION) + _bytes(7, graph) + _bytes(8, opset)


def _value(name: str) -> bytes:
    shape = _bytes(1, _number(1, 1))
    tensor = _number(1, _FLOAT) + _bytes(2, shape)
    return _text(1, name) + _bytes(2, _bytes(1, tensor))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    head = bytearray()
    while value > 0x7F:
        head.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(head) + bytes([value])
