"""``torch.export`` archives (``.pt2``), vetted before they are loaded.

``torch.export.load`` unpickles without restriction: weights and constants that ask for it, and the sample inputs
whenever reading them safely fails. It also evaluates size expressions as Python. So an archive is read only if it
holds none of the former, and nothing but arithmetic in the latter; else it needs ``--allow-pickle``.
"""

import io
import json
import pickle
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecnn.errors import CheckpointError

if TYPE_CHECKING:
    from torch import nn

_REMEDY = "save it again with torch.export.save, or --allow-pickle if you trust where it comes from"
_CONFIGS = ("model_weights_config.json", "model_constants_config.json")
_SIZE_EXPRESSION = re.compile(
    r"""(?:
        Symbol\('[su]\d+'(?:,\ (?:positive|integer|nonnegative|real)=(?:True|False))*\)
        | (?:Integer|Add|Mul|Pow|Max|Min|Mod|PythonMod|FloorDiv|CeilDiv|Rational) (?=\()
        | [su]\d+ | \d+ | int_oo | oo | [-+*/(), ]
    )*""",
    re.VERBOSE,
)


def load(path: Path, data: bytes, *, allow_pickle: bool) -> "nn.Module":
    """Load an archive as a module.

    Args:
        path: the file, for messages.
        data: its bytes.
        allow_pickle: skip the vetting.

    Raises:
        CheckpointError: it could run a program, or torch cannot read it.
    """
    import torch

    if not allow_pickle:
        _vet(path, data)
    try:
        return torch.export.load(io.BytesIO(data)).module()
    except (
        RuntimeError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        AssertionError,
        OSError,
        EOFError,
    ) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{path}: torch.export cannot read it ({first_line}).",
            next_step="save it again with torch.export.save of the PyTorch installed here",
        ) from error


def is_pt2(names: list[str]) -> bool:
    """Tell from the names in an archive whether it is one of torch.export's."""
    return any(name.endswith("/archive_format") for name in names) and any("/models/" in name for name in names)


def _vet(path: Path, data: bytes) -> None:
    import torch

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            if name.endswith(_CONFIGS):
                _refuse_pickles(path, json.loads(archive.read(name)))
            elif "/models/" in name and name.endswith(".json"):
                _refuse_expressions(path, json.loads(archive.read(name)))
            elif "/sample_inputs/" in name and (content := archive.read(name)):
                try:
                    torch.load(io.BytesIO(content), weights_only=True)
                except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
                    raise _refusal(path, "its sample inputs hold pickled code") from error


def _refuse_pickles(path: Path, config: Any) -> None:
    for name, payload in config.get("config", {}).items():
        file_name = str(payload.get("path_name", ""))
        if payload.get("use_pickle") or file_name.startswith(("custom_obj_", "opaque_obj_")):
            raise _refusal(path, f"{name} is stored as a pickle")


def _refuse_expressions(path: Path, model: Any) -> None:
    for text in _expressions(model):
        if not _SIZE_EXPRESSION.fullmatch(text):
            raise _refusal(path, f"the size expression {text[:60]!r} is more than arithmetic")


def _expressions(value: Any) -> Iterator[str]:
    """Yield every string that torch.export would evaluate."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "expr_str" and isinstance(inner, str):
                yield inner
            else:
                yield from _expressions(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _expressions(inner)


def _refusal(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: {reason}, which can run any program when it is read; it was not opened.", next_step=_REMEDY
    )
