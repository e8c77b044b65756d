"""The tables of `rtfleet devices`, `doctor`, `models`, `bundle` and `export`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from rtfleet.bundle import Bundle
from rtfleet.certificates import day
from rtfleet.delivery import Delivered
from rtfleet.doctor import Finding
from rtfleet.models.stock import InStock
from rtfleet.pki import Issued
from rtfleet.report.console import STYLES
from rtfleet.report.rows import NONE, agreement, snr
from rtfleet.report.words import significant, visible
from rtfleet.survey import Answer

GB = 1_000_000_000
_STYLES = {"ok": "green", "warn": "yellow", "bad": "red"}


def devices(answers: Sequence[Answer]) -> Table:
    """One row a device. Texts of devices are shown as they are, never as markup."""
    table = Table(box=None, pad_edge=False, show_edge=False)
    for heading in ("device", "state", "what it is", "profile", "runtimes"):
        table.add_column(heading, overflow="fold")
    for answer in answers:
        if answer.facts is None:
            words = f"{answer.error.text} ({answer.error.hint})" if answer.error else ""
            table.add_row(Text(answer.device.name), Text("no answer", "red"), Text(words), "", "")
            continue
        facts = answer.facts
        state = _state(answer)
        size = f"{facts.cores} cores, {facts.memory_bytes / GB:.1f} GB"
        what = ", ".join(filter(None, (facts.model, f"{facts.os} {facts.os_version}", facts.soc, size)))
        runtimes = ", ".join(f"{runtime.name} {runtime.version}" for runtime in facts.runtimes if not runtime.error)
        table.add_row(Text(facts.alias), state, Text(what), Text(facts.profile), Text(runtimes or "none"))
    return table


def _state(answer: Answer) -> Text:
    """Free, or who has it, since when and why; or that runs leave it out."""
    facts = answer.facts
    assert facts is not None
    if facts.lease_holder:
        since = datetime.fromtimestamp(facts.lease_since_unix_s).strftime("%H:%M") if facts.lease_since_unix_s else ""
        verb = "held" if facts.lease_reason else "leased"
        why = f": {facts.lease_reason}" if facts.lease_reason else ""
        return Text(visible(f"{verb} by {facts.lease_holder}{since and f' since {since}'}{why}"), "yellow")
    if answer.health.set_aside:
        said = f"set aside after {answer.health.errors} errors in a row: {answer.health.last}"
        return Text(visible(f"{said} (rtfleet devices release {answer.device.name})"), "red")
    return Text("free", "green")


def findings(found: Sequence[Finding]) -> Table:
    """One row a finding, its hint below it."""
    table = Table(box=None, pad_edge=False, show_edge=False, show_header=False)
    for finding in found:
        words = Text(finding.text)
        if finding.hint:
            words.append(f"\nhint: {finding.hint}", "italic")
        table.add_row(Text(finding.state, _STYLES[finding.state]), Text(finding.subject), words)
    return table


def models(found: Sequence[InStock]) -> Table:
    """The zoo: one row a model."""
    table = Table(box=None, pad_edge=False, show_edge=False)
    for heading in ("model", "task", "here", "licence", "what it is"):
        table.add_column(heading, no_wrap=heading != "what it is", overflow="fold")
    for one in found:
        model = one.model
        here = Text("yes", "green") if one.here else Text("models fetch", "yellow")
        packages = ", ".join(map(str, one.packages))
        what = model.description + (f" ({packages})" if packages else "")
        table.add_row(Text(model.name, "bold"), Text(model.task), here, Text(model.licence), Text(what))
    return table


def bundles(found: Sequence[Bundle]) -> Table:
    """One row a bundle."""
    table = Table(box=None, pad_edge=False, show_edge=False)
    for heading in ("bundle", "arch", "runtimes", "size MB", "last used"):
        table.add_column(heading, no_wrap=True, justify="right" if heading == "size MB" else "left")
    for one in found:
        used = datetime.fromtimestamp(one.used_at).astimezone().isoformat(" ", "minutes")
        table.add_row(one.name, one.arch, ", ".join(one.runtimes) or NONE, f"{one.size_bytes / 1e6:.0f}", used)
    return table


def issued(found: Sequence[Issued], now: datetime) -> Table:
    """One row a certificate."""
    table = Table(box=None, pad_edge=False, show_edge=False)
    for heading in ("name", "role", "state", "until", "serial"):
        table.add_column(heading, overflow="fold")
    for one in found:
        said = one.certificate
        if one.revoked:
            state = Text(f"revoked {day(one.revoked.at)}", "red")
        else:
            state = Text("counts", "green") if one.counts(now) else Text("expired", "yellow")
        table.add_row(Text(said.name), Text(said.role), state, Text(day(said.valid_until)), Text(said.serial))
    return table


def delivered(found: Sequence[Delivered]) -> Iterator[RenderableType]:
    """One row a variant, then why something is not as it should be, then where the files lie."""
    table = Table(box=None, pad_edge=False, show_edge=False)
    for heading in ("variant", "size MB", "seconds", "parity SNR", "agree", "verdict"):
        table.add_column(heading, justify="left" if heading in ("variant", "verdict") else "right")
    for one in found:
        size = significant(one.artifact.size_bytes / 1e6) if one.artifact else NONE
        parity = (snr(one.parity), agreement(one.parity)) if one.parity else (NONE, NONE)
        verdict = Text(one.verdict, STYLES[one.verdict])
        table.add_row(Text(one.variant), size, f"{one.seconds:.1f}", *parity, verdict)
    yield table
    whose: dict[tuple[str, str], list[str]] = {}
    for one in found:
        for told in _explained(one):
            whose.setdefault(told, []).append(one.variant)
    for (text, hint), variants in whose.items():
        yield Text(f"\n{visible(', '.join(variants))}: {visible(text)}")
        if hint:
            yield Text(f"  hint: {visible(hint)}", "italic")
    folders = [one.folder for one in found if one.folder]
    if folders:
        yield Text(f"\nkept in {folders[0].parent}")


def _explained(one: Delivered) -> Iterator[tuple[str, str]]:
    """What the table has no room for: text and hint."""
    if one.error:
        yield one.error.text, one.error.hint
    if one.not_run and one.artifact:
        yield f"not run here: {one.not_run}; checked instead: {one.artifact.checked}", ""
    for check in one.checks:
        if check.verdict != "PASS":
            yield f"{check.metric}: {check.reason}", ""
    if one.note:
        yield one.note, ""
