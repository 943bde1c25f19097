"""What was measured of the int8 model that each target is to run."""

from edgecnn.bundle.manifest import FittedRecord, ValidationResult
from edgecnn.bundle.shipped import shipped_latency, shipped_validation
from tests.bundles import fitted_record, fixed_manifest, latency_result, validation_result


def named(target: str, model: str) -> ValidationResult:
    return validation_result(target=target).model_copy(update={"int8_model": model})


def test_a_targets_own_figures_stand_in_the_place_of_the_bundles() -> None:
    own = fitted_record(
        validation=(named("cpu", "int8-qnn.onnx"), named("qnn", "int8-qnn.onnx"), named("qnn@sm8550", "int8-qnn.onnx")),
        latency=(latency_result(target="cpu"), latency_result(target="qnn", batch=7)),
    )
    manifest = fixed_manifest().model_copy(
        update={
            "validation": (named("cpu", "int8.onnx"), named("qnn", "int8.onnx"), named("webgpu", "int8_portable.onnx")),
            "latency": (latency_result(target="cpu", batch=5), latency_result(target="qnn@sm8650")),
            "fitted": (own,),
        }
    )
    assert [(one.target, one.int8_model) for one in shipped_validation(manifest)] == [
        ("cpu", "int8.onnx"),
        ("webgpu", "int8_portable.onnx"),
        ("qnn", "int8-qnn.onnx"),
        ("qnn@sm8550", "int8-qnn.onnx"),
    ]
    assert [(one.target, one.batch) for one in shipped_latency(manifest)] == [("cpu", 5), ("qnn", 7)]


def test_a_target_that_is_to_run_a_file_of_the_bundle_has_its_figures() -> None:
    told = FittedRecord(target="cpu", model="int8.onnx", model_sha256="c" * 64, reason="so it is")
    manifest = fixed_manifest().model_copy(update={"fitted": (told,)})
    assert shipped_validation(manifest) == manifest.validation
    assert shipped_latency(manifest) == manifest.latency


def test_a_model_is_its_targets_own_by_its_name() -> None:
    assert fitted_record().is_own
    assert not fitted_record(model="int8.onnx").is_own
    assert not fitted_record(model="int8-xnnpack.onnx").is_own
