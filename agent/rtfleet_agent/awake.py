"""Android kept awake while an agent serves it: the screen stays on while the phone is plugged in.

The setting that was there is kept in a file until it is restored, so that an agent that is killed leaves it to the next
one, which does not take the changed setting for the phone's own.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from rtfleet_agent.sensors import android
from rtfleet_agent.sensors.reading import Run, run

_SETTING = "stay_on_while_plugged_in"
# On mains, on USB and on a wireless charger: BatteryManager.BATTERY_PLUGGED_*, added up.
_ALWAYS = "7"
_NEVER_SET = "null"

_log = logging.getLogger("rtfleet-agent")


@contextlib.contextmanager
def kept_awake(note: Path, run: Run = run) -> Iterator[None]:
    """The phone stays awake until the block ends; its setting is then what it was.

    Args:
        note: File that holds the setting meanwhile.
    """
    settings = android.command("settings")
    try:
        if not note.exists():
            # Whole or not there: what a full disk left of it would be taken for the phone's own setting.
            part = note.with_name(f"{note.name}.part")
            part.write_text(run(settings, "get", "global", _SETTING).strip() or _NEVER_SET)
            part.replace(note)
        run(settings, "put", "global", _SETTING, _ALWAYS)
    except OSError as error:
        # It measures all the same; the screen's state stands with every launch.
        _log.warning("the phone is not kept awake: %s", error)
    try:
        yield
    finally:
        if note.exists():
            _restore(settings, note, run)


def _restore(settings: str, note: Path, run: Run) -> None:
    try:
        before = note.read_text().strip()
        if before == _NEVER_SET:
            run(settings, "delete", "global", _SETTING)
        else:
            run(settings, "put", "global", _SETTING, before)
        note.unlink()
    except OSError as error:
        _log.warning("the phone's setting %s could not be restored: %s", _SETTING, error)
