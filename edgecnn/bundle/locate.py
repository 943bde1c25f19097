"""Which bundle a command means when it is not told."""

from pathlib import Path

from edgecnn.bundle.manifest import MANIFEST
from edgecnn.errors import BundleError

ARTIFACTS = Path("artifacts")


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
