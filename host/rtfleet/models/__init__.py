"""The zoo: models that can be named. Each file builds one `SpeechModel`, in the export subprocess only.

Importing this module imports none of them: it is a table. The repository ships no weights but its own; a fetched
model's module pins its packages as `PACKAGES` (version and sha256) and can be imported without torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from rtfleet.model import Task


@dataclass(frozen=True)
class ZooModel:
    """A model that can be named.

    Attributes:
        module: Dotted name of the module; `function` of it returns the `SpeechModel`.
        description: One line for `rtfleet models`.
        licence: SPDX identifier, of the code and the weights as their package declares it.
        fetched: Its weights come from the package index; else they are ours.
        ready: The model is a file of this format ("onnx", "tflite"), measured as it comes; "" for a PyTorch module.
        streams: It consumes audio hop by hop.
        clips: Folder of the shipped clips that it hears by default; "" is that of all models.
    """

    name: str
    module: str
    function: str
    task: Task
    description: str
    licence: str = "Apache-2.0"
    fetched: bool = False
    ready: str = ""
    streams: bool = True
    clips: str = ""


def _fetched(
    name: str,
    file: str,
    function: str,
    task: Task,
    description: str,
    licence: str,
    ready: str = "onnx",
    clips: str = "",
) -> ZooModel:
    module = f"rtfleet.models.{file}"
    return ZooModel(name, module, function, task, description, licence, fetched=True, ready=ready, clips=clips)


_MODELS = (
    ZooModel(
        "wake-word",
        "rtfleet.models.wake_word",
        "wake_word",
        "wake-word",
        'streaming "hey computer", raw audio, front end in the graph; a benchmark payload',
    ),
    ZooModel(
        "asr-encoder",
        "rtfleet.models.asr_encoder",
        "asr_encoder",
        "asr",
        "small Conformer encoder with seeded weights: parity of numbers, not of words",
        streams=False,
    ),
    _fetched("silero-vad", "silero_vad", "silero_vad", "vad", "Silero VAD 6, ONNX, state and context outside", "MIT"),
    _fetched(
        "silero-vad-torch",
        "silero_vad_torch",
        "silero_vad_torch",
        "vad",
        "the same network and weights in PyTorch: takes every exporter",
        "MIT",
        "",
    ),
    _fetched(
        "micro-wake-word",
        "micro_wake_word",
        "alexa",
        "wake-word",
        "the same as micro-wake-word-alexa",
        "Apache-2.0",
        "tflite",
    ),
    _fetched(
        "micro-wake-word-alexa",
        "micro_wake_word",
        "alexa",
        "wake-word",
        'microWakeWord "alexa", int8 TFLite, state inside the model',
        "Apache-2.0",
        "tflite",
    ),
    _fetched(
        "micro-wake-word-okay-nabu",
        "micro_wake_word",
        "okay_nabu",
        "wake-word",
        'microWakeWord "okay nabu", int8 TFLite, state inside the model',
        "Apache-2.0",
        "tflite",
    ),
    _fetched("pulse-vad", "pulse_vad", "pulse_vad", "vad", "2,118 parameters, ONNX fp32, log-mel outside", "MIT"),
    _fetched("pulse-vad-int8", "pulse_vad", "pulse_vad_int8", "vad", "its int8 QDQ twin, twice as large a file", "MIT"),
    ZooModel(
        "speaker-encoder",
        "rtfleet.models.speaker_encoder",
        "speaker_encoder",
        "speaker",
        "Resemblyzer's LSTM, rebuilt in PyTorch, mel outside",
        fetched=True,
        streams=False,
    ),
    ZooModel(
        "moonshine-tiny",
        "rtfleet.models.moonshine",
        "moonshine_tiny",
        "asr",
        "Moonshine tiny, English: a whole recognizer, encoder and decoder, int8 ORT",
        "MIT",
        fetched=True,
        ready="onnx",
        streams=False,
        clips="recognizer",
    ),
    *(
        _fetched(
            f"openwakeword{form}",
            "openwakeword",
            f"openwakeword{form}".replace("-", "_"),
            "wake-word",
            f'openWakeWord "alexa", {"TFLite" if form else "ONNX"} fp32, three graphs in a chain',
            "Apache-2.0",
            "tflite" if form else "onnx",
            clips="alexa",
        )
        for form in ("", "-tflite")
    ),
    *(
        _fetched(
            f"openwakeword-{stage}{form}",
            "openwakeword",
            f"{stage}{form}".replace("-", "_"),
            "wake-word",
            f"openWakeWord, {what}, {'TFLite' if form else 'ONNX'} fp32; a part",
            "Apache-2.0",
            "tflite" if form else "onnx",
        )
        for form in ("", "-tflite")
        for stage, what in (("mel", "audio to mel"), ("embedding", "mel to embedding"), ("alexa", 'its "alexa" head'))
    ),
)

ZOO: dict[str, ZooModel] = {model.name: model for model in _MODELS}
