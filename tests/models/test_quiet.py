"""Nothing that PyTorch or a stranger's network prints reaches the terminal, and everything after it does."""

import logging
import os
import sys
import warnings

import pytest

from edgecnn.models.quiet import first_line, quiet


def shout() -> None:
    print("printed")
    print("printed", file=sys.stderr)
    for descriptor in (1, 2):
        os.write(descriptor, b"written past Python\n")
    warnings.warn("warned", stacklevel=1)
    logging.getLogger("torch").error("logged")


def test_nothing_is_said_meanwhile_and_all_of_it_before_and_after(capfd: pytest.CaptureFixture[str]) -> None:
    print("before")
    with quiet():
        shout()
    os.write(1, b"after\n")
    os.write(2, b"after\n")
    assert capfd.readouterr() == ("before\nafter\n", "after\n")


def test_an_error_passes_and_the_streams_are_back(capfd: pytest.CaptureFixture[str]) -> None:
    level = logging.getLogger("torch").level
    with pytest.raises(KeyError), quiet():
        raise KeyError("x")
    print("after")
    assert capfd.readouterr().out == "after\n"
    assert logging.getLogger("torch").level == level


def test_no_descriptor_is_left_open() -> None:
    def count() -> int:
        return sum(_is_open(number) for number in range(200))

    before = count()
    for _ in range(3):
        with quiet(), quiet():
            pass
    assert count() == before


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("\n first \nsecond"), "ValueError: first"),
        (KeyError(), "KeyError: no reason given"),
        (
            RuntimeError(
                "The following operation failed in the TorchScript interpreter.\nTraceback\nRuntimeError: mat1"
            ),
            "RuntimeError: RuntimeError: mat1",
        ),
    ],
)
def test_the_line_that_says_it(error: Exception, line: str) -> None:
    assert first_line(error) == line
