"""A command that must fail, seen as a user sees it."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from torch import Tensor, nn

from edgecnn.cli import _main
from tests.bundles import snapshot

SIZE = ("--input-size", "8")
ignore_torchscript = pytest.mark.filterwarnings(
    "ignore:.torch.jit:FutureWarning", "ignore:.torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning"
)
ARCH = ("--arch", "tests.bad_nets:Net", *SIZE)


@dataclass(frozen=True)
class Failure:
    code: int
    message: str
    next_step: str


Fail = Callable[..., Failure]


@contextlib.contextmanager
def failing(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fail]:
    """Return a way to run a command in ``tmp_path``: it must end in one error, and leave every file as it was."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # the current folder is put there

    def run(*arguments: object) -> Failure:
        before = snapshot(tmp_path)
        capfd.readouterr()
        code = _main([str(argument) for argument in arguments])
        found = capfd.readouterr()
        assert found.out == ""
        assert "Traceback" not in found.err
        notes, _, rest = f"\n{found.err}".partition("\nedgecnn: ")
        message, _, remedy = rest.partition("\nNext: ")
        assert message
        assert remedy.strip()
        assert "Next: " not in notes
        assert "edgecnn: " not in message, "one error, not two"
        assert remedy.count("\n") == 1, "nothing comes after the next step"
        assert snapshot(tmp_path) == before
        return Failure(code=code, message=message, next_step=remedy.strip())

    handler = signal.getsignal(signal.SIGTERM)
    yield run
    signal.signal(signal.SIGTERM, handler)


def network_file(name: str, data: bytes) -> str:
    Path(name).write_bytes(data)
    return name


def state_dict(network: nn.Module) -> dict[str, Tensor]:
    return dict(network.state_dict())
