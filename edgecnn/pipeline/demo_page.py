"""``edgecnn demo-page``: a static page on which anyone runs both models in a browser of their own."""

import errno
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn.bundle import Bundle
from edgecnn.bundle.atomic import explain_write_error, sha256_bytes, write_together
from edgecnn.bundle.locate import newest_folder
from edgecnn.bundle.manifest import Artifact, ValidationResult
from edgecnn.data import Images
from edgecnn.errors import BundleError, DataError, ModelError, TargetError, UsageError
from edgecnn.pipeline.context import Options, choose_dataset, input_size, read_model
from edgecnn.pipeline.export import FLOAT_MODEL
from edgecnn.pipeline.quantize import INT8_MODEL
from edgecnn.targets.npm import WASM
from edgecnn.targets.web.serving import PageServer
from edgecnn.version import __version__

#: The page itself: everything but the models, the library and what is known of both.
SOURCE = Path(__file__).parents[1] / "targets" / "web" / "demo"
ABOUT = "model.json"
FORMAT = "edgecnn-demo-page"
DEFAULT_FOLDER = Path("demo-page")
MAX_SAMPLES = 100


@dataclass(frozen=True, kw_only=True)
class DemoPage:
    """A page that was written.

    Attributes:
        folder: where.
        bundle: whose models it runs.
        files: size in bytes, by name.
        samples: how many test pictures it shows.
    """

    folder: Path
    bundle: Path
    files: Mapping[str, int]
    samples: int

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(self.files.values())


def write_demo_page(
    *, folder: Path = DEFAULT_FOLDER, samples: int | None = None, options: Options | None = None
) -> DemoPage:
    """Write a page with both models of a bundle and onnxruntime-web; it needs nothing from anywhere else.

    Args:
        folder: where to; it is made, or holds an earlier page.
        samples: how many test pictures to show on it; None for one a class up to ten, if the images are here.
        options: bundle (default: the newest), data (default: the bundle's), and so on.

    Raises:
        UsageError: the folder holds something else, or the number of samples is none.
        TargetError: onnxruntime-web is not set up.
        BundleError: a model is missing or was changed, or the folder cannot be written.
        ModelError: a model takes a fixed batch of several images.
        DataError: samples are asked for, and the images are not here.
        StorageError: the disk is full.
    """
    options = options or Options()
    if samples is not None and not 0 <= samples <= MAX_SAMPLES:
        raise UsageError(f"--samples must be 0 to {MAX_SAMPLES}, found {samples}.", next_step="--samples 10")
    if reason := WASM.why_not():
        raise TargetError(f"demo-page: {reason}.", next_step="edgecnn targets install wasm")
    _require_own(folder)
    bundle = Bundle.open(options.bundle or newest_folder())
    pictures = _samples(bundle, options, samples)
    files = _files(bundle, pictures)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_write_error(error, folder) from error
    stale = _written_before(folder) - set(files)
    write_together({folder / name: data for name, data in files.items()})
    for name in stale:
        (folder / name).unlink(missing_ok=True)
    sizes = {name: len(data) for name, data in files.items()}
    return DemoPage(folder=folder, bundle=bundle.folder, files=sizes, samples=len(pictures))


def page_server(folder: Path, *, port: int = 0) -> PageServer:
    """Return a server for a page, bound to this machine's loopback interface; isolated from other origins.

    Raises:
        BundleError: there is no page.
        UsageError: the port is in use, may not be bound, or is none.
    """
    if not (folder / ABOUT).is_file():
        raise BundleError(f"{folder}: expected a demo page, found no {ABOUT}.", next_step="edgecnn demo-page")
    try:
        return PageServer({"/": folder}, isolated=True, port=port)
    except (OSError, OverflowError) as error:
        in_use = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        reason = "is in use" if in_use else f"cannot be served on ({error})"
        raise UsageError(
            f"demo-page: port {port} {reason}.", next_step="--port 0 takes any port that is free"
        ) from error


def _require_own(folder: Path) -> None:
    """Refuse to write over something that is no page."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: expected a folder, found a file.", next_step="give another folder with --out")
    if folder.is_dir() and any(folder.iterdir()) and not _about(folder):
        raise UsageError(
            f"{folder}: expected an empty folder or an earlier demo page, found other files.",
            next_step="give another folder with --out",
        )


def _about(folder: Path) -> dict[str, Any]:
    """Return what a page says of itself; empty if it is none."""
    try:
        about = json.loads((folder / ABOUT).read_bytes())
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) and about.get("format") == FORMAT else {}


def _written_before(folder: Path) -> set[str]:
    """Return the names of an earlier page's own pictures: those that no path leads out with."""
    names = (row.get("file") for row in _about(folder).get("samples", []) if isinstance(row, dict))
    return {name for name in names if isinstance(name, str) and Path(name).name == name and name.endswith(".png")}


def _files(bundle: Bundle, samples: "Mapping[str, tuple[str, bytes]]") -> dict[str, bytes]:
    """Return every file of the page by name, ``model.json`` last: a page without it is not whole."""
    models = {
        FLOAT_MODEL: read_model(bundle, FLOAT_MODEL, next_step="edgecnn export model.pt"),
        INT8_MODEL: read_model(bundle, INT8_MODEL, next_step="edgecnn quantize"),
    }
    page = {path.name: path.read_bytes() for path in sorted(SOURCE.iterdir()) if path.is_file()}
    library = {Path(name).name: WASM.path(name).read_bytes() for name in WASM.kept}
    pictures = {name: data for name, (_, data) in samples.items()}
    labels = {name: label for name, (label, _) in samples.items()}
    about = _describe(bundle, models, labels)
    text = json.dumps(about, indent=2, sort_keys=True, allow_nan=False) + "\n"
    return {**page, **library, **models, **pictures, ABOUT: text.encode()}


def _describe(bundle: Bundle, models: Mapping[str, bytes], samples: Mapping[str, str]) -> dict[str, Any]:
    manifest = bundle.manifest
    if manifest.data is None:
        raise BundleError(f"{bundle.folder}: the bundle names no classes.", next_step="edgecnn export --data SOURCE")
    height, width = input_size(bundle, FLOAT_MODEL)
    measured = next((row for row in manifest.validation if row.target == "cpu"), None)
    return {
        "format": FORMAT,
        "edgecnn_version": __version__,
        "onnxruntime_web_version": WASM.version,
        "network": manifest.network.name if manifest.network else "a network",
        "classes": list(manifest.data.classes),
        "height": height,
        "width": width,
        "resize": manifest.data.resize,
        "models": [_describe_model(bundle, name, data, measured) for name, data in models.items()],
        "samples": [{"file": name, "label": label} for name, label in samples.items()],
    }


def _describe_model(bundle: Bundle, name: str, data: bytes, measured: ValidationResult | None) -> dict[str, Any]:
    artifact = bundle.manifest.artifact(name)
    assert isinstance(artifact, Artifact)
    assert artifact.input is not None
    assert artifact.output is not None
    if isinstance(artifact.input.shape[0], int) and artifact.input.shape[0] != 1:
        raise ModelError(
            f"{name}: takes {artifact.input.shape[0]} images a call; a page shows one.",
            next_step="export with a batch that may vary",
        )
    right = measured and (measured.float_top1 if name == FLOAT_MODEL else measured.int8_top1)
    return {
        "name": Path(name).stem,
        "file": name,
        "size_bytes": len(data),
        "sha256": sha256_bytes(data),
        "input": artifact.input.model_dump(mode="json"),
        "output": artifact.output.name,
        "top1": right,
        "n": measured.n if measured else None,
    }


def _samples(bundle: Bundle, options: Options, wanted: int | None) -> dict[str, tuple[str, bytes]]:
    """Return label and PNG of some test images by file name: the first of each class, then the second."""
    if wanted == 0:
        return {}
    try:
        dataset = choose_dataset(options, bundle.manifest, *input_size(bundle, FLOAT_MODEL))
    except DataError as error:
        if wanted is not None or options.data is not None:
            raise
        options.progress.say(f"demo-page: without test pictures: {error.message}")
        return {}
    test = dataset.test
    count = min(10, len(test.classes)) if wanted is None else wanted
    return {
        f"sample-{number:02}.png": (test.classes[test.labels[index]], _png(test, index))
        for number, index in enumerate(first_of_each(test, count))
    }


def first_of_each(images: Images, count: int) -> list[int]:
    """Return indices of images, the first of each class in the order of classes, then the second of each, and so on."""
    turns = np.empty(len(images), np.int64)
    for label in range(len(images.classes)):
        members = np.flatnonzero(images.labels == label)
        turns[members] = np.arange(len(members))
    return [int(index) for index in np.lexsort((images.labels, turns))[:count]]


def _png(images: Images, index: int) -> bytes:
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(images.pixels[index]).save(data, format="PNG")
    return data.getvalue()
