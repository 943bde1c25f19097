"""Peak memory of a fresh process, against models whose size is known."""

import sys
from pathlib import Path

import numpy as np
import pytest

from edgecnn.errors import StageError
from edgecnn.measure import memory
from edgecnn.measure.memory import peak_memory_bytes, runtime_memory_bytes
from tests.bundles import fast_model
from tests.graphs import make_model, node

BATCH = np.zeros((1, 3, 32, 32), np.float32)
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="this system does not tell")


def peak(model: bytes, batch: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = BATCH) -> int:
    found = peak_memory_bytes(model, batch, provider="CPUExecutionProvider", threads=1)
    assert found is not None
    return found


def heavy_model(megabytes: int) -> bytes:
    weights = np.ones((3 * 32 * 32, megabytes * 2**20 // 4 // (3 * 32 * 32)), np.float32)
    model = make_model(
        [node("Flatten", ["input"], ["flat"]), node("MatMul", ["flat", "weights"], ["logits"])],
        {"weights": weights},
        inputs={"input": ("batch", 3, 32, 32)},
        outputs={"logits": ("batch", weights.shape[1])},
    )
    return bytes(model.SerializeToString())


def test_a_model_of_forty_megabytes_takes_at_least_as_much_more() -> None:
    runtime = runtime_memory_bytes()
    assert runtime is not None
    small, large = peak(fast_model()), peak(heavy_model(40))
    assert 10 * 2**20 < runtime < small
    assert small - runtime < 40 * 2**20 < large - runtime


def test_what_this_process_holds_is_not_counted() -> None:
    before = peak(fast_model())
    ballast = np.ones(30_000_000)  # 240 MB; ru_maxrss of a child begins with what its parent had
    assert abs(peak(fast_model()) - before) < 40e6
    assert ballast[-1] == 1


def test_a_process_that_fails_says_what_went_wrong() -> None:
    with pytest.raises(StageError, match=r"the process that measures memory ended with 1 and said: .*rank") as caught:
        peak(fast_model(), np.zeros((1, 3), np.float32))
    assert caught.value.next_step


def test_a_process_that_never_ends_is_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sleeper = tmp_path / "sleeper.py"
    sleeper.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(memory, "_WORKER", sleeper)
    monkeypatch.setattr(memory, "_TIME_LIMIT_S", 0.3)
    with pytest.raises(StageError, match=r"took more than 0\.3 s"):
        peak(fast_model())


def test_windows_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert peak_memory_bytes(fast_model(), BATCH, provider="CPUExecutionProvider", threads=1) is None


def test_the_process_runs_it_as_the_measurement_does(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, str | int]] = []

    def ask(wanted: dict[str, str | int]) -> int:
        assert Path(str(wanted["model"])).read_bytes() == fast_model()
        np.testing.assert_array_equal(np.load(str(wanted["batch"])), BATCH)
        asked.append(wanted)
        return 1

    monkeypatch.setattr(memory, "_ask", ask)
    peak_memory_bytes(fast_model(), BATCH, provider="SomeExecutionProvider", threads=3)
    (wanted,) = asked
    assert (wanted["provider"], wanted["threads"]) == ("SomeExecutionProvider", 3)
    assert not Path(str(wanted["model"])).exists()
