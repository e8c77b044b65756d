"""Code that is the user's: found and read without running it, imported, and blamed by its own last line."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.machinery
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from rtfleet.errors import UsageError

_OURS = Path(__file__).resolve().parent


def code_of(module: str, folder: Path) -> Path | str:
    """The file of a dotted module, found without importing anything; else what is missing, as a sentence."""
    importlib.invalidate_caches()
    places: Sequence[str] | None = [str(folder.resolve()), *sys.path]
    name, spec = "", None
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        spec = importlib.machinery.PathFinder.find_spec(name, places) if places else None
        if spec is None:
            return f"there is no module '{name}' in {folder}, and none is installed"
        places = list(spec.submodule_search_locations or ())
    if spec is None or spec.origin is None:
        return f"'{module}' is a folder, not a module"
    return Path(spec.origin)


def names_defined(code: Path, said: str) -> tuple[Sequence[str], Sequence[str]] | None:
    """(all names that the module binds, its public functions); None where reading it can't tell."""
    if code.suffix != ".py":
        return None
    try:
        tree = ast.parse(code.read_bytes(), str(code))
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"{said}: {code.name} is not Python: {error}") from error
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    bound = list(functions)
    for node in ast.walk(tree):
        if isinstance(node, (ast.ImportFrom, ast.Import)):
            bound += [(alias.asname or alias.name).split(".")[0] for alias in node.names]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.append(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            bound.append(node.name)
    if "*" in bound or "__getattr__" in bound:
        return None
    return bound, [name for name in functions if not name.startswith("_")]


def names_in(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    """Names of the files in `folder` that end in one of `suffixes`; [] where there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.name.lower().endswith(suffixes))


def near(text: str, names: Sequence[str]) -> str:
    """ "did you mean …?", or "" where no name is like `text`."""
    close = difflib.get_close_matches(text, names, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else ""


def import_from(folder: Path, module: str, path: Path | None) -> ModuleType:
    """Import `path` where given, else `module` by name. `folder` comes first on sys.path, and stays there."""
    place = str(folder.resolve())
    sys.path[:] = [place, *(entry for entry in sys.path if entry != place)]
    importlib.invalidate_caches()
    if path is None:
        return importlib.import_module(module)
    beside = str(path.resolve().parent)
    if beside not in sys.path:
        sys.path.insert(1, beside)  # after the working folder: `models/luna.py` may import what lies beside it
    taken = module in sys.modules or module in sys.stdlib_module_names
    name = f"rtfleet_source_{module}" if taken or not module.isidentifier() else module
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} can't be imported")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded  # dataclasses and pickles look their module up there
    spec.loader.exec_module(loaded)
    return loaded


def needed_arguments(function: object) -> list[str]:
    """Names of the arguments without which `function` can't be called."""
    if not callable(function):
        return []
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [item.name for item in parameters if item.default is inspect.Parameter.empty and item.kind in plain]


def blame(error: BaseException, said: str, folder: Path, path: Path | None = None) -> UsageError:
    """An exception out of the user's code as one sentence with the user's own last line, instead of a stack trace."""
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    hint = ""
    if isinstance(error, SyntaxError) and error.filename:
        return UsageError(f"{said}: {error.msg} ({_short(error.filename, folder)}:{error.lineno})")
    if isinstance(error, ModuleNotFoundError) and error.name:
        hint = f"install the package that holds '{error.name}' into this environment: {sys.executable} -m pip install …"
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if _is_users(frame.filename, folder, path)]
    where = (theirs or frames)[-1:]
    place = f" ({_short(where[0].filename, folder)}:{where[0].lineno})" if where else ""
    return UsageError(f"{said}: {reason}{place}", hint)


def _is_users(filename: str, folder: Path, path: Path | None) -> bool:
    file = Path(filename).resolve()
    if path is not None and file == path.resolve():
        return True
    if file.is_relative_to(_OURS) or {"site-packages", "dist-packages"} & set(file.parts):
        return False
    return file.is_relative_to(folder.resolve())


def _short(filename: str, folder: Path) -> str:
    file = Path(filename).resolve()
    return str(file.relative_to(folder.resolve())) if file.is_relative_to(folder.resolve()) else file.name
