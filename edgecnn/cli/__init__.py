"""The command line, from the process's side: signals, errors and the exit code.

A command is a function in a file of this room and a row in ``commands.py``; it holds no logic. Heavy modules are
imported inside the commands, so that ``edgecnn --help`` answers at once.
"""

import atexit
import contextlib
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

import typer

from edgecnn.cli.commands import app
from edgecnn.cli.output import terminal
from edgecnn.console import show_error
from edgecnn.errors import EdgecnnError, ExitCode, Interrupted, UsageError


def main() -> None:
    """Run the command line and exit; other exceptions than ours are defects and keep their traceback."""
    _leave(_main(sys.argv[1:]))


def _leave(code: int) -> NoReturn:
    """Exit as ``sys.exit`` does, but without taking PyTorch apart piece by piece, which takes half a second or more."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BrokenPipeError):  # whoever read it has gone; what was to be written is on the disk
            stream.flush()
    os._exit(code)


def _main(arguments: list[str]) -> int:
    signal.signal(signal.SIGTERM, _terminate)
    as_json, debug = "--json" in arguments, "--debug" in arguments
    try:
        code = app(arguments, prog_name="edgecnn", standalone_mode=False)
        if code == ExitCode.INTERRUPTED:  # Typer's answer to a KeyboardInterrupt
            raise Interrupted("interrupted; finished stages are kept.", next_step="the same command again")
        return int(code or 0)
    except typer.TyperException as error:
        show_error(UsageError(error.format_message(), next_step="edgecnn --help"), as_json=as_json)
        return ExitCode.USAGE
    except EdgecnnError as error:
        if debug:
            raise
        terminal.close()
        show_error(error, as_json=as_json)
        return error.exit_code
    finally:
        terminal.close()


def _terminate(signal_number: int, frame: FrameType | None) -> NoReturn:
    """Stop on SIGTERM as on Ctrl-C: files are whole, and the next call goes on."""
    raise KeyboardInterrupt
