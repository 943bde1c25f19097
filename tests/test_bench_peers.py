"""Peers side by side, from the command line's options to the rows: nothing is downloaded."""

import argparse
import sys
from pathlib import Path

import pytest

from edgecnn.bundle import Bundle
from edgecnn.errors import UsageError
from scripts import bench_peers
from scripts.peer_bench import entrants
from scripts.peer_bench.rows import Measured


def arguments(bundle: Path, **given: object) -> argparse.Namespace:
    plain = {
        "bundle": str(bundle),
        "data": "digits",
        "images": 40,
        "ours": [],
        "reference": None,
        "only": [],
        "skip": [],
    }
    return argparse.Namespace(**(plain | {"pairs": 6, "rounds": 1, "block_ms": 0.1} | given))


def test_stock_onnxruntime_and_our_files_are_measured_on_a_real_bundle(
    bundle_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entrants, "install", lambda *_: Path(sys.executable))
    monkeypatch.setattr(bench_peers, "N_CALIBRATION", 32)
    bytes_in = tmp_path / "bytes.onnx"
    bytes_in.write_bytes(fed_bytes(Bundle.open(bundle_copy).read("float.onnx", next_step="")))
    given = arguments(bundle_copy, only=["onnxruntime"], ours=[f"bytes={bytes_in}"], reference="edgecnn int8")
    rows, facts = bench_peers.measure(given)
    found = {row.name: row for row in rows}
    assert list(found) == [
        "edgecnn float",
        "edgecnn int8",
        "bytes",
        "onnxruntime int8 defaults",
        "onnxruntime int8 U8S8",
        "onnxruntime int8 onnxsim",
    ]
    assert all(isinstance(row, Measured) for row in rows)
    plain, fed = found["edgecnn float"], found["bytes"]
    assert isinstance(plain, Measured)
    assert isinstance(fed, Measured)
    assert plain.input == "float32 1x3x32x32"
    assert fed.input == "uint8 1x32x32x3"
    assert fed.top1 == plain.top1
    assert [row.form for row in rows if isinstance(row, Measured)] == ["float", "int8", "float", "int8", "int8", "int8"]
    assert facts["reference"] == "edgecnn int8"
    assert "40 test images, 32 calibration images" in bench_peers.describe(facts)


def fed_bytes(model: bytes) -> bytes:
    """Return a float model with an input of uint8 ``[N, 32, 32, 3]`` before it."""
    import onnx
    from onnx import TensorProto, helper

    graph = onnx.load_model_from_string(model)
    inner = graph.graph.input[0].name
    graph.graph.initializer.append(helper.make_tensor("to_unit", TensorProto.FLOAT, [], [255.0]))
    before = [
        helper.make_node("Cast", ["bytes"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["as_float", "to_unit"], ["unit"]),
        helper.make_node("Transpose", ["unit"], [inner], perm=[0, 3, 1, 2]),
    ]
    for index, node in enumerate(before):
        graph.graph.node.insert(index, node)
    graph.graph.input[0].CopyFrom(helper.make_tensor_value_info("bytes", TensorProto.UINT8, ["batch", 32, 32, 3]))
    data: bytes = graph.SerializeToString()
    return data


@pytest.mark.parametrize(("text", "words"), [("nothing.onnx", "NAME=FILE"), ("a=gone.onnx", "found 'a=gone.onnx'")])
def test_ours_must_be_a_name_and_a_file(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        bench_peers.parse_ours([text])


def test_a_misspelt_reference_is_found_before_anything_is_installed(finished_bundle: Path) -> None:
    with pytest.raises(UsageError, match="'edgecnn int9' does not take part; ours are: edgecnn float, edgecnn int8"):
        bench_peers.measure(arguments(finished_bundle, reference="edgecnn int9"))


def test_errors_are_shown_with_their_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench_peers", "--bundle", str(tmp_path), "--only", "nobody"])
    assert bench_peers.main() == 2
    assert "unknown peer 'nobody'" in capsys.readouterr().err

    def stopped(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bench_peers, "measure", stopped)
    assert bench_peers.main() == 130
    assert "nothing was written" in capsys.readouterr().err
