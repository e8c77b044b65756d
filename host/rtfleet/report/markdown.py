"""Markdown for a CI job's summary: the same report as on a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from rtfleet.judged import JudgedRun
from rtfleet.report import parities, recognition, sentences
from rtfleet.report.rows import Rows, rows_of
from rtfleet.report.words import plural, visible


def render(judged: JudgedRun, folder: Path | None = None) -> str:
    """The document as text."""
    lines = [f"## rtfleet: {judged.verdict}", "", escaped(sentences.ending(judged)), ""]
    lines += _table(rows_of(judged))
    for one in sentences.explanations(judged):
        limit = f" ({escaped(one.limit)})" if one.limit else ""
        hint = f" *hint: {escaped(one.hint)}*" if one.hint else ""
        lines.append(f"- **{one.verdict}** {_named(one.cases)}: {escaped(one.text)}{limit}{hint}")
    lines += [f"- **sustained** {escaped(name)}: {escaped(text)}" for name, text in sentences.curves(judged)]
    lines += [f"- **recognized** {escaped(name)}: {escaped(text)}" for name, text in recognition.recognized(judged)]
    lines += [f"- **time** {escaped(name)}: {escaped(text)}" for name, text in sentences.operators(judged)]
    for compared in judged.comparisons:
        said = f"{escaped(compared.case_id)}, {escaped(compared.metric)}: {escaped(visible(compared.reason))}"
        lines.append(f"- **{compared.verdict}** against the baseline: {said}")
    lines += [f"- **heard** {_named(cases)}: {escaped(text)}" for text, cases in parities.heard(judged)]
    for advised in sentences.recommendations(judged):
        lines.append(f"- **{sentences.ADVICE[advised.advice]}** {escaped(advised.whose)}: {escaped(advised.text)}")
    lines += ["", *_parities(judged), *_warnings(judged)]
    for name, text in sentences.conditions(judged, folder):
        lines.append(f"- {escaped(name)}: {escaped(text)}")
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Text that Markdown takes for nothing but text, in a table too. `text` has no control characters any more."""
    quoted = re.sub(r"([\\`*_\[\]|~$])", r"\\\1", text)
    # An at sign would call a user of that name.
    return quoted.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "@\u200b")


def _named(cases: Sequence[str]) -> str:
    return ", ".join(escaped(case) for case in cases)


def _table(rows: Rows) -> Iterator[str]:
    unit = rows.unit
    yield (
        f"| device | model | variant | shown | p50 {unit} | p90 {unit} | p99 {unit} | RTF | paced/burst | size MB "
        "| size vs fp32 | speed vs fp32 | parity SNR | parity agree | verdict |"
    )
    yield "| --- | --- | --- | --- |" + " ---: |" * 10 + " --- |"
    for group in rows.groups:
        shown = "; ".join((group.shows, *group.notes))
        for row in group.rows:
            cells = (group.device, group.model, row.variant, shown, row.p50, row.p90, row.p99, row.rtf, row.pacing)
            more = (row.size, row.size_ratio, row.speed_ratio, row.parity, row.agreement)
            verdict = row.verdict_text if row.verdict == "PASS" else f"**{escaped(row.verdict_text)}**"
            yield f"| {' | '.join(_cell(cell) for cell in (*cells, *more))} | {verdict} |"
    yield ""


def _cell(text: str) -> str:
    return "" if text == "-" else escaped(text)


def _parities(judged: JudgedRun) -> Iterator[str]:
    found = parities.parities(judged)
    if not found:
        return
    yield "<details><summary>parity on the device, and of the file itself on the host</summary>"
    yield ""
    headings = [f"{where} {heading}" for where in ("device", "host") for heading in parities.HEADINGS]
    yield f"| device | model | variant | {' | '.join(headings)} |"
    yield "| --- | --- | --- |" + " ---: |" * len(headings)
    for one in found:
        cells = (one.device_name, one.model, one.variant, *one.device, *one.host)
        yield f"| {' | '.join(map(_cell, cells))} |"
    yield ""
    yield "</details>"
    yield ""


def _warnings(judged: JudgedRun) -> Iterator[str]:
    warned = sentences.warnings(judged)
    if not warned:
        return
    yield f"<details><summary>{plural(len(warned), 'kind')} of warnings</summary>"
    yield ""
    for one in warned:
        seen = "; ".join(f"{_named(cases)}: {escaped(text)}" for text, cases in one.texts)
        more = f"; and {one.more} more like it" if one.more else ""
        yield f"- **{escaped(one.code)}** {seen}{more}" + (f" *hint: {escaped(one.hint)}*" if one.hint else "")
    yield ""
    yield "</details>"
    yield ""
