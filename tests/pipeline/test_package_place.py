"""The target of a package: what is measured there, and what is compiled is held against what it was compiled from."""

from pathlib import Path

import numpy as np
import pytest

from edgecnn.errors import ParityError
from edgecnn.packaging.acceptance import Vectors, make_vectors
from edgecnn.pipeline import package_place
from edgecnn.pipeline.package_place import SMALLEST_TOLERANCE, TOLERANCES, Place
from edgecnn.targets import TARGETS, reference_session, target
from edgecnn.targets.session import Feed
from edgecnn.targets.worker_session import WorkerSession
from tests.environments import fake_environment, make, plant_environment
from tests.graphs import small_cnn

DATA = small_cnn().SerializeToString()
RANDOM = np.random.default_rng(0)


def vectors(n: int) -> Vectors:
    session = reference_session(DATA, model_name="float.onnx")
    return make_vectors("float", session, RANDOM.random((n, 3, 8, 8), np.float32), relative_tolerance=0.05)


FEW, MORE = vectors(2), vectors(5)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Return a place in another process, whose tolerance is measured and whose provider writes contexts."""
    monkeypatch.setenv("EDGECNN_CACHE", str(tmp_path / "cache"))
    environment = fake_environment()
    make(environment)
    monkeypatch.setattr(package_place, "TOLERANCES", {})
    name = plant_environment(monkeypatch, environment, writes_context=True)
    return Place(name=name, row=TARGETS[name])


def off_by(monkeypatch: pytest.MonkeyPatch, *, few: float, more: float) -> None:
    """Make the other process answer otherwise: on the vectors, and on images that are not among them."""
    run = WorkerSession.run

    def wrong(self: WorkerSession, batch: Feed) -> np.ndarray:
        known = any(np.array_equal(batch[0], image) for image in FEW.images)
        return run(self, batch) + np.float32(few if known else more)

    monkeypatch.setattr(WorkerSession, "run", wrong)


def written(monkeypatch: pytest.MonkeyPatch, *, shift: float) -> None:
    """Have a context binary written, from which the model answers otherwise by ``shift``."""

    def reopen(self: WorkerSession) -> bytes:
        run = self.run
        self.run = lambda batch: run(batch) + np.float32(shift)  # type: ignore[method-assign]
        return b"compiled"

    monkeypatch.setattr(WorkerSession, "reopen_from_context", reopen)


def test_the_tolerance_is_the_largest_difference_that_was_measured(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = float(np.abs(MORE.logits).max())
    off_by(monkeypatch, few=0.002 * largest, more=0.01 * largest)
    written(monkeypatch, shift=0)
    found = place.look("float.onnx", DATA, FEW, MORE)
    assert found.difference == pytest.approx(0.002 * largest, rel=1e-3)
    assert found.tolerance == pytest.approx(0.01 * largest, rel=1e-3)


def test_no_tolerance_is_smaller_than_what_cpus_differ_by(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    written(monkeypatch, shift=0)
    found = place.look("float.onnx", DATA, FEW, MORE)
    assert found.difference == 0
    assert found.tolerance == pytest.approx(SMALLEST_TOLERANCE * np.abs(MORE.logits).max(), rel=1e-6)


def test_an_answer_on_more_images_that_is_too_far_off_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    off_by(monkeypatch, few=0, more=float(np.abs(MORE.logits).max()))
    with pytest.raises(ParityError, match=r"float\.onnx on fake answers otherwise"):
        place.look("float.onnx", DATA, FEW, MORE)


def test_what_is_compiled_must_answer_bit_for_bit_as_the_model(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    written(monkeypatch, shift=0)
    assert place.look("float.onnx", DATA, FEW, MORE).context == b"compiled"
    written(monkeypatch, shift=1e-6)
    with pytest.raises(ParityError, match="otherwise when it is loaded from its context binary"):
        place.look("float.onnx", DATA, FEW, MORE)


def test_only_a_provider_that_writes_contexts_is_asked_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WorkerSession, "reopen_from_context", None)
    assert Place(name="cpu", row=TARGETS["cpu"]).look("float.onnx", DATA, FEW, MORE).context is None
    assert [name for name, row in TARGETS.items() if row.writes_context] == [
        name for name in TARGETS if name.startswith("qnn")
    ]


@pytest.mark.parametrize("name", TARGETS)
def test_measured_is_what_has_no_tolerance_of_its_own(name: str) -> None:
    place = Place(name=name, row=TARGETS[name])
    assert place.measures_tolerance == (place.ready and place.row.provider not in TOLERANCES)
    few_float, few_int8 = place.largest_tolerances
    assert 0 < few_float < few_int8 < 0.1


@pytest.mark.parametrize(
    ("name", "platform"),
    [("cpu@haswell", "x86"), ("cpu@cortex-a53", "arm"), ("qnn@sm8650", "arm"), ("coreml", "arm"), ("nnapi", "arm")],
)
def test_the_platform_is_the_devices_and_not_this_machines(name: str, platform: str) -> None:
    assert Place(name=name, row=target(name)).platform(DATA) == platform


def test_an_ort_file_is_run_only_by_the_cpu_of_this_process(place: Place) -> None:
    here = Place(name="cpu", row=TARGETS["cpu"])
    assert (here.runs("float.ort"), here.runs("float.onnx")) == (True, True)
    assert (place.runs("float.ort"), place.runs("float.onnx")) == (False, True)
