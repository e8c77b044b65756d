"""The errors that people see. `cli/main.py` prints them once and ends with the class's exit code.

RtfleetError               5  rtfleet itself failed
+ UsageError               2  wrong flags, a bad file, a model that can't be fetched or described
| + ExportError            2  a route that failed; a row of the report, not the end of a run
+ DeviceError              4  a device or agent gave no result
  + LeaseHeld              4  somebody else measures on the device
"""

from __future__ import annotations


class RtfleetError(Exception):
    """What was wrong and where; `hint` is what to do."""

    exit_code = 5

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.hint = hint


class UsageError(RtfleetError):
    """Wrong usage or bad input."""

    exit_code = 2


class ExportError(UsageError):
    """A conversion that does not work. `step` is the exporter's step or the operator that failed."""

    def __init__(self, text: str, hint: str = "", step: str = "") -> None:
        super().__init__(text, hint)
        self.step = step


class DeviceError(RtfleetError):
    """A device or agent gave no result. `retryable`: trying again may help."""

    exit_code = 4

    def __init__(self, text: str, hint: str = "", kind: str = "DEVICE", retryable: bool = True) -> None:
        super().__init__(text, hint)
        self.kind = kind
        self.retryable = retryable


class LeaseHeld(DeviceError):
    """Somebody else measures on the device."""
