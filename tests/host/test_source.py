"""A model's source is found without running it, built with the user's own line in its errors, and guessed in words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rtfleet import source
from rtfleet.artifact import Tensor
from rtfleet.errors import UsageError
from rtfleet.suite import ModelEntry, name_of

LUNA = """
from rtfleet import Input, SpeechModel, State

def hey_luna():
    return SpeechModel(task="wake-word", source=object(), inputs={"audio": Input((1, 1280))}, outputs=["score"],
                       states=[State("h", "h_out", (1, 1, 64))], hop_ms=80)

def broken():
    return open("luna.pt")

def module():
    return object()

def needs(path):
    return None
"""

SILERO_INPUTS = (
    Tensor("input", "float32", (-1, -1)),
    Tensor("state", "float32", (2, -1, 128)),
    Tensor("sr", "int64", ()),
)
SILERO_OUTPUTS = (Tensor("output", "float32", (-1, 1)), Tensor("stateN", "float32", (-1, -1, -1)))


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    (tmp_path / "luna.py").write_text(LUNA)
    (tmp_path / "vad.onnx").write_bytes(b"model")
    (tmp_path / "luna.keras").write_bytes(b"model")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"model")
    (tmp_path / "empty").mkdir()
    return tmp_path


def entry(text: str, folder: Path = Path("."), **described: object) -> ModelEntry:
    return ModelEntry(name="m", source=text, folder=folder, **described)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("wake-word", "zoo"),
        ("luna.py:hey_luna", "function"),
        ("luna:hey_luna", "function"),
        ("vad.onnx", "file"),
        ("luna.keras", "file"),
        ("saved", "file"),
        ("saved/", "file"),
    ],
)
def test_a_source_is_a_zoo_name_a_function_or_a_file(folder: Path, text: str, kind: str) -> None:
    assert source.resolve(entry(text, folder)).kind == kind


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("silero-vda", "no model is called 'silero-vda'", "did you mean silero-vad"),
        ("vat.onnx", "there is no .*vat.onnx", "did you mean vad.onnx"),
        ("lunas.py:hey_luna", "there is no .*lunas.py", "did you mean luna.py"),
        (
            "luna.py:hey_lena",
            "no 'hey_lena' in luna.py; it has hey_luna, broken, module, needs",
            "did you mean hey_luna",
        ),
        ("luna.sub:hey", "no module 'luna.sub'", "module:function"),
        ("nowhere:hey", "no module 'nowhere'", "module:function"),
        ("luna.py", "which function", "luna.py:hey_luna"),
        ("./luna.pt", "there is no", ""),
        ("empty", "is no SavedModel: there is no saved_model.pb in it", "luna.py:hey_luna"),
        ("lunar.keras", "there is no .*lunar.keras", "did you mean luna.keras"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(folder: Path, text: str, said: str, hint: str) -> None:
    with pytest.raises(UsageError, match=said) as raised:
        source.resolve(entry(text, folder))

    assert hint in raised.value.hint


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("vad.onnx", "onnx"),
        ("VAD.ONNX", "onnx"),
        ("vad.ort", "file"),
        ("vad.tflite", "file"),
        ("saved", "tensorflow"),
        ("luna.keras", "tensorflow"),
        ("luna.py:hey_luna", "torch"),
        ("wake-word", "torch"),
        ("silero-vad", "onnx"),
        ("micro-wake-word", "file"),
    ],
)
def test_what_can_be_made_of_a_model_follows_from_what_it_is(folder: Path, text: str, origin: str) -> None:
    assert source.origin_of(entry(text, folder)) == origin


def test_a_savedmodel_streams_when_its_hop_is_given(folder: Path) -> None:
    assert source.streams(entry("saved", folder, hop_ms=20.0))
    assert not source.streams(entry("saved", folder))


def test_resolving_runs_nothing_of_the_users(folder: Path) -> None:
    (folder / "loud.py").write_text("raise SystemExit('ran')\ndef model(): ...\n")

    assert source.resolve(entry("loud.py:model", folder)).function == "model"
    assert source.resolve(entry("loud:model", folder)).module == "loud"


def test_a_name_that_no_report_could_have_is_refused(folder: Path) -> None:
    name = os.fsdecode(b"m\xff.onnx")
    (folder / name).write_bytes(b"x")

    with pytest.raises(UsageError, match="its name is not UTF-8") as raised:
        source.resolve(entry(name, folder))
    str(raised.value).encode()


def test_a_file_of_another_kind_is_refused_with_what_can_be_taken(folder: Path) -> None:
    (folder / "luna.pt").write_bytes(b"")

    with pytest.raises(UsageError, match=r"must be one of \.onnx, \.ort, \.tflite"):
        source.resolve(entry("luna.pt", folder))


@pytest.mark.parametrize("text", ["luna.mlpackage", "luna.mlpackage/", "./luna.mlpackage"])
def test_a_core_ml_package_is_a_ready_file_though_it_is_a_folder(folder: Path, text: str) -> None:
    (folder / "luna.mlpackage").mkdir()

    found = source.resolve(entry(text, folder))

    assert (found.kind, found.path) == ("file", folder / "luna.mlpackage")
    assert source.ready_format(text) == "coreml"
    assert name_of(text) in ("luna", "./luna")


def test_a_file_that_is_called_as_a_package_and_a_folder_as_a_file_are_refused(folder: Path) -> None:
    (folder / "luna.mlpackage").write_bytes(b"")
    (folder / "luna.onnx").mkdir()

    with pytest.raises(UsageError, match="is a file") as raised:
        source.resolve(entry("luna.mlpackage", folder))
    assert "folder with a Manifest.json" in raised.value.hint
    with pytest.raises(UsageError, match="is not a file"):
        source.resolve(entry("luna.onnx", folder))


def test_describing_a_function_is_refused_rather_than_ignored(folder: Path) -> None:
    with pytest.raises(UsageError, match="'hop_ms' is for a model that is a file"):
        source.resolve(entry("luna.py:hey_luna", folder, hop_ms=20.0))


@pytest.mark.parametrize("text", ["luna.py:hey_luna", "luna:hey_luna"])
def test_a_function_is_built_from_its_folder(folder: Path, text: str) -> None:
    model = source.build(source.resolve(entry(text, folder)), folder)

    assert model.task == "wake-word"
    assert model.hop_samples == 1280


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("broken", r"FileNotFoundError: .*luna.pt.* \(luna.py:9\)"),
        ("module", "returned a object, not a rtfleet.SpeechModel"),
        ("needs", r"needs\(path\) must take no arguments"),
    ],
)
def test_an_error_of_the_users_code_is_one_sentence_with_its_line(folder: Path, function: str, said: str) -> None:
    wanted = source.resolve(entry(f"luna.py:{function}", folder))

    with pytest.raises(UsageError, match=said):
        source.build(wanted, folder)


def test_a_module_that_does_not_import_names_the_package_or_the_line(folder: Path) -> None:
    (folder / "far.py").write_text("import wakenet_of_nobody\ndef model(): ...\n")
    (folder / "typo.py").write_text("def model():\n    return )\n")

    with pytest.raises(UsageError, match=r"far.py:1") as raised:
        source.build(source.resolve(entry("far.py:model", folder)), folder)
    assert "wakenet_of_nobody" in raised.value.hint
    with pytest.raises(UsageError, match=r"typo.py is not Python"):
        source.resolve(entry("typo.py:model", folder))


def test_a_file_named_like_a_standard_module_does_not_replace_it(folder: Path) -> None:
    (folder / "random.py").write_text(LUNA)

    source.build(source.resolve(entry("random.py:hey_luna", folder)), folder)

    import random

    assert random.random() < 1


def test_silero_needs_only_its_task_and_hop_and_each_guess_is_a_sentence() -> None:
    described = entry("vad.onnx", task="vad", hop_ms=32.0)

    model, guesses = source.from_file(described, Path("vad.onnx"), SILERO_INPUTS, SILERO_OUTPUTS)

    assert model.inputs["input"].dims == (1, 512)
    assert model.inputs["sr"].constant == 16_000
    assert [(state.input, state.output, state.shape) for state in model.states] == [("state", "stateN", (2, 1, 128))]
    assert list(model.outputs) == ["output"]
    assert [guess.removeprefix("vad.onnx: ") for guess in guesses] == [
        "its audio is 16000 Hz (say --sample-rate where it is not)",
        "'stateN' comes back as state 'state'",
        "the unknown batch of state 'state' is 1",
        "the unknown batch of input 'input' is 1",
        "the unknown length of input 'input' is the hop, 512 samples",
        "input 'sr' is the sample rate, 16000",
    ]


def test_what_the_user_says_is_not_guessed() -> None:
    described = entry(
        "vad.onnx",
        task="vad",
        hop_samples=256,
        sample_rate_hz=8000,
        inputs={"input": (1, 288), "sr": 8000},
        states={"state": "stateN"},
        threshold=0.4,
        smoothing_hops=5,
    )

    model, guesses = source.from_file(described, Path("vad.onnx"), SILERO_INPUTS, SILERO_OUTPUTS)

    assert model.inputs["input"].dims == (1, 288)
    assert model.hop_samples == 256
    assert (model.threshold, model.smoothing_hops) == (0.4, 5)
    assert [guess.split(": ")[1] for guess in guesses] == [
        "the unknown batch of state 'state' is 1",
        "input 'input' takes the last 32 samples of the frame before, then 256 new ones",
    ]


@pytest.mark.parametrize(
    ("described", "said", "hint"),
    [
        ({}, "what is the model for", "--task"),
        ({"task": "vad"}, "how much audio does one frame consume", "--hop-ms"),
        ({"task": "vad", "hop_ms": 32.0, "inputs": {"audio": (1, 576)}}, "no input is called 'audio'", "'input'"),
        ({"task": "vad", "hop_ms": 32.0, "inputs": {"input": (576,)}}, "can't have the dims 576", ""),
        ({"task": "vad", "hop_ms": 32.0, "inputs": {"input": (1, 400)}}, "fewer than the hop of 512", "--hop-ms"),
        ({"task": "vad", "hop_ms": 32.0, "states": {"stat": "stateN"}}, "no input is called 'stat'", "state"),
        ({"task": "vad", "hop_ms": 32.0, "states": {"state": "hn"}}, "no output is called 'hn'", "stateN"),
        ({"task": "vad", "hop_ms": 32.0, "states": {"state": "output"}}, "the two ends differ", ""),
        ({"task": "vad", "hop_ms": 32.0, "outputs": ("speech",)}, "no output is called 'speech'", "'output'"),
        ({"task": "vad", "hop_ms": 0.33}, "0.33 ms is 5.28 samples", "hop_samples"),
    ],
)
def test_what_is_missing_or_contradicts_the_file_is_asked_for(
    described: dict[str, object], said: str, hint: str
) -> None:
    with pytest.raises(UsageError, match=said) as raised:
        source.from_file(entry("vad.onnx", **described), Path("vad.onnx"), SILERO_INPUTS, SILERO_OUTPUTS)

    assert hint in raised.value.hint


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("state", "stateN"),
        ("h", "hn"),
        ("h", "h_out"),
        ("cache_0", "new_cache_0"),
        ("cache_0", "cache_out_0"),
        ("h_in", "h_out"),
        ("past_key_values.0.key", "present.0.key"),
        ("audio_tail", "audio_tail_out"),
    ],
)
def test_states_are_paired_by_name_where_dtype_and_dims_agree(name: str, output: str) -> None:
    inputs = (Tensor("audio", "float32", (1, 320)), Tensor(name, "float32", (1, 4)))
    outputs = (Tensor("score", "float32", (1, 1)), Tensor(output, "float32", (1, 4)))

    model, _ = source.from_file(entry("a.onnx", task="vad", hop_ms=20.0), Path("a.onnx"), inputs, outputs)

    assert [(state.input, state.output) for state in model.states] == [(name, output)]


def test_a_denoisers_output_does_not_come_back_as_its_input() -> None:
    inputs, outputs = (Tensor("input", "float32", (1, 320)),), (Tensor("out_input", "float32", (1, 320)),)

    model, _ = source.from_file(entry("a.onnx", task="vad", hop_ms=20.0), Path("a.onnx"), inputs, outputs)

    assert model.states == ()


def test_a_mask_is_asked_for_and_takes_the_length_of_the_audio() -> None:
    inputs = (Tensor("input_values", "float32", (-1, -1)), Tensor("attention_mask", "int64", (-1, -1)))
    outputs = (Tensor("hidden", "float32", (-1, -1, 288)),)

    with pytest.raises(UsageError, match=r"'attention_mask' .* is no audio"):
        source.from_file(
            entry("e.ort", task="asr", inputs={"input_values": (1, 16000)}), Path("e.ort"), inputs, outputs
        )
    given = {"input_values": (1, 16000), "attention_mask": 1}
    model, _ = source.from_file(entry("e.ort", task="asr", inputs=given), Path("e.ort"), inputs, outputs)

    assert model.inputs["attention_mask"].dims == (1, 16000)
    assert model.hop_samples is None


def test_a_quantized_input_is_fed_real_numbers() -> None:
    inputs = (Tensor("features", "int8", (1, 3, 40), 0.1, -128),)
    outputs = (Tensor("score", "uint8", (1, 1), 1 / 256, 0),)

    model, _ = source.from_file(entry("w.tflite", task="wake-word", hop_ms=30.0), Path("w.tflite"), inputs, outputs)

    assert model.inputs["features"].dtype == "float32"
