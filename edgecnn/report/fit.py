"""What each target is to run, and what a bundle was proven on: views of the manifest, nothing measured twice."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgecnn.bundle.manifest import Artifact, FittedRecord, Manifest, ValidationResult
from edgecnn.report.saturation import saturation_sentences
from edgecnn.report.text import (
    new_table,
    plain,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

_INT8 = "int8.onnx"


@dataclass(frozen=True, kw_only=True)
class Proof:
    """One target that a model of the bundle was run on."""

    target: str
    model: str
    result: ValidationResult

    @property
    def versions(self) -> str:
        """The software that ran it."""
        return ", ".join(f"{name} {version}" for name, version in self.result.machine.versions.items())


def proven_on(manifest: Manifest) -> list[Proof]:
    """Return every target that an int8 model of the bundle was validated on, ``int8.onnx`` first."""
    default = [Proof(target=one.target, model=one.int8_model, result=one) for one in manifest.validation]
    own = [
        Proof(target=one.target, model=record.model, result=one)
        for record in manifest.fitted
        for one in record.validation
    ]
    return default + own


def fitted_items(records: Sequence[FittedRecord], artifacts: Sequence[Artifact]) -> "list[RenderableType]":
    """Return what each target is to run, and why."""
    table = new_table("What to ship", "target", "file", "bytes", "recipe")
    sizes = {artifact.path: artifact.size_bytes for artifact in artifacts}
    for record in records:
        table.add_row(record.target, record.model, f"{sizes[record.model]:,}", plain(record.recipe or "float"))
    return [table, *(plain(sentence) for record in records for sentence in fitted_sentences(record))]


def fitted_sentences(record: FittedRecord) -> list[str]:
    """Return why a target runs a model, what was chosen from, and whether it can saturate elsewhere."""
    sentences = [f"{record.target}: {record.reason}."]
    if record.choice is not None:
        tries = ", ".join(f"{one.recipe} loses {one.drop_pp:+.2f}" for one in record.choice.tries)
        met = "" if record.choice.met else "; none holds the budget, and the best of them was taken"
        sentences.append(
            f"{record.target}: on {record.choice.n} training images held apart {tries} points; "
            f"{record.choice.max_drop_pp:g} were allowed{met}."
        )
    if record.saturation is not None and record.target == "any":
        sentences.append(f"{record.model}: {saturation_sentences(record.saturation)[0]}")
    elif record.saturation is not None and (unsafe := record.saturation.can_saturate):
        sentences.append(
            f"{record.model} is for {record.target} alone: on x86 CPUs without VNNI dot products of {len(unsafe)} of "
            f"its layers can saturate; {_INT8} is for them."
        )
    return sentences


def fitted_view(
    bundle: str, records: Sequence[FittedRecord], artifacts: Sequence[Artifact], unchanged: Sequence[str]
) -> dict[str, Any]:
    """Return the object of ``edgecnn quantize --for --json``."""
    sizes = {artifact.path: artifact.size_bytes for artifact in artifacts}
    rows = [
        {
            **record.model_dump(mode="json", include={"target", "model", "model_sha256", "reason", "recipe", "choice"}),
            "float_layers": list(record.float_layers),
            "size_bytes": sizes[record.model],
            "can_saturate": None if record.saturation is None else len(record.saturation.can_saturate),
            "unchanged": record.target in unchanged,
        }
        for record in records
    ]
    return {"bundle": bundle, "fitted": rows, "verdict": "passed"}
