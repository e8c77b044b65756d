"""What an agent must write and read of ONNX, as protobuf by hand: it has no onnx package.

The smallest model, and a model's metadata. Field numbers are those of onnx.proto (ModelProto, GraphProto, NodeProto,
ValueInfoProto).
"""

from __future__ import annotations

from collections.abc import Iterator

_FLOAT = 1
_METADATA = 14
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


def metadata(model: bytes) -> dict[str, str]:
    """A model file's own `metadata_props`. Raises ValueError for bytes that are no protobuf."""
    return {
        bytes(pair.get(1, b"")).decode(): bytes(pair.get(2, b"")).decode()
        for field, entry in _fields(memoryview(model))
        if field == _METADATA
        for pair in [dict(_fields(entry))]
    }


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The length-delimited fields of a message; the others are skipped."""
    at = 0
    while at < len(message):
        tag, at = _number_at(message, at)
        kind = tag & 7
        if kind == 2:
            size, at = _number_at(message, at)
            if at + size > len(message):
                raise ValueError("truncated protobuf")
            yield tag >> 3, message[at : at + size]
            at += size
        elif kind == 0:
            _, at = _number_at(message, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError(f"no protobuf: wire type {kind}")


def _number_at(message: memoryview, at: int) -> tuple[int, int]:
    """A varint, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("truncated protobuf")
        byte = message[at]
        value, at = value | (byte & 0x7F) << shift, at + 1
        if not byte & 0x80:
            return value, at
    raise ValueError("no protobuf: a number of more than 64 bits")
