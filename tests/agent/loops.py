"""Tiny graphs that take part in loops, written with the onnx package, and what they must give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from rtfleet_agent.pipeline import Cache, Carried, ChainLoop, Edge, Seq2SeqLoop
from rtfleet_agent.runtimes.base import Graph

VOCABULARY = 64
END_TOKEN = 20


def tensor(name: str, dims: list[int | str], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, dims)


def saved(path: Path, nodes: list, inputs: list, outputs: list, constants: dict[str, np.ndarray]) -> Path:
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def doubling(folder: Path) -> Graph:
    """`x` [1, 2] -> `doubled` [1, 2, 1]."""
    nodes = [helper.make_node("Mul", ["x", "two"], ["twice"]), helper.make_node("Reshape", ["twice", "s"], ["doubled"])]
    constants = {"two": np.array(2, np.float32), "s": np.array([1, 2, 1], np.int64)}
    path = saved(folder / "doubling.onnx", nodes, [tensor("x", [1, 2])], [tensor("doubled", [1, 2, 1])], constants)
    return Graph("first", path, {"x": (1, 2)})


def summing(folder: Path) -> Graph:
    """`window` [1, 5, 1] -> `sum` [1] and `oldest` [1]."""
    nodes = [
        helper.make_node("ReduceSum", ["window", "all"], ["sum3"], keepdims=0),
        helper.make_node("Reshape", ["sum3", "one"], ["sum"]),
        helper.make_node("Gather", ["window", "zero"], ["oldest2"], axis=1),
        helper.make_node("Reshape", ["oldest2", "one"], ["oldest"]),
    ]
    constants = {"all": np.array([0, 1, 2], np.int64), "one": np.array([1], np.int64), "zero": np.array([0], np.int64)}
    outputs = [tensor("sum", [1]), tensor("oldest", [1])]
    path = saved(folder / "summing.onnx", nodes, [tensor("window", [1, 5, 1])], outputs, constants)
    return Graph("second", path, {"window": (1, 5, 1)})


CHAIN = ChainLoop((Edge("first", "doubled", "second", "window", axis=1, scale=0.5, offset=1.0, fill=7.0),))


def counting_encoder(folder: Path) -> Graph:
    """`audio` [1, n] of at most 6 -> `length` [1, 1]: the sum of what it was given."""
    nodes = [helper.make_node("ReduceSum", ["audio", "axis"], ["length"], keepdims=1)]
    constants = {"axis": np.array([1], np.int64)}
    inputs, outputs = [tensor("audio", [1, "n"])], [tensor("length", [1, 1])]
    return Graph("encoder", saved(folder / "encoder.onnx", nodes, inputs, outputs, constants), {"audio": (1, 6)})


def whole_numbers(folder: Path, name: str, dims: list[int], kind: int) -> Graph:
    """`x` -> `y`, the same number."""
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    path = saved(folder / f"{name}.onnx", nodes, [tensor("x", dims, kind)], [tensor("y", dims, kind)], {})
    return Graph(name, path, {"x": tuple(dims)})


def counting_decoder(folder: Path, highest: float = 1.0) -> Graph:
    """The next token is 10 + what the encoder said + tokens so far + what the fixed cache holds.

    Args:
        highest: The logit of that token; the others have 0.

    The fixed cache gives 3 for the first token and 40 for the others: who takes it anew each time loses count.
    """
    make = helper.make_node
    nodes = [
        make("Shape", ["past"], ["past_shape"]),
        make("Gather", ["past_shape", "two"], ["past_length"]),
        make("ReduceSum", ["kept", "all"], ["kept_sum"], keepdims=0),
        make("ReduceSum", ["heard", "both"], ["heard_sum"], keepdims=0),
        make("Cast", ["past_length"], ["past_float"], to=TensorProto.FLOAT),
        make("Sum", ["past_float", "kept_sum", "heard_sum", "ten"], ["sum"]),
        make("Cast", ["sum"], ["next"], to=TensorProto.INT64),
        make("OneHot", ["next", "depth", "values"], ["hot"]),
        make("Reshape", ["hot", "as_logits"], ["logits"]),
        make("Cast", ["token"], ["token_float"], to=TensorProto.FLOAT),
        make("Reshape", ["token_float", "as_past"], ["token_past"]),
        make("Concat", ["past", "token_past"], ["present"], axis=2),
        make("Where", ["cached", "forty", "three"], ["kept_flat"]),
        make("Reshape", ["kept_flat", "as_past"], ["kept_out"]),
    ]
    constants = {
        "two": np.array(2, np.int64),
        "all": np.array([0, 1, 2, 3], np.int64),
        "both": np.array([0, 1], np.int64),
        "ten": np.array([10], np.float32),
        "depth": np.array(VOCABULARY, np.int64),
        "values": np.array([0, highest], np.float32),
        "as_logits": np.array([1, 1, VOCABULARY], np.int64),
        "as_past": np.array([1, 1, 1, 1], np.int64),
        "forty": np.array([40], np.float32),
        "three": np.array([3], np.float32),
    }
    inputs = [
        tensor("token", [1, 1], TensorProto.INT64),
        tensor("heard", [1, 1]),
        tensor("past", [1, 1, "p", 1]),
        tensor("kept", [1, 1, "k", 1]),
        tensor("cached", [1], TensorProto.BOOL),
    ]
    outputs = [
        tensor("logits", [1, 1, VOCABULARY]),
        tensor("present", [1, 1, "q", 1]),
        tensor("kept_out", [1, 1, 1, 1]),
    ]
    return Graph("decoder", saved(folder / "decoder.onnx", nodes, inputs, outputs, constants))


SEQ2SEQ = Seq2SeqLoop(
    encoder="encoder",
    decoder="decoder",
    carried=(Carried("length", "heard"),),
    caches=(Cache("past", "present", (1, 1, 0, 1)), Cache("kept", "kept_out", (1, 1, 0, 1), fixed=True)),
    tokens="token",
    logits="logits",
    use_cache="cached",
    start_token=1,
    end_token=END_TOKEN,
    max_tokens=9,
)
