"""Stage 3: ``float.onnx`` to a simpler ``float.onnx`` with the same function."""

import importlib.metadata

from edgecnn.bundle import Bundle
from edgecnn.bundle.atomic import sha256_bytes
from edgecnn.bundle.locate import newest_folder
from edgecnn.data import Dataset
from edgecnn.pipeline.context import (
    Options,
    Outcome,
    Work,
    choose_dataset,
    describe_artifact,
    input_size,
    working_on,
)
from edgecnn.pipeline.export import FLOAT_MODEL


def simplify(*, options: Options | None = None) -> Outcome:
    """Simplify ``float.onnx`` with onnxsim, after comparing both on real images.

    Args:
        options: bundle (default: the newest), data (default: the bundle's), and so on.

    Raises:
        BundleError: the bundle has no ``float.onnx``.
        StageError: onnxsim failed.
        ParityError: the simplified graph gives other answers; nothing is written.
    """
    options = options or Options()
    with working_on(options.bundle or newest_folder()) as bundle:
        dataset = choose_dataset(options, bundle.manifest, *input_size(bundle, FLOAT_MODEL))
        return simplify_stage(bundle, dataset, options)


def simplify_stage(bundle: Bundle, dataset: Dataset, options: Options) -> Outcome:
    """Simplify inside a locked bundle; see :func:`simplify`."""
    model = bundle.read(FLOAT_MODEL, next_step="edgecnn export model.pt")
    done = bundle.manifest.stages.get("simplify")
    # What was simplified already is not the exported file any more; its record names the one before.
    parent = done.inputs[FLOAT_MODEL] if done and not options.force else sha256_bytes(model)
    work = Work(
        bundle=bundle,
        stage="simplify",
        inputs={FLOAT_MODEL: parent, "data": dataset.sha256},
        settings={"tool": "onnxsim"},
    )
    if not options.force and work.is_done():
        return work.unchanged()
    from edgecnn.graph.parity import N_IMAGES
    from edgecnn.graph.simplify import simplify_model

    options.progress.say("simplifying with onnxsim")
    simplified = simplify_model(model, dataset.test.pixels[:N_IMAGES], name=str(bundle.path(FLOAT_MODEL)))
    before, after = sum(simplified.nodes_before.values()), sum(simplified.nodes_after.values())
    options.progress.say(f"{before} nodes before, {after} after")
    tools = {name: importlib.metadata.version(name) for name in ("onnx", "onnxsim", "onnxruntime")}
    artifact = describe_artifact(
        "simplify", FLOAT_MODEL, simplified.data, parent_sha256=sha256_bytes(model), tools=tools
    )
    others = tuple(record for record in bundle.manifest.parity if record.stage != "simplify")
    return work.finish([(artifact, simplified.data)], {"parity": (*others, simplified.parity)})
