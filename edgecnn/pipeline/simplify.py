"""Stage 3: ``float.onnx`` to a simpler ``float.onnx`` with the same function."""

import importlib.metadata
from typing import TYPE_CHECKING

from edgecnn.bundle import Bundle
from edgecnn.bundle.atomic import sha256_bytes
from edgecnn.bundle.locate import newest_folder
from edgecnn.bundle.manifest import ParityRecord, SimplificationRecord, SkippedPassRecord
from edgecnn.data import Dataset
from edgecnn.data.photos import photo_crops
from edgecnn.graph.onnxsim_process import Limits
from edgecnn.pipeline.context import (
    Options,
    Outcome,
    Work,
    choose_dataset,
    describe_artifact,
    input_size,
    working_on,
)
from edgecnn.pipeline.export import FLOAT_MODEL, N_LARGE, with_layers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgecnn.graph.simplify import Simplified


def simplify(*, options: Options | None = None, limits: Limits | None = None, bisect: bool = False) -> Outcome:
    """Simplify ``float.onnx`` with onnxsim, after comparing both on real images.

    A pass of onnxsim that changes the answers is found, left out and recorded, with the first layer that differed.

    Args:
        options: bundle (default: the newest), data (default: the bundle's, else photographs), and so on.
        limits: of the process that simplifies.
        bisect: compare layer by layer even if the answers agree; always does the stage again.

    Raises:
        BundleError: the bundle has no ``float.onnx``.
        StageError: onnxsim failed.
        ParityError: the simplified graph gives other answers, whatever is left out; nothing is written.
    """
    options = options or Options()
    with working_on(options.bundle or newest_folder()) as bundle:
        size = input_size(bundle, FLOAT_MODEL)
        unknown = options.data is None and bundle.manifest.data is None
        dataset = None if unknown else choose_dataset(options, bundle.manifest, *size)
        return simplify_stage(bundle, dataset, options, limits=limits, bisect=bisect)


def simplify_stage(
    bundle: Bundle, dataset: Dataset | None, options: Options, *, limits: Limits | None = None, bisect: bool = False
) -> Outcome:
    """Simplify inside a locked bundle; see :func:`simplify`. Without a data set it compares on photographs."""
    model = bundle.read(FLOAT_MODEL, next_step="edgecnn export model.pt")
    again = options.force or bisect
    done = bundle.manifest.stages.get("simplify")
    # What was simplified already is not the exported file any more; its record names the one before.
    parent = done.inputs[FLOAT_MODEL] if done and not again else sha256_bytes(model)
    inputs = {FLOAT_MODEL: parent} if dataset is None else {FLOAT_MODEL: parent, "data": dataset.sha256}
    work = Work(bundle=bundle, stage="simplify", inputs=inputs, settings={"tool": "onnxsim"})
    if not again and work.is_done():
        return work.unchanged()
    from edgecnn.graph.image_comparison import compare_on_images
    from edgecnn.graph.simplify import simplify_model

    options.progress.say("simplifying with onnxsim")
    name = str(bundle.path(FLOAT_MODEL))
    simplified = simplify_model(
        model,
        compare_on_images(model, _pixels(bundle, dataset), name),
        name=name,
        limits=limits,
        bisect=bisect,
        progress=options.progress,
    )
    before, after = sum(simplified.nodes_before.values()), sum(simplified.nodes_after.values())
    options.progress.say(f"{before} nodes before, {after} after")
    if simplified.layers is not None:
        options.progress.say(f"layer by layer, against the exported model: {simplified.layers}")
    tools = {name: importlib.metadata.version(name) for name in ("onnx", "onnxsim", "onnxruntime")}
    artifact = describe_artifact(
        "simplify", FLOAT_MODEL, simplified.data, parent_sha256=sha256_bytes(model), tools=tools
    )
    others = tuple(record for record in bundle.manifest.parity if record.stage != "simplify")
    changes = {
        "parity": (*others, with_layers(simplified.record, simplified.layers)),
        "simplification": describe_simplification(simplified),
    }
    return work.finish([(artifact, simplified.data)], changes)


def describe_simplification(simplified: "Simplified[ParityRecord]") -> SimplificationRecord:
    """Return what the manifest says of a simplification."""
    return SimplificationRecord(
        nodes_before=simplified.nodes_before,
        nodes_after=simplified.nodes_after,
        skipped=tuple(SkippedPassRecord(name=one.name, reason=one.reason) for one in simplified.skipped),
    )


def _pixels(bundle: Bundle, dataset: Dataset | None) -> "NDArray[np.uint8]":
    from edgecnn.graph.parity import N_IMAGES

    if dataset is not None:
        return dataset.test.pixels[:N_IMAGES]
    return photo_crops(N_LARGE, *input_size(bundle, FLOAT_MODEL))
