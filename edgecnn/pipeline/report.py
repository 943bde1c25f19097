"""Stage 7: ``report.md``, the manifest for people."""

from edgecnn.bundle import Bundle
from edgecnn.bundle.atomic import sha256_bytes
from edgecnn.bundle.locate import newest_folder
from edgecnn.bundle.manifest import Manifest
from edgecnn.pipeline.context import Options, Outcome, Work, describe_artifact, working_on
from edgecnn.report import markdown

REPORT = "report.md"


def write_report(*, options: Options | None = None) -> Outcome:
    """Write ``report.md`` from the manifest.

    Args:
        options: bundle (default: the newest), and so on.

    Raises:
        BundleError: no bundle there, or it cannot be written.
    """
    options = options or Options()
    with working_on(options.bundle or newest_folder()) as bundle:
        return report_stage(bundle)


def report_stage(bundle: Bundle) -> Outcome:
    """Write the report inside a locked bundle; the same manifest gives the same bytes."""
    facts = _without_report(bundle.manifest)
    data = markdown.render(facts, title=bundle.folder.resolve().name)
    work = Work(bundle=bundle, stage="report", inputs={REPORT: sha256_bytes(data)}, settings={})
    if work.is_done():
        return work.unchanged()
    return work.finish([(describe_artifact("report", REPORT, data), data)])


def _without_report(manifest: Manifest) -> Manifest:
    """Return the manifest without the report's own entry: it cannot hold its own hash."""
    return manifest.model_copy(
        update={
            "artifacts": tuple(artifact for artifact in manifest.artifacts if artifact.stage != "report"),
            "stages": {name: record for name, record in manifest.stages.items() if name != "report"},
        }
    )
