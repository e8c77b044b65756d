"""Every runtime's module has the functions that the worker calls, with the parameters that it gives them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import rtfleet_agent
from rtfleet_agent.runtimes import RUNTIMES
from rtfleet_agent.runtimes.base import Runtime

FOLDER = Path(rtfleet_agent.__file__).parent / "runtimes"


def parameters(of: list[ast.stmt]) -> dict[str, list[str]]:
    return {
        one.name: [argument.arg for argument in one.args.args if argument.arg != "self"]
        for one in of
        if isinstance(one, ast.FunctionDef)
    }


def asked() -> dict[str, list[str]]:
    tree = ast.parse((FOLDER / "base.py").read_text())
    (seam,) = [one for one in tree.body if isinstance(one, ast.ClassDef) and one.name == Runtime.__name__]
    return parameters(seam.body)


@pytest.mark.parametrize("module", [module for module, _ in RUNTIMES.values()])
def test_a_runtime_s_module_has_what_the_worker_calls(module: str) -> None:
    # Read, not imported: a runtime of another system is not here.
    found = parameters(ast.parse((FOLDER / f"{module.rpartition('.')[2]}.py").read_text()).body)
    assert {name: found.get(name) for name in asked()} == asked()
