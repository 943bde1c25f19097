"""A virtual environment for each peer, made once in the cache folder."""

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from edgecnn.bundle.locate import cache_folder
from edgecnn.errors import TargetError
from edgecnn.progress import Progress
from scripts.peer_bench.table import Peer

INSTALL_LIMIT_S = 1800.0
#: Written last: an environment without it, or with another content, is made anew.
STAMP = "edgecnn-peer.json"


def environments_folder() -> Path:
    """Return where the environments are: ``peers`` in the cache folder."""
    return cache_folder() / "peers"


def install(name: str, peer: Peer, folder: Path, progress: Progress) -> Path:
    """Return the Python of a peer's environment, which is made if it is not there as the row wants it.

    Raises:
        TargetError: it cannot be made; the message holds pip's first error.
    """
    home = folder / name
    python = home / "bin" / "python"
    wanted = {"python": platform.python_version(), "packages": [*peer.packages, *peer.alone]}
    if _stamped(home) == wanted:
        return python
    progress.say(f"{peer.title}: installing {', '.join((*peer.packages, *peer.alone))}")
    shutil.rmtree(home, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    _call([sys.executable, "-m", "venv", str(home)], peer)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
    _call([*pip, *peer.packages], peer)
    if peer.alone:
        _call([*pip, "--no-deps", *peer.alone], peer)
    (home / STAMP).write_text(json.dumps(wanted))
    return python


def _stamped(home: Path) -> object:
    try:
        return json.loads((home / STAMP).read_text())
    except (OSError, ValueError):  # not there, or torn: made anew
        return None


def _call(command: Sequence[str], peer: Peer, limit_s: float = INSTALL_LIMIT_S) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=limit_s)
    except subprocess.TimeoutExpired as error:
        raise _failed(peer, f"not done within {limit_s:g} s") from error
    except OSError as error:
        raise _failed(peer, str(error.strerror)) from error
    if done.returncode:
        raise _failed(peer, first_error(done.stderr) or f"ended with code {done.returncode}")


def first_error(text: str) -> str:
    """Return the first line that pip calls an error, else the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return (errors or lines[-1:] or [""])[0]


def _failed(peer: Peer, reason: str) -> TargetError:
    return TargetError(
        f"does not install: {reason}", next_step=f"see whether pip finds {', '.join(peer.packages)} from here"
    )
