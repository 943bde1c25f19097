"""ONNX Runtime's exceptions: every one is known, and every one is translated."""

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as state

from edgecnn.errors import EdgecnnError, ModelError, StageError
from edgecnn.targets.native import CPU_PROVIDER, NativeSession
from edgecnn.targets.ort_errors import ort_errors
from tests.graphs import small_cnn

OWN = [
    name
    for name in dir(state)
    if isinstance(getattr(state, name), type) and issubclass(getattr(state, name), Exception)
]
X = np.zeros((1, 3, 8, 8), np.float32)


def open_model() -> NativeSession:
    data = small_cnn().SerializeToString()
    return NativeSession(data, model_name="float.onnx", provider=CPU_PROVIDER, clock="measured", threads=1)


def test_the_installed_onnxruntime_has_the_exceptions_known_of_old() -> None:
    assert set(OWN) >= {
        "Fail",
        "InvalidArgument",
        "InvalidGraph",
        "InvalidProtobuf",
        "NoSuchFile",
        "NoModel",
        "EngineError",
        "RuntimeException",
        "ModelLoaded",
        "NotImplemented",
        "EPFail",
    }


@pytest.mark.parametrize("name", OWN)
def test_every_exception_of_onnx_runtime_is_gathered(name: str) -> None:
    assert getattr(state, name) in ort_errors()


def test_nothing_too_general_is_gathered() -> None:
    assert not {Exception, BaseException} & set(ort_errors())
    assert not issubclass(KeyboardInterrupt, ort_errors())
    assert not issubclass(MemoryError, ort_errors())
    assert not issubclass(EdgecnnError, ort_errors())


@pytest.mark.parametrize("kind", ort_errors(), ids=lambda kind: kind.__name__)
def test_each_is_a_model_error_when_a_model_is_opened(kind: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any, **kwargs: Any) -> None:
        raise kind("the reason\nand its trace")

    monkeypatch.setattr(onnxruntime, "InferenceSession", fails)
    with pytest.raises(ModelError, match=r"float\.onnx: ONNX Runtime cannot load it \(the reason\)") as caught:
        open_model()
    assert isinstance(caught.value.__cause__, kind)


@pytest.mark.parametrize("kind", ort_errors(), ids=lambda kind: kind.__name__)
def test_each_is_a_stage_error_when_a_model_runs(kind: type[Exception]) -> None:
    class Fails:
        def run(self, *args: Any) -> None:
            raise kind("the reason")

    session = open_model()
    session._session = Fails()
    with pytest.raises(StageError, match=r"float\.onnx: ONNX Runtime failed while running it \(the reason\)") as caught:
        session.run(X)
    assert isinstance(caught.value.__cause__, kind)


def test_an_exception_without_words_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any, **kwargs: Any) -> None:
        raise state.NoModel

    monkeypatch.setattr(onnxruntime, "InferenceSession", fails)
    with pytest.raises(ModelError, match=r"cannot load it \(NoModel\)"):
        open_model()


def test_an_interruption_is_not_taken_for_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(onnxruntime, "InferenceSession", interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_model()
