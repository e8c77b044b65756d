"""A command of this machine, run to its end: `adb`, `ssh`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from rtfleet.transports import Ran


async def run(words: Sequence[str], timeout_s: float | None, stdin: int = asyncio.subprocess.DEVNULL) -> Ran:
    """What it said and how it ended. It is killed where nobody waits for it any more.

    Args:
        timeout_s: None: it ends when what it reads does.
        stdin: A file descriptor that it reads.

    Raises:
        TimeoutError: it did not end in time.
        OSError: it can't be run.
    """
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # Ctrl-C is the host's to handle; an adb server that is started so stays.
        start_new_session=True,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), timeout_s)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return Ran(process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace"))
