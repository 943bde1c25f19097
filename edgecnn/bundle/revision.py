"""What stops being true in a manifest when a stage gives another output."""

from edgecnn.bundle.manifest import DOWNSTREAM, Manifest, StageName, StageRecord


def superseded(manifest: Manifest, stage: StageName, record: StageRecord) -> set[StageName]:
    """Return the later stages whose results no longer hold after ``stage`` finished with ``record``.

    None, when it gave the same bytes as before and no later stage had replaced them
    (simplify replaces the exported ``float.onnx``).
    """
    # Sensitivity is measured on float.onnx, whether or not that was quantized yet.
    claimed = {*manifest.stages, *(("quantize",) if manifest.sensitivity is not None else ())}
    later = {name for name in DOWNSTREAM[stage] if name in claimed}
    before = manifest.stages.get(stage)
    replaced = {file for name in later & set(manifest.stages) for file in manifest.stages[name].outputs}
    if before is not None and before.outputs == record.outputs and not replaced & set(record.outputs):
        return set() if record.outputs else later
    return later


def without(manifest: Manifest, stages: set[StageName]) -> Manifest:
    """Return the manifest with every claim of ``stages`` taken out."""
    cleared: dict[str, object] = {}
    if "simplify" in stages:
        cleared["simplification"] = None
    if "tune" in stages:
        cleared |= {"tuning": None, "recommendation": None}
    if "quantize" in stages:
        cleared |= {"calibration": None, "float_layers": (), "search": None, "sensitivity": None}
    if "fit" in stages:
        cleared |= {"checks": ()}  # its records go with their files
    if "validate" in stages:
        cleared |= {"validation": (), "validation_failures": (), "saturation": None, "fusion": None, "checks": ()}
    if "bench" in stages:
        cleared |= {"latency": (), "checks": ()}
    return manifest.model_copy(
        update={
            "stages": {name: record for name, record in manifest.stages.items() if name not in stages},
            "artifacts": tuple(a for a in manifest.artifacts if a.stage not in stages),
            "parity": tuple(p for p in manifest.parity if p.stage not in stages),
            **cleared,
        }
    )


def of_present_files(manifest: Manifest) -> Manifest:
    """Return the manifest without what is said of files that are gone or were replaced."""
    present = {artifact.path: artifact.sha256 for artifact in manifest.artifacts}  # the newest of a name stands last
    return manifest.model_copy(
        update={
            "fitted": tuple(one for one in manifest.fitted if present.get(one.model) == one.model_sha256),
            "predictions": tuple(one for one in manifest.predictions if present.get(one.model) == one.model_sha256),
        }
    )
