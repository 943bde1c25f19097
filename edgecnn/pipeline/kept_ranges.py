"""The ranges that a recipe found, kept in the bundle: a recipe that differs in weights alone need not look again."""

from typing import TYPE_CHECKING

from edgecnn.bundle import Bundle
from edgecnn.bundle.atomic import sha256_bytes
from edgecnn.bundle.manifest import Artifact
from edgecnn.pipeline.calibration_job import CalibrationJob
from edgecnn.pipeline.context import describe_artifact

if TYPE_CHECKING:
    from edgecnn.quantization.range_methods import Range


def kept_ranges(bundle: Bundle, job: CalibrationJob) -> "dict[str, Range] | None":
    """Return the ranges that the bundle holds for a job's one recipe; None if it has none, or not as they were."""
    from edgecnn.quantization.range_cache import RANGES, read_ranges

    artifact = bundle.manifest.artifact(RANGES)
    if artifact is None or not bundle.holds({RANGES: artifact.sha256}):
        return None
    return read_ranges(bundle.read(RANGES, next_step="edgecnn quantize --force"), _range_key(job))


def ranges_product(job: CalibrationJob) -> tuple[Artifact, bytes]:
    """Return the file of the ranges that a job's one recipe found."""
    from edgecnn.quantization.range_cache import RANGES, write_ranges

    (chosen,) = job.recipes
    ranges = write_ranges(_range_key(job), job.prepare(chosen).ranges(chosen))
    return describe_artifact("quantize", RANGES, ranges), ranges


def _range_key(job: CalibrationJob) -> str:
    from edgecnn.quantization.range_cache import range_key

    return range_key(sha256_bytes(job.model), job.calibration.image_sha256, job.recipes[0])
