"""Run directories. This module alone reads and writes them.

journal.jsonl        one record a line, fsynced: what is in it survives a crash of the host
raw/<launch_id>.npz  the int64 columns of a launch; their sha256 stands in the journal
run.json             composed from both at the end, with what was judged

The journal holds the leases' secrets, so that a host that crashed can ask for its events; they never leave it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np

from rtfleet import json_text, run_json, toml_file
from rtfleet.errors import RtfleetError, UsageError
from rtfleet.fidelity import ParityResult, Recognition
from rtfleet.judged import JudgedRun
from rtfleet.operators import Operators
from rtfleet.records import CaseError, CaseResult, DeviceFacts, Json, Launch, Preflight, Run, RunSettings

JOURNAL = "journal.jsonl"
DOCUMENT = "run.json"
RAW = "raw"


@dataclass(frozen=True)
class Announced:
    """A launch that was begun, and whose end nobody wrote down."""

    case_id: str
    launch_id: str
    preflight: Preflight | None = None


@dataclass(frozen=True)
class Unfinished:
    """What a run left open when it ended: its leases (device -> secret), and launches that agents may have kept."""

    leases: Mapping[str, str]
    launches: tuple[Announced, ...]


class Journal:
    """The facts of a run as they come in. Each is on the disk when its method returns.

    Every method raises RtfleetError when it can't be written; what was written before stays whole.
    """

    def __init__(self, folder: Path, descriptor: int) -> None:
        """Use `create` or `resume`."""
        self.folder = folder
        self._descriptor = descriptor

    @classmethod
    def create(cls, folder: Path, run: Run, order: Json = None) -> Journal:
        """Begin the directory of a run of which nothing but its heading is known. Raises UsageError.

        Args:
            order: What was asked for, as `order.to_json` has it; None: the run can't be resumed.
        """
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (folder / RAW).mkdir(mode=0o700, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
            journal = cls(folder, _held(os.open(folder / JOURNAL, flags, 0o600), folder))
        except FileExistsError:
            raise UsageError(f"{folder}: holds a run already", hint="go on with --resume, or choose another") from None
        except OSError as error:
            raise UsageError(f"{folder}: can't be written: {error.strerror}", hint="choose --out DIR") from None
        journal._append(
            "header",
            format_version=run_json.FORMAT_VERSION,
            run_id=run.id,
            started_at=run.started_at,
            rtfleet_version=run.rtfleet_version,
            host=run_json.plain(dict(run.host)),
            settings=run_json.plain(run.settings),
            order=order,
        )
        _sync_folder(folder)
        return journal

    @classmethod
    def resume(cls, folder: Path) -> Journal:
        """Go on with a run, after a crash too: half a line at the end is cut off.

        Raises:
            UsageError: it can't be read or written, or is still going on.
        """
        path = folder / JOURNAL
        list(_lines(path))
        try:
            descriptor = _held(os.open(path, os.O_RDWR | os.O_APPEND), folder)
        except OSError as error:
            raise UsageError(f"{path}: can't be written: {error.strerror}") from None
        whole = path.read_bytes().rpartition(b"\n")
        os.ftruncate(descriptor, len(whole[0]) + len(whole[1]))
        return cls(folder, descriptor)

    def device(self, facts: DeviceFacts) -> None:
        """A device answered."""
        self._append("device", facts=run_json.plain(facts))

    def case(self, result: CaseResult) -> None:
        """A case, when it is planned and again when it has its artifact. Its launches come one by one."""
        self._append(
            "case",
            case=run_json.plain(result.case),
            artifact=run_json.plain(result.artifact) if result.artifact else None,
            budgets=run_json.plain(list(result.budgets)),
            error=run_json.plain(result.error) if result.error else None,
        )

    def lease(self, device: str, lease_id: str) -> None:
        """The lease's secret, before it is asked for."""
        self._append("lease", device=device, lease_id=lease_id)

    def intent(self, case_id: str, launch_id: str, fit: Preflight | None) -> None:
        """A launch's id, before it is used, and how fit its device is. What stands there of it no longer counts."""
        self._append("intent", case_id=case_id, launch_id=launch_id, preflight=run_json.plain(fit) if fit else None)

    def launch(self, case_id: str, launch: Launch) -> None:
        """A launch that has ended, well or not; its columns first."""
        if (self.folder / _columns_path(launch.launch_id)).exists():
            # Its line names the columns that are replaced now: a crash before the new line must find the launch open.
            self.intent(case_id, launch.launch_id, launch.preflight)
        columns = _write_columns(self.folder, launch)
        self._append("launch", case_id=case_id, launch=run_json.plain(launch), columns=columns)

    def parity(self, case_id: str, where: Literal["host", "device"], result: ParityResult) -> None:
        """How far the outputs are from the original's."""
        self._append("parity", case_id=case_id, where=where, result=run_json.plain(result))

    def recognition(self, case_id: str, result: Recognition) -> None:
        """What a recognizer made of its clips."""
        self._append("recognition", case_id=case_id, result=run_json.plain(result))

    def operators(self, case_id: str, operators: Operators) -> None:
        """Where the time of a case goes, or why nobody can tell."""
        self._append("operators", case_id=case_id, operators=run_json.plain(operators))

    def case_error(self, case_id: str, error: CaseError) -> None:
        """Why a case that had begun gives no (further) result."""
        self._append("case_error", case_id=case_id, error=run_json.plain(error))

    def end(self, interrupted: bool) -> None:
        """The run is over."""
        self._append("end", interrupted=interrupted)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def _append(self, type_: str, **facts: Json) -> None:
        line = json.dumps({"type": type_, **facts}, allow_nan=False).encode() + b"\n"
        whole_bytes = os.fstat(self._descriptor).st_size
        try:
            while line:
                line = line[os.write(self._descriptor, line) :]
            os.fsync(self._descriptor)
        except OSError as error:
            # Half a line would spoil the next one.
            os.ftruncate(self._descriptor, whole_bytes)
            raise _no_room(self.folder, error) from None


# ---- reading -------------------------------------------------------------------------------------------------------


def read(path: Path) -> Run:
    """The run of a directory, or of a run.json by itself.

    Raises:
        UsageError: there is none, it is damaged, or a newer rtfleet wrote it.
    """
    if path.is_dir():
        if (path / JOURNAL).exists():
            return _read_journal(path)
        path = path / DOCUMENT
    if not path.exists():
        raise UsageError(f"{path.parent if path.name == DOCUMENT else path}: holds no run: no {JOURNAL}, no {DOCUMENT}")
    with _naming(path):
        return run_json.run_of(_document(path), lambda stored: _read_columns(path.parent, stored))


def order(folder: Path) -> Json:
    """What the run was asked for, as `Journal.create` was given it. Raises UsageError."""
    path = folder / JOURNAL
    if not path.is_file():
        raise UsageError(f"{folder}: holds no journal to go on with: no {JOURNAL}")
    kept = next(_lines(path)).get("order")
    if kept is None:
        raise UsageError(f"{path}: does not say what the run was asked for, so it can't be resumed", "start a new run")
    return kept


def unfinished(folder: Path) -> Unfinished:
    """Leases and launches that a host that starts again can ask its agents for. Raises UsageError."""
    leases: dict[str, str] = {}
    launches: dict[str, Announced] = {}
    for line in _lines(folder / JOURNAL):
        if line["type"] == "lease":
            leases[line["device"]] = line["lease_id"]
        elif line["type"] == "intent":
            fit = line.get("preflight")
            announced = Announced(line["case_id"], line["launch_id"], run_json.record(fit, Preflight) if fit else None)
            launches[announced.launch_id] = announced
        elif line["type"] == "launch" and (line["launch"]["error"] or {}).get("kind") != "DEVICE":
            # A device that went away may have measured to the end.
            launches.pop(line["launch"]["launch_id"], None)
    return Unfinished(leases, tuple(launches.values()))


@dataclass
class _Gathered:
    """A case while its lines are read."""

    result: CaseResult
    launches: dict[str, Launch] = field(default_factory=dict)

    @property
    def whole(self) -> CaseResult:
        return replace(self.result, launches=tuple(self.launches.values()))


def _read_journal(folder: Path) -> Run:
    path = folder / JOURNAL
    devices: dict[str, DeviceFacts] = {}
    cases: dict[str, _Gathered] = {}
    # A launch that was cut off and then taken up again stands there twice; its columns are those of the second time.
    last: dict[str, int] = {}
    header: Json = None
    end: Json = None
    # Read twice: the records of a fleet's run take many times the room of their text.
    for number, line in enumerate(_lines(path), start=1):
        header, end = header or line, line
        with _naming(path, f"line {number}"):
            if line["type"] == "launch":
                last[line["launch"]["launch_id"]] = number
            elif line["type"] == "intent":
                last.pop(line["launch_id"], None)
    for number, line in enumerate(_lines(path), start=1):
        with _naming(path, f"line {number}"):
            if number > 1 and (line["type"] != "launch" or last.get(line["launch"]["launch_id"]) == number):
                _take(line, folder, devices, cases)
    with _naming(path, "its last line"):
        interrupted = end["type"] == "end" and bool(end["interrupted"])
    with _naming(path, "line 1"):
        return Run(
            id=header["run_id"],
            started_at=header["started_at"],
            rtfleet_version=header["rtfleet_version"],
            host=header["host"],
            settings=run_json.record(header["settings"], RunSettings),
            devices=tuple(devices.values()),
            results=tuple(case.whole for case in cases.values()),
            finished=end["type"] == "end" and not interrupted,
            interrupted=interrupted,
        )


def _take(line: Json, folder: Path, devices: dict[str, DeviceFacts], cases: dict[str, _Gathered]) -> None:
    match line["type"]:
        case "device":
            facts = run_json.record(line["facts"], DeviceFacts)
            devices[facts.alias] = facts
        case "case":
            result = run_json.record(
                {name: line[name] for name in ("case", "artifact", "budgets", "error")}, CaseResult
            )
            if (known := cases.get(result.case.id)) is not None:
                earlier = known.result
                if result.artifact is None and earlier.artifact is not None:
                    # It could not be made again; its launches are still those of the file that they had.
                    result = replace(earlier, error=result.error)
                known.result = replace(
                    result,
                    parity_host=earlier.parity_host,
                    parity_device=earlier.parity_device,
                    recognition=earlier.recognition,
                    operators=earlier.operators,
                )
            else:
                cases[result.case.id] = _Gathered(result)
        case "launch":
            launch = run_json.record(line["launch"], Launch)
            columns = _read_columns(folder, line["columns"])
            cases[line["case_id"]].launches[launch.launch_id] = run_json.with_columns(launch, columns)
        case "parity":
            gathered = cases[line["case_id"]]
            parity = run_json.record(line["result"], ParityResult)
            if line["where"] == "host":
                gathered.result = replace(gathered.result, parity_host=parity)
            else:
                gathered.result = replace(gathered.result, parity_device=parity)
        case "recognition":
            gathered = cases[line["case_id"]]
            gathered.result = replace(gathered.result, recognition=run_json.record(line["result"], Recognition))
        case "operators":
            gathered = cases[line["case_id"]]
            gathered.result = replace(gathered.result, operators=run_json.record(line["operators"], Operators))
        case "case_error":
            gathered = cases[line["case_id"]]
            gathered.result = replace(gathered.result, error=run_json.record(line["error"], CaseError))
        case "lease" | "intent" | "end":
            pass
        case other:
            raise ValueError(f"unknown record {other!r}")


def _lines(path: Path) -> Iterator[Json]:
    """The journal's records, the header first. Half a line at the end is what a crash leaves, and is passed over."""
    number = 0
    for number, line in enumerate(_whole_lines(path), start=1):
        try:
            record = json.loads(line, parse_constant=_no_number)
            if number == 1:
                run_json.check_version(record["format_version"])
            record["type"]
        except UsageError as error:
            raise UsageError(f"{path}: {error.text}", error.hint) from None
        except (ValueError, TypeError, KeyError, RecursionError):
            raise UsageError(f"{path}: line {number} is damaged") from None
        yield record
    if not number:
        raise UsageError(f"{path}: is empty: the run ended before it began")


def _whole_lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as stream:
            yield from (line for line in stream if line.endswith(b"\n"))
    except OSError as error:
        raise UsageError(f"{path}: can't be read: {error.strerror}") from None


def _document(path: Path) -> Mapping[str, Json]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(document, dict):
        raise ValueError("expected an object")
    return document


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no JSON")


@contextlib.contextmanager
def _naming(path: Path, where: str = "") -> Iterator[None]:
    """Whatever is wrong in here is said with the file's name."""
    from cattrs import BaseValidationError

    shown = f"{path}: {where}" if where else str(path)
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{shown}: {error.text}", error.hint) from None
    except BaseValidationError as error:
        raise UsageError(f"{shown}: {'; '.join(toml_file.problems(error))}") from None
    except KeyError as error:
        raise UsageError(f"{shown}: {error.args[0]} is missing") from None
    except OSError as error:
        raise UsageError(f"{shown}: can't be read: {error.strerror}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{shown}: is damaged: {error}") from None


# ---- columns -------------------------------------------------------------------------------------------------------


def _columns_path(launch_id: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", launch_id):
        raise ValueError(f"launch id {launch_id!r} can't name a file")
    return f"{RAW}/{launch_id}.npz"


def _write_columns(folder: Path, launch: Launch) -> dict[str, str]:
    name = _columns_path(launch.launch_id)
    packed = io.BytesIO()
    np.savez_compressed(packed, **{column: getattr(launch, column) for column in run_json.COLUMNS})
    _write_whole(folder / name, [packed.getvalue()], folder)
    return {"file": name, "sha256": hashlib.sha256(packed.getvalue()).hexdigest()}


def _read_columns(folder: Path, stored: Mapping[str, str]) -> run_json.Columns:
    name = stored["file"]
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"{name} leaves the run's folder")
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{name} can't be read: {error.strerror}", "it belongs to the run's directory") from None
    if hashlib.sha256(packed).hexdigest() != stored["sha256"]:
        raise UsageError(f"{name} was changed: its sha256 is not {stored['sha256']}")
    try:
        with np.load(io.BytesIO(packed), allow_pickle=False) as columns:
            return {name: columns[name] for name in run_json.COLUMNS if name in columns.files}
    except (zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{name}: {error}") from None


# ---- run.json ------------------------------------------------------------------------------------------------------


def document(judged: JudgedRun, folder: Path | None) -> Iterator[str]:
    """`run.json` of a run whose directory is `folder`, piece by piece; without one, all columns are inline.

    Strict JSON, one value a line where that is a list or a record of simple values. A fleet's cases become text one
    after the other: as values they would take thirty times the room, and whole the text a hundred megabytes.
    """

    def stored(launch_id: str) -> Json:
        name = _columns_path(launch_id)
        if folder is None or not (folder / name).is_file():
            return None
        try:
            return {"file": name, "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest()}
        except OSError as error:
            raise UsageError(f"{folder / name} can't be read: {error.strerror}") from None

    head, tail = json_text.of(run_json.compose(judged)).split('\n "cases": []', 1)
    yield f'{head}\n "cases": ['
    for number, case in enumerate(judged.cases):
        yield ",\n  " if number else "\n  "
        yield json_text.of(run_json.compose_case(case, stored), "\n  ")
    yield f"\n ]{tail}\n" if judged.cases else f"]{tail}\n"


def write(judged: JudgedRun, folder: Path) -> None:
    """Compose `run.json`. Raises RtfleetError when there is no room; the journal keeps everything."""
    _write_whole(folder / DOCUMENT, (piece.encode() for piece in document(judged, folder)), folder)


def _write_whole(path: Path, pieces: Iterable[bytes], folder: Path) -> None:
    """All of it or nothing: a crash leaves no half of a file under its name."""
    begun = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(os.open(begun, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
            stream.writelines(pieces)
            stream.flush()
            os.fsync(stream.fileno())
        begun.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _no_room(folder, error) from None
    finally:
        # Gone, where it got its name.
        begun.unlink(missing_ok=True)


def _held(descriptor: int, folder: Path) -> int:
    """An open journal that no other process goes on with until it is closed: two with one lease ruin each other's
    launches. Raises UsageError."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UsageError(f"{folder}: another rtfleet is at it", hint="wait until that one has ended") from None
    except OSError:
        pass  # a file system without locks
    return descriptor


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _no_room(folder: Path, error: OSError) -> RtfleetError:
    return RtfleetError(
        f"{folder}: can't be written: {error.strerror}",
        hint=f"what was measured before is kept: free some room, then `rtfleet show {folder}`",
    )
