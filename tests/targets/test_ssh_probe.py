"""What a board says of a library that cannot be imported is the line that tells why."""

import pytest

from edgecnn.targets.ssh_probe import look, telling_line

ADVICE = "\n\nIMPORTANT: PLEASE READ THIS FOR ADVICE\n\nOriginal error was: wrong ELF class: ELFCLASS32\n"


@pytest.mark.parametrize(
    ("said", "line"),
    [(ADVICE, "Original error was: wrong ELF class: ELFCLASS32"), ("\n  one\ntwo", "one"), ("", ""), ("x", "x")],
)
def test_the_telling_line_is_found(said: str, line: str) -> None:
    assert telling_line(said) == line


def test_a_library_that_breaks_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ImportError(ADVICE)

    monkeypatch.setattr("builtins.__import__", broken)
    found = look()
    monkeypatch.undo()
    assert found["errors"]["numpy"] == "ImportError: Original error was: wrong ELF class: ELFCLASS32"
    assert found["versions"] == {}
