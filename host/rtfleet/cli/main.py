"""The `rtfleet` command: its subcommands, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from types import FrameType

import typer

from rtfleet.cli.bundle import app as bundle_app
from rtfleet.cli.compare import compare
from rtfleet.cli.devices import app as devices_app
from rtfleet.cli.doctor import doctor
from rtfleet.cli.export import export
from rtfleet.cli.models import app as models_app
from rtfleet.cli.pki import app as pki_app
from rtfleet.cli.run import run
from rtfleet.cli.show import show
from rtfleet.errors import RtfleetError

# Before any command loads gRPC: what that has to say of a line that broke, rtfleet says in words of its own.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

EXIT_INTERNAL = 5
EXIT_INTERRUPTED = 130
EXIT_USAGE = 2

app = typer.Typer(
    name="rtfleet",
    help="Does this speech model meet its budget on this device, and how sure are we?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(run)
app.command()(export)
app.command()(show)
app.command()(compare)
app.add_typer(devices_app, name="devices")
app.add_typer(models_app, name="models")
app.add_typer(bundle_app, name="bundle")
app.command()(doctor)
app.add_typer(pki_app, name="pki")


def _print_version(asked: bool) -> None:
    if asked:
        from rtfleet.version import VERSION

        print(f"rtfleet {VERSION}")
        raise typer.Exit


@app.callback()
def _options(
    debug: bool = typer.Option(False, "--debug", help="Show the stack trace of an error."),
    version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", is_eager=True, callback=_print_version
    ),
) -> None:
    del debug, version  # main() reads --debug from argv, so that it works before and after the subcommand


def main() -> None:
    """Run the command line and exit. Python's own code for a bug is 1, which CI would read as FAIL: never used here."""
    signal.signal(signal.SIGTERM, _as_ctrl_c)
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    if sys.version_info < (3, 11):  # noqa: UP036 (an agent's 3.10 can install this distribution)
        _say("the rtfleet host needs Python 3.11 or newer; only agents run on 3.10", "")
        sys.exit(EXIT_USAGE)
    try:
        code = app(arguments, standalone_mode=False)
    except typer.Abort:
        code = EXIT_INTERRUPTED
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except RtfleetError as error:
        if debug:
            traceback.print_exc()
        _say(error.text, error.hint)
        code = error.exit_code
    except (BrokenPipeError, SystemExit):
        # The reader of stdout has gone (`| head`), which rich answers with an exit code of its own, 1; nothing is left
        # to tell it.
        sys.stderr.close()
        code = 0
    except OSError as error:
        if debug:
            traceback.print_exc()
        where = f"{error.filename}: " if error.filename else ""
        _say(f"{where}{error.strerror or error}", "see whether it can be written and has room (--out, RTFLEET_CACHE)")
        code = EXIT_USAGE
    except Exception as error:
        code = EXIT_INTERRUPTED if _was_interrupted(error) else _unexpected(error, debug)
    # A second Ctrl-C must not change what the first one came to.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code if isinstance(code, int) else 0)


def _as_ctrl_c(number: int, frame: FrameType | None) -> None:
    """What a CI job is cancelled with keeps what was measured, as Ctrl-C does; also where that is ignored."""
    handler = signal.getsignal(signal.SIGINT)
    (handler if callable(handler) else signal.default_int_handler)(number, frame)


def _was_interrupted(error: BaseException | None) -> bool:
    """Libraries that are interrupted while they load raise errors of their own."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def _unexpected(error: Exception, debug: bool) -> int:
    show = getattr(error, "show", None)  # click's own: an unknown flag, a missing argument
    if callable(show):
        show()
        return EXIT_USAGE
    if debug:
        traceback.print_exc()
    where = traceback.extract_tb(error.__traceback__)[-1]
    _say(
        f"rtfleet itself failed: {type(error).__name__}: {error} ({where.filename.rpartition('/')[2]}:{where.lineno})",
        "run it again with --debug and report the stack trace",
    )
    return EXIT_INTERNAL


def _say(text: str, hint: str) -> None:
    print(f"error: {_visible(text)}", file=sys.stderr)
    if hint:
        print(f"\nhint: {_visible(hint)}", file=sys.stderr)


def _visible(text: str) -> str:
    """Control characters of file and model names as escapes, so that no name can draw on the terminal."""
    return "".join(
        character if character.isprintable() or character == "\n" else repr(character)[1:-1] for character in text
    )


if __name__ == "__main__":
    main()
