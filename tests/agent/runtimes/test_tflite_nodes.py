"""Which nodes a delegate took, told from tensors alone."""

from __future__ import annotations

from rtfleet_agent.runtimes.tflite_nodes import Node, split


def test_without_a_delegate_every_node_is_left() -> None:
    assert split([Node("ADD", (0, 1), (2,)), Node("MUL", (2, 1), (3,))]) == ([], [0, 1])


def test_all_between_a_part_s_inputs_and_outputs_is_taken() -> None:
    nodes = [Node("ADD", (0, 1), (2,)), Node("MUL", (2, -1), (3,)), Node("SQRT", (3,), (4,))]
    assert split([*nodes, Node("DELEGATE", (0, 1), (3,))]) == ([0, 1], [2])


def test_two_parts_take_what_is_theirs_and_leave_what_lies_between() -> None:
    nodes = [Node("ADD", (0, 0), (1,)), Node("SPLIT", (1,), (2, 3)), Node("MUL", (2, 3), (4,))]
    parts = [Node("DELEGATE", (0,), (1,)), Node("DELEGATE", (2, 3), (4,))]
    assert split([*nodes, *parts]) == ([0, 2], [1])


def test_a_variable_that_is_written_inside_belongs_to_its_part() -> None:
    # 0 frame, 1 handle, 2 before, 3 sum, 4 tail: only the sum leaves the part.
    nodes = [
        Node("VAR_HANDLE", (), (1,)),
        Node("READ_VARIABLE", (1,), (2,)),
        Node("ADD", (0, 2), (3,)),
        Node("STRIDED_SLICE", (3,), (4,)),
        Node("ASSIGN_VARIABLE", (1, 4), ()),
    ]
    assert split([*nodes, Node("DELEGATE", (0,), (3,))]) == ([0, 1, 2, 3, 4], [])


def test_a_node_without_inputs_and_outputs_is_nobody_s() -> None:
    nodes = [Node("CALL_ONCE", (), ()), Node("ADD", (0, 0), (1,))]
    assert split([*nodes, Node("DELEGATE", (0,), (1,))]) == ([1], [0])


def test_a_variable_that_is_written_with_what_another_part_made_is_left() -> None:
    nodes = [Node("VAR_HANDLE", (), (1,)), Node("ADD", (0, 0), (2,)), Node("ASSIGN_VARIABLE", (1, 2), ())]
    parts = [Node("DELEGATE", (), (1,)), Node("DELEGATE", (0,), (2,))]
    assert split([*nodes, *parts]) == ([0, 1], [2])
