"""Stage 2: a network to ``float.onnx``, plain pixels in, logits out."""

import dataclasses
import importlib.metadata
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgecnn import data as data_room
from edgecnn.bundle import Bundle
from edgecnn.bundle.atomic import sha256_bytes
from edgecnn.bundle.locate import default_folder, newest_folder
from edgecnn.bundle.manifest import MANIFEST, Artifact, DataRecord, LayersRecord, NetworkRecord, ParityRecord
from edgecnn.data import Dataset
from edgecnn.data.photos import photo_crops
from edgecnn.errors import BundleError, UsageError
from edgecnn.models import MODELS
from edgecnn.pipeline.context import Options, Outcome, Work, describe_artifact, require_torch, working_on
from edgecnn.pipeline.export_settings import ExportSettings
from edgecnn.pipeline.train import CHECKPOINT

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgecnn.graph.bisection import LayerLedger
    from edgecnn.models.foreign import Network

FLOAT_MODEL = "float.onnx"
#: Side of the images that torchvision's classifiers were made for, where nothing else is said.
TORCHVISION_SIZE = (224, 224)
#: Images for the comparison: many small ones, few large ones, so that it takes seconds.
N_SMALL, N_LARGE, SMALL_SIDE = 64, 8, 64


@dataclass(frozen=True, kw_only=True)
class _Given:
    """A network that is about to be exported, and everything said of it."""

    network: "Network"
    data: bytes
    settings: ExportSettings
    dataset: Dataset | None
    record: DataRecord | None


def export(
    checkpoint: Path | str = CHECKPOINT,
    *,
    settings: ExportSettings | None = None,
    options: Options | None = None,
    bisect: bool = False,
) -> Outcome:
    """Export a network and write ``float.onnx``, after comparing it with PyTorch.

    Args:
        checkpoint: a checkpoint of this project, a state_dict (with ``settings.architecture``), a ``torch.export``
            or TorchScript archive, a pickled module (with ``settings.allow_pickle``), or the name of an
            architecture, which gets random weights. A relative path that does not exist here is looked up in the
            bundle.
        settings: what is fed, and how it is brought to what the network wants.
        options: bundle (default: the checkpoint's own, else ``artifacts/<name>``), data, and so on.
        bisect: compare with PyTorch layer by layer even if the logits agree; always does the stage again.

    Raises:
        CheckpointError: not a usable network.
        UsageError: settings that contradict the checkpoint, or are missing.
        ParityError: the exported graph gives other answers; nothing is written.
    """
    require_torch("export")
    options, settings = options or Options(), settings or ExportSettings()
    path = _find_checkpoint(Path(checkpoint), options)
    given = _read(path, str(checkpoint), settings, options)
    for note in given.network.notes:
        options.progress.say(note)
    home = path.parent if path.name == CHECKPOINT and (path.parent / MANIFEST).is_file() else None
    folder = options.bundle or home or default_folder(given.network.name)
    with working_on(folder, create=True) as bundle:
        _refuse_to_replace(bundle, path, given, options)
        work = _work(bundle, given, sha256_bytes(given.data))
        if not (options.force or bisect) and work.is_done() and bundle.manifest.artifact(CHECKPOINT) is not None:
            return work.unchanged()
        products, changes = _make(given, options, bisect=bisect)
        _adopt(bundle, given)
        return work.finish(products, changes)


def export_stage(bundle: Bundle, dataset: Dataset, options: Options) -> Outcome:
    """Export the bundle's own checkpoint inside a locked bundle, with the default settings; see :func:`export`."""
    from edgecnn.models.foreign import load_network

    data = bundle.read(CHECKPOINT, next_step="edgecnn train")
    settings = ExportSettings()
    inputs = {CHECKPOINT: sha256_bytes(data), "data": dataset.sha256}
    work = Work(bundle=bundle, stage="export", inputs=inputs, settings=settings.recorded())
    if not options.force and work.is_done():
        return work.unchanged()
    require_torch("export")
    network = load_network(bundle.path(CHECKPOINT))
    given = _Given(network=network, data=data, settings=settings, dataset=dataset, record=data_room.record(dataset))
    products, changes = _make(given, options)
    return work.finish(products, changes)


def _work(bundle: Bundle, given: _Given, sha256: str) -> Work:
    inputs = {CHECKPOINT: sha256}
    if given.dataset is not None:
        inputs["data"] = given.dataset.sha256
    settings = given.settings.recorded()
    if given.settings.architecture is not None:
        settings["architecture"] = given.settings.architecture
    return Work(bundle=bundle, stage="export", inputs=inputs, settings=settings)


def _make(
    given: _Given, options: Options, *, bisect: bool = False
) -> tuple[list[tuple[Artifact, bytes]], dict[str, object]]:
    """Export and compare; nothing is written yet."""
    from edgecnn.graph.export import OPSET, WEIGHTS, export_network

    settings, info = given.settings, given.network.info
    labels = settings.labels or (info.classes if info else ())
    options.progress.say("exporting with torch.onnx")
    preprocessing = settings.preprocessing(
        info.mean if info else (0.0, 0.0, 0.0), info.std if info else (1.0, 1.0, 1.0)
    )
    exported = export_network(
        given.network.module,
        _comparison_images(given),
        preprocessing,
        batch=settings.batch,
        opset=settings.opset or OPSET,
        labels=labels,
        bisect=bisect,
    )
    for reason in exported.refused:
        options.progress.say(f"not used: {reason}")
    where = "folded into the first convolution" if exported.folded else "kept in front of the network"
    options.progress.say(f"exported with {exported.exporter}; the normalization was {where}")
    if exported.layers is not None:
        options.progress.say(f"layer by layer, against PyTorch: {exported.layers}")
    tools = {name: importlib.metadata.version(name) for name in ("torch", "onnx", "onnxscript", "onnxruntime")}
    tools["exporter"] = exported.exporter
    parent = sha256_bytes(given.data)
    outside = {} if exported.weights is None else {WEIGHTS: exported.weights}
    artifact = describe_artifact(
        "export", FLOAT_MODEL, exported.data, parent_sha256=parent, tools=tools, weights=outside
    )
    products = [(artifact, exported.data)]
    for name, content in outside.items():
        options.progress.say(f"more than 2 GiB: the weights are in {name}; the later stages read single files only")
        products.append((describe_artifact("export", name, content, parent_sha256=parent, tools=tools), content))
    _check_labels(given, artifact)
    changes: dict[str, object] = {
        "parity": (with_layers(exported.parity, exported.layers),),
        "network": NetworkRecord(
            name=given.network.name,
            parameters=sum(parameter.numel() for parameter in given.network.module.parameters()) or None,
            mean=preprocessing.mean,
            std=preprocessing.std,
            labels=labels,
        ),
    }
    if given.record is not None:
        changes["data"] = given.record
    return products, changes


def with_layers(record: ParityRecord, layers: "LayerLedger | None") -> ParityRecord:
    """Return a comparison's record with what its comparison layer by layer came to, if there was one."""
    if layers is None:
        return record
    found = LayersRecord(
        n=layers.n, n_equal=layers.n_equal, worst_layer=layers.worst_layer, worst_relative=layers.worst_relative
    )
    return record.model_copy(update={"layers": found})


def _comparison_images(given: _Given) -> "NDArray[np.uint8]":
    """Return real images as they will be fed: the user's own, else crops of photographs."""
    height, width = _fed_size(given.network, given.settings)
    n = N_SMALL if max(height, width) <= SMALL_SIDE else N_LARGE
    if given.dataset is not None:
        return given.dataset.test.pixels[:n]
    return photo_crops(n, height, width)


def _fed_size(network: "Network", settings: ExportSettings) -> tuple[int, int]:
    """Return height and width of the pictures that are fed."""
    if settings.input_size is not None:
        return settings.input_size
    if settings.resize is not None:
        return settings.resize
    if network.info is not None:
        return network.info.input_shape[1:]
    if settings.architecture in MODELS:
        return MODELS[settings.architecture].input_shape[1:]
    if settings.architecture is not None and settings.architecture.startswith("torchvision:"):
        return TORCHVISION_SIZE
    raise UsageError(
        f"export: a {network.kind} does not say how large its pictures are.", next_step="--input-size HEIGHTxWIDTH"
    )


def _check_labels(given: _Given, artifact: Artifact) -> None:
    labels = given.settings.labels
    classes = artifact.output.shape[-1] if artifact.output else None
    if labels is not None and classes != len(labels):
        raise UsageError(
            f"export: --labels names {len(labels)} classes; the network gives {classes} logits.",
            next_step="name each class once, in the order of the logits",
        )


def _find_checkpoint(path: Path, options: Options) -> Path:
    """Return the path itself, or the file of that name in the bundle, which is then said."""
    if path.exists() or path.is_absolute():
        return path
    try:
        folder = options.bundle or newest_folder()
    except BundleError:
        return path
    if (folder / path).is_file():
        options.progress.say(f"{path} is taken from the bundle {folder}")
        return folder / path
    return path


def _read(path: Path, name: str, settings: ExportSettings, options: Options) -> _Given:
    """Load the network, and the images it is to be compared on."""
    from edgecnn.models.foreign import load_network, random_network

    if not path.exists() and (":" in name or name in MODELS):
        settings = dataclasses.replace(settings, architecture=name)
        network = random_network(name)
        data = _weights_of(network)
    else:
        network = load_network(path, architecture=settings.architecture, allow_pickle=settings.allow_pickle)
        data = path.read_bytes()
    info = network.info
    said = (settings.mean, settings.std, settings.scale, settings.channels)
    if info is not None and any(value is not None for value in said):
        raise UsageError(
            f"{path}: states its own normalization; --mean, --std, --scale and --channels would contradict it.",
            next_step="leave them out",
        )
    height, width = _fed_size(network, settings)
    dataset = None
    if options.data is not None:
        dataset = data_room.load(options.data, height=height, width=width, cache_folder=options.cache)
    elif info is not None and (height, width) == info.input_shape[1:]:
        dataset = data_room.find(info.data, cache_folder=options.cache)
    record = data_room.record(dataset) if dataset is not None else (info.data if info is not None else None)
    return _Given(network=network, data=data, settings=settings, dataset=dataset, record=record)


def _weights_of(network: "Network") -> bytes:
    """Return random weights as the bytes of a state_dict, so that the bundle holds what was exported."""
    import torch

    buffer = io.BytesIO()
    torch.save(network.module.state_dict(), buffer)
    return buffer.getvalue()


def _refuse_to_replace(bundle: Bundle, path: Path, given: _Given, options: Options) -> None:
    """Keep a model that was trained in the bundle: another checkpoint replaces it only by force."""
    known = bundle.manifest.artifact(CHECKPOINT)
    same = known is not None and known.sha256 == sha256_bytes(given.data)
    record = bundle.manifest.stages.get("train")
    if record is not None and not same and "imported" not in record.settings and not options.force:
        raise BundleError(
            f"{bundle.folder}: holds another model, which was trained there; exporting {path} would replace it.",
            next_step="name another folder with --bundle, or --force",
        )


def _adopt(bundle: Bundle, given: _Given) -> None:
    """Make the network's file the bundle's own, unless it is already."""
    known = bundle.manifest.artifact(CHECKPOINT)
    artifact = describe_artifact("train", CHECKPOINT, given.data)
    if known is not None and known.sha256 == artifact.sha256 and bundle.holds({CHECKPOINT: known.sha256}):
        return
    info = given.network.info
    work = Work(
        bundle=bundle,
        stage="train",
        inputs={CHECKPOINT: artifact.sha256},
        settings={"imported": True, "kind": given.network.kind, "architecture": given.settings.architecture},
    )
    work.finish(
        [(artifact, given.data)],
        {"network": None, "data": given.record, "training_curve": info.curve if info else ()},
    )
