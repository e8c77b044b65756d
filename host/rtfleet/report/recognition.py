"""What a recognizer of whole clips did, one sentence a case. Plain text, no layout."""

from __future__ import annotations

from rtfleet.fidelity import Recognition
from rtfleet.judged import ClipTimes, JudgedCase, JudgedRun
from rtfleet.report.rows import labels
from rtfleet.report.words import plural, significant, visible


def recognized(judged: JudgedRun) -> tuple[tuple[str, str], ...]:
    """Case -> how long its slowest clip took, and how many words were wrong."""
    named = labels(judged)
    found = []
    for case in judged.cases:
        said = [*_times(case), *_words(case.result.recognition)]
        if said:
            found.append((named[case.result.case.id], visible("; ".join(said))))
    return tuple(found)


def _times(case: JudgedCase) -> list[str]:
    clips = case.summary.clips if case.summary else ()
    if not clips:
        return []
    slowest = max(clips, key=lambda one: one.end_of_speech_ns)
    of = f", the slowest of {len(clips)} clips" if len(clips) > 1 else ""
    return [
        f"the text of {slowest.clip} ({slowest.duration_s:.1f} s) came {_ms(slowest.end_of_speech_ns)} after its end, "
        f"RTF {significant(slowest.rtf, 2)}{of}",
        *_tokens(slowest),
    ]


def _tokens(clip: ClipTimes) -> list[str]:
    if clip.first_token_ns is None:
        return []
    each = f", then {_ms(clip.per_token_ns)} a token" if clip.per_token_ns is not None else ""
    return [f"its first token after {_ms(clip.first_token_ns)}{each}"]


def _words(recognition: Recognition | None) -> list[str]:
    if recognition is None:
        return []
    rate = recognition.word_error_rate
    said = [f"{recognition.wrong_words} of {recognition.words} words wrong ({rate:.1%})"] if rate is not None else []
    if recognition.as_on_host is not None and recognition.as_on_host < len(recognition.texts):
        different = len(recognition.texts) - recognition.as_on_host
        said.append(f"{plural(different, 'clip')} with other tokens than on the host")
    longest = max(recognition.texts, key=len, default="")
    return [*said, f"it heard “{longest}”"] if longest else [*said, "it heard nothing"]


def _ms(time_ns: float) -> str:
    return f"{significant(time_ns / 1e6)} ms"
