"""Models of targets' own in the manifest: each with its record, none trusted that was changed."""

from pathlib import Path

import pytest

from edgecnn.bundle import Bundle
from edgecnn.bundle.atomic import sha256_bytes
from edgecnn.bundle.manifest import Check, FittedRecord
from edgecnn.errors import BundleError
from edgecnn.pipeline.context import describe_artifact
from edgecnn.pipeline.fit_commit import (
    Made,
    commit_fitted,
    is_fitted,
    is_own_model,
    own_model,
    own_models,
    require_own,
    without_checks,
    without_own,
)
from edgecnn.progress import SILENT
from tests.bundles import fast_model, nan_model, slow_model

BYTES = {"xnnpack": fast_model(), "qnn": slow_model(), "coreml": nan_model()}


class Told:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def advance(self, task: str, done: int, total: int) -> None:
        """Nothing is done here."""


def made(target: str, *, settings: dict[str, object] | None = None) -> Made:
    name, data = f"int8-{target}.onnx", BYTES[target]
    record = FittedRecord(target=target, model=name, model_sha256=sha256_bytes(data), reason="it wants that")
    artifact = describe_artifact("fit", name, data)
    return Made(record=record, artifact=artifact, data=data, settings=settings or {"seed": 1})  # type: ignore[arg-type]


@pytest.fixture
def bundle(bundle_copy: Path) -> Bundle:
    return Bundle.open(bundle_copy)


def commit(bundle: Bundle, one: Made, progress: Told | None = None) -> None:
    commit_fitted(bundle, one, float_sha256="b" * 64, progress=progress or SILENT)  # type: ignore[arg-type]


def test_each_model_has_a_record_settings_and_a_file(bundle: Bundle) -> None:
    commit(bundle, made("xnnpack"))
    commit(bundle, made("qnn", settings={"seed": 2}))
    reopened = Bundle.open(bundle.folder)
    assert list(own_models(reopened)) == ["int8-xnnpack.onnx", "int8-qnn.onnx"]
    assert reopened.manifest.stages["fit"].settings == {"xnnpack": {"seed": 1}, "qnn": {"seed": 2}}
    assert set(reopened.manifest.stages["fit"].outputs) == set(own_models(reopened))
    for target, data in list(BYTES.items())[:2]:
        assert (bundle.folder / f"int8-{target}.onnx").read_bytes() == data


def test_a_model_is_done_with_the_same_settings_only(bundle: Bundle) -> None:
    assert not is_fitted(bundle, "xnnpack", {"seed": 1})
    commit(bundle, made("xnnpack"))
    assert is_fitted(bundle, "xnnpack", {"seed": 1})
    assert not is_fitted(bundle, "xnnpack", {"seed": 2})
    assert not is_fitted(bundle, "qnn", {"seed": 1})
    (bundle.folder / "int8-xnnpack.onnx").write_bytes(b"torn")
    assert not is_fitted(bundle, "xnnpack", {"seed": 1})


def test_a_model_that_was_changed_is_not_carried_on_and_that_is_said(bundle: Bundle) -> None:
    commit(bundle, made("xnnpack"))
    (bundle.folder / "int8-xnnpack.onnx").write_bytes(slow_model())
    told = Told()
    commit(bundle, made("qnn"), told)
    assert list(own_models(bundle)) == ["int8-qnn.onnx"]
    assert told.said == ["int8-xnnpack.onnx: was changed or is gone, and is left out: edgecnn quantize --for xnnpack"]
    assert not (bundle.folder / "int8-xnnpack.onnx").exists()
    assert set(bundle.manifest.stages["fit"].settings) == {"qnn"}


def test_a_model_taken_away_leaves_the_others(bundle: Bundle) -> None:
    for target in BYTES:
        commit(bundle, made(target))
    without_own(bundle, "qnn")
    assert list(own_models(bundle)) == ["int8-xnnpack.onnx", "int8-coreml.onnx"]
    assert not (bundle.folder / "int8-qnn.onnx").exists()
    assert (bundle.folder / "int8-coreml.onnx").read_bytes() == BYTES["coreml"]
    assert bundle.manifest.stages["fit"].inputs == {"float.onnx": "b" * 64}


def test_a_new_model_ends_the_checks_of_the_old_and_no_others(bundle: Bundle) -> None:
    commit(bundle, made("xnnpack"))
    names = ["accuracy drop on cpu", "accuracy drop on cpu, int8-xnnpack.onnx", "accuracy drop on cpu, int8-qnn.onnx"]
    checks = tuple(Check(name=name, measured=0, limit=1, unit="points", passed=True) for name in names)
    bundle.amend({"checks": checks})
    commit(bundle, made("xnnpack"))
    assert [one.name for one in bundle.manifest.checks] == [names[0], names[2]]
    assert without_checks(checks, "int8-qnn.onnx") == checks[:2]


def test_a_model_that_is_not_there_lists_those_that_are(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"no int8 model int8-qnn\.onnx; it has none beside int8\.onnx") as caught:
        require_own(bundle, "int8-qnn.onnx")
    assert caught.value.next_step == "edgecnn quantize --for qnn"
    commit(bundle, made("xnnpack"))
    with pytest.raises(BundleError, match=r"it has int8-xnnpack\.onnx"):
        require_own(bundle, "float.onnx")
    assert require_own(bundle, "int8-xnnpack.onnx").target == "xnnpack"


def test_int8_itself_is_no_targets_own() -> None:
    assert not is_own_model(None)
    assert not is_own_model("int8.onnx")
    assert is_own_model(own_model("qnn"))
    assert is_own_model("int9.onnx"), "what no target made is asked for by name, and found missing"
