"""The model files of a package: converted and compiled, each held against the model that it was made from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgecnn.data import Images
from edgecnn.packaging.acceptance import Vectors, largest_difference, make_vectors
from edgecnn.packaging.ort_format import OrtFiles, Platform, convert
from edgecnn.pipeline.export import FLOAT_MODEL
from edgecnn.pipeline.package_models import Chosen
from edgecnn.pipeline.package_place import TOLERANCES, Place, Seen
from edgecnn.pipeline.sampling import choose_images
from edgecnn.targets import reference_session
from edgecnn.targets.placement import CPU_PROVIDER
from edgecnn.targets.session import feed

#: Of the test images, by the same seed as ``validate``; a fixed batch takes as many as fill it.
N_IMAGES = 8
#: Those and more of them: what the tolerance is measured on, where the target is here.
N_MEASURED = 64
_OPERATORS = "required_operators.config"


@dataclass(frozen=True, kw_only=True)
class Contents:
    """Every model file, what each must answer, and what was seen of it here and on the target.

    Attributes:
        models: the files' bytes, by name.
        beside: files that tell of them.
        answered: the vectors of each.
        conversion: how far each converted file is from its model on this machine's CPU; None of a context binary.
        checked: how far each is from this machine's CPU on the target; None if that is not here.
        platform: of the target.
        notes: what there is to say of them, in sentences.
    """

    models: Mapping[str, bytes]
    beside: Mapping[str, bytes]
    answered: Mapping[str, Vectors]
    conversion: Mapping[str, float | None]
    checked: Mapping[str, float] | None
    platform: Platform
    notes: tuple[str, ...]


def make_contents(chosen: Chosen, test: Images, place: Place) -> Contents:
    """Convert and compile the models, and hold all of them against what they answer on this machine's CPU.

    Args:
        chosen: the models, and what they were before they were written for the target.
        test: the test images, of which some are taken.
        place: the target.

    Raises:
        TargetError: the target is here and does not take a model.
        ParityError: a file answers otherwise than its model.
        StageError: a model cannot be converted, or gives NaN.
    """
    models = chosen.models
    vectors = _vectors(models, test, place, N_IMAGES)
    for name, original in chosen.originals.items():
        _require_same(name, original, vectors[name])
    device = place.platform(models[FLOAT_MODEL])
    converted = _converted(models, place, device)
    conversion: dict[str, float | None] = {
        name: _check_here(name, data, vectors) for name, data in converted.models.items()
    }
    runnable = {name: data for name, data in {**models, **converted.models}.items() if place.runs(name)}
    more = _vectors(models, test, place, N_MEASURED) if place.measures_tolerance else vectors
    seen = {
        name: place.look(name, data, vectors[_source(name)], more[_source(name)]) for name, data in runnable.items()
    }
    seen |= {_context_of(name): one for name, one in seen.items() if one.context is not None}
    contexts = {name: one.context for name, one in seen.items() if one.context is not None and name not in models}
    everything = {**models, **converted.models, **contexts}
    return Contents(
        models=everything,
        beside={_OPERATORS: converted.required_operators} if converted.models else {},
        answered={name: _answered(name, vectors, seen) for name in everything},
        conversion=conversion | dict.fromkeys(contexts),
        checked={name: one.difference for name, one in seen.items()} if place.ready else None,
        platform=device,
        notes=(*_tolerance_notes(place), *_context_notes(place, tuple(contexts))),
    )


def _converted(models: Mapping[str, bytes], place: Place, device: Platform) -> OrtFiles:
    """Return the .ort files, or none where a compiler wants the models as they are: those are optimized for a CPU."""
    if place.row.writes_context:
        return OrtFiles(models={}, required_operators=b"")
    return convert(models, platform=device)


def _answered(name: str, vectors: Mapping[str, Vectors], seen: Mapping[str, Seen]) -> Vectors:
    found = vectors[_source(name)]
    if name in seen:
        return replace(found, tolerance=seen[name].tolerance)
    return _as_on_cpus(found) if name.endswith(".ort") else found


def _as_on_cpus(vectors: Vectors) -> Vectors:
    """Return the vectors with the tolerance between CPUs: .ort files and what is checked here run on no other."""
    relative = TOLERANCES[CPU_PROVIDER][f"{vectors.name}.onnx" != FLOAT_MODEL]
    return replace(vectors, tolerance=float(np.float32(relative * np.abs(vectors.logits).max())))


def _source(name: str) -> str:
    """Return the model that a file was made from."""
    return f"{Path(name).stem.removesuffix('_ctx')}.onnx"


def _context_of(name: str) -> str:
    """Return what onnxruntime's own tools would call what was compiled of a model."""
    return f"{Path(name).stem}_ctx.onnx"


def _vectors(models: Mapping[str, bytes], test: Images, place: Place, n_images: int) -> dict[str, Vectors]:
    """Return what each model answers on this machine's CPU to some of the test images, or to all there are."""
    images = choose_images(test, min(n_images, len(test)))
    found = {}
    for name, model in models.items():
        session = reference_session(model, model_name=name)
        batch = session.input.shape[0]
        count = -(-len(images) // batch) * batch if isinstance(batch, int) else len(images)
        fed = feed(images.pixels[np.arange(count) % len(images)], session.input)
        tolerance = place.largest_tolerances[name != FLOAT_MODEL]
        found[name] = make_vectors(Path(name).stem, session, fed, relative_tolerance=tolerance)
    return found


def _check_here(name: str, data: bytes, vectors: Mapping[str, Vectors]) -> float:
    """Open a converted model as a device does, and hold it against the one it was made from."""
    session = reference_session(data, model_name=name)
    return largest_difference(session, _as_on_cpus(vectors[_source(name)]), what=name)


def _require_same(name: str, original: bytes, vectors: Vectors) -> None:
    """Refuse a model that was written for the target and became another: both run on this machine's CPU."""
    session = reference_session(original, model_name=name)
    largest_difference(session, _as_on_cpus(vectors), what=f"the bundle's {name}")


def _tolerance_notes(place: Place) -> tuple[str, ...]:
    if not place.measures_tolerance:
        return ()
    return (
        f"Tolerances were measured: the largest difference of a logit between this machine's CPU and {place.name} "
        f"({place.row.clock_here}) on up to {N_MEASURED} test images.",
    )


def _context_notes(place: Place, contexts: tuple[str, ...]) -> tuple[str, ...]:
    if contexts:
        return (
            f"{' and '.join(contexts)}: compiled for {place.name}, with the context binary inside the file. Loaded "
            "again there, each answered bit for bit as its model did; that chip loads it in place of the model, "
            "without compiling.",
        )
    if place.row.writes_context:
        return (f"No context binary was written: {_why_none(place)}.",)
    return ()


def _why_none(place: Place) -> str:
    if not place.ready:
        return f"{place.name} is not available here ({place.row.remedy})"
    if place.row.runtime_here is None:
        return "the onnxruntime installed here runs the provider itself; the pinned one writes it"
    return "the CPU runs some of the nodes"
