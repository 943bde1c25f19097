"""What a board may be called, and what must never reach a shell."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.errors import UsageError
from edgecnn.targets import ssh_call
from edgecnn.targets.ssh import is_board
from edgecnn.targets.ssh_address import PREFIX, SshAddress, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("pi@board", SshAddress(user="pi", host="board")),
        ("board", SshAddress(host="board")),
        ("pi@10.0.0.7:2222", SshAddress(user="pi", host="10.0.0.7", port=2222)),
        ("pi@[fe80::1]:22", SshAddress(user="pi", host="fe80::1", port=22)),
        ("pi@board/usr/bin/python3.11", SshAddress(user="pi", host="board", python="/usr/bin/python3.11")),
        ("pi@board/~/venv/bin/python", SshAddress(user="pi", host="board", python="./venv/bin/python")),
        ("pi@board?onnxruntime=1.30.0", SshAddress(user="pi", host="board", onnxruntime="1.30.0")),
    ],
)
def test_a_name_is_taken_apart(text: str, address: SshAddress) -> None:
    assert parse_address(PREFIX + text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@board",
        "-oProxyCommand=id",
        "-l@board",
        "pi@-board",
        "pi@board -v",
        "pi@board;id",
        "pi@board$(id)",
        "pi@board`id`",
        "pi@board|id",
        "pi@board\nid",
        "pi@board\n",
        "pi@b\N{CYRILLIC SMALL LETTER A}rd",
        "pi@board:",
        "pi@board:22x",
        "pi@board:\N{ARABIC-INDIC DIGIT TWO}2",
        "pi:secret@board",
        "pi@board/",
        "pi@board/-c",
        "pi@board/usr/bin/py thon",
        "pi@board/bin/'python",
        "pi@board?onnxruntime=1.30.0;id",
        "pi@board?numpy=1.0.0",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected cpu@ssh://user@host") as caught:
        parse_address(PREFIX + text)
    assert "~/.ssh/config" in caught.value.next_step


@pytest.mark.parametrize("port", [0, 65536, 99999])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    with pytest.raises(UsageError, match=f"expected a port from 1 to 65535, found {port}"):
        parse_address(f"{PREFIX}pi@board:{port}")


def test_a_misspelt_beginning_is_refused_as_a_board() -> None:
    assert is_board("cpu@ssh:pi@board")
    assert not is_board("cpu@haswell")
    with pytest.raises(UsageError, match="expected cpu@ssh://user@host"):
        parse_address("cpu@ssh:pi@board")


@given(st.text(max_size=40))
def test_no_name_gives_ssh_an_option_or_a_shell_a_word(text: str) -> None:
    try:
        address = parse_address(PREFIX + text)
    except UsageError:
        return
    words = ssh_call.words(address, "print()")
    behind = words[words.index("--") + 1 :]
    assert behind[0] == address.login
    assert not address.login.startswith("-")
    assert shlex.quote(address.login) == address.login or ":" in address.login
    assert shlex.split(behind[1])[:2] == ["exec", address.python]
    assert not address.python.startswith("-")


def test_the_login_is_told_as_people_type_it() -> None:
    assert SshAddress(host="board", user="pi", port=22).by_hand == "ssh -p 22 pi@board"
    assert SshAddress(host="board").by_hand == "ssh board"


def test_nobody_is_asked_and_no_key_is_accepted_whatever_the_users_configuration_says() -> None:
    words = ssh_call.words(SshAddress(host="board"), "print()")
    options = {words[index + 1] for index, word in enumerate(words) if word == "-o"}
    assert {"BatchMode=yes", "StrictHostKeyChecking=yes", "ConnectTimeout=10", "ServerAliveInterval=10"} <= options
    assert {"ClearAllForwardings=yes", "ForwardAgent=no", "PermitLocalCommand=no", "RequestTTY=no"} <= options
