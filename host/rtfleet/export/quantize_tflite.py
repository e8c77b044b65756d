"""An fp32 TFLite file to fp16 or int8, with litert-quantizer. No torch here.

Choices, each from a measurement:
- int8-static is calibrated with the least and greatest value ever seen. The quantizer's own rule is a moving average,
  which clips peaks: it cost a recurrent state an error of 0.22 even at 16 bits.
- Inputs and outputs stay float: two ends of a state pair in int8 differ in scale, and raw audio would have 8 bits.
- `keep_float` modules get int8 weights and float arithmetic.
- A state output that the network reads itself stays int8 on that way: the quantizer hands on its float copy, which
  integer operators refuse to load.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rtfleet.export.tflite import SIGNATURE, open_interpreter
from rtfleet.model import Array

THREADS = 2
FRAMES_OF_OTHERS = 20
"""Calibration frames of a signature that is not measured."""
MOVERS = (
    "CONCATENATION",
    "EXPAND_DIMS",
    "PAD",
    "RESHAPE",
    "SLICE",
    "SPLIT",
    "SQUEEZE",
    "STRIDED_SLICE",
    "TRANSPOSE",
)
"""Operators that compute nothing."""


def to_fp16(base: Path, out: Path) -> None:
    """float16 weights; arithmetic in the runtime's choice."""
    from litert_quantizer import qtyping, quantizer
    from litert_quantizer.algorithm_manager import AlgorithmName

    maker = quantizer.Quantizer(str(base))
    maker.update_quantization_recipe(
        regex=".*",
        operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
        op_config=qtyping.OpQuantizationConfig(
            weight_tensor_config=qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT),
            compute_precision=qtyping.ComputePrecision.FLOAT,
            explicit_dequantize=True,
        ),
        algorithm_key=AlgorithmName.FLOAT_CASTING,
    )
    _write(maker, out, None)


def to_int8_dynamic(base: Path, out: Path, kept: Sequence[str]) -> None:
    """int8 weights; activations are quantized by the runtime, anew in each inference."""
    from litert_quantizer import qtyping, quantizer

    maker = quantizer.Quantizer(str(base))
    maker.add_dynamic_config(".*", qtyping.TFLOperationName.ALL_SUPPORTED, num_bits=8)
    _keep_float(maker, kept)
    _write(maker, out, None)


def to_int8_static(base: Path, out: Path, kept: Sequence[str], samples: Sequence[Mapping[str, Array]]) -> None:
    """int8 weights and activations, whose ranges are the least and greatest values seen over `samples`."""
    from litert_quantizer import calibrator, qtyping, quantizer, recipe_manager
    from litert_quantizer.utils import qsv_utils

    maker = quantizer.Quantizer(str(base))
    operations = qtyping.TFLOperationName
    maker.add_static_config(".*", operations.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8)
    _keep_float(maker, kept)
    for operation in (operations.INPUT, operations.OUTPUT):
        maker.update_quantization_recipe(".*", operation, algorithm_key=quantizer.AlgorithmName.NO_QUANTIZE)
    for name in _moving_floats(base, kept):
        maker.update_quantization_recipe(
            f"{re.escape(name)};$", operations.ALL_SUPPORTED, algorithm_key=quantizer.AlgorithmName.NO_QUANTIZE
        )
    recipe = recipe_manager.RecipeManager()
    recipe.load_quantization_recipe(maker.get_quantization_recipe())
    ranges = calibrator.Calibrator(str(base), num_threads=THREADS, qsv_update_func=qsv_utils.min_max_update)
    ranges.calibrate(_for_every_signature(base, samples), recipe)
    _write(maker, out, ranges.get_model_qsvs())


def _keep_float(maker: Any, kept: Sequence[str]) -> None:
    """Float arithmetic, with int8 weights where there are some, for what the expressions find. Later rules win."""
    from litert_quantizer import qtyping, quantizer

    operations = qtyping.TFLOperationName
    for expression in kept:
        maker.update_quantization_recipe(
            expression, operations.ALL_SUPPORTED, algorithm_key=quantizer.AlgorithmName.NO_QUANTIZE
        )
        for operation in (operations.CONV_2D, operations.DEPTHWISE_CONV_2D, operations.FULLY_CONNECTED):
            maker.add_weight_only_config(expression, operation, num_bits=8)


def _moving_floats(base: Path, kept: Sequence[str]) -> list[str]:
    """Names of tensors that are but moved inputs, states or values of kept modules: quantizing them gains nothing.

    Without this, raw audio that is joined to its tail would reach a float front end with 8 bits.
    """
    from ai_edge_litert.schema_py_generated import BuiltinOperator
    from litert_quantizer.utils import tfl_flatbuffer_utils

    movers = {getattr(BuiltinOperator, name) for name in MOVERS}
    model = tfl_flatbuffer_utils.read_model(str(base))
    found = []
    for graph in model.subgraphs:
        floats = {int(i) for i in graph.inputs}
        computed = {int(i) for op in graph.operators for i in op.outputs}
        for op in graph.operators:
            names = [graph.tensors[i].name.decode() for i in op.outputs]
            sources = [int(i) for i in op.inputs if i in floats or i in computed]
            moves = model.operatorCodes[op.opcodeIndex].builtinCode in movers and sources
            if any(re.search(expression, ";".join(names) + ";") for expression in kept):
                floats.update(map(int, op.outputs))
            elif moves and all(i in floats for i in sources):
                floats.update(map(int, op.outputs))
                found += names
    return found


def _for_every_signature(base: Path, samples: Sequence[Mapping[str, Array]]) -> dict[str, list[dict[str, Array]]]:
    """The samples in each signature's shapes: those of the longer one are the same frames, repeated."""
    interpreter = open_interpreter(base)
    runners = {name: interpreter.get_signature_runner(name) for name in interpreter.get_signature_list()}
    return {
        name: [
            {
                key: np.resize(sample[key], detail["shape"]).astype(detail["dtype"])
                for key, detail in runner.get_input_details().items()
            }
            for sample in (samples if name == SIGNATURE else samples[:FRAMES_OF_OTHERS])
        ]
        for name, runner in runners.items()
    }


def _write(maker: Any, out: Path, ranges: Any) -> None:
    from ai_edge_litert.tools import flatbuffer_utils

    result = maker.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(result.quantized_model))
    _rejoin_integers(model)
    out.write_bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _rejoin_integers(model: Any) -> None:
    """Operators that give int8 read the int8 tensor itself where they were given its float copy."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator, TensorType

    for graph in model.subgraphs:
        kinds = [model.operatorCodes[op.opcodeIndex].builtinCode for op in graph.operators]
        copies = {
            int(op.outputs[0]): int(op.inputs[0])
            for op, kind in zip(graph.operators, kinds, strict=True)
            if kind == BuiltinOperator.DEQUANTIZE and graph.tensors[op.inputs[0]].type == TensorType.INT8
        }
        for op, kind in zip(graph.operators, kinds, strict=True):
            integers = all(graph.tensors[i].type == TensorType.INT8 for i in op.outputs)
            if integers and kind != BuiltinOperator.QUANTIZE:
                op.inputs = [copies.get(int(i), int(i)) for i in op.inputs]
