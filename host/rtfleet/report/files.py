"""The report's files: `--json`, `--junit`, `--markdown`. `-` is stdout."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rtfleet.errors import UsageError
from rtfleet.judged import JudgedRun
from rtfleet.report import console
from rtfleet.report.words import visible


@dataclass(frozen=True)
class Targets:
    """Where the report goes besides the screen; None is nowhere, "-" stdout."""

    json: str | None = None
    junit: str | None = None
    markdown: str | None = None

    @property
    def on_stdout(self) -> bool:
        """stdout is taken: the table must not go there."""
        return "-" in self.by_flag.values()

    @property
    def by_flag(self) -> Mapping[str, str]:
        """The flags that were given."""
        given = {"--json": self.json, "--junit": self.junit, "--markdown": self.markdown}
        return {flag: target for flag, target in given.items() if target is not None}


def check(targets: Targets) -> None:
    """Before anything is measured: can the files be written? Raises UsageError that names the flag."""
    on_stdout = [flag for flag, target in targets.by_flag.items() if target == "-"]
    if len(on_stdout) > 1:
        raise UsageError(f"{' and '.join(on_stdout)}: only one of them can go to stdout", "give the other one a file")
    taken: dict[Path, str] = {}
    for flag, target in targets.by_flag.items():
        if target == "-":
            continue
        try:
            path = Path(target).resolve()  # a link may lead anywhere
        except (OSError, RuntimeError):
            raise UsageError(f"{flag} {target}: is a link to itself", "name a file") from None
        folder = path.parent
        if path in taken and path.is_file():
            raise UsageError(f"{taken[path]} and {flag} {target}: are one file", "give each its own")
        taken[path] = flag
        if not folder.is_dir():
            raise UsageError(f"{flag} {target}: there is no folder {folder}", "make it first")
        if path.is_dir():
            raise UsageError(f"{flag} {target}: is a folder", "name a file in it")
        if not os.access(path if path.exists() else folder, os.W_OK):
            raise UsageError(f"{flag} {target}: can't be written: permission denied")


def hand_over(judged: JudgedRun, folder: Path, targets: Targets) -> int:
    """The report on the screen, then its files; the exit code.

    Raises:
        UsageError: it could not be shown, or a file not be written. A FAIL is graver: then it is only said beside it.
    """
    problem: UsageError | None = None
    try:
        if not targets.on_stdout:
            console.show(judged, console.output(), folder)
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):
        # Its reader has seen enough (`| head`); the verdict is the same. rich makes a SystemExit of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        kept = f"the run is kept: rtfleet show {folder}"
        problem = UsageError(f"the report can't be shown: stdout can't be written: {error.strerror}", kept)
    try:
        write(judged, folder, targets)
    except UsageError as error:
        problem = problem or error
    if problem is not None:
        if judged.exit_code not in (1, 130):
            raise problem
        print(f"error: {visible(problem.text)}", file=sys.stderr)
    return judged.exit_code


def write(judged: JudgedRun, folder: Path | None, targets: Targets) -> None:
    """Write them all, then raise UsageError for those that could not be."""
    failed = []
    for flag, target in targets.by_flag.items():
        try:
            put(flag, target, _pieces(flag, judged, folder))
        except UsageError as error:
            failed.append(error.text)
    if failed:
        raise UsageError("\n".join(failed), f"the run is kept: rtfleet show {folder}" if folder else "")


def put(flag: str, target: str, pieces: Iterable[str]) -> None:
    """One file, or stdout. Raises UsageError that names the flag."""
    whole = list(pieces)  # what can't be composed leaves an older report as it was
    try:
        if target == "-":
            sys.stdout.writelines(whole)
            sys.stdout.flush()
        else:
            _write(Path(target), whole)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UsageError(f"{flag} {target}: can't be written: {error.strerror}") from None


def _write(path: Path, pieces: Sequence[str]) -> None:
    """Whole or not at all: no half of a report in the place of an older one."""
    # Standard output by another name may be a file that others write to as well.
    is_stream = str(path.absolute()).startswith(("/dev/", "/proc/")) or (path.exists() and not path.is_file())
    path = path if is_stream else path.resolve()  # a link stays one
    if is_stream or not os.access(path.parent, os.W_OK):
        with path.open("w", encoding="utf-8") as stream:
            stream.writelines(pieces)
        return
    begun = path.with_name(f".rtfleet-{os.getpid()}.part")
    try:
        with begun.open("w", encoding="utf-8") as stream:
            stream.writelines(pieces)
        if path.exists():
            begun.chmod(stat.S_IMODE(path.stat().st_mode))
        begun.replace(path)
    finally:
        begun.unlink(missing_ok=True)


def _pieces(flag: str, judged: JudgedRun, folder: Path | None) -> Iterable[str]:
    if flag == "--json":
        from rtfleet import run_file

        return run_file.document(judged, folder)
    if flag == "--junit":
        from rtfleet.report import junit

        return [junit.render(judged)]
    from rtfleet.report import markdown

    return [markdown.render(judged, folder)]
