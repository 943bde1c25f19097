"""Why a board did not answer, from what ssh and the board's shell said: one row a reason."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from edgecnn.targets.ssh_address import SshAddress

#: What ssh itself ends with where it, and not the program on the board, failed.
SSH_FAILED = 255
_NOT_FOUND, _NOT_RUNNABLE = 127, 126

Advice = Callable[[SshAddress], str]


@dataclass(frozen=True, kw_only=True)
class Reason:
    """One way in which a connection fails.

    Attributes:
        pattern: what ssh says then, as a regular expression.
        meaning: in a user's words.
        advice: the next step.
    """

    pattern: str
    meaning: str
    advice: Advice


def _log_in(address: SshAddress) -> str:
    return f"{address.by_hand}, until that works without a password"


def _look_at_host(address: SshAddress) -> str:
    return f"see whether it is switched on and reachable: {address.by_hand}"


REASONS: tuple[Reason, ...] = (
    Reason(
        pattern="REMOTE HOST IDENTIFICATION HAS CHANGED|Host key for .* has changed",
        meaning="its host key is not the one known: it is another machine, was set up anew, or someone listens",
        advice=lambda address: f"find out which; only then: ssh-keygen -R {_known_as(address)}, and {address.by_hand}",
    ),
    Reason(
        pattern="Host key verification failed|host key is known for",
        meaning="its host key is not known here, so nobody can say that it is the board",
        advice=lambda address: f"{address.by_hand}, compare the fingerprint, and accept it once",
    ),
    Reason(
        pattern="Permission denied|Too many authentication failures",
        meaning="it lets nobody in without a password",
        advice=lambda address: f"ssh-copy-id {_port(address)}{address.login}, then {_log_in(address)}",
    ),
    Reason(
        pattern="Could not resolve hostname|Name or service not known",
        meaning="no such host is known",
        advice=lambda address: "see how it is spelt, or give it an address or an alias in ~/.ssh/config",
    ),
    Reason(
        pattern="No route to host|Network is unreachable|timed out",
        meaning="no route to it, or it is switched off",
        advice=_look_at_host,
    ),
    Reason(pattern="Connection refused", meaning="no SSH server listens there", advice=_look_at_host),
    Reason(
        pattern="banner exchange.*invalid format|Protocol major versions differ|Bad remote protocol version",
        meaning="what listens there is no SSH server",
        advice=_look_at_host,
    ),
    Reason(
        pattern="not responding|Broken pipe|Connection reset|closed by remote host|Connection closed",
        meaning="the connection was lost",
        advice=_look_at_host,
    ),
)


def explain(code: int, said: str, address: SshAddress) -> tuple[str, str]:
    """Return why the board did not answer, and the next step.

    Args:
        code: what ssh ended with.
        said: its stderr.
        address: the board.
    """
    last = last_line(said)
    if code == SSH_FAILED:
        for reason in REASONS:
            if re.search(reason.pattern, said):
                return f"{reason.meaning} ({last})", reason.advice(address)
        return f"ssh failed ({last})", _log_in(address)
    if code in (_NOT_FOUND, _NOT_RUNNABLE):
        what = "is not there" if code == _NOT_FOUND else "cannot be run there: is it of another architecture?"
        advice = "install Python 3.11 or newer on it, or name the Python: cpu@ssh://user@host/usr/bin/python3"
        return f"{address.python} {what} ({last})", advice
    return f"its Python ended with code {code} ({last})", f"{address.by_hand} {address.python} --version"


def last_line(said: str) -> str:
    """Return the last line that says something, without what a terminal would obey."""
    lines = [line.strip() for line in said.splitlines() if line.strip(" @\r")]
    return "".join(character for character in lines[-1][:300] if character.isprintable()) if lines else "no word of why"


def _known_as(address: SshAddress) -> str:
    return address.host if address.port is None else f"'[{address.host}]:{address.port}'"


def _port(address: SshAddress) -> str:
    return "" if address.port is None else f"-p {address.port} "
