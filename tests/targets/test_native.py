"""Sessions of the installed onnxruntime: on the provider asked for, or an error; never a fallback."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper

from edgecnn.errors import EdgecnnError, ExitCode, ModelError, StageError, TargetError
from edgecnn.targets import native
from edgecnn.targets.native import CPU_PROVIDER, NativeSession, missing_provider, open_inference_session
from tests.graphs import evaluate, make_model, node, small_cnn

AZURE = "AzureExecutionProvider"  # in every wheel, and runs no node of a network
X = np.random.default_rng(0).random((4, 3, 8, 8), np.float32)


def open_model(model: ModelProto | bytes, provider: str = CPU_PROVIDER, threads: int = 1) -> NativeSession:
    data = model if isinstance(model, bytes) else model.SerializeToString()
    return NativeSession(data, model_name="int8.onnx", provider=provider, clock="measured", threads=threads)


def refused(error: type[EdgecnnError], model: ModelProto | bytes, provider: str = CPU_PROVIDER) -> EdgecnnError:
    with pytest.raises(error) as caught:
        open_model(model, provider)
    assert type(caught.value) is error
    assert caught.value.message.startswith("int8.onnx: ")
    assert caught.value.next_step
    return caught.value


def with_input(dtype: int, shape: list[int | str | None]) -> ModelProto:
    return make_model(
        [node("Cast", ["x"], ["float"], to=TensorProto.FLOAT), node("Flatten", ["float"], ["y"])],
        {},
        inputs={"x": shape},
        input_type=dtype,
        outputs={"y": ("N", "C")},
    )


def test_a_model_runs_and_says_where() -> None:
    session = open_model(small_cnn())
    np.testing.assert_allclose(session.run(X), evaluate(small_cnn(), {"x": X})[0], rtol=1e-5, atol=1e-5)
    assert set(session.nodes_by_provider) == {CPU_PROVIDER}
    assert session.clock == "measured"


def test_every_node_that_is_left_is_counted() -> None:
    model = make_model([node("Sin", ["x"], ["a"]), node("Cos", ["a"], ["b"]), node("Flatten", ["b"], ["y"])], {})
    assert open_model(model).nodes_by_provider == {CPU_PROVIDER: 3}


def test_all_nodes_of_all_subgraphs_of_a_provider_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    original = native.open_inference_session

    class Partitioned:
        def __init__(self, session: Any) -> None:
            self.session = session

        def __getattr__(self, name: str) -> Any:
            return getattr(self.session, name)

        def get_provider_graph_assignment_info(self) -> list[SimpleNamespace]:
            return [SimpleNamespace(ep_name=CPU_PROVIDER, get_nodes=lambda n=n: range(n)) for n in (3, 5)]

    monkeypatch.setattr(
        native, "open_inference_session", lambda *args, **kwargs: Partitioned(original(*args, **kwargs))
    )
    assert open_model(small_cnn()).nodes_by_provider == {CPU_PROVIDER: 8}


def test_a_provider_that_is_there_is_not_missing() -> None:
    assert missing_provider(CPU_PROVIDER) is None


def test_a_provider_that_is_not_there_is_missing_for_a_reason() -> None:
    reason = missing_provider("NoSuchExecutionProvider")
    assert reason == f"onnxruntime {onnxruntime.__version__} as installed has no NoSuchExecutionProvider"


@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.parametrize("provider", [AZURE, "NoSuchExecutionProvider"])
def test_a_provider_that_does_not_run_every_node_is_refused(provider: str) -> None:
    error = refused(TargetError, small_cnn(), provider)
    assert error.exit_code == ExitCode.TARGET_UNAVAILABLE
    assert f"{provider} does not run the whole model" in error.message
    assert "cpu" in error.next_step


def test_nodes_that_ended_up_elsewhere_after_all_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    original = native.open_inference_session

    def falls_back(model: bytes, *, model_name: str, provider: str, threads: int, **_: object) -> Any:
        return original(model, model_name=model_name, provider=CPU_PROVIDER, threads=threads)

    monkeypatch.setattr(native, "open_inference_session", falls_back)
    error = refused(TargetError, small_cnn(), AZURE)
    assert f"{AZURE} runs no node; {CPU_PROVIDER} runs " in error.message


def test_onnx_runtime_may_not_open_the_model_anew_on_another_provider() -> None:
    session = open_inference_session(
        small_cnn().SerializeToString(), model_name="int8.onnx", provider=CPU_PROVIDER, threads=1
    )
    assert session._enable_fallback is False


@pytest.mark.parametrize("data", [b"", b"garbage", small_cnn().SerializeToString()[:-50]])
@pytest.mark.parametrize("provider", [CPU_PROVIDER, AZURE])
def test_a_broken_model_is_the_models_fault_on_any_provider(data: bytes, provider: str) -> None:
    error = refused(ModelError, data, provider)
    assert error.exit_code == ExitCode.BAD_INPUT
    assert "ONNX Runtime cannot load it" in error.message


@pytest.mark.parametrize("inputs", [{"x": ("N", 3, 8, 8), "mask": ("N", 3, 8, 8)}, {"a": (1,), "b": (1,), "c": (1,)}])
def test_more_than_one_input_is_refused_with_their_names(inputs: dict[str, Any]) -> None:
    model = make_model([node("Sum", list(inputs), ["y"])], {}, inputs=inputs, outputs={"y": inputs[next(iter(inputs))]})
    error = refused(ModelError, model)
    assert f"expected one input, found {len(inputs)}: {', '.join(inputs)}" in error.message


def test_more_than_one_output_is_refused_with_their_names() -> None:
    model = small_cnn()
    model.graph.output.append(helper.make_tensor_value_info("pool", TensorProto.FLOAT, ["N", 4, 3, 3]))
    assert "expected one output, found 2: y, pool" in refused(ModelError, model).message


def test_weights_that_are_also_inputs_are_not_counted_as_such() -> None:
    model = small_cnn()
    model.graph.input.append(helper.make_tensor_value_info("fc_b", TensorProto.FLOAT, [3]))
    assert open_model(model).input.name == "x"


@pytest.mark.parametrize(
    ("dtype", "word"),
    [(TensorProto.FLOAT, "float32"), (TensorProto.UINT8, "uint8"), (TensorProto.INT8, "int8")],
)
def test_an_inputs_type_is_said_in_numpys_words(dtype: int, word: str) -> None:
    assert open_model(with_input(dtype, ["N", 3, 8, 8])).input.dtype == word


def test_another_type_is_said_in_onnx_runtimes_words() -> None:
    assert open_model(with_input(TensorProto.DOUBLE, ["N", 3])).input.dtype == "tensor(double)"


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (["batch", 3, 8, 8], ("batch", 3, 8, 8)),
        ([4, 3, 8, 8], (4, 3, 8, 8)),
        ([None, 3, None, 8], ("?", 3, "?", 8)),
    ],
)
def test_a_dimension_is_a_number_or_a_word(shape: list[int | str | None], said: tuple[int | str, ...]) -> None:
    assert open_model(with_input(TensorProto.FLOAT, shape)).input.shape == said


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_is_what_was_asked_for(threads: int) -> None:
    options = open_model(small_cnn(), threads=threads)._session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (threads, 1)


@pytest.mark.parametrize(
    "batch", [np.zeros((1, 3, 8, 9), np.float32), np.zeros((1, 3, 8), np.float32), np.zeros((1, 3, 8, 8), np.uint8)]
)
def test_a_batch_that_does_not_fit_is_a_failed_stage_and_nothing_is_printed(
    batch: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    session = open_model(small_cnn())
    with pytest.raises(StageError, match=r"int8\.onnx: ONNX Runtime failed while running it") as caught:
        session.run(batch)
    assert caught.value.exit_code == ExitCode.STAGE_FAILED
    assert caught.value.next_step
    assert capfd.readouterr() == ("", "")


def test_a_node_that_fails_is_a_failed_stage_and_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    session = open_model(make_model([node("Reshape", ["x", "shape"], ["y"])], {"shape": np.array([1, 192])}))
    with pytest.raises(StageError, match="Reshape"):
        session.run(X)
    assert capfd.readouterr() == ("", "")


def test_a_bound_call_gives_the_same_logits_as_run() -> None:
    session = open_model(small_cnn())
    bound = session.bind(X)
    bound.logits()[:] = 0
    for _ in range(3):
        bound()
    np.testing.assert_array_equal(bound.logits(), session.run(X))
    assert np.ptp(bound.logits()) > 0


def test_a_bound_call_reads_its_batch_though_nobody_else_holds_it() -> None:
    session = open_model(small_cnn())
    expected = session.run(X)
    bound = session.bind(X.copy())
    scratch = [np.full_like(X, np.nan) for _ in range(20)]
    bound()
    np.testing.assert_array_equal(bound.logits(), expected)
    assert len(scratch) == 20


def test_a_batch_that_does_not_fit_cannot_be_bound() -> None:
    with pytest.raises(StageError, match=r"int8\.onnx: ONNX Runtime failed"):
        open_model(small_cnn()).bind(np.zeros((1, 1, 8, 8), np.float32))


def test_the_profiler_writes_only_where_it_is_told(tmp_path: Path) -> None:
    prefix = str(tmp_path / "trace")
    session = open_inference_session(
        small_cnn().SerializeToString(), model_name="m", provider=CPU_PROVIDER, threads=1, profile_prefix=prefix
    )
    session.run(None, {"x": X})
    file = Path(session.end_profiling())
    assert file.parent == tmp_path
    assert "Conv" in file.read_text()
