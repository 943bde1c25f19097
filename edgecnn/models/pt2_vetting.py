"""What a ``torch.export`` archive may hold if it is to be read without trusting whoever made it.

``torch.export.load`` can run a stranger's program in many ways: it unpickles weights, constants and sample inputs, of
every model in the archive and in formats of earlier years; it loads compiled libraries (``data/aotinductor``); it
evaluates size expressions as Python, and writes names into Python code. So only what is known to be harmless is
passed on, in a new archive: torch reads what was vetted, and nothing that two readers of a zip could see differently.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgecnn.errors import CheckpointError

_REMEDY = "save it again with torch.export.save, or --allow-pickle if you trust where it comes from"
_MEMBER = re.compile(
    r"[^/]+/(?:archive_format|archive_version|byteorder|version|\.data/(?:version|serialization_id)"
    r"|models/model\.json|data/weights/(?:weight_\d+|model_weights_config\.json)"
    r"|data/constants/(?:tensor_\d+|model_constants_config\.json)|data/sample_inputs/model\.pt)"
)
#: Labels and the like, which nothing here reads.
_LEFT_OUT = re.compile(r"[^/]+/extra/.*")
_OPERATOR = re.compile(
    r"torch\.ops\.aten\.(?!from_file\b|save\b)\w+\.\w+"
    r"|torch\.ops\.higher_order\.(?:cond|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|torch\.sym_\w+|math\.(?:ceil|floor|trunc|sqrt)"
    r"|_operator\.(?:add|sub|mul|truediv|floordiv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_|not_|getitem)",
    re.ASCII,
)
_CUSTOM_OPERATOR = re.compile(r"torch\.ops\.(?!aten\.|higher_order\.)\w+\.\w+\.\w+", re.ASCII)
_SIZE_EXPRESSION = re.compile(
    r"""(?:
        Symbol\('[su]\d+'(?:,\ (?:positive|integer|nonnegative|real)=(?:True|False))*\)
        | (?:Integer|Add|Mul|Pow|Max|Min|Mod|PythonMod|FloorDiv|CeilDiv|Rational) (?=\()
        | [su]\d+ | \d+ | int_oo | oo | [-+*/(), ]
    )*""",
    re.VERBOSE,
)
_NAME = re.compile(r"[\w.]*", re.ASCII)
#: Names of weights, modes and equations; without quotes, brackets or line ends they are no program wherever they land.
_PLAIN = re.compile(r"[\w.,:+*/<>= -]*", re.ASCII)


def vetted(path: Path, data: bytes) -> bytes:
    """Return the archive with nothing in it but what was vetted.

    Args:
        path: the file, for messages.
        data: its bytes.

    Raises:
        CheckpointError: it could run a program when it is read, was made on another device, or is damaged.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as new:
        for name in _members(path, old):
            content = old.read(name)
            if name.endswith(".json"):
                content = _vet_json(path, name, content)
            elif "/sample_inputs/" in name and content:
                _refuse_pickled_code(path, content)
            new.writestr(name, content)
    return buffer.getvalue()


def refuse_expressions(path: Path, model: Any) -> None:
    """Refuse size expressions that are more than arithmetic: torch evaluates them as Python."""
    for key, text in _strings(model):
        if key == "expr_str" and not _SIZE_EXPRESSION.fullmatch(text):
            raise _refusal(path, f"the size expression {text[:60]!r} is more than arithmetic")


def _members(path: Path, archive: zipfile.ZipFile) -> Iterator[str]:
    """Yield the names of what is passed on; torch finds a member whatever its case, zipfile does not."""
    seen: set[str] = set()
    for name in archive.namelist():
        if name.lower() in seen:
            raise _refusal(path, f"{name!r} is in it twice")
        seen.add(name.lower())
        if _LEFT_OUT.fullmatch(name):
            continue
        if not _MEMBER.fullmatch(name):
            raise _refusal(path, f"it holds {name[:80]!r}")
        yield name


def _vet_json(path: Path, name: str, content: bytes) -> bytes:
    try:
        parsed = json.loads(content)
        if name.endswith("_config.json"):
            _refuse_pickles(path, parsed)
        else:
            parsed["guards_code"] = []  # checks of the input, as Python; the network's answers are compared anyway
            parsed = _without_metadata(parsed)
            refuse_expressions(path, parsed)
            _refuse_strange_strings(path, parsed)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: torch.export cannot read it ({name} in it is damaged: {error}).", next_step=_REMEDY
        ) from error
    _refuse_other_devices(path, parsed)
    return json.dumps(parsed).encode()


def _refuse_pickled_code(path: Path, content: bytes) -> None:
    import torch

    try:
        torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever it is, torch.export would then unpickle without restriction
        raise _refusal(path, "its sample inputs hold pickled code") from error


def _refuse_pickles(path: Path, config: Any) -> None:
    for name, payload in config.get("config", {}).items():
        file_name = str(payload.get("path_name", ""))
        if payload.get("use_pickle") or file_name.startswith(("custom_obj_", "opaque_obj_")):
            raise _refusal(path, f"{name} is stored as a pickle")


def _without_metadata(value: Any) -> Any:
    """Leave out where each node came from: free text that only messages use."""
    if isinstance(value, dict):
        return {key: {} if key == "metadata" else _without_metadata(inner) for key, inner in value.items()}
    return [_without_metadata(inner) for inner in value] if isinstance(value, list) else value


def _refuse_strange_strings(path: Path, model: Any) -> None:
    for key, text in _strings(model):
        if key == "expr_str":
            continue
        if key in ("in_spec", "out_spec", "context"):
            _refuse_strange_strings(path, {"": json.loads(text)} if text else {})
        elif key == "target":
            _refuse_operator(path, text)
        elif not (_NAME if key in ("name", "as_name", "forward_arg_names") else _PLAIN).fullmatch(text):
            raise _refusal(path, f"the {key or 'name'} {text[:60]!r} in it is more than a name")


def _refuse_operator(path: Path, target: str) -> None:
    if _OPERATOR.fullmatch(target):
        return
    if _CUSTOM_OPERATOR.fullmatch(target):
        raise CheckpointError(
            f"{path}: uses the custom operator {target}, which ONNX does not have.",
            next_step="write it with PyTorch's own operators, then torch.export.save it again",
        )
    raise _refusal(path, f"it calls {target[:80]!r}")


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield every string with the key it stands under, and every key of an object."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield "", name
            yield from _strings(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner, key)


def _refuse_other_devices(path: Path, value: Any) -> None:
    """Refuse tensors of a GPU, which torch.export cannot move: where a graph makes tensors, the device is in it."""
    for key, device in _devices(value):
        if device.get("type", "cpu") != "cpu":
            where = f"{device['type']}:{device.get('index') or 0}"
            raise CheckpointError(
                f"{path}: was exported on {where}; expected a network on the CPU (found at {key}).",
                next_step="torch.export.export(network.cpu(), ...), then save it again",
            )


def _devices(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("device", "as_device") and isinstance(inner, dict):
                yield key, inner
            else:
                yield from _devices(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _devices(inner)


def _refusal(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: {reason}, which can run any program when it is read; it was not opened.", next_step=_REMEDY
    )
