"""What a person at a terminal sees, and what a log file gets."""

import io
import json
import sys

import pytest

from edgecnn import console
from edgecnn.console import Terminal, show_error, show_json
from edgecnn.errors import DataError


class Screen(io.StringIO):
    """A stderr that is a terminal."""

    def isatty(self) -> bool:
        return True


def open_screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Put a terminal in place of stderr; not a fixture, for pytest sets stderr anew after those."""
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    return screen


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])  # type: ignore[attr-defined]
    return now


def test_a_log_file_gets_a_line_every_ten_seconds(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    for second in range(25):
        clock[0] = 100.0 + second
        terminal.update("train", second, 25, "loss 0.5")
    assert capsys.readouterr().err.splitlines() == ["train: 10/25 loss 0.5", "train: 20/25 loss 0.5"]


def test_a_note_puts_the_next_line_off(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    clock[0] = 109.0
    terminal.say("exporting")
    clock[0] = 111.0
    terminal.update("bench", 1, 2)
    clock[0] = 119.0
    terminal.update("bench", 2, 2)
    assert capsys.readouterr().err.splitlines() == ["exporting", "bench: 2/2"]


def test_notes_and_progress_leave_stdout_alone(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    clock[0] += 60
    terminal.update("train", 1, 2)
    terminal.say("simplifying")
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.splitlines() == ["train: 1/2", "simplifying"]


def test_a_terminal_gets_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, terminal = open_screen(monkeypatch), Terminal()
    terminal.update("train", 1, 4, "loss 0.5")
    terminal.update("train", 4, 4, "loss 0.25")
    terminal.say("models[v2] is done :smile:")
    terminal.close()
    found = screen.getvalue()
    assert "train" in found
    assert "loss 0.25" in found
    assert "models[v2] is done :smile:" in found


def test_bars_can_be_opened_again_after_they_were_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, terminal = open_screen(monkeypatch), Terminal()
    for _ in range(2):
        terminal.update("bench", 1, 2)
        terminal.close()
        terminal.close()
    assert "bench" in screen.getvalue()


def test_results_go_to_stdout_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().show("bundle: models[v2]", "[bold]not bold[/] :smile:")
    found = capsys.readouterr()
    assert found.out.splitlines() == ["bundle: models[v2]", "[bold]not bold[/] :smile:"]
    assert found.err == ""


def test_results_close_the_bars_first(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    open_screen(monkeypatch)
    terminal = Terminal()
    terminal.update("train", 2, 2)
    terminal.show("done")
    assert terminal._bars is None
    assert capsys.readouterr().out == "done\n"


def test_json_is_one_line_of_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    show_json({"bundle": "ä", "n": 3})
    found = capsys.readouterr().out
    assert found.count("\n") == 1
    assert json.loads(found) == {"bundle": "ä", "n": 3}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_json_is_not_printed(value: float, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        show_json({"p_value": value})
    assert capsys.readouterr().out == ""


ERROR = DataError("x.jpg: not an image", next_step="remove it")


def test_an_error_goes_to_stderr_with_its_next_step(capsys: pytest.CaptureFixture[str]) -> None:
    show_error(ERROR, as_json=False)
    found = capsys.readouterr()
    assert found.err == "edgecnn: x.jpg: not an image\nNext: remove it\n"
    assert found.out == ""


def test_under_json_an_error_is_also_an_object_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    show_error(ERROR, as_json=True)
    found = capsys.readouterr()
    assert json.loads(found.out) == {
        "error": {"type": "DataError", "message": "x.jpg: not an image", "next_step": "remove it", "exit_code": 3}
    }
    assert found.err.startswith("edgecnn: x.jpg")
