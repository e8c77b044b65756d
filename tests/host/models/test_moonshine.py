"""`rtfleet run moonshine-tiny`, as a person would: real clips, the real model, an agent that knows nothing of text."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from typing import Any

import numpy as np
import pytest

from rtfleet import clips, transcripts

pytestmark = pytest.mark.slow


@pytest.fixture(name="document", scope="module")
def _document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("moonshine")
    (folder / "fleet.toml").write_text(f'[device.board]\nconnect = "local:{uuid.uuid4().hex[:12]}"\n')
    (folder / "suite.toml").write_text(
        "run = { launches = 1, frames = 10, min_duration_s = 0.1, max_wait_s = 0 }\n"
        '[[model]]\nsource = "moonshine-tiny"\nbudgets = { end_of_speech_ms = 10000, word_error_rate = 0.1 }\n'
    )
    command = [sys.executable, "-m", "rtfleet.cli.main", "run", "suite.toml", "--json", "run.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert (folder / "run.json").exists(), done.stderr
    document: dict[str, Any] = json.loads((folder / "run.json").read_text())
    document["console"] = " ".join(done.stdout.split())  # wherever its lines are broken
    return document


def test_real_clips_become_text_on_the_agent(document: dict[str, Any]) -> None:
    (case,) = document["cases"]
    heard = case["recognition"]
    said = [transcripts.beside(path) for path in sorted((clips.SHIPPED / "recognizer").glob("*.flac"))]

    assert heard["words"] == sum(len(transcripts.words_of(text)) for text in said) == 71
    assert heard["wrong_words"] <= 4
    assert heard["texts"][4] == "He might even have been made amiable himself."
    assert heard["as_on_host"] == len(heard["texts"]) == 5


def test_every_frame_has_its_tokens_and_its_first_one(document: dict[str, Any]) -> None:
    (launch,) = document["cases"][0]["launches"]
    latency_ns, first_ns = np.array(launch["latency_ns"]), np.array(launch["first_token_ns"])

    assert len(latency_ns) == 25  # five blocks of a pass over the clips are the least
    assert (first_ns > 0).all() and (first_ns < latency_ns).all()
    assert len(set(launch["tokens"][:5])) > 1 and launch["tokens"][:5] == launch["tokens"][5:10]


def test_the_end_of_speech_is_judged_clip_by_clip(document: dict[str, Any]) -> None:
    (case,) = document["cases"]
    check = next(check for check in case["checks"] if check["metric"] == "end_of_speech_ms")
    slowest = max(case["summary"]["clips"], key=lambda clip: clip["end_of_speech_ns"])

    assert check["value"] == pytest.approx(slowest["end_of_speech_ns"] / 1e6)
    assert slowest["clip"] in check["reason"]
    assert case["summary"]["rtf_p50"] == pytest.approx(slowest["end_of_speech_ns"] / 1e9 / slowest["duration_s"])


def test_the_report_says_what_was_heard(document: dict[str, Any]) -> None:
    assert "words wrong" in document["console"]
    assert "first token after" in document["console"]
