"""Facts of how good a device's outputs are: parity with the original, detections, recognized words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AgainstLabels:
    """What a wake word heard in clips of which it is known whether they contain its phrase; the original beside it.

    Attributes:
        positives: Clips that contain it; a hit is one of them with a detection in it.
        negatives_s: Seconds of the other clips, in which each detection is a false alarm.
    """

    positives: int
    hits: int
    original_hits: int
    negatives_s: float
    false_alarms: int
    original_false_alarms: int


@dataclass(frozen=True)
class Detections:
    """What a wake word detected at its threshold, against the original model on the same clips.

    Attributes:
        original: Detections of the original; `matched` of them were made here too, at about the same time.
        extra: Detections made here alone.
        audio_s: Seconds heard, priming aside.
        labelled: None where nobody said what is in the clips.
    """

    original: int
    matched: int
    extra: int
    audio_s: float
    labelled: AgainstLabels | None = None

    @property
    def missed(self) -> int:
        """Detections of the original that were not made here."""
        return self.original - self.matched


@dataclass(frozen=True)
class ParityResult:
    """How far outputs are from the original model's on the same clips, over whole streams.

    Attributes:
        against: What the original was ("torch fp32", "the same file, unoptimized, on the host").
        max_abs_error: Over all outputs and frames; None with NaN.
        snr_db: 10 log10(sum reference^2 / sum error^2) of the worst output; None is unlimited (bit-equal) when
            `max_abs_error` is 0, else unknown.
        decision_agreement: Fraction of frames whose decision (score >= threshold) is the original's; None where the
            model decides nothing.
        drift: RMS error in the last third of the streams over that in their middle third; None where either is 0.
        optimized: The runtime's graph optimizer was on.
        detections: Of a wake word that streams; None of anything else.
        unknown: Why there was nothing to compare with, so that no figure is known; "" where there was.
    """

    against: str
    frames: int
    max_abs_error: float | None
    snr_db: float | None
    decision_agreement: float | None
    nan_frames: int = 0
    drift: float | None = None
    optimized: bool = True
    detections: Detections | None = None
    unknown: str = ""


@dataclass(frozen=True)
class Recognition:
    """What a recognizer on a device made of its clips.

    Attributes:
        texts: Clip by clip, in the order of `Artifact.utterances`.
        wrong_words: Substitutions, deletions and insertions, of all clips with a transcript.
        words: In these transcripts; 0 where nobody wrote one.
        as_on_host: Clips with the very same tokens as on the host with the runtime's optimizer off; None where the
            host gave none.
    """

    texts: tuple[str, ...]
    wrong_words: int
    words: int
    as_on_host: int | None = None

    @property
    def word_error_rate(self) -> float | None:
        """Wrong words / words; None without a transcript."""
        return self.wrong_words / self.words if self.words else None
