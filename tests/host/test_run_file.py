"""Run directories: what is in the journal survives, and run.json says the same."""

from __future__ import annotations

import dataclasses
import json
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import (
    HOSTILE,
    OPERATORS,
    journalled,
    judged,
    judged_case,
    measured_launch,
    renamed,
    run_of,
    streaming,
    summary,
    whole_case,
)
from invented import parity

from rtfleet import run_file
from rtfleet.artifact import Utterance
from rtfleet.budget import judge
from rtfleet.errors import RtfleetError, UsageError
from rtfleet.fidelity import AgainstLabels, Detections, Recognition
from rtfleet.loop import Cache, Carried, Chain, Edge, Seq2Seq
from rtfleet.operators import Operators
from rtfleet.records import BusyProcess, CaseError, CaseResult, CoreFacts, Launch, Preflight, Reading, Run
from rtfleet.run_file import Announced, Journal
from rtfleet.run_json import FORMAT_VERSION

HEARD = Detections(2, 1, 1, 26.0, AgainstLabels(2, 1, 2, 8.0, 0, 0))
WHOLE = whole_case(measured_launch("l1"), measured_launch("l2", round_=2), parity_host=parity(detections=HEARD))
RUN = run_of(WHOLE)
FIT = Preflight("waited", 2.0, 30_000, 29_000.0, ("it was slow",))


def _same(one: Any, other: Any) -> bool:
    """Equal by value: launches hold arrays, so they don't compare themselves."""
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one)]
        return type(one) is type(other) and all(_same(getattr(one, name), getattr(other, name)) for name in names)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


# ---- the journal ---------------------------------------------------------------------------------------------------


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert _same(run_file.read(journalled(RUN, tmp_path / "run")), RUN)


def test_a_run_without_an_end_is_unfinished_and_whole(tmp_path: Path) -> None:
    unfinished = dataclasses.replace(RUN, finished=False)

    assert _same(run_file.read(journalled(unfinished, tmp_path / "run")), unfinished)


def test_an_interrupted_run_says_so(tmp_path: Path) -> None:
    interrupted = dataclasses.replace(RUN, finished=False, interrupted=True)

    assert _same(run_file.read(journalled(interrupted, tmp_path / "run")), interrupted)


def test_a_case_that_joins_after_it_was_planned_keeps_its_launches(tmp_path: Path) -> None:
    result = whole_case(measured_launch("l1"))
    with Journal.create(tmp_path / "run", RUN) as journal:
        journal.case(CaseResult(result.case, None))
        journal.launch(result.case.id, result.launches[0])
        journal.case(dataclasses.replace(result, launches=()))
        journal.case_error(result.case.id, CaseError("DEVICE", "gone", retryable=True))

    (read,) = run_file.read(tmp_path / "run").results
    assert [launch.launch_id for launch in read.launches] == ["l1"]
    assert read.artifact == result.artifact
    assert read.error == CaseError("DEVICE", "gone", retryable=True)


def test_half_a_line_that_a_crash_left_is_passed_over(tmp_path: Path) -> None:
    folder = journalled(dataclasses.replace(RUN, finished=False), tmp_path / "run")
    with (folder / "journal.jsonl").open("ab") as stream:
        stream.write(b'{"type": "launch", "case_id": "x", "lau')

    assert len(run_file.read(folder).results[0].launches) == 2


def test_a_crashed_run_goes_on_after_its_last_whole_line(tmp_path: Path) -> None:
    folder = journalled(dataclasses.replace(RUN, finished=False), tmp_path / "run")
    with (folder / "journal.jsonl").open("ab") as stream:
        stream.write(b'{"type": "lau')

    with Journal.resume(folder) as journal:
        journal.launch(RUN.results[0].case.id, measured_launch("l3"))
        journal.end(False)

    read = run_file.read(folder)
    assert [launch.launch_id for launch in read.results[0].launches] == ["l1", "l2", "l3"]
    assert read.finished


def test_a_run_that_is_still_going_on_is_not_gone_on_with(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with Journal.create(folder, RUN), pytest.raises(UsageError, match="another rtfleet is at it"):
        Journal.resume(folder)
    with Journal.resume(folder), pytest.raises(UsageError, match="another rtfleet is at it"):
        Journal.resume(folder)
    with Journal.resume(folder) as journal:
        journal.end(False)

    assert run_file.read(folder).finished


def test_a_launch_that_is_told_twice_is_one_launch(tmp_path: Path) -> None:
    folder = journalled(RUN, tmp_path / "run")
    with Journal.resume(folder) as journal:
        journal.launch(RUN.results[0].case.id, measured_launch("l2"))

    assert len(run_file.read(folder).results[0].launches) == 2


def taken_up(folder: Path) -> Launch:
    """A run whose second launch was cut off and is whole by now: that launch."""
    whole = measured_launch("l2", round_=2)
    cut_off = dataclasses.replace(whole, latency_ns=whole.latency_ns[:3])
    with Journal.create(folder, RUN) as journal:
        journal.case(WHOLE)
        journal.launch(WHOLE.case.id, cut_off)
        journal.launch(WHOLE.case.id, whole)
    return whole


def test_a_launch_that_was_cut_off_and_taken_up_again_is_the_whole_one(tmp_path: Path) -> None:
    whole = taken_up(tmp_path / "run")

    (kept,) = run_file.read(tmp_path / "run").results[0].launches

    assert _same(kept, whole)


def test_a_host_that_dies_while_it_writes_a_launch_anew_leaves_it_open(tmp_path: Path) -> None:
    taken_up(tmp_path / "run")
    path = tmp_path / "run" / "journal.jsonl"
    *written, _last = path.read_bytes().splitlines(keepends=True)

    path.write_bytes(b"".join(written))

    assert run_file.read(tmp_path / "run").results[0].launches == ()
    (open_,) = run_file.unfinished(tmp_path / "run").launches
    assert (open_.case_id, open_.launch_id) == (WHOLE.case.id, "l2")


def test_leases_and_announced_launches_are_there_for_a_host_that_starts_again(tmp_path: Path) -> None:
    with Journal.create(tmp_path / "run", RUN) as journal:
        journal.lease("board", "secret")
        journal.case(RUN.results[0])
        for launch_id in ("l1", "l2", "l3"):
            journal.intent("case", launch_id, FIT if launch_id == "l2" else None)
        journal.launch(RUN.results[0].case.id, measured_launch("l1"))
        gone = CaseError("DEVICE", "device 'board': the agent does not answer", "", True)
        journal.launch(RUN.results[0].case.id, dataclasses.replace(measured_launch("l3"), error=gone))

    left = run_file.unfinished(tmp_path / "run")
    assert left.leases == {"board": "secret"}
    # What was cut off with its device may have gone on there.
    assert left.launches == (Announced("case", "l2", FIT), Announced("case", "l3"))


def test_nobody_else_can_read_the_lease_and_it_stays_in_the_journal(tmp_path: Path) -> None:
    folder = journalled(RUN, tmp_path / "run")
    with Journal.resume(folder) as journal:
        journal.lease("board", "a-secret-of-the-lease")
    run_file.write(judged(judged_case(RUN.results[0])), folder)

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "journal.jsonl").stat().st_mode) == 0o600
    assert "a-secret-of-the-lease" in (folder / "journal.jsonl").read_text()
    assert "a-secret-of-the-lease" not in (folder / "run.json").read_text()


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    folder = journalled(RUN, tmp_path / "run")

    with pytest.raises(UsageError, match="holds a run already"):
        Journal.create(folder, RUN)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(UsageError, match=r"file/run: can't be written: Not a directory"):
        Journal.create(tmp_path / "file" / "run", RUN)


@contextmanager
def _room_for(size_bytes: int) -> Iterator[None]:
    """Files of this process can't grow further: what a full disk does to a write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_without_room_is_named_and_loses_nothing(tmp_path: Path) -> None:
    folder = journalled(dataclasses.replace(RUN, finished=False), tmp_path / "run")
    case_id = RUN.results[0].case.id

    with Journal.resume(folder) as journal:
        journal_bytes = (folder / "journal.jsonl").stat().st_size
        with _room_for(journal_bytes + 100), pytest.raises(RtfleetError, match=f"{folder}: can't be written: File too"):
            journal.launch(case_id, measured_launch("l3"))
        assert [launch.launch_id for launch in run_file.read(folder).results[0].launches] == ["l1", "l2"]
        journal.launch(case_id, measured_launch("l4"))

    assert [launch.launch_id for launch in run_file.read(folder).results[0].launches] == ["l1", "l2", "l4"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{}\n", "line 11 is damaged"),
        (b"nonsense\n", "line 11 is damaged"),
        (b'{"type": "dance"}\n', "line 11: is damaged: unknown record 'dance'"),
        (b'{"type": "launch", "case_id": "nobody"}\n', "line 11: launch is missing"),
        (b'{"type": "device", "facts": {"alias": "a", "colour": 1}}\n', "colour: unknown key"),
    ],
)
def test_a_damaged_journal_names_the_line(tmp_path: Path, line: bytes, said: str) -> None:
    folder = journalled(dataclasses.replace(RUN, finished=False), tmp_path / "run")
    with (folder / "journal.jsonl").open("ab") as stream:
        stream.write(line)

    with pytest.raises(UsageError) as refused:
        run_file.read(folder)

    assert refused.value.text.startswith(str(folder / "journal.jsonl"))
    assert said in refused.value.text


def test_columns_that_were_changed_are_refused(tmp_path: Path) -> None:
    folder = journalled(RUN, tmp_path / "run")
    (folder / "raw" / "l2.npz").write_bytes(b"other")

    with pytest.raises(UsageError, match=r"raw/l2\.npz was changed"):
        run_file.read(folder)


def test_columns_outside_the_run_are_not_read(tmp_path: Path) -> None:
    folder = journalled(RUN, tmp_path / "run")
    text = (folder / "journal.jsonl").read_text()
    (folder / "journal.jsonl").write_text(text.replace("raw/l2.npz", "../l2.npz"))

    with pytest.raises(UsageError, match=r"\.\./l2\.npz leaves the run's folder"):
        run_file.read(folder)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no run: no journal\.jsonl, no run\.json"):
        run_file.read(tmp_path)
    with pytest.raises(UsageError, match=r"gone: holds no run"):
        run_file.read(tmp_path / "gone")


# ---- run.json ------------------------------------------------------------------------------------------------------


def _document(run: Run, folder: Path | None = None) -> dict[str, Any]:
    return json.loads(
        "".join(run_file.document(judged(*map(judged_case, run.results), devices=run.devices), folder)),
        parse_constant=lambda word: pytest.fail(f"{word} is no strict JSON"),
    )


DOCUMENTED = {
    "run": """format_version run_id started_at rtfleet_version host settings devices budgets verdict exit_code cases
        comparisons recommendations""",
    "case": """case_id model task covers variant device scenario hop_samples sample_rate_hz options runtime artifact
        placement operators parity launches summary checks warnings error verdict""",
    "launch": """launch_id kind round started_at started_mono_ns boot_id compile_ns load_ns first_inference_ns
        warmup_latency_ns latency_ns lateness_ns burst_latency_ns blocks overhead_ns feeds_sha256 rss_before_load_bytes
        rss_after_load_bytes peak_rss_bytes preflight device_before device_during device_after error""",
    "block": """phase first_frame frames probe_before_ns probe_after_ns cpu marks""",
    "summary": """launches frames latency response rtf_p50 rtf_p99 deadline_misses duty_cycle pacing_penalty""",
    "check": """metric limit value bound confidence launch_confidence effective_frames assumed_cluster verdict reason
        where""",
}


def test_run_json_has_the_documented_fields() -> None:
    document = _document(RUN)
    (case,) = document["cases"]
    launch = case["launches"][0]

    found = {"run": document, "case": case, "launch": launch, "block": launch["blocks"][0], "summary": case["summary"]}
    found["check"] = case["checks"][0]
    for part, names in DOCUMENTED.items():
        assert set(names.split()) <= set(found[part]), part
    assert list(document["devices"]) == ["board"]
    assert case["runtime"] == {"name": "onnxruntime", "version": "1.32.0", "library_sha256": "d" * 64}
    assert case["artifact"]["size_bytes"] == 2_100_000
    assert case["placement"]["accelerated_share"] == 1
    assert case["placement"]["accelerated_time_share"] == pytest.approx(6 / 9)
    assert case["artifact"]["files"] == [{"path": "model.onnx", "sha256": "a" * 64, "size_bytes": 2_100_000}]
    assert set(case["summary"]["response"]) == {"p50_ns", "p90_ns", "p95_ns", "p99_ns", "max_ns"}


def test_the_budgets_name_their_files() -> None:
    assert _document(RUN)["budgets"] == [
        {
            "file": "device_profiles/generic-linux.toml",
            "sha256": None,
            "values": {"wake-word.response_p99_ms": 50},
        },
        {"file": "suite.toml", "sha256": None, "values": {"size_mb": 50}},
    ]


def test_a_run_comes_back_from_its_run_json(tmp_path: Path) -> None:
    failed = renamed(whole_case(measured_launch("l9", error=CaseError("KILLED", "signal 9"))), variant="tflite-fp32")
    nothing = CaseResult(dataclasses.replace(failed.case, artifact_id="", model=HOSTILE), None)
    run = dataclasses.replace(RUN, results=(*RUN.results, failed, nothing))
    (tmp_path / "run.json").write_text("".join(run_file.document(judged(*map(judged_case, run.results)), None)))

    assert _same(run_file.read(tmp_path / "run.json"), run)
    assert _same(run_file.read(tmp_path), run)


def _watched(run: Run) -> Run:
    """The run with everything told that later agents tell of blocks and cores."""
    result = run.results[0]
    launch = result.launches[0]
    seen = {"busy": (BusyProcess(7, "stress", 0.8, 1), BusyProcess(8, "old", 0.2)), "marks": ("throttled",)}
    blocks = tuple(dataclasses.replace(block, others_core_share=1.0, **seen) for block in launch.blocks)
    cores = (CoreFacts(0, 446, 1_800_000), CoreFacts(1))
    devices = tuple(dataclasses.replace(facts, cores_info=cores) for facts in run.devices)
    result = dataclasses.replace(result, launches=(dataclasses.replace(launch, blocks=blocks), *result.launches[1:]))
    return dataclasses.replace(run, devices=devices, results=(result,))


def test_operators_that_are_told_again_replace_those_that_failed(tmp_path: Path) -> None:
    failed = dataclasses.replace(RUN.results[0], operators=Operators(failed="killed"))
    folder = journalled(dataclasses.replace(RUN, results=(failed,), finished=False), tmp_path / "run")
    assert run_file.read(folder).results[0].operators == failed.operators
    with run_file.Journal.resume(folder) as journal:
        journal.case(dataclasses.replace(failed, launches=()))
        journal.operators(failed.case.id, OPERATORS)

    assert run_file.read(folder).results[0].operators == OPERATORS


def test_a_run_of_before_there_were_profiles_is_read(tmp_path: Path) -> None:
    document = _document(RUN)
    document["format_version"] = 2
    for case in document["cases"]:
        del case["operators"], case["options"]["optimize"]
        for placement in (case["placement"], *(launch["placement"] for launch in case["launches"])):
            del placement["accelerated_nodes"], placement["nodes"]
            placement.pop("accelerated_nodes_reason", None), placement.pop("nodes_reason", None)
    (tmp_path / "run.json").write_text(json.dumps(document))

    (before,) = run_file.read(tmp_path / "run.json").results
    assert before == dataclasses.replace(before, operators=None) and before.case.options.optimize


def test_what_others_did_while_a_block_ran_is_kept(tmp_path: Path) -> None:
    run = _watched(RUN)
    (tmp_path / "run.json").write_text(json.dumps(_document(run)))

    assert _same(run_file.read(tmp_path / "run.json"), run)
    assert _same(run_file.read(journalled(run, tmp_path / "run")), run)


def test_a_run_of_an_agent_that_did_not_look_into_blocks_is_read(tmp_path: Path) -> None:
    document = _document(_watched(RUN))
    for facts in document["devices"].values():
        del facts["cores_info"]
    for launch in document["cases"][0]["launches"]:
        for block in launch["blocks"]:
            del block["busy"], block["others_core_share"]
    (tmp_path / "run.json").write_text(json.dumps(document))

    read = run_file.read(tmp_path / "run.json")

    assert read.devices[0].cores_info == ()
    block = read.results[0].launches[0].blocks[0]
    assert (block.busy, block.others_core_share, block.marks) == ((), None, ("throttled",))


def test_many_frames_stand_in_the_runs_folder_instead_of_its_json(tmp_path: Path) -> None:
    run = run_of(whole_case(measured_launch("small"), measured_launch("big", frames=10_001)))
    folder = journalled(run, tmp_path / "run")
    run_file.write(judged(*map(judged_case, run.results)), folder)

    document = json.loads((folder / "run.json").read_text())
    small, big = document["cases"][0]["launches"]
    assert len(small["latency_ns"]) == 459
    assert big["latency_ns"]["file"] == "raw/big.npz"
    assert len(big["latency_ns"]["sha256"]) == 64
    assert _same(run_file.read(folder / "run.json"), run)


def test_a_run_json_without_its_columns_says_where_they_belong(tmp_path: Path) -> None:
    run = run_of(whole_case(measured_launch("big", frames=10_001)))
    folder = journalled(run, tmp_path / "run")
    run_file.write(judged(*map(judged_case, run.results)), folder)
    alone = (folder / "run.json").rename(tmp_path / "alone.json")

    with pytest.raises(UsageError, match=r"alone\.json: raw/big\.npz can't be read"):
        run_file.read(alone)


def test_what_is_not_finite_is_null_with_a_reason() -> None:
    case = dataclasses.replace(RUN.results[0], launches=())
    odd = judged_case(case, shown=summary(rtf_p50=float("nan"), pacing_penalty=float("inf")))

    shown = json.loads("".join(run_file.document(judged(odd), None)))["cases"][0]["summary"]

    assert (shown["rtf_p50"], shown["rtf_p50_reason"]) == (None, "not a number")
    assert (shown["pacing_penalty"], shown["pacing_penalty_reason"]) == (None, "infinite")


def test_a_reading_that_is_not_finite_uses_its_own_reason(tmp_path: Path) -> None:
    launch = measured_launch("l1")
    assert launch.device_before
    before = dataclasses.replace(launch.device_before, readings={"clock_hz": Reading(float("nan"))})
    run = run_of(whole_case(dataclasses.replace(launch, device_before=before)))

    read = run_file.read(journalled(run, tmp_path / "run")).results[0].launches[0]

    assert read.device_before
    assert read.device_before.readings == {"clock_hz": Reading(None, "not a number")}


def test_a_run_of_a_newer_rtfleet_is_refused_with_the_way_out(tmp_path: Path) -> None:
    document = _document(RUN) | {"format_version": 7}
    (tmp_path / "run.json").write_text(json.dumps(document))
    folder = journalled(RUN, tmp_path / "run")
    journal = (folder / "journal.jsonl").read_text()
    (folder / "journal.jsonl").write_text(journal.replace(f'"format_version": {FORMAT_VERSION}', '"format_version": 7'))

    for path in (tmp_path / "run.json", folder):
        with pytest.raises(UsageError, match=r"written by a newer rtfleet \(format 7; .*\)") as refused:
            run_file.read(path)
        assert "upgrade" in refused.value.hint


def test_a_run_of_the_first_format_is_read(tmp_path: Path) -> None:
    document = _document(RUN) | {"format_version": 1}
    del document["comparisons"]
    for case in document["cases"]:
        for launch in case["launches"]:
            del launch["preflight"], launch["device_during"]
    (tmp_path / "run.json").write_text(json.dumps(document))

    read = run_file.read(tmp_path / "run.json")

    launches = [launch for result in read.results for launch in result.launches]
    assert launches and all(launch.preflight is None and launch.device_during == () for launch in launches)


def test_a_run_of_the_second_format_is_read(tmp_path: Path) -> None:
    document = _document(RUN) | {"format_version": 2}
    for case in document["cases"]:
        del case["recognition"]
        case["artifact"]["loop"] = "frame"
        for name in ("utterances", "vocabulary", "lookahead_ms"):
            del case["artifact"][name]
        for launch in case["launches"]:
            del launch["first_token_ns"], launch["tokens"]
    (tmp_path / "run.json").write_text(json.dumps(document))

    (result, *_) = run_file.read(tmp_path / "run.json").results

    assert result.artifact is not None and result.artifact.loop is None
    assert result.launches and not result.launches[0].tokens.size


RECOGNIZER = streaming(
    hop_samples=None,
    task="asr",
    loop=Seq2Seq("e", "d", (Carried("h", "h"),), (Cache("p", "q", (1, 0), fixed=True),), "t", "l", 1, 2, 9),
    utterances=(Utterance("a.wav", 1.5, "hey"),),
)


def test_a_recognizer_and_what_it_heard_come_back(tmp_path: Path) -> None:
    launch = measured_launch(first_token_ns=np.arange(459), tokens=np.full(459, 7))
    heard = Recognition(("hey",), 0, 1, as_on_host=1)
    run = run_of(whole_case(launch, of=RECOGNIZER, recognition=heard))

    for path in (journalled(run, tmp_path / "run"), tmp_path / "run" / "run.json"):
        if path.name == "run.json":
            run_file.write(judge(run_file.read(tmp_path / "run")), tmp_path / "run")
        (result,) = run_file.read(path).results
        assert result.recognition == heard
        assert result.artifact == RECOGNIZER
        assert result.launches[0].tokens.tolist() == [7] * 459
        assert result.launches[0].first_token_ns.tolist() == list(range(459))


def test_a_chain_comes_back(tmp_path: Path) -> None:
    chained = streaming(loop=Chain((Edge("a", "x", "b", "y", axis=1, scale=0.1, fill=1.0),)))
    run = run_of(whole_case(measured_launch(), of=chained))

    (result,) = run_file.read(journalled(run, tmp_path / "run")).results

    assert result.artifact == chained


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is damaged: "),
        ("[]", "is damaged: expected an object"),
        ("{}", "format_version is missing"),
        ('{"format_version": "new"}', "is damaged: format_version 'new' is none"),
    ],
)
def test_what_is_no_run_json_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)

    with pytest.raises(UsageError) as refused:
        run_file.read(path)

    assert refused.value.text.startswith(f"{path}: ")
    assert said in refused.value.text


@pytest.mark.parametrize(
    ("was", "written", "said"),
    [
        ('"confidence": 0.99', '"confidence": 2', "confidence: expected at least 0.5 and below 1"),
        ('"confidence": 0.99', '"confidence": NaN', "line 1 is damaged"),
        ('"launches": 3', '"launches": 0', "launches: expected more than 0"),
        ('"launches": 3', '"launches": -5', "launches: expected more than 0"),
        ('"frames": 459', '"frames": -1', "frames: expected more than 0"),
        ('"settings": {', '"settings": ' + "[" * 100_000 + "{", "line 1 is damaged"),
    ],
)
def test_a_journal_that_somebody_edited_is_refused(tmp_path: Path, was: str, written: str, said: str) -> None:
    folder = journalled(RUN, tmp_path / "run")
    journal = (folder / "journal.jsonl").read_text()
    assert was in journal
    (folder / "journal.jsonl").write_text(journal.replace(was, written, 1))

    with pytest.raises(UsageError) as refused:
        run_file.read(folder)

    assert said in refused.value.text


def test_a_case_that_could_not_be_made_again_keeps_the_file_of_its_launches(tmp_path: Path) -> None:
    """Or another file of that name could add its launches to them later."""
    folder = journalled(RUN, tmp_path / "run")
    before = run_file.read(folder).results[0]
    gone = CaseError("SOURCE", "there is no luna.onnx")
    with Journal.resume(folder) as journal:
        journal.case(CaseResult(dataclasses.replace(before.case, artifact_id=""), None, error=gone))

    after = run_file.read(folder).results[0]

    assert (after.artifact, after.case, after.budgets) == (before.artifact, before.case, before.budgets)
    assert after.error == gone and len(after.launches) == len(before.launches)
