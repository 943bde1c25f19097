"""``cpu@ssh://user@host:port``: a board's name taken apart, without what a shell or ssh could misread."""

import re
from dataclasses import dataclass

from edgecnn.errors import UsageError

PREFIX = "cpu@ssh://"
EXAMPLE = f"{PREFIX}user@host"

# Neither an option ("-oProxyCommand=...") nor anything that a shell gives a meaning can be written in these letters.
_FORM = re.compile(
    r"""
    (?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]{0,63})@)?
    (?:(?P<host>[A-Za-z0-9][A-Za-z0-9_.-]{0,252})|\[(?P<ipv6>[0-9A-Fa-f:.]{2,45})\])
    (?::(?P<port>[0-9]{1,5}))?
    (?P<python>(?:/[A-Za-z0-9_~+.][A-Za-z0-9_+.-]*)+)?
    (?:\?onnxruntime=(?P<onnxruntime>[0-9]+\.[0-9]+\.[0-9]+))?
    """,
    re.VERBOSE | re.ASCII,
)
_MAX_PORT = 65535


@dataclass(frozen=True, kw_only=True)
class SshAddress:
    """Where a board is, and with what it runs models.

    Attributes:
        host: a name, an address, or an alias in the user's ssh configuration.
        user: to log in as; None for what ssh chooses.
        port: None for what ssh chooses.
        python: the Python on the board: a name on its PATH, or a path; a relative one starts at the user's home.
        onnxruntime: the version that the board is to have; None for the one that is installed here.
    """

    host: str
    user: str | None = None
    port: int | None = None
    python: str = "python3"
    onnxruntime: str | None = None

    @property
    def login(self) -> str:
        """What ssh is told: ``user@host`` or ``host``."""
        return self.host if self.user is None else f"{self.user}@{self.host}"

    @property
    def by_hand(self) -> str:
        """The command that logs in, for people to type."""
        port = "" if self.port is None else f"-p {self.port} "
        return f"ssh {port}{self.login}"


def parse_address(name: str) -> SshAddress:
    """Take a target's name apart: ``cpu@ssh://[user@]host[:port][/path/of/python][?onnxruntime=X.Y.Z]``.

    A path that begins with ``/~/`` starts at the user's home.

    Raises:
        UsageError: it is not of that form.
    """
    found = _FORM.fullmatch(name.removeprefix(PREFIX))
    if not name.startswith(PREFIX) or found is None:
        raise UsageError(
            f"{name!r}: expected {EXAMPLE}[:port][/path/of/python][?onnxruntime=X.Y.Z], of letters, digits and . _ - "
            "alone.",
            next_step=f"{EXAMPLE}; give a host of another name an alias in ~/.ssh/config",
        )
    port = None if found["port"] is None else int(found["port"])
    if port is not None and not 0 < port <= _MAX_PORT:
        raise UsageError(f"{name}: expected a port from 1 to {_MAX_PORT}, found {port}.", next_step=f"{EXAMPLE}:22")
    python = found["python"] or "python3"
    if python.startswith("/~/"):
        python = f"./{python[3:]}"  # where ssh starts
    return SshAddress(
        host=found["host"] or found["ipv6"],
        user=found["user"],
        port=port,
        python=python,
        onnxruntime=found["onnxruntime"],
    )
