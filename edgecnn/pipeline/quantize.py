"""Stage 4: ``float.onnx`` to ``int8.onnx``, calibrated on training images only."""

import importlib.metadata
from dataclasses import asdict
from pathlib import Path

from edgecnn import data as data_room
from edgecnn.bundle import Bundle
from edgecnn.bundle.atomic import sha256_bytes
from edgecnn.bundle.locate import default_folder, newest_folder
from edgecnn.bundle.manifest import MANIFEST, NetworkRecord
from edgecnn.data import Dataset
from edgecnn.errors import BundleError, DataError, ModelError, UsageError
from edgecnn.pipeline.context import (
    Options,
    Outcome,
    Work,
    choose_dataset,
    describe_artifact,
    image_size,
    input_size,
    working_on,
)
from edgecnn.pipeline.export import FLOAT_MODEL
from edgecnn.quantization import DEFAULT_RECIPE, recipe
from edgecnn.quantization.calibration import choose_calibration_images, count_calibration_images

INT8_MODEL = "int8.onnx"
#: Training images to calibrate on, unless the user says otherwise or the set is smaller.
N_IMAGES = 512


def quantize(
    model: Path | str | None = None,
    *,
    recipe_name: str = DEFAULT_RECIPE,
    n_images: int | None = None,
    seed: int = 0,
    options: Options | None = None,
) -> Outcome:
    """Quantize a float model to static int8 and write ``int8.onnx``.

    Args:
        model: a float ONNX file to make a bundle of; None for the bundle's ``float.onnx``.
        recipe_name: a row of the recipe table.
        n_images: training images to calibrate on; None for 512, or all of a smaller set.
        seed: of their choice.
        options: bundle (default: the newest), data (default: the bundle's), and so on.

    Raises:
        UsageError: no such recipe, or a negative seed.
        ModelError: the model cannot be read, or is quantized already.
        DataError: there are not enough training images that are not test images.
    """
    options = options or Options()
    recipe(recipe_name)
    if seed < 0:
        raise UsageError(f"quantize: --seed must be at least 0, found {seed}.", next_step="--seed 0")
    if model is None:
        with working_on(options.bundle or newest_folder()) as bundle:
            dataset = choose_dataset(options, bundle.manifest, *input_size(bundle, FLOAT_MODEL))
            return quantize_stage(bundle, dataset, options, recipe_name, n_images, seed)
    path = Path(model)
    data = _read_float_model(path)
    folder = options.bundle or (path.parent if (path.parent / MANIFEST).is_file() else default_folder(path.stem))
    dataset = _images_for(path, data, folder, options)
    with working_on(folder, create=True) as bundle:
        _adopt(bundle, path, data, dataset, options)
        return quantize_stage(bundle, dataset, options, recipe_name, n_images, seed)


def quantize_stage(
    bundle: Bundle,
    dataset: Dataset,
    options: Options,
    recipe_name: str = DEFAULT_RECIPE,
    n_images: int | None = None,
    seed: int = 0,
) -> Outcome:
    """Quantize inside a locked bundle; see :func:`quantize`."""
    chosen = recipe(recipe_name)
    model = bundle.read(FLOAT_MODEL, next_step="edgecnn export model.pt")
    parent = sha256_bytes(model)
    if n_images is None:
        n_images = min(N_IMAGES, count_calibration_images(dataset)) or N_IMAGES
    settings = {key: value for key, value in asdict(chosen).items() if key != "summary"}
    work = Work(
        bundle=bundle,
        stage="quantize",
        inputs={FLOAT_MODEL: parent, "data": dataset.sha256},
        settings={"recipe": {"name": chosen.name, **settings}, "images": n_images, "seed": seed},
    )
    if not options.force and work.is_done():
        return work.unchanged()
    from edgecnn.measure.latency import available_cpus
    from edgecnn.quantization.static import quantize_model

    images, calibration = choose_calibration_images(dataset, n_images, seed)
    options.progress.say(f"quantizing with {chosen.name} on {n_images} training images")
    data = quantize_model(
        model,
        images,
        chosen,
        name=str(bundle.path(FLOAT_MODEL)),
        threads=available_cpus(),
        progress=options.progress,
    )
    tools = {name: importlib.metadata.version(name) for name in ("onnx", "onnxruntime")}
    artifact = describe_artifact("quantize", INT8_MODEL, data, parent_sha256=parent, tools=tools)
    return work.finish([(artifact, data)], {"calibration": calibration})


def _read_float_model(path: Path) -> bytes:
    """Read a stranger's ONNX file and check it before a bundle is touched."""
    from edgecnn.graph import onnx_file
    from edgecnn.graph.external_data import read_whole

    if not path.is_file():
        what = "a folder" if path.is_dir() else "nothing"
        raise ModelError(
            f"{path}: expected a float ONNX model, found {what}.",
            next_step="edgecnn quantize --bundle FOLDER for a bundle, or name an .onnx file",
        )
    data = read_whole(path)
    if onnx_file.is_quantized(onnx_file.parse(data, str(path))):
        raise ModelError(
            f"{path}: is quantized already; expected a float model.",
            next_step="give the float model: float.onnx",
        )
    return data


def _images_for(path: Path, data: bytes, folder: Path, options: Options) -> Dataset:
    """Return the images for an ONNX file: those named, else those of the bundle it goes into."""
    from edgecnn.targets import reference_session

    session = reference_session(data, model_name=str(path))
    height, width = image_size(session.input.shape, str(path))
    for spec, known in ((session.input, ("float32", "uint8")), (session.output, ("float32",))):
        if spec.dtype not in known:
            raise ModelError(
                f"{path}: {spec.name!r} is {spec.dtype}; expected {' or '.join(known)}.",
                next_step="export the network in float32: network.float()",
            )
    if options.data is not None:
        return data_room.load(options.data, height=height, width=width, cache_folder=options.cache)
    if (folder / MANIFEST).is_file():
        return choose_dataset(options, Bundle.open(folder).manifest, height, width)
    raise DataError(
        "quantize: an ONNX file says nothing of its images.",
        next_step="give its training images: --data FOLDER",
    )


def _adopt(bundle: Bundle, path: Path, data: bytes, dataset: Dataset, options: Options) -> None:
    """Make a float ONNX file the bundle's own, unless it is already, or the bundle exported another."""
    known = bundle.manifest.artifact(FLOAT_MODEL)
    if known is not None and known.sha256 == sha256_bytes(data):
        return
    record = bundle.manifest.stages.get("export")
    if record is not None and "imported" not in record.settings and not options.force:
        raise BundleError(
            f"{bundle.folder}: holds another model, exported from its own checkpoint; {path} would replace it.",
            next_step="name another folder with --bundle, or --force",
        )
    artifact = describe_artifact("export", FLOAT_MODEL, data)
    work = Work(bundle=bundle, stage="export", inputs={FLOAT_MODEL: artifact.sha256}, settings={"imported": True})
    work.finish(
        [(artifact, data)],
        {
            "network": NetworkRecord(name=path.stem, labels=_labels(data)),
            "data": data_room.record(dataset),
            "parity": (),
        },
    )


def _labels(data: bytes) -> tuple[str, ...]:
    from edgecnn.graph import onnx_file

    return onnx_file.read_labels(onnx_file.read(data, FLOAT_MODEL))
