"""What ssh says, and what that means to a user."""

import pytest

from edgecnn.targets.ssh_address import SshAddress
from edgecnn.targets.ssh_failures import REASONS, explain, last_line

PI = SshAddress(host="board", user="pi")


@pytest.mark.parametrize(
    ("said", "meaning", "advice"),
    [
        (
            "@@@@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\n@@@@@\nHost key verification failed.",
            "its host key is not the one known",
            "ssh-keygen -R board",
        ),
        ("Host key verification failed.", "its host key is not known here", "ssh pi@board, compare the fingerprint"),
        ("No ED25519 host key is known for board.", "its host key is not known here", "accept it once"),
        ("pi@board: Permission denied (publickey).", "it lets nobody in without a password", "ssh-copy-id pi@board"),
        ("ssh: Could not resolve hostname board: Name or service not known", "no such host is known", "spelt"),
        ("ssh: connect to host board port 22: No route to host", "no route to it", "switched on"),
        ("ssh: connect to host board port 22: Connection timed out", "no route to it", "switched on"),
        ("Connection to 127.0.0.1 port 24103 timed out", "no route to it", "switched on"),
        ("banner exchange: Connection to 127.0.0.1 port 80: invalid format", "what listens there is no SSH", "ssh pi@"),
        ("ssh: connect to host board port 22: Connection refused", "no SSH server listens there", "reachable"),
        ("Timeout, server board not responding.", "the connection was lost", "switched on"),
        ("Connection to board closed by remote host.", "the connection was lost", "switched on"),
        ("something that nobody has seen", "ssh failed (something that nobody has seen)", "ssh pi@board"),
    ],
)
def test_each_failure_of_ssh_is_told_apart(said: str, meaning: str, advice: str) -> None:
    why, next_step = explain(255, said, PI)
    assert why.startswith(meaning)
    assert advice in next_step


def test_every_reason_can_be_met_before_another_takes_it() -> None:
    examples = [reason.pattern.split("|")[0].replace(".*", "x") for reason in REASONS]
    assert [explain(255, said, PI)[0].partition(" (")[0] for said in examples] == [r.meaning for r in REASONS]


@pytest.mark.parametrize(
    ("code", "words"),
    [(127, "python3 is not there"), (126, "is it of another architecture?"), (1, "its Python ended with code 1")],
)
def test_what_fails_on_the_board_is_no_failure_of_ssh(code: int, words: str) -> None:
    why, next_step = explain(code, "Permission denied", PI)
    assert words in why
    assert next_step


def test_a_terminal_obeys_nothing_that_a_board_says() -> None:
    assert last_line("first\n\x1b[2Jlast\x07\n\n") == "[2Jlast"
    assert last_line("") == "no word of why"
