"""Conversion to .ort: the same answers, the same bytes, and nothing of this machine in them."""

import os

import numpy as np
import onnxruntime
import pytest

from edgecnn.errors import StageError, TargetError
from edgecnn.packaging.ort_bytes import with_sorted_kernel_types
from edgecnn.packaging.ort_format import Platform, convert
from edgecnn.targets import reference_session
from edgecnn.targets.native import NativeSession
from tests.graphs import small_cnn

MODELS = {"float.onnx": small_cnn().SerializeToString(), "int8.onnx": small_cnn(seed=1).SerializeToString()}
X = np.random.default_rng(0).random((5, 3, 8, 8), np.float32)


@pytest.mark.parametrize("platform", ["arm", "x86"])
def test_the_answers_are_those_of_the_onnx_file(platform: Platform) -> None:
    found = convert(MODELS, platform=platform)
    assert list(found.models) == ["float.ort", "int8.ort"]
    for name, data in found.models.items():
        expected = reference_session(MODELS[name.replace(".ort", ".onnx")], model_name=name).run(X)
        np.testing.assert_allclose(reference_session(data, model_name=name).run(X), expected, rtol=1e-5, atol=1e-5)


def test_the_same_models_give_the_same_bytes_every_time() -> None:
    first = convert(MODELS, platform="x86")
    for _ in range(4):  # unsorted, two conversions of one process already differ
        assert convert(MODELS, platform="x86") == first


def test_sorting_leaves_nothing_more_to_sort_and_no_entry_out() -> None:
    data = convert(MODELS, platform="x86").models["float.ort"]
    assert with_sorted_kernel_types(data) == data
    names = sorted(set(_kernel_types(data)))
    assert names == _kernel_types(data)
    assert "ai.onnx:MaxPool:12" in names or any("MaxPool" in name for name in names)


def _kernel_types(data: bytes) -> list[str]:
    from onnxruntime.tools.ort_format_model.ort_flatbuffers_py.fbs.InferenceSession import InferenceSession

    table = InferenceSession.GetRootAs(data, 0).KernelTypeStrResolver()
    return [table.OpKernelTypeStrArgs(i).OpId().decode() for i in range(table.OpKernelTypeStrArgsLength())]


def test_the_runtime_finds_its_kernels_in_the_sorted_table_without_optimizing() -> None:
    data = convert(MODELS, platform="x86").models["float.ort"]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    expected = reference_session(MODELS["float.onnx"], model_name="x").run(X)
    np.testing.assert_allclose(session.run(None, {"x": X})[0], expected, rtol=1e-5, atol=1e-5)


def test_it_is_opened_for_the_cpu_alone_for_of_no_other_is_it_told_what_ran() -> None:
    data = convert(MODELS, platform="x86").models["float.ort"]
    with pytest.raises(TargetError, match="AzureExecutionProvider runs no node"):
        NativeSession(
            data,
            model_name="float.ort",
            provider="AzureExecutionProvider",
            clock="measured",
            threads=1,
            allow_cpu_nodes=1000,
        )


def test_another_file_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected an \.ort file"):
        with_sorted_kernel_types(MODELS["float.onnx"])


def test_no_path_of_this_machine_is_in_the_files() -> None:
    found = convert(MODELS, platform="x86")
    for data in [*found.models.values(), found.required_operators]:
        assert b"/tmp" not in data
        assert b"edgecnn-ort" not in data
    assert found.required_operators.startswith(b"ai.onnx;")


def test_no_layout_of_one_cpu_alone_is_baked_in() -> None:
    for platform in ("arm", "x86"):
        found = convert(MODELS, platform="arm" if platform == "arm" else "x86")
        assert b"nchwc" not in found.required_operators


def test_the_users_environment_does_not_change_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = convert(MODELS, platform="x86")
    monkeypatch.setenv("ORT_CONVERT_ONNX_MODELS_TO_ORT_OPTIMIZATION_LEVEL", "basic")
    assert convert(MODELS, platform="x86") == expected
    assert os.environ["ORT_CONVERT_ONNX_MODELS_TO_ORT_OPTIMIZATION_LEVEL"] == "basic"


def test_the_tool_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    convert(MODELS, platform="x86")
    assert capfd.readouterr() == ("", "")


def test_a_model_that_cannot_be_converted_is_named() -> None:
    with pytest.raises(StageError, match=r"onnxruntime\.tools cannot convert bad\.onnx to \.ort"):
        convert({"bad.onnx": b"no model"}, platform="arm")
