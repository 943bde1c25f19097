"""Which folder a command means when it is not told."""

import os
from pathlib import Path

from edgecnn.bundle.manifest import MANIFEST
from edgecnn.errors import BundleError

ARTIFACTS = Path("artifacts")
CACHE_VARIABLE = "EDGECNN_CACHE"


def cache_folder() -> Path:
    """Return ``$EDGECNN_CACHE``, else ``edgecnn`` in the user's cache folder."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgecnn"


def default_folder(model: str) -> Path:
    """Return where the bundle of a model is made: ``artifacts/<model name>``."""
    return ARTIFACTS / model


def newest_folder() -> Path:
    """Return the bundle under ``artifacts/`` whose manifest was written last.

    Raises:
        BundleError: there is none.
    """
    manifests = sorted(ARTIFACTS.glob(f"*/{MANIFEST}"), key=lambda path: (path.stat().st_mtime_ns, path))
    if not manifests:
        raise BundleError(
            f"{ARTIFACTS}/: expected a bundle, found none here ({Path.cwd()}).",
            next_step="edgecnn run, or name a bundle with --bundle FOLDER",
        )
    return manifests[-1].parent
