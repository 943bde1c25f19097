"""A package as a table, and as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgecnn.bundle.atomic import sha256_bytes
from edgecnn.report.text import new_table, plain

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, kw_only=True)
class PackageFigures:
    """What a package holds, and how far its models were from the expected answers; see ``edgecnn.Package``."""

    folder: str
    target: str
    files: Mapping[str, bytes]
    tolerances: Mapping[str, float]
    conversion: Mapping[str, float | None]
    checked: Mapping[str, float] | None
    notes: tuple[str, ...] = ()


def package_view(found: PackageFigures) -> dict[str, Any]:
    """Return what ``edgecnn package --json`` prints."""
    return {
        "package": found.folder,
        "target": found.target,
        "checked_on_target": found.checked is not None,
        "notes": list(found.notes),
        "models": [_model(found, name) for name in found.tolerances],
        "files": [
            {"path": name, "sha256": sha256_bytes(data), "size_bytes": len(data)} for name, data in found.files.items()
        ],
    }


def package_items(found: PackageFigures) -> "list[RenderableType]":
    """Return each model with its differences, and where the package is."""
    table = new_table(f"Package for {found.target}", "model", "bytes", "here", "on the target", "allowed")
    for name in found.tolerances:
        row = _model(found, name)
        table.add_row(
            name,
            f"{len(found.files[name]):,}",
            "cannot run" if row["difference_here"] is None else _difference(row["difference_here"]),
            "not run" if row["difference_on_target"] is None else _difference(row["difference_on_target"]),
            _difference(row["tolerance"]),
        )
    others = len(found.files) - len(found.tolerances)
    unseen = "" if found.checked is not None else f"; {found.target} is not available here, so nothing was run on it"
    return [
        table,
        plain("largest difference of a logit from the .onnx file on this machine's CPU"),
        *map(plain, found.notes),
        plain(f"package: {found.folder}, and {others} other files{unseen}"),
    ]


def _model(found: PackageFigures, name: str) -> dict[str, Any]:
    return {
        "path": name,
        "tolerance": found.tolerances[name],
        "difference_here": found.conversion.get(name, 0.0),
        "difference_on_target": None if found.checked is None else found.checked.get(name),
    }


def _difference(value: float) -> str:
    return f"{value:.2g}"
