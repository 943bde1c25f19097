"""Keep what PyTorch and other people's networks print away from the terminal: stdout is for results alone."""

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep prints, warnings and PyTorch's log lines away from stdout and stderr, its C++ part's included."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            _descriptors_silenced(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _descriptors_silenced() -> Iterator[None]:
    """Point the process's stdout and stderr to nowhere: TorchScript's exporter prints the graph that it fails on."""
    with Path(os.devnull).open("wb") as nowhere, contextlib.ExitStack() as after:
        for stream, descriptor in ((sys.__stdout__, 1), (sys.__stderr__, 2)):
            with contextlib.suppress(OSError, ValueError):  # one that is closed needs no silencing
                if stream is not None:
                    stream.flush()
                kept = os.dup(descriptor)
                after.callback(os.close, kept)
                after.callback(os.dup2, kept, descriptor)
                os.dup2(nowhere.fileno(), descriptor)
        yield


def first_line(error: BaseException) -> str:
    """Return an error's class and the first line of what it says; of TorchScript's interpreter the last."""
    lines = [line for line in str(error).splitlines() if line.strip()] or ["no reason given"]
    line = lines[-1 if "TorchScript interpreter" in lines[0] else 0]
    return f"{type(error).__name__}: {line.strip()}"
