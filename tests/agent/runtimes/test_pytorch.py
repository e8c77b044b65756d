"""PyTorch on the seam: the same numbers as its own module, states handed on, and no torch before a model is loaded."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from rtfleet_agent.runtimes import pytorch  # noqa: E402  # torch may be missing
from rtfleet_agent.runtimes.base import (  # noqa: E402
    BadModel,
    Graph,
    NoAccelerator,
    Options,
    State,
    UnsupportedModel,
)

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")

RECURRENT = """
def forward(self, x, h, c):
    h = torch.tanh(0.9 * h + torch.flip(x, [1]))
    c = c + x
    return (h + c, h, c)
"""
STATES = (State("h", "h_out"), State("c", "c_out"))


def scripted(code: str) -> torch.jit.ScriptModule:
    """A module of that `forward`; each has a class of its own, for a class has one."""
    module = type("Scripted", (torch.jit.ScriptModule,), {})()
    module.define(code)
    return module.eval()


def saved(path: Path, code: str, inputs: Sequence[tuple], outputs: Sequence[tuple]) -> Graph:
    """`forward` as a TorchScript file; tensors are (name, shape) or (name, shape, dtype)."""

    def told(tensors: Sequence[tuple]) -> list:
        return [[tensor[0], tensor[2] if len(tensor) > 2 else "float32", list(tensor[1])] for tensor in tensors]

    module = scripted(code)
    files = {pytorch.TENSORS: json.dumps({"inputs": told(inputs), "outputs": told(outputs)})}
    torch.jit.save(module, str(path), _extra_files=files)
    return Graph("main", path)


@pytest.fixture(name="recurrent")
def _recurrent(tmp_path: Path) -> Graph:
    """h' = tanh(0.9 h + flipped x), c' = c + x: `score` sums both, so it depends on every frame since the start."""
    shape = (1, 8)
    return saved(
        tmp_path / "recurrent.pt",
        RECURRENT,
        [("x", shape), ("h", shape), ("c", shape)],
        [("score", shape), ("h_out", shape), ("c_out", shape)],
    )


def frames(count: int) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(count, 1, 8)).astype(np.float32)


def plain_loop(count: int) -> list[np.ndarray]:
    h = c = torch.zeros(1, 8)
    scores = []
    for x in torch.from_numpy(frames(count)):
        h = torch.tanh(0.9 * h + torch.flip(x, [1]))
        c = c + x
        scores.append((h + c).numpy())
    return scores


def stepped(bound: pytorch.Bound, count: int) -> list[np.ndarray]:
    scores = []
    for x in frames(count):
        bound.inputs["x"][...] = x
        bound.step()
        scores.append(bound.outputs["score"].copy())
    return scores


def test_a_stream_gives_the_bits_of_a_plain_loop(recurrent: Graph) -> None:
    bound = pytorch.load(recurrent.path, recurrent, Options()).bind({}, STATES)

    assert np.array_equal(stepped(bound, 60), plain_loop(60))


def test_states_are_not_among_the_buffers(recurrent: Graph) -> None:
    bound = pytorch.load(recurrent.path, recurrent, Options()).bind({}, STATES)
    bound.step()

    assert (list(bound.inputs), list(bound.outputs)) == (["x"], ["score"])


@pytest.mark.parametrize("before", [0, 1, 4])
def test_reset_forgets_the_past(recurrent: Graph, before: int) -> None:
    bound = pytorch.load(recurrent.path, recurrent, Options()).bind({}, STATES)
    stepped(bound, before)
    bound.reset()

    assert np.array_equal(stepped(bound, 9), plain_loop(9))


def test_outputs_stay_in_the_same_memory_also_after_a_reset(recurrent: Graph) -> None:
    bound = pytorch.load(recurrent.path, recurrent, Options()).bind({}, STATES)
    stepped(bound, 1)
    held = bound.outputs["score"]
    bound.reset()
    stepped(bound, 3)

    assert bound.outputs["score"] is held


def test_an_initial_value_comes_from_its_file(recurrent: Graph, tmp_path: Path) -> None:
    np.save(tmp_path / "c.npy", np.full((1, 8), 100, np.float32))
    states = (STATES[0], State("c", "c_out", tmp_path / "c.npy"))
    bound = pytorch.load(recurrent.path, recurrent, Options()).bind({}, states)

    assert np.allclose(stepped(bound, 3)[-1], plain_loop(3)[-1] + 100, atol=1e-4)


def test_a_state_that_is_a_piece_of_the_frame_survives_the_next_frame(tmp_path: Path) -> None:
    """It is no copy of its own: written over, the tail would be that of the frame in hand."""
    graph = saved(
        tmp_path / "tail.pt",
        "def forward(self, x, tail):\n    return (tail + 0 * x[:, :3], x[:, 5:])\n",
        [("x", (1, 8)), ("tail", (1, 3))],
        [("score", (1, 3)), ("tail_out", (1, 3))],
    )
    bound = pytorch.load(graph.path, graph, Options()).bind({}, [State("tail", "tail_out")])

    scores = stepped(bound, 5)

    assert np.array_equal(np.array(scores[1:]), frames(5)[:-1, :, 5:])


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "uint8", "int16", "int32", "int64", "bool"])
def test_every_dtype_and_rank_0_go_through(tmp_path: Path, dtype: str) -> None:
    graph = saved(
        tmp_path / "model.pt",
        "def forward(self, x, n):\n    return (x.clone(), n.clone())\n",
        [("x", (-1, 3), dtype), ("n", (), dtype)],
        [("y", (-1, 3), dtype), ("m", (), dtype)],
    )
    bound = pytorch.load(graph.path, graph, Options()).bind({"x": (2, 3)}, [])
    bound.inputs["x"][...] = np.array([[1, 0, 1], [0, 1, 1]])
    bound.inputs["n"][...] = 1
    bound.step()
    bound.step()

    assert bound.outputs["y"].dtype == np.dtype(dtype)
    assert bound.outputs["y"].tolist() == bound.inputs["x"].tolist()
    assert bound.outputs["m"] == 1


def test_run_takes_any_shape(recurrent: Graph) -> None:
    session = pytorch.load(recurrent.path, recurrent, Options())
    feeds = {name: np.ones((5, 8), np.float32) for name in ("x", "h", "c")}

    assert session.run(feeds)["score"].shape == (5, 8)


def refused_step(graph: Graph) -> Callable[[], None]:
    return pytorch.load(graph.path, graph, Options()).bind({}, []).step


def test_a_graph_that_does_not_run_says_so_at_its_first_step(tmp_path: Path) -> None:
    code = "def forward(self, x):\n    return (x.reshape([5]),)\n"
    step = refused_step(saved(tmp_path / "model.pt", code, [("x", (4,))], [("y", (5,))]))

    with pytest.raises(UnsupportedModel, match=r"does not run with these inputs: .*shape '\[5\]' is invalid"):
        step()


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, b"PK\x03\x04"])
def test_a_file_that_is_no_model_is_named_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.pt"
    path.write_bytes(content)

    with pytest.raises(BadModel, match=r"broken\.pt: not a TorchScript file, or truncated") as raised:
        pytorch.load(path, Graph("main", path), Options())

    assert "\n" not in str(raised.value)


def test_a_truncated_model_is_named(recurrent: Graph) -> None:
    recurrent.path.write_bytes(recurrent.path.read_bytes()[:-200])

    with pytest.raises(BadModel, match=r"recurrent\.pt: not a TorchScript file"):
        pytorch.load(recurrent.path, recurrent, Options())


def test_a_torchscript_of_somebody_elses_does_not_say_how_its_tensors_are_called(tmp_path: Path) -> None:
    torch.jit.save(scripted("def forward(self, x):\n    return (x,)\n"), str(tmp_path / "luna.pt"))

    with pytest.raises(BadModel, match=r"luna\.pt: a TorchScript without tensors\.json"):
        pytorch.load(tmp_path / "luna.pt", Graph("main", tmp_path / "luna.pt"), Options())


@pytest.mark.parametrize("accelerator", ["npu", "mps"])
def test_an_accelerator_that_is_not_here_is_refused_with_what_is(recurrent: Graph, accelerator: str) -> None:
    with pytest.raises(NoAccelerator, match="offers cpu"):
        pytorch.load(recurrent.path, recurrent, Options(accelerator=accelerator))


def test_gpu_is_offered_exactly_where_torch_has_one(recurrent: Graph) -> None:
    facts = pytorch.describe()

    assert ("gpu" in facts.accelerators) == torch.cuda.is_available()
    assert ("gpu" in facts.unavailable) != torch.cuda.is_available()


def test_the_facts_are_those_of_the_library_and_cost_no_import() -> None:
    program = "from rtfleet_agent.runtimes import pytorch; print(pytorch.describe().library_sha256); import sys\n"
    program += "sys.exit('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()

    library = next(
        path for path in (Path(torch.__file__).parent / "lib").glob("*torch_cpu.*") if path.suffix in (".so", ".dylib")
    )
    with library.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == told
    assert pytorch.describe().version == torch.__version__


def test_threads_are_those_asked_for_and_placement_says_so(recurrent: Graph) -> None:
    before = torch.get_num_threads()
    try:
        placement = pytorch.load(recurrent.path, recurrent, Options(threads=2)).placement()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)

    assert (placement.ran, placement.accelerated_share, placement.notes[0]) == ("CPU", 1.0, "2 threads")


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (6, 6), (2, 5), (40, 1)])
def test_the_one_op_model_has_the_inputs_and_outputs_asked(tmp_path: Path, inputs: int, outputs: int) -> None:
    graph = pytorch.one_op(tmp_path, inputs, outputs)
    session = pytorch.load(graph.path, graph, Options())
    assert (len(session.inputs), len(session.outputs)) == (inputs, outputs)

    bound = session.bind({}, [State("x0", "y0")])
    bound.step()
    bound.step()

    assert len(bound.outputs) == outputs - 1
