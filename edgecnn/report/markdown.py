"""``report.md``: everything a manifest claims, for people."""

from collections.abc import Sequence
from importlib import resources

from edgecnn.bundle.manifest import Manifest, ValidationResult
from edgecnn.report.fit import fitted_sentences, proven_on
from edgecnn.report.fusion import floats_by_reason, fusion_sentence
from edgecnn.report.prediction import prediction_sentences, provider_name
from edgecnn.report.saturation import saturation_sentences
from edgecnn.report.targets import placement
from edgecnn.report.tuning import UNITS, recommendation_sentence

TEMPLATE = "report.md.jinja"


def render(manifest: Manifest, *, title: str) -> bytes:
    """Return the report as UTF-8 Markdown; every figure in it is a field of the manifest.

    Args:
        manifest: what to report.
        title: the bundle's name.
    """
    import jinja2

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - Markdown; what strangers named goes through the cell filter
    )
    environment.filters["cell"] = cell
    template = environment.from_string(resources.files("edgecnn.report").joinpath(TEMPLATE).read_text("utf-8"))
    return template.render(
        m=manifest,
        title=title,
        saturation_sentences=saturation_sentences,
        fusion_sentence=fusion_sentence,
        floats_by_reason=floats_by_reason,
        fitted_sentences=fitted_sentences,
        proofs=proven_on(manifest),
        prediction_sentences=prediction_sentences,
        provider_name=provider_name,
        recommendation_sentence=recommendation_sentence,
        tuning_unit=UNITS.__getitem__,
        placement=placement,
        class_groups=class_groups(manifest.validation),
    ).encode()


def class_groups(results: Sequence[ValidationResult]) -> list[tuple[int, ValidationResult, list[ValidationResult]]]:
    """Return each distinct table by class: its index, the first result that has it, and the others that have it."""
    groups: list[tuple[int, ValidationResult, list[ValidationResult]]] = []
    for index, result in enumerate(results):
        same = next((others for _, first, others in groups if first.per_class == result.per_class), None)
        if same is None:
            groups.append((index, result, []))
        else:
            same.append(result)
    return groups


def cell(text: object) -> str:
    """Return text that cannot break out of a table cell or start HTML: class names are a stranger's."""
    plain = "".join(character for character in str(text) if character.isprintable())
    for character in "\\`*_[]<>|":
        plain = plain.replace(character, f"\\{character}")
    return plain
