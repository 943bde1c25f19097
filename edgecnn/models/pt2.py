"""``torch.export`` archives (``.pt2``), vetted before they are loaded."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from edgecnn.errors import CheckpointError
from edgecnn.models.pt2_vetting import vetted
from edgecnn.models.quiet import quiet

if TYPE_CHECKING:
    from torch import nn


def load(path: Path, data: bytes, *, allow_pickle: bool) -> "nn.Module":
    """Load an archive as a module.

    Args:
        path: the file, for messages.
        data: its bytes.
        allow_pickle: skip the vetting.

    Raises:
        CheckpointError: it could run a program, is for a GPU, or torch cannot read it.
    """
    import torch

    if not allow_pickle:
        data = vetted(path, data)
    try:
        with quiet():  # torch logs a traceback of what it then raises
            return torch.export.load(io.BytesIO(data)).module()
    except Exception as error:  # where pickles were allowed it may be anything; it is named, not swallowed
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{path}: torch.export cannot read it ({first_line}).",
            next_step="save it again with torch.export.save of the PyTorch installed here",
        ) from error


def is_pt2(names: list[str]) -> bool:
    """Tell from the names in an archive whether it is one of torch.export's."""
    return any(name.endswith("/archive_format") for name in names) and any("/models/" in name for name in names)
