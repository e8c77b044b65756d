"""What goes wrong in `rtfleet run` is one clear message and the right exit code; what was measured before stays."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stage as stages
from stage import Stage, Told, strict

from rtfleet.client import AgentClient
from rtfleet.errors import DeviceError
from rtfleet.transports import Link

HOSTILE = "ev[red]il|x\x1b[2J\u202e"


@pytest.fixture(name="stage")
def _stage(tmp_path: Path) -> Stage:
    return stages.stage(tmp_path)


# ---- before anything is measured -----------------------------------------------------------------------------------


def test_an_unknown_variant_names_the_flag_and_what_was_meant(stage: Stage) -> None:
    told = stage.rtfleet("run", stage.model("luna"), "--task", "vad", "--variant", "onnx-fp23")

    assert (told.code, told.stdout) == (2, "")
    assert "--variant[0]: unknown variant 'onnx-fp23'; did you mean 'onnx-fp" in told.stderr
    assert "Traceback" not in told.stderr


def test_an_unknown_key_names_the_file_and_the_key(stage: Stage) -> None:
    (stage.folder / "suite.toml").write_text('[[model]]\nsource = "luna.fake.json"\nvariant = ["onnx-fp32"]\n')

    told = stage.rtfleet("run", "suite.toml")

    assert (told.code, told.stdout) == (2, "")
    assert told.stderr == "error: suite.toml: model[0].variant: unknown key; did you mean 'variants'?\n"
    assert stage.runs() == []


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_a_model_that_is_not_there_starts_nothing(stage: Stage, dry: tuple[str, ...]) -> None:
    told = stage.rtfleet("run", "silero-vat", *dry)

    assert (told.code, told.stdout) == (2, "")
    assert told.stderr.startswith("error: no model is called 'silero-vat'\n\nhint: did you mean silero-vad")
    assert stage.runs() == [] and not stage.store.exists()


def test_a_report_that_can_not_be_written_is_said_before_anything_is_measured(stage: Stage) -> None:
    told = stage.rtfleet("run", stage.model("luna"), "--task", "vad", "--junit", "nowhere/all.xml")

    assert told.code == 2
    assert "--junit nowhere/all.xml: there is no folder" in told.stderr and stage.runs() == []


@pytest.mark.slow
def test_a_fail_that_can_t_be_shown_is_a_fail(stage: Stage) -> None:
    command = ("run", stage.suite(stage.model("luna", latency_us=2_000), run=stages.QUICK), "--budget")
    codes = []
    with open("/dev/full", "w") as full:
        for limit in ("response_p99_ms=0.1", "response_p99_ms=1000"):
            ended = subprocess.run(
                [sys.executable, "-m", "rtfleet.cli.main", *command, limit], cwd=stage.folder, env=stage.environment,
                stdout=full, stderr=subprocess.PIPE, text=True, timeout=stages.PATIENCE_S,
            )  # fmt: skip
            assert "the report can't be shown: stdout can't be written: No space left" in ended.stderr
            codes.append(ended.returncode)
    assert codes == [1, 2]


def test_debug_shows_the_stack_trace(stage: Stage) -> None:
    told = stage.rtfleet("show", "nothing", "--debug")

    assert told.code == 2
    assert "Traceback" in told.stderr and told.stderr.rstrip().endswith("holds no run: no journal.jsonl, no run.json")


def test_a_token_of_another_agent_is_said_to_be_wrong(stage: Stage) -> None:
    async def ask(address: str) -> None:
        async with AgentClient(Link(address, "0" * 64), "board") as client:
            await client.describe()

    with (
        stage.serving() as agent,
        pytest.raises(DeviceError, match="device 'board': the agent refused the token") as told,
    ):
        asyncio.run(ask(agent["address"]))

    assert told.value.exit_code == 4 and not told.value.retryable and "own token" in told.value.hint


# ---- models that can't be measured, beside one that can ------------------------------------------------------------


@dataclass(frozen=True)
class Ran:
    """One run of good and bad models."""

    stage: Stage
    told: Told
    document: dict[str, Any]

    def case(self, model: str) -> dict[str, Any]:
        return next(case for case in self.document["cases"] if case["model"] == model)


@pytest.fixture(name="ran", scope="module")
def _ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    stage = stages.stage(tmp_path_factory.mktemp("bad"))
    (stage.folder / "outside.bin").write_bytes(bytes(5120))
    models = stage.folder / "models"
    models.mkdir()
    _onnx(models / "leaves.onnx", "../outside.bin")
    _onnx(models / "lacks.onnx", "lost.bin")
    _onnx(models / "whole.onnx", "")
    whole = (models / "whole.onnx").read_bytes()
    (models / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    (models / "empty.onnx").write_bytes(b"")
    (models / "picture.onnx").write_bytes(b"\x89PNG\r\n" * 99)
    (models / "page.tflite").write_text("<html>404 Not Found</html>")
    files = ["leaves.onnx", "lacks.onnx", "cut.onnx", "empty.onnx", "picture.onnx", "page.tflite", "ghost.onnx"]
    suite = stage.suite(
        stage.model("good"),
        *(f'source = "models/{name}"\nname = "{name}"\ntask = "wake-word"' for name in files),
        *(
            stage.model(name, faults=faults)
            for name, faults in {
                "numb": {"nan_at": 60},
                "crashes": {"crash_at": 60, "signal": "SIGBUS"},
                "hungry": {"oom_at": 60},
                "refuses": {"fail_at": 60},
            }.items()
        ),
        f'source = "{_escaped(stage.model(HOSTILE, latency_us=150))}"\ntask = "wake-word"',
        run=stages.ONE_LAUNCH,
    )
    files = ("--json", "all.json", "--junit", "all.xml", "--markdown", "all.md")
    told = stage.rtfleet("run", suite, *files)
    return Ran(stage, told, strict((stage.folder / "all.json").read_text()))


def _escaped(text: str) -> str:
    """As TOML writes it."""
    return "".join(character if character.isprintable() else f"\\u{ord(character):04x}" for character in text)


def _onnx(path: Path, data: str) -> None:
    """One matrix product, its weights in the file `data` beside it; "" is in the model itself."""
    onnx = pytest.importorskip("onnx")
    weights = onnx.numpy_helper.from_array(np.ones((1280, 1), np.float32), "w")
    if data:
        weights.ClearField("raw_data")
        weights.data_location = onnx.TensorProto.EXTERNAL
        weights.external_data.add(key="location", value=data)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["audio", "w"], ["score"])],
        "g",
        [onnx.helper.make_tensor_value_info("audio", onnx.TensorProto.FLOAT, [1, 1280])],
        [onnx.helper.make_tensor_value_info("score", onnx.TensorProto.FLOAT, [1, 1])],
        [weights],
    )
    path.write_bytes(
        onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8
        ).SerializeToString()
    )


@pytest.mark.slow
def test_bad_models_do_not_spoil_a_good_one_and_end_the_run_as_bad_input(ran: Ran) -> None:
    assert ran.told.code == 2
    assert "Traceback" not in ran.told.everything
    good = ran.case("good")
    assert good["verdict"] in ("PASS", "INCONCLUSIVE") and len(good["launches"][0]["latency_ns"]) >= 500


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "kind", "text", "hint"),
    [
        ("leaves.onnx", "SOURCE", "its external data '../outside.bin' lies outside the model's folder", "put the data"),
        ("lacks.onnx", "SOURCE", "its external data 'lost.bin' is not there", "expected"),
        ("cut.onnx", "SOURCE", "not a whole ONNX file", "truncated, damaged or of another format"),
        ("picture.onnx", "SOURCE", "not a whole ONNX file", "truncated, damaged or of another format"),
        ("empty.onnx", "BAD_MODEL", "ONNX Runtime can't load it", "check the file"),
        ("page.tflite", "BAD_MODEL", "not a TFLite model, or truncated", "check the file"),
        ("ghost.onnx", "SOURCE", "there is no models/ghost.onnx", "did you mean"),
    ],
)
def test_a_file_that_is_no_model_is_named_with_what_to_do(
    ran: Ran, model: str, kind: str, text: str, hint: str
) -> None:
    case = ran.case(model)

    assert case["verdict"] == "ERROR" and case["launches"] == []
    format = "tflite" if model.endswith(".tflite") else "onnx"
    assert case["case_id"] == f"{model}/{format}-shipped@board/burst", "as it will be once it can be measured"
    assert case["error"]["kind"] == kind and hint in case["error"]["hint"]
    assert model in case["error"]["text"] and text in case["error"]["text"]
    assert text in ran.told.stdout and text in ran.told.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "kind", "text", "tries"),
    [
        # A NaN stays one, and so does an operator that fails; the others may have been bad luck and are tried again.
        ("numb", "BAD_OUTPUT", "output 'y' is NaN after inference", 1),
        ("crashes", "KILLED", "the worker was killed by SIGBUS", 3),
        ("hungry", "OUT_OF_MEMORY", "no memory left for this launch", 3),
        ("refuses", "INTERNAL", "fault fail_at = 60", 3),
    ],
)
def test_a_launch_that_fails_says_why_and_is_repeated_where_that_may_help(
    ran: Ran, model: str, kind: str, text: str, tries: int
) -> None:
    case = ran.case(model)

    assert case["verdict"] == "ERROR" and case["summary"] is None
    assert [launch["error"]["kind"] for launch in case["launches"]] == [kind] * tries
    assert all(text in launch["error"]["text"] and launch["error"]["hint"] for launch in case["launches"])
    assert f"{model}/fake-shipped: {tries} of {tries} launches failed; the last: {kind}: {text}" in ran.told.stdout


@pytest.mark.slow
def test_a_hostile_name_is_escaped_wherever_it_appears(ran: Ran) -> None:
    assert ran.case(HOSTILE)["launches"], "it is a model like any other"
    markdown = (ran.stage.folder / "all.md").read_text()
    junit = (ran.stage.folder / "all.xml").read_text()
    for text in (ran.told.everything, markdown, junit, (ran.stage.folder / "all.json").read_text()):
        assert "\x1b" not in text and "\u202e" not in text
    assert "ev[red]il|x\\x1b[2J\\u202e" in ran.told.stdout and "ev[red]il|x\\x1b[2J\\u202e" in ran.told.stderr
    rows = [line for line in markdown.splitlines() if line.startswith("| board | ev")]
    assert rows and all("ev\\[red\\]il\\|x" in row for row in rows)
    names = {case.get("classname") for case in ET.fromstring(junit).iter("testcase")}
    assert "ev[red]il|x\\x1b[2J\\u202e/fake-shipped@board/burst" in names


@pytest.mark.slow
def test_a_worker_that_hangs_is_ended_at_the_timeout(stage: Stage) -> None:
    suite = stage.suite(stage.model("luna", faults={"hang_at": 60}), run=stages.ONE_LAUNCH)

    told = stage.rtfleet("run", suite, "--timeout", "2s", "--json", "-")

    assert told.code == 4
    launches = strict(told.stdout)["cases"][0]["launches"]
    assert {launch["error"]["kind"] for launch in launches} == {"TIMEOUT"}
    assert "limit of 2 s (timeout_s)" in told.stderr and "hint: raise --timeout" in told.stderr
    assert not stage.agents() and not stage.workers()
