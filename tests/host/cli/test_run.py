"""`rtfleet run` from end to end: real processes, a real agent, real workers; the models and the device are made up."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import stage as stages
from stage import Stage, Told, strict

from rtfleet.run_json import FORMAT_VERSION

pytestmark = pytest.mark.slow

# Its profile owes a size and nothing else, so that each test says what is judged.
SPEAKER = 'task = "speaker"'


@pytest.fixture(name="stage")
def _stage(tmp_path: Path) -> Stage:
    return stages.stage(tmp_path)


@dataclass(frozen=True)
class Ran:
    """A run, and the report that it wrote."""

    stage: Stage
    told: Told
    document: dict[str, Any]

    def case(self, model: str) -> dict[str, Any]:
        return next(case for case in self.document["cases"] if case["model"] == model)

    def check(self, model: str, metric: str) -> dict[str, Any]:
        return next(check for check in self.case(model)["checks"] if check["metric"] == metric)


@pytest.fixture(name="ran", scope="module")
def _ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Two models, two launches each; one of them is over its budgets."""
    stage = stages.stage(tmp_path_factory.mktemp("ran"))
    fast, slow = stage.model("fast"), stage.model("slow", latency_us=1500)
    suite = stage.suite(
        f'source = "{fast}"\n{SPEAKER}\nbudgets = {{ latency_p50_ms = 0.001 }}',
        f'source = "{slow}"\n{SPEAKER}\nthreads = 4\nbudgets = {{ latency_p90_ms = 0.01, size_mb = 0.0001 }}',
        run=stages.TWO_LAUNCHES,
    )
    files = ("--json", "all.json", "--junit", "all.xml", "--markdown", "all.md")
    told = stage.rtfleet("run", suite, "--budget", "latency_p50_ms=100", *files)
    return Ran(stage, told, strict((stage.folder / "all.json").read_text()))


def test_a_model_over_its_budget_fails_the_run_and_leaves_the_other_its_pass(ran: Ran) -> None:
    assert ran.told.code == ran.document["exit_code"] == 1
    assert ran.document["verdict"] == "FAIL"
    assert (ran.case("fast")["verdict"], ran.case("slow")["verdict"]) == ("PASS", "FAIL")
    assert ran.told.stdout.splitlines()[-1] == "FAIL: 1 FAIL, 1 PASS; exit code 1"
    failed = ran.check("slow", "size_mb")
    assert failed["verdict"] == "FAIL" and failed["where"] == "suite.toml: model[1].budgets.size_mb"


def test_a_model_that_is_too_slow_by_far_fails_however_busy_the_machine(ran: Ran) -> None:
    check = ran.check("slow", "latency_p90_ms")
    assert check["value"] >= 1.5
    assert check["verdict"] == "FAIL", check["reason"]


def test_a_budget_of_the_command_line_replaces_that_of_the_suite(ran: Ran) -> None:
    check = ran.check("fast", "latency_p50_ms")
    assert (check["limit"], check["where"], check["verdict"]) == (100, "--budget latency_p50_ms", "PASS")


def test_progress_is_told_on_stderr_and_the_table_alone_on_stdout(ran: Ran) -> None:
    assert "board: connected" in ran.told.stderr and "launch 2 of 2" in ran.told.stderr
    assert "connected" not in ran.told.stdout and "\x1b" not in ran.told.everything
    assert "fast on board, burst" in ran.told.stdout


def test_cases_are_named_by_model_variant_device_scenario_and_what_is_not_default(ran: Ran) -> None:
    assert [case["case_id"] for case in ran.document["cases"]] == [
        "fast/fake-shipped@board/burst",
        "slow/fake-shipped@board/burst+t4",
    ]


def test_launches_are_interleaved_in_recorded_rounds(ran: Ran) -> None:
    started = sorted(
        (launch["started_mono_ns"], launch["round"], case["model"])
        for case in ran.document["cases"]
        for launch in case["launches"]
    )

    # Each round begins one case later, so that no model always follows the same one.
    assert [(round_, model) for _, round_, model in started] == [
        (1, "fast"), (1, "slow"), (2, "slow"), (2, "fast"),
    ]  # fmt: skip


def test_the_json_has_every_documented_field(ran: Ran) -> None:
    fields = {
        "": "format_version run_id started_at rtfleet_version host settings devices budgets verdict exit_code cases "
        "comparisons recommendations",
        "case": "case_id model task covers variant device scenario hop_samples sample_rate_hz options runtime artifact "
        "placement parity launches summary checks warnings error verdict",
        "runtime": "name version library_sha256",
        "artifact": "id size_bytes files",
        "launch": "launch_id kind round started_at started_mono_ns boot_id compile_ns load_ns first_inference_ns "
        "warmup_latency_ns latency_ns lateness_ns burst_latency_ns blocks overhead_ns feeds_sha256 "
        "rss_before_load_bytes rss_after_load_bytes peak_rss_bytes preflight device_before device_during "
        "device_after error",
        "block": "phase first_frame frames probe_before_ns probe_after_ns cpu marks",
        "summary": "launches frames latency response rtf_p50 rtf_p99 deadline_misses duty_cycle pacing_penalty",
        "latency": "p50_ns p90_ns p95_ns p99_ns max_ns",
        "check": "metric limit value bound confidence launch_confidence effective_frames assumed_cluster verdict "
        "reason where",
        "warning": "code text hint",
    }
    case = ran.case("fast")
    launch = case["launches"][0]
    found = {
        "": ran.document, "case": case, "runtime": case["runtime"], "artifact": case["artifact"], "launch": launch,
        "block": launch["blocks"][0], "summary": case["summary"], "latency": case["summary"]["latency"],
        "check": case["checks"][0], "warning": case["warnings"][0],
    }  # fmt: skip

    missing = {part: set(names.split()) - set(found[part]) for part, names in fields.items()}
    assert not any(missing.values()), missing
    assert set(launch["preflight"]) == {"verdict", "waited_s", "probe_ns", "usual_ns", "reasons", "unknown"}
    assert launch["preflight"]["verdict"] in ("ready", "waited", "gave-up", "unknown")
    assert set(case["parity"]) == {"host", "device"} and set(ran.document["devices"]) == {"board"}
    assert len(launch["latency_ns"]) >= 500 and all(type(value) is int for value in launch["latency_ns"])
    assert len(case["launches"]) == case["summary"]["launches"] == 2


def test_no_warning_speaks_of_an_accelerator_that_was_asked_for_and_ran(ran: Ran) -> None:
    assert "fallback" not in {warning["code"] for case in ran.document["cases"] for warning in case["warnings"]}


def test_the_run_directory_holds_the_same_and_the_raw_columns(ran: Ran) -> None:
    (run,) = ran.stage.runs()
    assert run.name == ran.document["run_id"]
    assert (run / "run.json").read_text() == (ran.stage.folder / "all.json").read_text()
    launches = {launch["launch_id"] for case in ran.document["cases"] for launch in case["launches"]}
    assert {path.stem for path in (run / "raw").iterdir()} == launches
    assert stages.journal(run)[-1] == {"type": "end", "interrupted": False}


def test_junit_names_each_check_of_each_case(ran: Ran) -> None:
    cases = list(ET.parse(ran.stage.folder / "all.xml").iter("testcase"))
    named = [(case.get("classname"), case.get("name")) for case in cases]
    assert ("fast/fake-shipped@board/burst", "measured") in named
    assert ("slow/fake-shipped@board/burst+t4", "latency_p90_ms") in named and len(named) == len(set(named))
    failed = [(case.get("classname"), case.get("name")) for case in cases if case.find("failure") is not None]
    assert ("slow/fake-shipped@board/burst+t4", "size_mb") in failed
    assert not [name for name, _ in failed if name.startswith("fast/")]


def test_markdown_has_a_row_for_each_case(ran: Ran) -> None:
    table = (ran.stage.folder / "all.md").read_text().partition("<details>")[0]
    rows = [line for line in table.splitlines() if line.startswith("| board |")]
    assert len(rows) == 2
    assert rows[0].endswith("| PASS |") and rows[1].endswith("| **FAIL** |")


def test_a_stored_run_is_judged_alike_without_its_device(ran: Ran) -> None:
    (run,) = ran.stage.runs()
    shown = ran.stage.rtfleet("show", str(run), "--json", "-")
    assert shown.code == 1
    assert strict(shown.stdout) == ran.document


def test_a_run_of_a_newer_rtfleet_is_refused_by_name(ran: Ran, stage: Stage) -> None:
    (run,) = ran.stage.runs()
    document = json.loads((run / "run.json").read_text()) | {"format_version": 99}
    (stage.folder / "run.json").write_text(json.dumps(document))

    shown = stage.rtfleet("show", "run.json")

    assert (shown.code, shown.stdout) == (2, "")
    assert f"run.json: written by a newer rtfleet (format 99; this one reads up to {FORMAT_VERSION})" in shown.stderr
    assert "hint: upgrade" in shown.stderr and "Traceback" not in shown.stderr


def test_a_dry_run_prints_the_filtered_plan_and_what_can_not_be_measured_and_measures_nothing(stage: Stage) -> None:
    suite = stage.suite(stage.model("luna"), stage.model("nova"), stage.model("terra"), "ghost.onnx")
    models = ("--model", "luna", "--model", "terra", "--model", "ghost")

    told = stage.rtfleet("run", suite, "--dry-run", *models, "--variant", "fake-shipped", "--threads", "4")

    assert told.code == 2, told.stderr
    luna, terra, power, ghost, in_all = told.stdout.splitlines()
    said = "3 launches of 60 frames can't show a PASS: 230 frames a launch are the least (--duration)"
    assert power == f"response_p99_ms 50: {said}"
    assert luna.startswith("luna/fake-shipped@board/burst+t4  3 launches, about")
    assert terra.startswith("terra/fake-shipped@board/burst+t4  3 launches, about")
    assert ghost == "ERROR  ghost: ghost.onnx: there is no ghost.onnx"
    assert in_all.startswith("2 cases, about")
    assert stage.runs() == [] and list((stage.store / "launches").iterdir()) == []


def test_a_device_that_another_agent_serves_is_named_with_its_holder(stage: Stage) -> None:
    suite = stage.suite(stage.model("luna"))

    with stage.serving() as holder:
        told = stage.rtfleet("run", suite)

    assert told.code == 4
    assert f"device 'board': rtfleet-agent: device is already served by agent pid {holder['pid']}" in told.stderr
    assert holder["address"] in told.stderr and "hint: wait until the other run has ended" in told.stderr
    assert "Traceback" not in told.everything


def test_a_model_within_its_budget_in_every_launch_passes_the_run(stage: Stage) -> None:
    model = stage.model("luna")
    suite = stage.suite(f'source = "{model}"\n{SPEAKER}\nbudgets = {{ latency_p50_ms = 100 }}')

    told = stage.rtfleet("run", suite)

    assert told.code == 0, told.everything
    assert told.stdout.splitlines()[-1] == "PASS: 1 PASS; exit code 0"


def test_a_model_that_owes_nothing_is_unjudged_and_that_is_no_pass(stage: Stage) -> None:
    profiles = stage.folder / "device_profiles"
    profiles.mkdir()
    (profiles / "bare.toml").write_text('match = { os = "linux" }\n[budgets]\n')
    model = stage.model("luna")

    told = stage.rtfleet(
        "run", stage.suite(f'source = "{model}"\n{SPEAKER}', run=stages.ONE_LAUNCH), "--fleet", "fleet.toml"
    )

    assert told.code == 2
    assert told.stdout.splitlines()[-1] == "UNJUDGED: 1 UNJUDGED; exit code 2"


def test_too_few_frames_for_a_claim_are_inconclusive_and_say_how_many_would_do(stage: Stage) -> None:
    model = stage.model("luna")
    suite = stage.suite(f'source = "{model}"\n{SPEAKER}\nbudgets = {{ latency_p999_ms = 500 }}', run=stages.ONE_LAUNCH)

    told = stage.rtfleet("run", suite)

    assert told.code == 3
    assert "frames a launch would settle it" in told.stdout
    assert told.stdout.splitlines()[-1] == "INCONCLUSIVE: 1 INCONCLUSIVE; exit code 3"


def test_a_streaming_model_is_paced_and_ends_with_a_burst(stage: Stage) -> None:
    model = stage.model(
        "stream",
        inputs=[
            {"name": "x", "dtype": "float32", "shape": [1, 160]},
            {"name": "h", "dtype": "float32", "shape": [1]},
        ],
        outputs=[
            {"name": "y", "dtype": "float32", "shape": [1]},
            {"name": "h_out", "dtype": "float32", "shape": [1], "rule": "sum", "of": ["h"]},
        ],
    )

    description = ("--task", "speaker", "--hop-ms", "2", "--sample-rate", "80000", "--state", "h=h_out")
    settings = ("--launches", "1", "--confidence", "0.9", "--duration", "1s")

    told = stage.rtfleet("run", model, *description, *settings, "--json", "-")

    assert told.code == 0, told.stderr
    case = stages.only(strict(told.stdout)["cases"])
    launch = stages.only(case["launches"])
    assert case["case_id"] == "stream/fake-shipped@board/paced" and case["hop_samples"] == 160
    assert [phase for phase in dict.fromkeys(block["phase"] for block in launch["blocks"])] == [
        "WARMUP", "PACED", "BURST",
    ]  # fmt: skip
    assert len(launch["lateness_ns"]) == len(launch["latency_ns"]) and launch["burst_latency_ns"]
    assert case["summary"]["pacing_penalty"] > 0 and case["summary"]["deadline_misses"] is not None


def test_one_of_two_devices_that_is_held_does_not_spoil_the_other(stage: Stage) -> None:
    (stage.folder / "fleet.toml").write_text(
        f'[device.held]\nconnect = "local:{stage.emulated}"\n[device.free]\nconnect = "local:{stage.emulated}-2"\n'
    )
    suite = stage.suite(f'source = "{stage.model("luna")}"\n{SPEAKER}', run=stages.ONE_LAUNCH)

    with stage.serving():
        told = stage.rtfleet("run", suite, "--json", "-")

    assert told.code == 4
    verdicts = {case["case_id"]: case["verdict"] for case in strict(told.stdout)["cases"]}
    assert verdicts == {"luna/fake-shipped@held/burst": "ERROR", "luna/fake-shipped@free/burst": "PASS"}


def test_a_reader_that_goes_away_changes_no_verdict(stage: Stage) -> None:
    suite = stage.suite(f'source = "{stage.model("luna")}"\n{SPEAKER}', run=stages.ONE_LAUNCH)
    assert stage.rtfleet("run", suite).code == 0

    process = stage.start("show", str(stage.runs()[0]))
    assert process.stdout
    process.stdout.close()

    assert process.wait(stages.PATIENCE_S) == 0
