"""Clips become frames: any audio is read, cut by the hop, and put into a graph's own dtypes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from rtfleet import clips
from rtfleet.artifact import Tensor
from rtfleet.errors import UsageError
from rtfleet.model import Array, Input, SpeechModel
from rtfleet.suite import ModelEntry

RATE_HZ = 16_000


def tone(seconds: float, rate_hz: int = RATE_HZ) -> Array:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def clip(folder: Path, seconds: float = 1.0, name: str = "tone.wav") -> Path:
    soundfile.write(folder / name, tone(seconds), RATE_HZ, subtype="FLOAT")
    return folder / name


def model(dims: tuple[int, ...], hop_ms: float | None = 20, **more: Any) -> SpeechModel:
    facts = {"task": "vad", "source": None, "inputs": {"audio": Input(dims)}, "outputs": ["score"], "hop_ms": hop_ms}
    return SpeechModel(**(facts | more))


def entry(folder: Path, *patterns: str) -> ModelEntry:
    return ModelEntry(name="m", source="wake-word", folder=folder, clips=patterns)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT"])
@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 48_000])
def test_audio_of_any_width_rate_and_channels_becomes_mono_at_the_models_rate(
    tmp_path: Path, subtype: str, rate_hz: int
) -> None:
    stereo = np.stack([tone(0.5, rate_hz)] * 2, axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, rate_hz, subtype=subtype)

    audio = clips.read(tmp_path / "a.wav", RATE_HZ)

    assert audio.dtype == np.float32
    assert abs(len(audio) - RATE_HZ // 2) <= 1
    middle = slice(1000, 7000)
    np.testing.assert_allclose(audio[middle], tone(0.5)[middle], atol=0.02)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such audio file"),
        (b"", "the file is empty"),
        (b"RIFF\0\0\0\0WAVEfmt ", "not readable as audio"),
        (b"not audio at all", "not readable as audio"),
    ],
)
def test_a_file_that_is_no_audio_is_named_with_its_reason(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "bad.wav"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(UsageError, match=rf"bad\.wav: {said}"):
        clips.read(path, RATE_HZ)


def test_a_wav_without_samples_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "none.wav", np.zeros(0, np.float32), RATE_HZ)

    with pytest.raises(UsageError, match="no audio in it"):
        clips.read(tmp_path / "none.wav", RATE_HZ)


def test_clips_are_found_by_pattern_or_folder_relative_to_the_suite(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    first, second = clip(tmp_path / "clips", name="a.wav"), clip(tmp_path / "clips", name="b.wav")

    assert clips.find(entry(tmp_path, "clips/*.wav")) == [first, second]
    assert clips.find(entry(tmp_path, "clips")) == [first, second]
    assert clips.find(entry(tmp_path, str(second))) == [second]
    with pytest.raises(UsageError, match="clips 'other/\\*': no audio file matches"):
        clips.find(entry(tmp_path, "other/*"))


def test_positives_are_found_as_clips_are(tmp_path: Path) -> None:
    with_phrase = clip(tmp_path, name="luna.wav")
    asked = ModelEntry("m", "wake-word", tmp_path, positives=("luna*.wav",))

    assert clips.find_positives(asked) == [with_phrase]
    assert clips.find_positives(entry(tmp_path)) == []
    with pytest.raises(UsageError, match=r"positives 'sol\*': no audio file matches"):
        clips.find_positives(replace(asked, positives=("sol*",)))


def test_positives_come_first_and_are_known_by_their_number(tmp_path: Path) -> None:
    others = [clip(tmp_path, 0.5, "a.wav"), clip(tmp_path, 0.25, "b.wav")]
    with_phrase = [clip(tmp_path, 0.1, "luna.wav")]

    frames = clips.frames_of(model((1, 320), task="wake-word"), others, with_phrase)

    assert frames.positives == (0,)
    assert frames.arrays["@stream_starts"].tolist() == [0, 5, 30]


def test_a_model_may_know_its_positives_by_their_names(tmp_path: Path) -> None:
    paths = [clip(tmp_path, 0.5, "a.wav"), clip(tmp_path, 0.1, "hey-luna-7.wav")]
    luna = model((1, 320), task="wake-word", positives=["hey-luna*.wav"])

    assert clips.frames_of(luna, paths).positives == (0,)
    assert clips.frames_of(luna, paths).arrays["@stream_starts"].tolist() == [0, 5]
    assert clips.frames_of(luna, paths[:1]).positives is None
    assert clips.frames_of(model((1, 320), task="wake-word"), paths).positives is None


def test_only_a_wake_word_has_positives(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="this model is for vad"):
        clips.frames_of(model((1, 320)), [], [clip(tmp_path)])


def test_clips_beyond_the_longest_are_not_heard_and_that_is_said(tmp_path: Path) -> None:
    others = [clip(tmp_path, 40, "a.wav"), clip(tmp_path, 40, "b.wav"), clip(tmp_path, 1, "c.wav")]

    frames = clips.frames_of(model((1, 320)), others)

    assert len(frames.arrays["audio"]) == 60 * 50
    assert frames.cut_short == "2 of 3 clips are heard: 60 s are the most"
    labelled = clips.frames_of(model((1, 320), task="wake-word"), others, [clip(tmp_path, 1, "luna.wav")])
    assert (len(labelled.arrays["audio"]), labelled.cut_short) == (82 * 50, "")


def test_a_clip_with_the_phrase_is_never_cut(tmp_path: Path) -> None:
    long = [clip(tmp_path, 400, "luna-1.wav"), clip(tmp_path, 400, "luna-2.wav")]

    frames = clips.frames_of(model((1, 320), task="wake-word"), [], long)

    assert (frames.positives, len(frames.arrays["audio"])) == ((0,), 400 * 50)
    assert frames.cut_short == "1 of 2 clips are heard: 600 s are the most"


def test_frames_follow_each_other_and_a_longer_input_begins_with_the_tail_before(tmp_path: Path) -> None:
    path = clip(tmp_path)
    audio = clips.read(path, RATE_HZ)

    frames = clips.frames_of(model((1, 384)), [path])
    taken = frames.arrays["audio"]

    assert taken.shape == (50, 1, 384)
    assert not frames.synthetic
    np.testing.assert_array_equal(taken[:, 0, 64:].ravel(), audio)
    np.testing.assert_array_equal(taken[1:, 0, :64], taken[:-1, 0, -64:])
    assert not taken[0, 0, :64].any()


def test_each_clip_begins_a_stream(tmp_path: Path) -> None:
    paths = [clip(tmp_path, 0.5, "a.wav"), clip(tmp_path, 0.25, "b.wav")]

    frames = clips.frames_of(model((1, 320)), paths)

    assert frames.arrays["@stream_starts"].tolist() == [0, 25]
    assert len(frames.arrays["audio"]) == 25 + 13


def test_priming_puts_low_seeded_noise_before_each_clip(tmp_path: Path) -> None:
    paths = [clip(tmp_path, 0.5, "a.wav"), clip(tmp_path, 0.5, "b.wav")]

    frames = clips.frames_of(model((1, 320), priming_s=1.0), paths)

    assert frames.arrays["@stream_starts"].tolist() == [0, 75]
    assert 0 < np.abs(frames.arrays["audio"][:50]).max() <= 1000 / 32768
    again = clips.frames_of(model((1, 320), priming_s=1.0), paths)
    np.testing.assert_array_equal(frames.arrays["audio"], again.arrays["audio"])


def test_a_model_that_does_not_stream_gets_whole_windows(tmp_path: Path) -> None:
    frames = clips.frames_of(model((1, 16_000), hop_ms=None), [clip(tmp_path, 1.5)])

    assert frames.arrays["audio"].shape == (2, 1, 16_000)
    assert not frames.arrays["audio"][1, 0, 8000:].any()


def test_a_front_end_makes_the_frames(tmp_path: Path) -> None:
    def energies(audio: Array) -> Mapping[str, Array]:
        return {"audio": np.abs(audio[: len(audio) // 320 * 320]).reshape(-1, 1, 320).max(axis=2, keepdims=True)}

    frames = clips.frames_of(model((1, 1), frames=energies), [clip(tmp_path)])

    assert frames.arrays["audio"].shape == (50, 1, 1)
    assert not frames.synthetic


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"mel": np.zeros((3, 1, 1))}, "returned mel, not a mapping with audio"),
        ({"audio": np.zeros((3, 2))}, r"returned \[3, 2\] for input 'audio', not \[n, 1, 1\]"),
        ({"audio": np.full((3, 1, 1), np.nan)}, "not finite"),
        (None, "returned NoneType"),
    ],
)
def test_a_front_end_that_returns_something_else_is_named(tmp_path: Path, made: object, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        clips.frames_of(model((1, 1), frames=lambda audio: made), [clip(tmp_path)])


def test_features_without_a_front_end_are_seeded_numbers_and_said_to_be(tmp_path: Path) -> None:
    features = SpeechModel(
        task="asr",
        source=None,
        inputs={"mel": Input((1, 100, 80)), "mask": Input((1, 100), "bool", constant=True)},
        outputs=["hidden"],
    )

    frames = clips.frames_of(features, [clip(tmp_path)])

    assert frames.synthetic
    assert frames.arrays["mel"].shape[1:] == (1, 100, 80)
    assert frames.arrays["mask"].shape == (1, 100)
    np.testing.assert_array_equal(frames.arrays["mel"], clips.frames_of(features, []).arrays["mel"])


def test_equal_frames_are_equal_bytes_and_come_back(tmp_path: Path) -> None:
    frames = clips.frames_of(model((1, 384)), [clip(tmp_path)])

    one, other = clips.save(frames, tmp_path / "a.npz"), clips.save(frames.arrays, tmp_path / "b" / "c.npz")

    assert one.sha256 == other.sha256
    loaded = clips.load(tmp_path / "a.npz")
    assert set(loaded) == {"audio", "@stream_starts"}
    np.testing.assert_array_equal(loaded["audio"], frames.arrays["audio"])


def test_a_damaged_file_of_frames_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK\3\4 no")

    with pytest.raises(UsageError, match=r"a\.npz: not a readable \.npz"):
        clips.load(tmp_path / "a.npz")


def test_feeds_are_quantized_half_to_even_and_saturated(tmp_path: Path) -> None:
    real = np.array([[-9.0], [-0.25], [0.25], [0.75], [9.0]], np.float32)
    clips.save({"x": real, "@stream_starts": np.zeros(1, np.int64)}, tmp_path / "frames.npz")

    file = clips.to_feeds(tmp_path / "frames.npz", (Tensor("x", "int8", (1,), 0.5, 3),), tmp_path / "feeds.npz")

    assert file.location is not None
    feeds = clips.load(file.location)
    assert feeds["x"].dtype == np.int8
    assert feeds["x"].ravel().tolist() == [-15, 3, 3, 5, 21]
    saturated = clips.to_feeds(tmp_path / "frames.npz", (Tensor("x", "int8", (1,), 0.05, 0),), tmp_path / "s.npz")
    assert clips.load(saturated.location or tmp_path)["x"].ravel().tolist() == [-128, -5, 5, 15, 127]


def test_constants_keep_their_rank_and_take_the_graphs_dtype(tmp_path: Path) -> None:
    clips.save({"sr": np.array(16_000, np.int64), "x": np.zeros((2, 1, 4), np.float32)}, tmp_path / "frames.npz")
    tensors = (Tensor("sr", "int32", ()), Tensor("x", "float16", (-1, 4)))

    file = clips.to_feeds(tmp_path / "frames.npz", tensors, tmp_path / "feeds.npz")

    feeds = clips.load(file.location or tmp_path)
    assert feeds["sr"].shape == () and feeds["sr"].dtype == np.int32
    assert feeds["x"].dtype == np.float16


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (Tensor("y", "float32", (1, 4)), "no frames for input 'y'; there are some for x"),
        (Tensor("x", "float32", (1, 5)), r"takes \[1, 5\], its frames are \[2, 1, 4\]"),
        (Tensor("x", "float32", (4,)), r"takes \[4\], its frames are \[2, 1, 4\]"),
        (Tensor("x", "int64", (1, 4)), "takes int64, its frames are no such numbers"),
        (Tensor("x", "uint8", (1, 4)), "takes uint8, its frames are no such numbers"),
    ],
)
def test_frames_that_a_graph_can_not_take_are_refused(tmp_path: Path, tensor: Tensor, said: str) -> None:
    clips.save({"x": np.full((2, 1, 4), -0.5, np.float32)}, tmp_path / "frames.npz")

    with pytest.raises(UsageError, match=said):
        clips.to_feeds(tmp_path / "frames.npz", (tensor,), tmp_path / "feeds.npz")
