"""Acceptance vectors: what the models must answer on the device, in plain binary beside JSON and a plain table."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.bundle.atomic import sha256_bytes
from edgecnn.bundle.manifest import TensorSpec
from edgecnn.errors import ParityError, StageError
from edgecnn.packaging.way import Way
from edgecnn.targets.session import Feed, Session

ACCEPTANCE = "acceptance.json"
TABLE = "acceptance.tsv"
FORMAT = "edgecnn-acceptance"
Logits = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Vectors:
    """What one model is fed and must answer.

    Attributes:
        name: of the model, as the files of the vectors begin.
        input: of the graph.
        output: of the graph.
        batch: images a call; the model's own where that is fixed, else 1.
        images: what is fed, ``[N, ...]`` float32 or uint8 as the input wants it; N is a multiple of ``batch``.
        logits: float32 ``[N, classes]`` of this machine's CPU.
        tolerance: the largest difference of a logit that is accepted.
    """

    name: str
    input: TensorSpec
    output: TensorSpec
    batch: int
    images: Feed
    logits: Logits
    tolerance: float

    @property
    def images_file(self) -> str:
        """Where the images are."""
        return f"{self.name}-images.bin"

    @property
    def logits_file(self) -> str:
        """Where the logits are."""
        return f"{self.name}-logits.bin"

    def files(self) -> dict[str, bytes]:
        """Return both files: little-endian values in order, and nothing else."""
        little = self.images.astype(self.images.dtype.newbyteorder("<"))
        return {self.images_file: little.tobytes(), self.logits_file: self.logits.astype("<f4").tobytes()}


def answers(session: Session, images: Feed, batch: int) -> Logits:
    """Return the logits of all images, in calls of ``batch``."""
    return np.concatenate([session.run(images[start : start + batch]) for start in range(0, len(images), batch)])


def make_vectors(name: str, session: Session, images: Feed, *, relative_tolerance: float) -> Vectors:
    """Return what a model answers here, and how far from that a device may be.

    Args:
        name: of the model.
        session: the model on this machine's CPU.
        images: as its input wants them; as many as fill whole batches.
        relative_tolerance: of the largest logit.

    Raises:
        StageError: the model gives NaN or infinite logits.
    """
    fixed = session.input.shape[0]
    batch = fixed if isinstance(fixed, int) else 1
    logits = answers(session, images, batch)
    if not np.isfinite(logits).all():
        raise StageError(f"package: {name}.onnx gives NaN or infinite logits.", next_step="edgecnn run --force")
    return Vectors(
        name=name,
        input=session.input,
        output=session.output,
        batch=batch,
        images=images,
        logits=logits,
        tolerance=float(np.float32(relative_tolerance * np.abs(logits).max())),
    )


def largest_difference(session: Session, vectors: Vectors, *, what: str) -> float:
    """Run a model as a device will and return the largest difference of a logit.

    Args:
        session: the model in another form, or on another target.
        vectors: what it must answer.
        what: to call it in a message.

    Raises:
        ParityError: it answers something else.
    """
    found = answers(session, vectors.images, vectors.batch)
    worst = float("inf")
    if found.shape == vectors.logits.shape and np.isfinite(found).all():
        worst = float(np.abs(found - vectors.logits).max())
    if worst > vectors.tolerance:
        raise ParityError(
            f"package: {what} answers otherwise than {vectors.name}.onnx on this machine's CPU: a logit differs by "
            f"{worst:.3g}, allowed {vectors.tolerance:.3g}. Nothing was written.",
            next_step="edgecnn validate --provider TARGET shows how much accuracy that costs",
        )
    return worst


def describe(
    models: Mapping[str, tuple[bytes, Vectors]], *, target: str, way: Way, labels: Sequence[str]
) -> dict[str, bytes]:
    """Return ``acceptance.json``, the same as a table for programs that read no JSON, and the vectors' files.

    Args:
        models: of each model's file, its bytes and what it must answer.
        target: what the package is for.
        way: how a program opens them there.
        labels: names of the classes, or none.
    """
    entries = [_entry(name, data, vectors) for name, (data, vectors) in models.items()]
    opened = [{**entry, "provider": way.provider_of(name)} for name, entry in zip(models, entries, strict=True)]
    top = {"format": FORMAT, "version": 1, "target": target, **way.words(), "labels": list(labels)}
    # The table is for programs that open every model on the CPU.
    found = {ACCEPTANCE: _json({**top, "models": opened}), TABLE: _table(entries)}
    for _, vectors in models.values():
        found |= vectors.files()
    return found


def _entry(name: str, data: bytes, vectors: Vectors) -> dict[str, Any]:
    return {
        "file": name,
        "sha256": sha256_bytes(data),
        "batch": vectors.batch,
        "input": vectors.input.name,
        "input_type": vectors.input.dtype,
        "input_shape": list(vectors.images.shape),
        "images": vectors.images_file,
        "output": vectors.output.name,
        "output_shape": list(vectors.logits.shape),
        "logits": vectors.logits_file,
        "tolerance": vectors.tolerance,
    }


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _table(entries: list[dict[str, Any]]) -> bytes:
    """Return one line a model, its fields between tabs, in the order of the JSON; sizes are between commas."""
    return "".join("\t".join(map(_cell, entry.values())) + "\n" for entry in entries).encode()


def _cell(value: object) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text.replace("\t", " ").replace("\n", " ")
