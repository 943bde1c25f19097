"""``edgecnn package``: a folder with what goes on one target, and what proves there that it works."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgecnn.bundle import Bundle
from edgecnn.bundle.locate import newest_folder
from edgecnn.data import Images
from edgecnn.packaging import callers
from edgecnn.packaging.acceptance import describe
from edgecnn.packaging.folder import require_free, write_folder
from edgecnn.packaging.readme import Subject, readme
from edgecnn.packaging.way import Way
from edgecnn.pipeline.context import Options, choose_dataset, input_size
from edgecnn.pipeline.export import FLOAT_MODEL
from edgecnn.pipeline.package_contents import make_contents
from edgecnn.pipeline.package_models import choose_models
from edgecnn.pipeline.package_place import Place
from edgecnn.targets import Target, target
from edgecnn.targets.choice import cpu_nodes_allowed
from edgecnn.targets.python_environment import PythonEnvironment

CALLERS = ("accept.py", "accept.mjs", "accept.cpp", "Accept.kt", "Accept.swift")
#: What opens a provider that a plugin brings; the others open models on the CPU, which runs no context binary.
CALLERS_OF_CONTEXTS = ("accept.py",)


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package that was written.

    Attributes:
        folder: where.
        target: what it is for.
        files: what is in it, by name.
        tolerances: of each model file, the largest difference of a logit that is accepted.
        conversion: of each ``.ort`` file, how far it is from its ``.onnx`` file on this machine's CPU; of each context
            binary None, as the CPU cannot run it.
        checked: of each model file, how far it is from this machine's CPU on the target; None if that is not here.
        notes: what there is to know of it, in sentences.
    """

    folder: Path
    target: str
    files: Mapping[str, bytes]
    tolerances: Mapping[str, float]
    conversion: Mapping[str, float | None]
    checked: Mapping[str, float] | None
    notes: tuple[str, ...] = ()


def package(
    *,
    target_name: str = "cpu",
    out: Path | None = None,
    allow_cpu_nodes: int | None = None,
    options: Options | None = None,
) -> Package:
    """Write what goes on a device: models, acceptance vectors, programs that hold the one against the other.

    The ``.ort`` files are held against the ``.onnx`` files here; where the target can run here, so are all models, and
    what its provider compiles is loaded again and held against the model bit for bit.

    Args:
        target_name: row of the target table, or a board.
        out: the folder to write; default ``<bundle>-for-<target>`` beside the bundle.
        allow_cpu_nodes: how many nodes of each model the CPU may run in place of the provider.
        options: bundle (default: the newest), data (default: the bundle's), ``force`` to replace a package.

    Raises:
        UsageError: there is no such target, or the folder exists.
        BundleError: a model is missing or was changed, or the folder cannot be written.
        DataError: the bundle's images are not here.
        TargetError: the target is here and does not take a model.
        ParityError: a converted or compiled model, or one on the target, answers otherwise; nothing is written.
        StageError: a model cannot be converted.
    """
    options = options or Options()
    cpu_nodes = cpu_nodes_allowed([target_name], [target_name], allow_cpu_nodes)
    row = target(target_name)
    folder = options.bundle or newest_folder()
    out = out or folder.with_name(f"{folder.resolve().name}-for-{_file_name(target_name)}")
    require_free(out, force=options.force)
    bundle = Bundle.open(folder)
    chosen = choose_models(bundle, target_name, row)
    place = Place(name=target_name, row=row, allow_cpu_nodes=cpu_nodes[target_name])
    contents = make_contents(chosen, _test_images(bundle, options), place)
    notes = (*chosen.notes, *contents.notes)
    way = _way(row, cpu_nodes[target_name])
    subject = Subject(
        name=bundle.manifest.network.name if bundle.manifest.network else folder.name,
        target=target_name,
        summary=row.summary,
        way=way,
        platform=contents.platform,
        remedy=None if place.ready else row.remedy,
        checked=contents.checked,
        notes=notes,
    )
    files = {
        **contents.models,
        **contents.beside,
        **describe(
            {name: (data, contents.answered[name]) for name, data in contents.models.items()},
            target=target_name,
            way=way,
            labels=_labels(bundle),
        ),
        **{name: (Path(callers.__file__).parent / name).read_bytes() for name in _callers(row)},
    }
    files["README.md"] = readme(subject, contents.answered, [*files])
    write_folder(out, files)
    return Package(
        folder=out,
        target=target_name,
        files=files,
        tolerances={name: each.tolerance for name, each in contents.answered.items()},
        conversion=contents.conversion,
        checked=contents.checked,
        notes=notes,
    )


def _way(row: Target, allow_cpu_nodes: int) -> Way:
    import onnxruntime

    pins = row.runtime.pins if isinstance(row.runtime, PythonEnvironment) else ()
    return Way(
        provider=row.provider,
        runtime=onnxruntime.__version__,
        requires=pins or (f"onnxruntime=={onnxruntime.__version__}",),
        provider_options=row.provider_options,
        plugin=row.plugin.words() if row.plugin else None,
        allow_cpu_nodes=allow_cpu_nodes,
    )


def _callers(row: Target) -> tuple[str, ...]:
    return CALLERS_OF_CONTEXTS if row.writes_context else CALLERS


def _labels(bundle: Bundle) -> tuple[str, ...]:
    network, data = bundle.manifest.network, bundle.manifest.data
    return (network.labels if network else ()) or (data.classes if data else ())


def _test_images(bundle: Bundle, options: Options) -> Images:
    return choose_dataset(options, bundle.manifest, *input_size(bundle, FLOAT_MODEL)).test


def _file_name(target_name: str) -> str:
    kept = (letter if letter.isalnum() or letter in ".-" else "-" for letter in target_name)
    return "".join(kept).strip("-.")
