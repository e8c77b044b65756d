"""How far each case is from the original model, on its device and beside it on the host; and what it detects."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from rtfleet.fidelity import Detections, ParityResult
from rtfleet.judged import JudgedCase, JudgedRun
from rtfleet.report.alike import in_full
from rtfleet.report.rows import NONE, agreement, labels, snr
from rtfleet.report.words import plural, significant, times, visible

HEADINGS = ("max err", "SNR", "agree", "drift")


@dataclass(frozen=True)
class Parity:
    """One case: the cells of `HEADINGS` on the device, and of the file itself on the host; `-` where there is none."""

    model: str
    device_name: str
    variant: str
    device: tuple[str, ...]
    host: tuple[str, ...]


def parities(judged: JudgedRun) -> tuple[Parity, ...]:
    """The cases whose parity was measured, those of one model on one device together."""
    found: dict[tuple[str, str], list[Parity]] = {}
    shown = in_full(judged)
    for case in judged.cases:
        identity, result = case.result.case, case.result
        if identity.id in shown and (result.parity_device or result.parity_host):
            place = f"@{identity.device}/{identity.scenario}"
            one = Parity(
                model=visible(identity.model),
                device_name=visible(identity.device),
                variant=visible(identity.id.removeprefix(f"{identity.model}/").replace(place, "")),
                device=_cells(result.parity_device),
                host=_cells(result.parity_host),
            )
            found.setdefault((one.model, one.device_name), []).append(one)
    return tuple(itertools.chain.from_iterable(found.values()))


def _cells(parity: ParityResult | None) -> tuple[str, ...]:
    if parity is None:
        return (NONE,) * len(HEADINGS)
    error = NONE if parity.max_abs_error is None else _error(parity.max_abs_error)
    return error, snr(parity), agreement(parity), NONE if parity.drift is None else times(parity.drift)


def _error(error: float) -> str:
    """`0`, `0.0412`, `1.2e-06`: what is far below one can be read with an exponent only."""
    return f"{error:.1e}" if 0 < error < 1e-3 else significant(error)


def lines(found: Sequence[Parity]) -> Iterator[Text]:
    """On a terminal: a row a case under its model and device; the device's figures, then the host's."""
    rows = [(f"  {one.variant}", *one.device, *one.host) for one in found]
    heading = ("parity", *HEADINGS, *HEADINGS)
    widths = [max(map(cell_len, column)) for column in zip(heading, *rows, strict=True)]
    half = sum(widths[1 : 1 + len(HEADINGS)]) + len(HEADINGS) - 1
    rest = sum(widths[1 + len(HEADINGS) :]) + len(HEADINGS) - 1
    yield Text(f"{'':{widths[0]}} {'on the device':>{half}} {'on the host':>{rest}}", "dim")
    yield Text(_line(heading, widths), "dim")
    group = None
    for one, row in zip(found, rows, strict=True):
        if group != (one.model, one.device_name):
            group = one.model, one.device_name
            yield Text(one.model, "bold").append(f" on {one.device_name}", "not bold")
        yield Text(_line(row, widths))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    padded = [first[0] + " " * (first[1] - cell_len(first[0]))]
    padded += [" " * (width - cell_len(cell)) + cell for cell, width in others]
    return " ".join(padded)


# ---- wake words ----------------------------------------------------------------------------------------------------


def heard(judged: JudgedRun) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """What wake words detected: sentence -> the cases that it holds for; model and device, where for all of them."""
    named = labels(judged)
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    shown = in_full(judged)
    for case in judged.cases:
        if case.result.case.id in shown and (detections := _detections(case)) is not None:
            identity = case.result.case
            texts = found.setdefault((identity.model, identity.device), {})
            texts.setdefault(_sentence(detections), []).append(named[identity.id])
    return tuple(
        (text, (visible(f"{model} on {device}"),) if len(texts) == 1 else tuple(cases))
        for (model, device), texts in found.items()
        for text, cases in texts.items()
    )


def _detections(case: JudgedCase) -> Detections | None:
    return case.result.parity_device.detections if case.result.parity_device else None


def _sentence(found: Detections) -> str:
    labelled, here = found.labelled, found.matched + found.extra
    beside = f"{plural(here, 'detection')} (original {found.original}"
    beside += f": {found.missed} missed, {found.extra} extra)" if found.missed or found.extra else ")"
    if labelled is None:
        return f"{beside} in {_audio(found.audio_s)}; no clip is known to hold the phrase"
    said = (
        f"{labelled.hits} of {plural(labelled.positives, 'clip')} with the phrase (original {labelled.original_hits}), "
        f"{plural(labelled.false_alarms, 'false alarm')} in {_audio(labelled.negatives_s)} of other audio "
        f"(original {labelled.original_false_alarms})"
    )
    return f"{said}; {beside}" if found.missed or found.extra else said


def _audio(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
