"""The bundle folder: the only code that reads or writes a manifest."""

from edgecnn.bundle.folder import Bundle
from edgecnn.bundle.manifest import Manifest

__all__ = ["Bundle", "Manifest"]
