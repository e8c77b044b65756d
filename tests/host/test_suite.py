"""Suites: what a file means, and what is said when it is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rtfleet import suite
from rtfleet.artifact import EXPORTED_VARIANTS
from rtfleet.errors import UsageError
from rtfleet.models import ZOO
from rtfleet.records import RunSettings


def _suite(folder: Path, text: str) -> Path:
    path = folder / "suite.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_suite_is_read_whole(tmp_path: Path) -> None:
    path = _suite(
        tmp_path,
        """
        run = { launches = 5, confidence = 0.95, min_duration_s = 10, threads = [1, 4] }
        [[model]]
        source   = "luna.py:hey_luna"
        variants = ["onnx-int8-static", "tflite-int8-static"]
        clips    = "clips/*.wav"
        positives = "clips/luna/*.wav"
        budgets  = { response_p99_ms = 30, parity_agreement_min = 0.9 }
        [[model]]
        source = "silero_vad.onnx"
        task   = "vad"
        hop_ms = 32
        inputs = { input = [1, 576], sr = 16000 }
        states = { state = "stateN" }
        """,
    )

    read = suite.read_suite(path)

    assert read.name == "suite"
    assert read.settings.run == RunSettings(launches=5, confidence=0.95, min_duration_s=10.0)
    assert read.settings.threads == (1, 4)
    luna, silero = read.models
    assert luna.name == "hey_luna"
    assert (luna.clips, luna.positives) == (("clips/*.wav",), ("clips/luna/*.wav",))
    assert luna.budgets == {"response_p99_ms": 30.0, "parity_agreement_min": 0.9}
    assert luna.folder == tmp_path
    assert luna.where == f"{path}: model[0]"
    assert silero.name == "silero_vad"
    assert silero.inputs == {"input": (1, 576), "sr": 16000}
    assert silero.states == {"state": "stateN"}
    assert silero.hop_ms == 32


@pytest.mark.parametrize("name", suite.built_in_names())
def test_the_built_in_suites_can_be_read(name: str) -> None:
    found = suite.find(name)

    assert found is not None
    assert found.name == name
    assert found.models


def test_quick_measures_the_wake_word_in_four_variants() -> None:
    quick = suite.find("quick")

    assert quick is not None
    (wake_word,) = (entry for entry in quick.models if entry.source == "wake-word")
    assert wake_word.variants == ("onnx-fp32", "onnx-int8-static", "tflite-fp32", "tflite-int8-static")


def test_full_measures_every_model_of_the_zoo_in_every_variant() -> None:
    full = suite.find("full")

    assert full is not None
    same_file_twice = {"micro-wake-word"}  # the short name of micro-wake-word-alexa
    assert {entry.source for entry in full.models} == set(ZOO) - same_file_twice
    everywhere = tuple(variant for variant in EXPORTED_VARIANTS if variant.startswith(("onnx-", "tflite-")))
    assert all(entry.variants in ((), everywhere) for entry in full.models)


def test_what_is_neither_built_in_nor_a_toml_file_is_no_suite() -> None:
    assert suite.find("silero_vad.onnx") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model = [{ source = 'a' }, { source = 'b', varaints = [] }]", "model[1].varaints: unknown key; did you mean"),
        ("mdoel = []", "mdoel: unknown key; did you mean 'model'?"),
        ("model = [{ name = 'a' }]", "model[0].source: missing"),
        ("model = [{ source = 3 }]", "model[0].source: expected a text, found 3"),
        (
            "model = [{ source = 'a', variants = ['onnx-fp23'] }]",
            "did you mean 'onnx-fp32'? There are onnx-fp32, onnx-",
        ),
        ("model = [{ source = 'a', variants = [1] }]", "model[0].variants[0]: expected a text, found 1"),
        ("model = [{ source = 'a', task = 'vda' }]", "model[0].task: unknown value 'vda'; did you mean 'vad'?"),
        ("model = [{ source = 'a', hop_ms = true }]", "model[0].hop_ms: expected a finite number, found true"),
        ("model = [{ source = 'a', hop_ms = nan }]", "model[0].hop_ms: expected a finite number, found nan"),
        ("model = [{ source = 'a', hop_ms = -1 }]", "model[0].hop_ms: expected more than 0, found -1.0"),
        ("model = [{ source = 'a', hop_ms = 1, hop_samples = 1 }]", "model[0].hop_samples: hop_ms is given too"),
        ("model = [{ source = 'a', inputs = { x = 'y' } }]", "model[0].inputs.x: expected a shape"),
        ("model = [{ source = 'a', inputs = { x = [0] } }]", "model[0].inputs.x: a dim of a shape is at least 1"),
        ("model = [{ source = 'a', inputs = { 'a b' = 'y' } }]", 'model[0].inputs."a b": expected a shape'),
        ("model = [{ source = 'a', states = ['h'] }]", "model[0].states: expected a table, found a list"),
        ("model = [{ source = 'a', budgets = { response_p9_ms = 1 } }]", "budgets.response_p9_ms: unknown budget"),
        ("model = { source = 'a' }", "model: expected a list of tables ([[...]]), found a table"),
        ("model = ['a']", "model[0]: expected a table, found 'a'"),
        ("model = []", "model: names no model"),
        ("model = [{ source = 'x/a.onnx' }, { source = 'a.onnx' }]", "model[1].name: model[0] is called 'a' too"),
        ("run = { launches = '3' }\nmodel = [{ source = 'a' }]", "run.launches: expected an integer, found '3'"),
        (
            "run = { launches = 0 }\nmodel = [{ source = 'a' }]",
            "run.launches: expected more than 0 and at most 1,000, found 0",
        ),
        ("run = { confidence = 99 }\nmodel = [{ source = 'a' }]", "run.confidence: expected at least 0.5 and below 1"),
        ("run = { tolerance = -3 }\nmodel = [{ source = 'a' }]", "run.tolerance: expected a share"),
        ("run = { max_wait_s = -1 }\nmodel = [{ source = 'a' }]", "run.max_wait_s: expected 0 or more, found -1"),
        ("run = { max_temperature_c = -5 }\nmodel = [{ source = 'a' }]", "run.max_temperature_c: expected more than 0"),
        ("run = { cpus = [-1] }\nmodel = [{ source = 'a' }]", "run.cpus: a core's number is 0 or more"),
        (
            "run = { accelerators = ['gpo'] }\nmodel = [{ source = 'a' }]",
            "unknown accelerator 'gpo'; did you mean 'gpu'?",
        ),
        ("run = { threads = [] }\nmodel = [{ source = 'a' }]", "run.threads: is empty"),
        ("run = { threads = [99999] }\nmodel = [{ source = 'a' }]", "run.threads: expected 1 to 1024, found 99999"),
        ("model = [{ source = 'a', inputs = { x = nan } }]", "model[0].inputs.x: expected a finite number"),
        ("model = [{ source = 'a', hop_ms = 1e9 }]", "model[0].hop_ms: expected 0.1 to 60000"),
        ("model = [{ source = 'a', sample_rate_hz = 99999999 }]", "model[0].sample_rate_hz: expected at most 768000"),
        ("model = [{ source = '' }]", "model[0].source: is empty"),
        ("model = [{ source = 'a', budgets = { size_mb = -1 } }]", "budgets.size_mb: size_mb: expected 0 or more"),
        ("run = 3\nmodel = [{ source = 'a' }]", "run: expected a table, found 3"),
        ("model = [", "is no TOML: "),
    ],
)
def test_a_wrong_suite_is_refused_with_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    path = _suite(tmp_path, text)

    with pytest.raises(UsageError) as refused:
        suite.read_suite(path)

    assert refused.value.text.startswith(f"{path}: ")
    assert said in refused.value.text


def test_all_wrong_keys_are_named_at_once(tmp_path: Path) -> None:
    path = _suite(tmp_path, "run = { lanches = 1 }\nmodel = [{ source = 1 }]")

    with pytest.raises(UsageError) as refused:
        suite.read_suite(path)

    assert len(refused.value.text.splitlines()) == 2


def test_a_suite_that_is_not_there_or_no_text_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.toml: can't be read: No such file"):
        suite.read_suite(tmp_path / "gone.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"binary\.toml: is not UTF-8"):
        suite.read_suite(tmp_path / "binary.toml")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("wake-word", "wake-word"),
        ("luna.py:hey_luna", "hey_luna"),
        ("package.module:build", "build"),
        ("folder/silero_vad.onnx", "silero_vad"),
        ("slow.fake.json", "slow"),
        ("folder/luna.keras", "luna"),
        ("folder/saved/", "saved"),
        ("a[red].tflite", "a[red]"),
    ],
)
def test_a_model_gets_its_name_from_its_source(source: str, name: str) -> None:
    assert suite.name_of(source) == name


def test_importing_the_readers_imports_no_heavy_library() -> None:
    script = (
        "import sys, rtfleet.suite, rtfleet.fleet, rtfleet.profile, rtfleet.run_file, rtfleet.report\n"
        "print(*{'rich', 'typer', 'cattrs', 'torch', 'onnxruntime', 'grpc'} & set(sys.modules))"
    )

    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert loaded.stdout.strip() == ""
