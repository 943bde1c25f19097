"""Stage 2: ``model.pt`` to ``float.onnx``, plain pixels in, logits out."""

import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgecnn import data as data_room
from edgecnn.bundle import Bundle
from edgecnn.bundle.atomic import sha256_bytes
from edgecnn.bundle.folder import MANIFEST
from edgecnn.bundle.locate import default_folder, newest_folder
from edgecnn.bundle.manifest import NetworkRecord
from edgecnn.data import Dataset
from edgecnn.errors import BundleError, UsageError
from edgecnn.pipeline.context import Options, Outcome, Work, describe_artifact, working_on
from edgecnn.pipeline.train import CHECKPOINT

if TYPE_CHECKING:
    from torch import nn

    from edgecnn.models.checkpoint import CheckpointInfo

FLOAT_MODEL = "float.onnx"
InputType = Literal["float32", "uint8"]
InputLayout = Literal["nchw", "nhwc"]
INPUT_TYPES: dict[str, InputType] = {"float32": "float32", "uint8": "uint8"}
INPUT_LAYOUTS: dict[str, InputLayout] = {"nchw": "nchw", "nhwc": "nhwc"}


def export(
    checkpoint: Path | str = CHECKPOINT,
    *,
    batch: int | None = None,
    input_type: InputType = "float32",
    input_layout: InputLayout = "nchw",
    options: Options | None = None,
) -> Outcome:
    """Export a checkpoint and write ``float.onnx``, after comparing it with PyTorch on real images.

    Args:
        checkpoint: a file; a relative path that does not exist here is looked up in the bundle.
        batch: a fixed batch size, or None for one that may vary.
        input_type: ``float32`` pixels in [0, 1], or ``uint8``.
        input_layout: ``nchw`` or ``nhwc``.
        options: bundle (default: the checkpoint's own, else ``artifacts/<model>``), data, and so on.

    Raises:
        CheckpointError: not a usable checkpoint.
        ParityError: the exported graph gives other answers; nothing is written.
    """
    from edgecnn.models.checkpoint import load

    options = options or Options()
    path = _find_checkpoint(Path(checkpoint), options)
    info, module = load(path)
    home = path.parent if path.name == CHECKPOINT and (path.parent / MANIFEST).is_file() else None
    folder = options.bundle or home or default_folder(info.model)
    dataset = _images_of(info, options)
    with working_on(folder, create=True) as bundle:
        _adopt(bundle, path, info, module, options)
        return export_stage(bundle, dataset, options, batch=batch, input_type=input_type, input_layout=input_layout)


def export_stage(
    bundle: Bundle,
    dataset: Dataset,
    options: Options,
    *,
    batch: int | None = None,
    input_type: InputType = "float32",
    input_layout: InputLayout = "nchw",
) -> Outcome:
    """Export inside a locked bundle; see :func:`export`."""
    if batch is not None and batch < 1:
        raise UsageError(
            f"export: --batch must be at least 1, found {batch}.",
            next_step="--batch 1, or leave it out for a batch that may vary",
        )
    parent = sha256_bytes(bundle.read(CHECKPOINT, next_step="edgecnn train"))
    work = Work(
        bundle=bundle,
        stage="export",
        inputs={CHECKPOINT: parent, "data": dataset.sha256},
        settings={"batch": batch, "input_type": input_type, "input_layout": input_layout},
    )
    if not options.force and work.is_done():
        return work.unchanged()
    from edgecnn.graph.export import export_network
    from edgecnn.graph.parity import N_IMAGES
    from edgecnn.models.checkpoint import load

    options.progress.say("exporting with torch.onnx")
    info, module = load(bundle.path(CHECKPOINT))
    exported = export_network(
        module,
        dataset.test.pixels[:N_IMAGES],
        mean=info.mean,
        std=info.std,
        batch=batch,
        input_type=input_type,
        input_layout=input_layout,
    )
    where = "folded into the first convolution" if exported.folded else "kept in front of the network"
    options.progress.say(f"the normalization was {where}")
    tools = {name: importlib.metadata.version(name) for name in ("torch", "onnx", "onnxscript", "onnxruntime")}
    artifact = describe_artifact("export", FLOAT_MODEL, exported.data, parent_sha256=parent, tools=tools)
    return work.finish([(artifact, exported.data)], {"parity": (exported.parity,)})


def parse_type(text: str) -> InputType:
    """Return an input type, or raise a UsageError that lists them."""
    if text not in INPUT_TYPES:
        raise UsageError(
            f"--input-type: expected {' or '.join(INPUT_TYPES)}, found {text!r}.", next_step="edgecnn export --help"
        )
    return INPUT_TYPES[text]


def parse_layout(text: str) -> InputLayout:
    """Return an input layout, or raise a UsageError that lists them."""
    if text not in INPUT_LAYOUTS:
        raise UsageError(
            f"--input-layout: expected {' or '.join(INPUT_LAYOUTS)}, found {text!r}.", next_step="edgecnn export --help"
        )
    return INPUT_LAYOUTS[text]


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


def _images_of(info: "CheckpointInfo", options: Options) -> Dataset:
    """Return the images the user names, else those the checkpoint was trained on."""
    _, height, width = info.input_shape
    if options.data is not None:
        return data_room.load(options.data, height=height, width=width, cache_folder=options.cache)
    return data_room.find(info.data, cache_folder=options.cache)


def _adopt(bundle: Bundle, path: Path, info: "CheckpointInfo", module: "nn.Module", options: Options) -> None:
    """Make a checkpoint the bundle's own, unless it is already, or the bundle trained another."""
    data = path.read_bytes()
    known = bundle.manifest.artifact(CHECKPOINT)
    if known is not None and known.sha256 == sha256_bytes(data) and bundle.holds({CHECKPOINT: known.sha256}):
        return
    record = bundle.manifest.stages.get("train")
    if record is not None and "imported" not in record.settings and not options.force:
        raise BundleError(
            f"{bundle.folder}: holds another model, which was trained there; exporting {path} would replace it.",
            next_step="name another folder with --bundle, or --force",
        )
    artifact = describe_artifact("train", CHECKPOINT, data)
    work = Work(bundle=bundle, stage="train", inputs={CHECKPOINT: artifact.sha256}, settings={"imported": True})
    work.finish(
        [(artifact, data)],
        {
            "network": NetworkRecord(
                name=info.model,
                parameters=sum(parameter.numel() for parameter in module.parameters()),
                mean=info.mean,
                std=info.std,
            ),
            "data": info.data,
            "training_curve": info.curve,
        },
    )
