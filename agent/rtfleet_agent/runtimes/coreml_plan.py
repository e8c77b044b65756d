"""Where Core ML means to run each operator, by its compute plan (macOS 14.4 and newer)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rtfleet_agent.runtimes.base import Placement

WORDS = {"cpu": "CPU", "gpu": "GPU", "npu": "Neural Engine"}
# Between float32 inputs and outputs and float16 arithmetic: they carry data over a border, and compute nothing.
_CARRIERS = ("cast",)
_NAMED = 3


@dataclass(frozen=True)
class Planned:
    """An operator that has a device; constants have none.

    Attributes:
        device: "cpu", "gpu" or "npu"; "" for one that this agent does not know.
        cost: Its share of the whole model's work, as Core ML estimates it; None where it does not.
    """

    op_type: str
    device: str
    cost: float | None


def planned(plan: Any) -> tuple[Planned, ...]:
    """The operators of an `MLComputePlan` that Core ML has a device for, those of nested blocks included."""
    structure = plan.model_structure
    found: list[Planned] = []
    if structure.program is not None:
        for function in structure.program.functions.values():
            for operation in _operations(function.block):
                usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
                cost = plan.get_estimated_cost_for_mlprogram_operation(operation)
                if usage is not None:
                    device = kind_of(usage.preferred_compute_device)
                    found.append(Planned(operation.operator_name, device, None if cost is None else cost.weight))
    elif structure.neuralnetwork is not None:
        for layer in structure.neuralnetwork.layers:
            usage = plan.get_compute_device_usage_for_neuralnetwork_layer(layer)
            if usage is not None:
                found.append(Planned(layer.type, kind_of(usage.preferred_compute_device), None))
    return tuple(found)


def kind_of(device: Any) -> str:
    """ "cpu", "gpu" or "npu" of an `MLComputeDevice`; "" for a kind that came later than this agent."""
    kinds = {"MLCPUComputeDevice": "cpu", "MLGPUComputeDevice": "gpu", "MLNeuralEngineComputeDevice": "npu"}
    return kinds.get(type(device).__name__, "")


def elsewhere(asked: str, operators: Sequence[Planned]) -> str:
    """What does not run on the accelerator asked for, in words; "" where all of it does."""
    counted = _counted(operators)
    others = Counter(operator.op_type for operator in counted if operator.device != asked)
    if not others:
        return "" if counted else "Core ML's plan names a device for no operator of this model"
    names = ", ".join(name for name, _ in others.most_common(_NAMED)) + (", …" if len(others) > _NAMED else "")
    return f"{others.total()} of {len(counted)} operators would run elsewhere ({names})"


def placement(asked: str, operators: Sequence[Planned]) -> Placement:
    """The placement that a plan foretells."""
    counted = _counted(operators)
    notes = ["placement as Core ML plans it, casts not counted"]
    costs = [operator.cost for operator in counted if operator.cost is not None]
    if sum(costs) > 0:
        there = sum(operator.cost or 0.0 for operator in counted if operator.device == asked)
        notes.append(f"{there / sum(costs):.0%} of the estimated work on the {WORDS[asked]}")
    ran = Counter(WORDS.get(operator.device, "unknown") for operator in counted)
    share = sum(operator.device == asked for operator in counted) / len(counted) if counted else None
    return Placement(asked, ", ".join(name for name, _ in ran.most_common()) or "unknown", share, tuple(notes))


def _operations(block: Any) -> Iterator[Any]:
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from _operations(inner)


def _counted(operators: Sequence[Planned]) -> list[Planned]:
    return [operator for operator in operators if operator.op_type.rpartition(".")[2] not in _CARRIERS]
