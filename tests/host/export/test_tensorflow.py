"""SavedModels and Keras models become TFLite in four precisions, within parity of what TensorFlow itself gives."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from exporting import Bench, bench, no_agent, outputs_of, reference_of, users_folder

from rtfleet import parity
from rtfleet.artifact import Artifact, PreparedModel, variants_from
from rtfleet.errors import ExportError, UsageError
from rtfleet.suite import ModelEntry

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("tensorflow") is None, reason="the extra `tensorflow` is not installed"),
]

KERAS = """
import keras
from rtfleet import Input, SpeechModel, State

def network():
    '''Inputs without names: Keras makes them up.'''
    keras.utils.set_random_seed(3)
    audio, h = keras.Input((320,), batch_size=1), keras.Input((32,), batch_size=1)
    after = keras.layers.Activation("tanh")(keras.layers.Dense(32)(audio) + 0.5 * keras.layers.Dense(32)(h))
    return keras.Model([audio, h], [keras.layers.Dense(1, activation="sigmoid")(after), after])

def described(source, **more):
    return SpeechModel(task="vad", source=source, inputs={"audio": Input((1, 320))}, outputs=["score"],
                       states=[State("h", "h_out", (1, 32))], hop_ms=20, **more)

def live(): return described(network())
def kept(): return described(network(), keep_float=("front",))
def folder(): return described("saved")
def bare(): return described(keras.Sequential([keras.layers.Dense(1)]))
"""
MAKE = """
import keras, tensorflow as tf
import luna

luna.network().save("luna.keras")
keras.Sequential([keras.Input((320,), batch_size=1), keras.layers.Lambda(lambda x: 2 * x)]).save("lambda.keras")

class Recurrent(tf.Module):
    def __init__(self, seed):
        random = tf.random.Generator.from_seed(seed)
        self.w = tf.Variable(0.2 * random.normal((320, 48)))
        self.v = tf.Variable(0.1 * random.normal((48, 48)))
        self.u = tf.Variable(random.normal((48, 1)))

    @tf.function
    def hear(self, audio, h):
        h = tf.tanh(audio @ self.w + h @ self.v)
        return {"score": tf.sigmoid(h @ self.u), "h_out": h}

model, other = Recurrent(1), Recurrent(2)
tensors = {"audio": tf.TensorSpec((None, 320), name="audio"), "h": tf.TensorSpec((None, 48), name="h")}
tf.saved_model.save(model, "recurrent", signatures=model.hear.get_concrete_function(**tensors))
tf.saved_model.save(other, "other", signatures=other.hear.get_concrete_function(**tensors))
tf.saved_model.save(model, "unsigned")
luna.network().export("saved", verbose=False)
"""
VARIANTS = variants_from("tensorflow")


@pytest.fixture(name="here", scope="module")
def _here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    place = tmp_path_factory.mktemp("tensorflow")
    folder = users_folder(place / "user")
    (folder / "luna.py").write_text(KERAS)
    (folder / "make.py").write_text(MAKE)
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "KERAS_BACKEND": "tensorflow"}
    subprocess.run([sys.executable, "make.py"], cwd=folder, env={**os.environ, **quiet}, check=True)
    with bench(folder, place / "cache", place / "logs") as here:
        yield here


def described(folder: Path, file: str, **more: object) -> ModelEntry:
    """A file as the command line describes it."""
    return ModelEntry("m", file, folder, clips=("clips",), task="vad", hop_ms=20, where=file, **more)  # type: ignore[arg-type]


def from_file(here: Bench, file: str, **more: object) -> PreparedModel:
    return here.runner.run(here.exports.prepare(described(here.folder, file, **more), no_agent))


def check_all(here: Bench, prepared: PreparedModel) -> dict[str, Artifact]:
    artifacts = {variant: here.export(prepared, variant) for variant in VARIANTS}
    for variant, artifact in artifacts.items():
        result = parity.compare(
            reference_of(prepared),
            outputs_of(prepared, artifact),
            score="score",
            threshold=prepared.threshold,
            against="the original model",
            optimized=True,
        )
        for owed in parity.default_budgets(artifact):
            check = parity.judge(owed, result, None)
            assert check.verdict == "PASS", f"{variant}: {check.reason}"
    return artifacts


def test_a_saved_model_with_a_state_becomes_every_variant(here: Bench) -> None:
    """Its own signature tells names and shapes; the open batch is 1, and the state is carried."""
    prepared = from_file(here, "recurrent")
    assert [guess.partition(": ")[2] for guess in prepared.guesses][1:3] == [
        "'h_out' comes back as state 'h'",
        "the unknown batch of state 'h' is 1",
    ]

    artifacts = check_all(here, prepared)

    sizes = {variant: artifact.size_bytes for variant, artifact in artifacts.items()}
    assert sizes["tflite-fp16"] < 0.6 * sizes["tflite-fp32"]
    assert sizes["tflite-int8-static"] < 0.5 * sizes["tflite-fp32"]
    graph = artifacts["tflite-int8-static"].graphs[0]
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in graph.inputs] == [
        ("audio", "float32", (1, 320)),
        ("h", "float32", (1, 48)),
    ]
    score = reference_of(prepared)["score"].ravel()
    assert np.ptp(score) > 0.1, "the comparison could tell"


def test_a_live_keras_model_is_described_in_the_order_of_its_inputs(here: Bench) -> None:
    check_all(here, here.prepare("luna.py:live"))


def test_a_function_may_give_a_saved_model_s_folder(here: Bench) -> None:
    """Keras's export calls its tensors keras_tensor_… and output_0: names that the description does not have."""
    with pytest.raises(ExportError, match=r"the TensorFlow model's inputs are .*; the SpeechModel has audio, h"):
        here.prepare("luna.py:folder")


def test_a_keras_file_is_described_by_its_own_names(here: Bench) -> None:
    """Which Keras made up; they are told where one is wrong."""
    with pytest.raises(UsageError, match=r"luna\.keras: state x=y: no input is called 'x'") as raised:
        from_file(here, "luna.keras", states={"x": "y"})
    audio, state = raised.value.hint.removeprefix("its inputs are ").split(", ")
    with pytest.raises(UsageError, match="no output is called 'y'") as raised:
        from_file(here, "luna.keras", states={state: "y"})
    score, after = raised.value.hint.removeprefix("its outputs are ").split(", ")

    prepared = from_file(here, "luna.keras", states={state: after})

    assert ([facts.name for facts in prepared.inputs], prepared.outputs) == ([audio], (score,))
    artifact = here.export(prepared, "tflite-int8-static")
    found = outputs_of(prepared, artifact)[score]
    assert np.abs(found - reference_of(prepared)[score]).max() < 0.05


def test_the_same_export_has_the_same_ids_in_another_folder_and_process(here: Bench, tmp_path: Path) -> None:
    first = {variant: here.export(here.prepare("luna.py:live"), variant).id for variant in VARIANTS}
    folder = users_folder(tmp_path / "user")
    (folder / "luna.py").write_text(KERAS)

    with bench(folder, tmp_path / "cache", tmp_path / "logs") as another:
        prepared = another.prepare("luna.py:live", "another")
        assert {variant: another.export(prepared, variant).id for variant in VARIANTS} == first


def test_a_second_run_starts_no_subprocess_until_the_folder_changes(here: Bench, tmp_path: Path) -> None:
    shutil.copytree(here.folder / "recurrent", here.folder / "mine")
    before = from_file(here, "mine")
    with bench(here.folder, here.exports.cache, tmp_path / "logs") as another:
        assert from_file(another, "mine").key == before.key
        assert not another.started_something
    shutil.copytree(here.folder / "other", here.folder / "mine", dirs_exist_ok=True)
    with bench(here.folder, here.exports.cache, tmp_path / "logs") as another:
        assert from_file(another, "mine").key != before.key
        assert another.started_something


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("lambda.keras", r"lambda\.keras: Keras can't load it: a Lambda layer"),
        ("unsigned", "unsigned: .*signature.* must be called serving_default"),
    ],
)
def test_what_can_t_be_loaded_is_said_in_a_sentence(here: Bench, file: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        from_file(here, file)


def test_a_damaged_model_is_named(here: Bench) -> None:
    (here.folder / "broken").mkdir(exist_ok=True)
    for path in (here.folder / "broken" / "saved_model.pb", here.folder / "broken.keras"):
        path.write_bytes(b"no model at all")
        with pytest.raises(UsageError, match=r"broken(\.keras)?: (TensorFlow|Keras) can't load it: "):
            from_file(here, "broken.keras" if path.suffix == ".keras" else "broken")


def test_a_keras_model_that_does_not_say_what_it_takes_is_refused(here: Bench) -> None:
    with pytest.raises(UsageError, match="the Sequential does not say what it takes"):
        here.prepare("luna.py:bare")


def test_a_tensorflow_model_becomes_tflite_alone_and_can_t_keep_modules_float(here: Bench) -> None:
    prepared = here.prepare("luna.py:kept")

    with pytest.raises(ExportError, match="a TensorFlow model becomes TFLite alone") as raised:
        here.export(prepared, "onnx-fp32")
    assert raised.value.hint == ", ".join(VARIANTS)
    with pytest.raises(ExportError, match="no rule by which keep_float could leave modules out"):
        here.export(prepared, "tflite-int8-static")
    assert here.export(prepared, "tflite-fp32").size_bytes > 0
