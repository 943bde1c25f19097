"""One ``edgecnn run`` on the terminal: what the bundle holds, and the verdict last."""

from edgecnn.bundle.manifest import Manifest
from edgecnn.report.run import run_items
from edgecnn.report.tuning import recommendation_sentence
from tests.bundles import fitted_manifest, fixed_manifest, prediction_record, validation_failure
from tests.terminal import shown
from tests.tunings import recommendation_record


def text(manifest: Manifest, *, passed: bool = True, fitting: bool = False) -> str:
    items = run_items("folder", manifest, manifest.checks, passed, fitting=fitting)
    return "\n".join(shown(item) for item in items)


def test_files_accuracy_latency_and_the_verdict_in_this_order() -> None:
    manifest = fixed_manifest()
    found = text(manifest)
    places = [found.index(words) for words in ("Files", "Top-1 accuracy", "Latency, microseconds", "Verdict")]
    assert places == sorted(places)
    assert all(check.name in found for check in manifest.checks)
    assert found.endswith("PASSED report: folder/report.md")
    assert text(manifest, passed=False).endswith("FAILED report: folder/report.md")


def test_models_for_targets_are_shown_if_this_run_made_them() -> None:
    assert "u16s8-perchannel-mse" not in text(fitted_manifest())
    assert "int8-qnn.onnx 81,234 u16s8-perchannel-mse" in text(fitted_manifest(), fitting=True)


def test_targets_without_figures_and_predictions_are_shown_where_there_are_any() -> None:
    manifest = fixed_manifest()
    bare, failure = text(manifest), validation_failure()
    told = run_items(
        "folder",
        manifest,
        (),
        passed=False,
        fitting=False,
        failures=[failure],
        predictions=[prediction_record()],
    )
    found = "\n".join(shown(item) for item in told)
    for words in ("No figures", failure.target, prediction_record().target):
        assert words not in bare
        assert words in found


def test_what_to_ship_is_said_where_it_was_tuned() -> None:
    record = recommendation_record()
    manifest = fixed_manifest().model_copy(update={"recommendation": record})
    assert recommendation_sentence(record) in " ".join(text(manifest).split())
    assert "Ship int8.onnx" not in text(fixed_manifest())
