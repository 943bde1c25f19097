"""What the stages share: a locked bundle, a listener, and the question whether there is work to do."""

import contextlib
import importlib.util
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue

from edgecnn import data as data_room
from edgecnn.bundle import Bundle
from edgecnn.bundle.atomic import sha256_bytes
from edgecnn.bundle.manifest import Artifact, Manifest, StageName, StageRecord
from edgecnn.data import Dataset
from edgecnn.errors import BundleError, DataError, ModelError, UsageError
from edgecnn.progress import SILENT, Progress


@dataclass(frozen=True, kw_only=True)
class Options:
    """What every stage may be told.

    Attributes:
        bundle: the bundle's folder; None lets the stage choose.
        data: a data source, or None for the one the bundle names.
        cache: folder of decoded images; None for the user's default.
        force: do the stage again even if nothing changed.
        progress: told what happens.
    """

    bundle: Path | None = None
    data: str | None = None
    cache: Path | None = None
    force: bool = False
    progress: Progress = SILENT


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a stage ended.

    Attributes:
        stage: its name.
        bundle: the bundle's folder.
        manifest: the manifest after it.
        unchanged: True if its inputs and settings had not changed, and nothing was done.
    """

    stage: StageName
    bundle: Path
    manifest: Manifest
    unchanged: bool

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """The files this stage is answerable for."""
        return tuple(artifact for artifact in self.manifest.artifacts if artifact.stage == self.stage)


@dataclass(frozen=True, kw_only=True)
class Work:
    """One stage about to run: what it is given, and when it began."""

    bundle: Bundle
    stage: StageName
    inputs: Mapping[str, str]
    settings: Mapping[str, JsonValue]
    started: float = field(default_factory=time.perf_counter)

    @property
    def key(self) -> str:
        """Hash of stage, inputs and settings: names this piece of work."""
        text = json.dumps([self.stage, dict(self.inputs), dict(self.settings)], sort_keys=True)
        return sha256_bytes(text.encode())

    def is_done(self) -> bool:
        """Tell whether the manifest proves that this very work was done, and its files are still whole."""
        manifest = self.bundle.manifest
        record = manifest.stages.get(self.stage)
        if record is None or record.inputs != dict(self.inputs) or record.settings != dict(self.settings):
            return False
        newest = {name: manifest.artifact(name) for name in record.outputs}
        return self.bundle.holds({name: artifact.sha256 for name, artifact in newest.items() if artifact})

    def unchanged(self) -> Outcome:
        """Return the outcome of work that was done before."""
        return self._outcome(unchanged=True)

    def finish(
        self, products: Sequence[tuple[Artifact, bytes]] = (), changes: Mapping[str, object] | None = None
    ) -> Outcome:
        """Write what the stage made and return its outcome.

        Args:
            products: the files it made, with their bytes.
            changes: manifest fields that the stage sets, by name.
        """
        record = StageRecord(
            inputs=dict(self.inputs),
            settings=dict(self.settings),
            outputs={artifact.path: artifact.sha256 for artifact, _ in products},
            finished_at=datetime.now(UTC).replace(microsecond=0),
            seconds=round(time.perf_counter() - self.started, 3),
        )
        self.bundle.commit(self.stage, record, products, changes or {})
        return self._outcome(unchanged=False)

    def _outcome(self, *, unchanged: bool) -> Outcome:
        return Outcome(
            stage=self.stage,
            bundle=self.bundle.folder,
            manifest=self.bundle.manifest,
            unchanged=unchanged,
        )


@contextlib.contextmanager
def working_on(folder: Path, *, create: bool = False) -> Iterator[Bundle]:
    """Open a bundle for writing, alone.

    Raises:
        BundleError: no bundle there, another process is at work in it, or it cannot be written.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    bundle = Bundle.open_or_create(folder) if create else Bundle.open(folder)
    try:
        with bundle.locked():
            bundle.require_writable()
            yield bundle
    finally:
        with contextlib.suppress(OSError):  # it holds something: the stage got far enough
            for place in made:
                place.rmdir()


def require_torch(what: str) -> None:
    """Find out whether PyTorch is installed, which a device that only checks a bundle does without.

    Raises:
        UsageError: it is not.
    """
    if importlib.util.find_spec("torch") is None:
        raise UsageError(
            f"{what}: needs PyTorch, which is not installed here.", next_step="pip install 'edgecnn[torch]'"
        )


def choose_dataset(options: Options, manifest: Manifest, height: int, width: int) -> Dataset:
    """Return the data set the user named, else the one the bundle names.

    Raises:
        DataError: neither is there, or it cannot be loaded.
    """
    if options.data is not None:
        return data_room.load(options.data, height=height, width=width, cache_folder=options.cache)
    if manifest.data is not None:
        return data_room.find(manifest.data, cache_folder=options.cache)
    raise DataError("the bundle names no images.", next_step="give them with --data SOURCE")


def input_size(bundle: Bundle, model: str) -> tuple[int, int]:
    """Return height and width of the images that a model of the bundle takes.

    Raises:
        BundleError: the bundle has no such model yet.
        ModelError: its input is not an image of a fixed size.
    """
    artifact = bundle.manifest.artifact(model)
    if artifact is None or artifact.input is None:
        raise BundleError(f"{bundle.folder}: the bundle has no {model} yet.", next_step="edgecnn export model.pt")
    return image_size(artifact.input.shape)


def image_size(shape: tuple[int | str, ...], name: str = "the model") -> tuple[int, int]:
    """Return height and width from an NCHW or NHWC input shape; ``name`` says whose in a message.

    Raises:
        ModelError: it is not the shape of RGB images of a fixed size.
    """
    match shape:
        case (_, 3, int(height), int(width)) | (_, int(height), int(width), 3):
            return height, width
    raise ModelError(
        f"{name}: the input is {list(shape)}; expected [N, 3, H, W] or [N, H, W, 3] with fixed H and W.",
        next_step="export it with a fixed image size",
    )


def read_model(bundle: Bundle, name: str, *, next_step: str) -> bytes:
    """Return an ONNX file of the bundle, unchanged since it was made and referring to no other file.

    Raises:
        BundleError: the bundle has no such file, or it was changed.
        ModelError: it keeps weights in other files.
    """
    from edgecnn.graph.onnx_file import read_self_contained

    data = bundle.read(name, next_step=next_step)
    read_self_contained(data, str(bundle.path(name)))
    return data


def describe_artifact(
    stage: StageName,
    path: str,
    data: bytes,
    *,
    parent_sha256: str | None = None,
    tools: Mapping[str, str] | None = None,
    weights: Mapping[str, bytes] | None = None,
) -> Artifact:
    """Return an artifact's entry; for an ONNX file, with its input and output.

    Args:
        stage: that made it.
        path: its name in the bundle.
        data: its bytes.
        parent_sha256: of the file it was made from.
        tools: versions of what made it.
        weights: the files that an ONNX file keeps weights in, by name.
    """
    entry = Artifact(
        stage=stage,
        path=path,
        sha256=sha256_bytes(data),
        size_bytes=len(data),
        parent_sha256=parent_sha256,
        tools=dict(tools or {}),
    )
    if not path.endswith(".onnx"):
        return entry
    from edgecnn.targets import reference_session

    session = reference_session(data, model_name=path, weights=weights)
    return entry.model_copy(update={"input": session.input, "output": session.output})
