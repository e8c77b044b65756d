"""microWakeWord "alexa" and "okay nabu" (Apache-2.0), as the package `pymicro-wakeword` ships them: int8 TFLite.

Whole: the front end (`micro_frontend.py`) is part of what the package runs, outside the graph. A frame is 30 ms: three
features of 10 ms. The state lives INSIDE the model (6 resource variables): only a new interpreter resets it. The
package decides on the mean of 5 frames against the cutoff of its .json, which is the threshold here.

Measured on 16 espeak-ng phrases in low noise (8 voices, 2 speeds), front end here / pymicro-features 2.0.2: alexa
16 / 16 hits, okay nabu 12 / 12 (said "okay nah boo"), 0 / 0 false alarms in 16 sentences; mean scores differ by up to
0.08. Of the model's int8 inputs 85 to 95 % are equal; the rest are mostly bands with next to nothing in them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from rtfleet.fetch import Package, fetch
from rtfleet.model import Array, Input, SpeechModel
from rtfleet.models.micro_frontend import CHANNELS, RATE_HZ, STEP_SAMPLES, WINDOW_SAMPLES, features

_LICENCE = "pymicro_wakeword-2.5.0.dist-info/licenses/LICENSE"

PYMICRO = Package(
    name="pymicro-wakeword",
    version="2.5.0",
    sha256="3869f536402b1254e3be3549d3a462ecd6ed21ce2c3e77ec8eb501c3c700417c",
    licence="Apache-2.0",
    files={
        "pymicro_wakeword/models/alexa.tflite": "9011a8155b04de858c48038529235cbc0e42e9fca05a55bf588cb80a653a723b",
        "pymicro_wakeword/models/alexa.json": "1d999798b35b1fe2606465b75ab840be51c1811d2909d5e620cefb6e96f8abd0",
        "pymicro_wakeword/models/okay_nabu.tflite": "d89128c4d16a72de429119fb2254ce46649553c2a24f5dd840175c80d7b9d094",
        "pymicro_wakeword/models/okay_nabu.json": "f8026e2ce93a0855ca23483036fd2d74ee924a2588d9ea6a6c6c7478fbf4be57",
        _LICENCE: "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4",
    },
)
PACKAGES = (PYMICRO,)

FEATURES_A_FRAME = 3
SHORTEST_SAMPLES = WINDOW_SAMPLES + (FEATURES_A_FRAME - 1) * STEP_SAMPLES


def alexa() -> SpeechModel:
    """`input_audio` [1, 3, 40], int8 in the graph -> `dense_1` [1, 1]."""
    return _model("alexa")


def okay_nabu() -> SpeechModel:
    """`input_audio` [1, 3, 40], int8 in the graph -> `dense_1` [1, 1]."""
    return _model("okay_nabu")


def frames(audio: Array) -> Mapping[str, Array]:
    """Audio [samples] -> features [n, 1, 3, 40], one frame every 30 ms."""
    made = features(np.pad(audio, (0, max(0, SHORTEST_SAMPLES - len(audio)))))
    count = len(made) // FEATURES_A_FRAME
    return {"input_audio": made[: count * FEATURES_A_FRAME].reshape(count, 1, FEATURES_A_FRAME, CHANNELS)}


def _model(name: str) -> SpeechModel:
    folder = fetch(PYMICRO) / "pymicro_wakeword/models"
    settings = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["micro"]
    return SpeechModel(
        task="wake-word",
        source=folder / f"{name}.tflite",
        inputs={"input_audio": Input((1, FEATURES_A_FRAME, CHANNELS))},
        outputs=["dense_1"],
        sample_rate_hz=RATE_HZ,
        hop_ms=FEATURES_A_FRAME * settings["feature_step_size"],
        frames=frames,
        threshold=settings["probability_cutoff"],
        smoothing_hops=settings["sliding_window_size"],
    )
