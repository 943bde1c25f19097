"""A stranger's float ONNX file on its way into a bundle: read, checked, given images, and adopted."""

from pathlib import Path

from edgecnn import data as data_room
from edgecnn.bundle import Bundle
from edgecnn.bundle.atomic import sha256_bytes
from edgecnn.bundle.manifest import MANIFEST, NetworkRecord
from edgecnn.data import Dataset
from edgecnn.errors import BundleError, DataError, ModelError
from edgecnn.pipeline.context import Options, Work, choose_dataset, describe_artifact, image_size
from edgecnn.pipeline.export import FLOAT_MODEL


def read_float_model(path: Path) -> bytes:
    """Read a stranger's ONNX file, with the weights that it keeps in files beside it, before a bundle is touched.

    Raises:
        ModelError: it is no ONNX model, or is quantized already.
    """
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


def images_for(path: Path, data: bytes, folder: Path, options: Options) -> Dataset:
    """Return the images for an ONNX file: those named, else those of the bundle it goes into.

    Args:
        path: of the file, for messages.
        data: the file.
        folder: of the bundle, which may not be there yet.
        options: ``data`` names images.

    Raises:
        ModelError: the model does not take float32 or uint8 images, or does not answer in float32.
        DataError: no images were named, and the bundle has none.
    """
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


def _is_own(bundle: Bundle, data: bytes) -> bool:
    known = bundle.manifest.artifact(FLOAT_MODEL)
    return known is not None and known.sha256 == sha256_bytes(data)


def require_replaceable(bundle: Bundle, path: Path, data: bytes, options: Options) -> None:
    """Refuse to replace a model that the bundle exported itself, unless ``options.force`` says so.

    Raises:
        BundleError: it would be.
    """
    if _is_own(bundle, data):
        return
    record = bundle.manifest.stages.get("export")
    if record is not None and "imported" not in record.settings and not options.force:
        raise BundleError(
            f"{bundle.folder}: holds another model, exported from its own checkpoint; {path} would replace it.",
            next_step="name another folder with --bundle, or --force",
        )


def adopt(bundle: Bundle, path: Path, data: bytes, dataset: Dataset) -> None:
    """Make a float ONNX file the bundle's own, unless it is already: the export stage is then one that imported it."""
    if _is_own(bundle, data):
        return
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
