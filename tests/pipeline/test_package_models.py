"""Which models go into a package: over the whole table of targets, what each reads, and what is said of it."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgecnn.bundle import Bundle
from edgecnn.errors import BundleError
from edgecnn.pipeline.context import Options
from edgecnn.pipeline.fit import fit
from edgecnn.pipeline.package_models import choose_models
from edgecnn.pipeline.quantize_settings import QuantizeSettings
from edgecnn.quantization.fit import FITS, fit_for
from edgecnn.targets import TARGETS, reference_session, target
from edgecnn.targets.ssh_address import EXAMPLE

X = np.random.default_rng(0).random((1, 3, 32, 32), np.float32)


def answers(data: bytes) -> np.ndarray:
    return reference_session(data, model_name="x").run(X)


@pytest.mark.parametrize("name", [*TARGETS, EXAMPLE])
def test_every_target_gets_the_float_model_and_the_int8_that_it_takes_or_is_told_why_not(
    name: str, finished_bundle: Path
) -> None:
    found = choose_models(Bundle.open(finished_bundle), name, target(name))
    _, row = fit_for(name)
    notes = " ".join(found.notes)
    assert [*found.models] == (["float.onnx"] if row.ships_float else ["float.onnx", "int8.onnx"])
    if row.ships_float:
        assert f"No int8 model is packed: {row.reason}." in notes
    else:
        own = name.partition("@")[0]
        assert (f"has no int8-{own}.onnx, so int8.onnx is packed; edgecnn quantize --for {own}" in notes) == (
            not row.is_default
        )
    for model, data in found.models.items():
        original = (finished_bundle / model).read_bytes()
        np.testing.assert_allclose(answers(data), answers(original), atol=1e-5)
        assert found.originals[model] == original
        assert (data != original) == (model in notes.partition("written as")[0] and "written as" in notes)


def test_a_targets_own_model_goes_in_place_of_int8(bundle_copy: Path) -> None:
    settings = QuantizeSettings(n_images=32, recipe=FITS["qnn"].recipes[1])
    fit(["qnn"], settings=settings, options=Options(bundle=bundle_copy))
    for name in ("qnn", "qnn@sm8650"):
        found = choose_models(Bundle.open(bundle_copy), name, TARGETS[name])
        assert [*found.models] == ["float.onnx", "int8-qnn.onnx"]
        assert "so int8.onnx is packed" not in " ".join(found.notes)
        for data in found.models.values():
            batch = onnx.load_model_from_string(data).graph.input[0].type.tensor_type.shape.dim[0]
            assert batch.dim_value == 1, "QNN takes no node of a batch that varies"
    (bundle_copy / "int8-qnn.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match="the file was changed"):
        choose_models(Bundle.open(bundle_copy), "qnn", TARGETS["qnn"])
