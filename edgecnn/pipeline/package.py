"""``edgecnn package``: a folder with what goes on one target, and what proves there that it works."""

import platform as this_machine
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from edgecnn.bundle import Bundle
from edgecnn.bundle.locate import newest_folder
from edgecnn.data import Images
from edgecnn.packaging import callers
from edgecnn.packaging.acceptance import Vectors, describe, largest_difference, make_vectors
from edgecnn.packaging.folder import require_free, write_folder
from edgecnn.packaging.ort_format import Platform, convert
from edgecnn.packaging.readme import Subject, readme
from edgecnn.pipeline.context import Options, choose_dataset, input_size, read_model
from edgecnn.pipeline.export import FLOAT_MODEL
from edgecnn.pipeline.quantize import INT8_MODEL
from edgecnn.pipeline.sampling import choose_images
from edgecnn.targets import Target, reference_session, running, target
from edgecnn.targets.choice import cpu_nodes_allowed
from edgecnn.targets.placement import CPU_PROVIDER
from edgecnn.targets.session import feed
from edgecnn.targets.worker_session import WorkerSession

#: Of the test images, by the same seed as ``validate``; a fixed batch takes as many as fill it.
N_IMAGES = 8
CALLERS = ("accept.py", "accept.mjs", "accept.cpp", "Accept.kt", "Accept.swift")
#: Largest difference of a logit from this machine's CPU, as a fraction of the largest logit: (float, int8). Integer
#: kernels of these providers were bit-exact on x86 with VNNI, arm64 and wasm; the others requantize in their own ways.
TOLERANCES = {"CPUExecutionProvider": (1e-4, 2e-3), "XnnpackExecutionProvider": (1e-4, 2e-3)}
OTHER_TOLERANCES = (1e-2, 5e-2)
_ARM = ("aarch64", "arm64", "armv7l", "armv8l")
_FOR_PHONES = ("CoreMLExecutionProvider", "NnapiExecutionProvider", "XnnpackExecutionProvider", "QNNExecutionProvider")


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package that was written.

    Attributes:
        folder: where.
        target: what it is for.
        files: what is in it, by name.
        tolerances: of each model file, the largest difference of a logit that is accepted.
        conversion: of each ``.ort`` file, how far it is from its ``.onnx`` file on this machine's CPU.
        checked: of each model file, how far it is from this machine's CPU on the target; None if that is not here.
    """

    folder: Path
    target: str
    files: Mapping[str, bytes]
    tolerances: Mapping[str, float]
    conversion: Mapping[str, float]
    checked: Mapping[str, float] | None


def package(
    *,
    target_name: str = "cpu",
    out: Path | None = None,
    allow_cpu_nodes: int | None = None,
    options: Options | None = None,
) -> Package:
    """Write what goes on a device: models, acceptance vectors, programs that hold the one against the other.

    The ``.ort`` files are held against the ``.onnx`` files here; where the target can run here, so are all models.

    Args:
        target_name: row of the target table, or a board.
        out: the folder to write; default ``<bundle>-for-<target>`` beside the bundle.
        allow_cpu_nodes: how many nodes of each model the CPU may run in place of the provider, where it is tried.
        options: bundle (default: the newest), data (default: the bundle's), ``force`` to replace a package.

    Raises:
        UsageError: there is no such target, or the folder exists.
        BundleError: a model is missing or was changed, or the folder cannot be written.
        DataError: the bundle's images are not here.
        ParityError: a converted model, or one on the target, answers otherwise; nothing is written.
        StageError: a model cannot be converted.
    """
    import onnxruntime

    options = options or Options()
    cpu_nodes = cpu_nodes_allowed([target_name], [target_name], allow_cpu_nodes)
    row = target(target_name)
    folder = options.bundle or newest_folder()
    out = out or folder.with_name(f"{folder.resolve().name}-for-{_file_name(target_name)}")
    require_free(out, force=options.force)
    bundle = Bundle.open(folder)
    models = {
        FLOAT_MODEL: read_model(bundle, FLOAT_MODEL, next_step="edgecnn export model.pt"),
        INT8_MODEL: read_model(bundle, INT8_MODEL, next_step="edgecnn quantize"),
    }
    vectors = _vectors(models, _images(bundle, options), row)
    there = _Place(name=target_name, row=row, allow_cpu_nodes=cpu_nodes[target_name])
    device = there.platform(models[FLOAT_MODEL])
    converted = convert(models, platform=device)
    conversion = {name: _check_here(name, data, vectors) for name, data in converted.models.items()}
    everything = {**models, **converted.models}
    checked = there.check(everything, vectors)
    subject = Subject(
        name=bundle.manifest.network.name if bundle.manifest.network else folder.name,
        target=target_name,
        summary=row.summary,
        provider=row.provider,
        platform=device,
        onnxruntime=onnxruntime.__version__,
        remedy=None if there.ready else row.remedy,
        checked=checked,
    )
    answered = {name: vectors[Path(name).with_suffix(".onnx").name] for name in everything}
    files = {
        **everything,
        "required_operators.config": converted.required_operators,
        **describe(
            {name: (data, answered[name]) for name, data in everything.items()},
            target=target_name,
            provider=row.provider,
            runtime=onnxruntime.__version__,
            labels=_labels(bundle),
        ),
        **{name: (Path(callers.__file__).parent / name).read_bytes() for name in CALLERS},
        "README.md": readme(subject, answered),
    }
    write_folder(out, files)
    return Package(
        folder=out,
        target=target_name,
        files=files,
        tolerances={name: each.tolerance for name, each in answered.items()},
        conversion=conversion,
        checked=checked,
    )


def _labels(bundle: Bundle) -> tuple[str, ...]:
    network, data = bundle.manifest.network, bundle.manifest.data
    return (network.labels if network else ()) or (data.classes if data else ())


def _images(bundle: Bundle, options: Options) -> Images:
    dataset = choose_dataset(options, bundle.manifest, *input_size(bundle, FLOAT_MODEL))
    return choose_images(dataset.test, min(N_IMAGES, len(dataset.test)))


def _vectors(models: Mapping[str, bytes], images: Images, row: Target) -> dict[str, Vectors]:
    """Return what each model answers on this machine's CPU."""
    tolerances = TOLERANCES.get(row.provider, OTHER_TOLERANCES)
    found = {}
    for (name, model), tolerance in zip(models.items(), tolerances, strict=True):
        session = reference_session(model, model_name=name)
        batch = session.input.shape[0]
        count = -(-len(images) // batch) * batch if isinstance(batch, int) else len(images)
        fed = feed(images.pixels[np.arange(count) % len(images)], session.input)
        found[name] = make_vectors(Path(name).stem, session, fed, relative_tolerance=tolerance)
    return found


def _check_here(name: str, data: bytes, vectors: Mapping[str, Vectors]) -> float:
    """Open a converted model as a device does, and hold it against the one it was made from."""
    session = reference_session(data, model_name=name)
    return largest_difference(session, vectors[Path(name).with_suffix(".onnx").name], what=name)


@dataclass(frozen=True, kw_only=True)
class _Place:
    """The target, which may or may not be within reach."""

    name: str
    row: Target
    allow_cpu_nodes: int = 0

    @cached_property
    def ready(self) -> bool:
        """Whether the models can be run there."""
        return self.row.why_not() is None

    def platform(self, model: bytes) -> Platform:
        """Return whether it is an Arm or an x86 CPU; phones and NPUs are Arm, and a board out of reach most likely."""
        if self.row.remote and self.ready:
            with running(self.name, model, model_name=FLOAT_MODEL) as session:
                assert isinstance(session, WorkerSession)
                return _platform_of(session.machine.architecture)
        if self.row.emulated is not None:
            return _platform_of(self.row.emulated.architecture)
        if self.row.remote or self.row.provider in _FOR_PHONES:
            return "arm"
        return _platform_of(this_machine.machine())

    def check(self, models: Mapping[str, bytes], vectors: Mapping[str, Vectors]) -> dict[str, float] | None:
        """Return how far each model is there from this machine's CPU, or None if it is out of reach.

        Of an .ort file ONNX Runtime does not tell which provider runs what, so it is run only where there is but one.
        """
        if not self.ready:
            return None
        takes_ort = self.row.runtime_here is None and self.row.provider == CPU_PROVIDER
        found = {}
        for name, model in models.items():
            if name.endswith(".onnx") or takes_ort:
                with running(self.name, model, model_name=name, allow_cpu_nodes=self.allow_cpu_nodes) as session:
                    expected = vectors[Path(name).with_suffix(".onnx").name]
                    found[name] = largest_difference(session, expected, what=f"{name} on {self.name}")
        return found


def _platform_of(architecture: str) -> Platform:
    return "arm" if architecture in _ARM else "x86"


def _file_name(target_name: str) -> str:
    kept = (letter if letter.isalnum() or letter in ".-" else "-" for letter in target_name)
    return "".join(kept).strip("-.")
