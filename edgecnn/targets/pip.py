"""pip, for what is put into folders of the cache: this environment's own packages are left alone."""

import importlib.metadata
import sys
from collections.abc import Sequence
from pathlib import Path

from edgecnn.errors import TargetError
from edgecnn.targets.debian import call


def require_pip() -> None:
    """Raise if this Python has no pip.

    Raises:
        TargetError: it has none.
    """
    try:
        importlib.metadata.version("pip")  # looking for its module would set off setuptools' hooks
    except importlib.metadata.PackageNotFoundError as error:
        raise TargetError(
            f"{sys.executable} has no pip, which fetches the packages.",
            next_step=f"{sys.executable} -m ensurepip, then the same command again",
        ) from error


def install_into(folder: Path, packages: Sequence[str], *, what: str, next_step: str) -> None:
    """Install packages, ``name==version`` each, into a folder; what they need besides must be named too.

    Raises:
        TargetError: there is no pip, or it does not find them; with the last line that it printed.
    """
    require_pip()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps"]
    call([*pip, "--only-binary=:all:", "--target", str(folder), *packages], what=what, next_step=next_step)
