"""``edgecnn simplify FILE``: any ONNX file, compared on inputs made up to fit; nothing written that differs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edgecnn.errors import EdgecnnError, ModelError, ParityError, StageError, UsageError
from edgecnn.graph import simplify as simplify_room
from edgecnn.pipeline.simplify_file import SimplifiedFile, parse_input_shapes, simplify_file
from tests.graphs import constant, make_model, node, small_cnn
from tests.program import edgecnn as program


def save(path: Path, model: ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def wasteful(**shapes: Any) -> ModelProto:
    """Return a network with an Identity and a sum of constants to get rid of."""
    return make_model(
        [
            node("Identity", ["x"], ["same"]),
            node("Add", ["half", "half"], ["w"]),
            node("Conv", ["same", "w"], ["conv"]),
            node("GlobalAveragePool", ["conv"], ["pool"]),
            node("Flatten", ["pool"], ["y"]),
        ],
        {"half": np.random.default_rng(0).normal(size=(4, 3, 3, 3))},
        **shapes,
    )


def operators(path: Path) -> list[str]:
    return [item.op_type for item in onnx.load(path).graph.node]


def test_a_simpler_file_is_written_beside_and_the_given_one_stays(tmp_path: Path) -> None:
    path = save(tmp_path / "net.onnx", wasteful())
    before = path.read_bytes()
    made = simplify_file(path)
    assert made.output == tmp_path / "net-simplified.onnx"
    assert operators(made.output) == ["Conv", "GlobalAveragePool", "Flatten"]
    assert path.read_bytes() == before
    assert made.simplified.nodes_before["Identity"] == 1
    assert "Identity" not in made.simplified.nodes_after
    assert (made.size_before_bytes, made.size_after_bytes) == (len(before), made.output.stat().st_size)
    parity = made.simplified.record
    assert (parity.batch_sizes, parity.n_runs, parity.outputs) == ((1, 2, 8), 12, 1)


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    path = save(tmp_path / "net.onnx", wasteful())
    one, other = simplify_file(path), simplify_file(path, output=tmp_path / "other.onnx")
    assert one.output.read_bytes() == other.output.read_bytes()


def test_several_inputs_and_outputs_of_several_types(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [
            node("Identity", ["image"], ["same"]),
            node("Cast", ["same"], ["pixels"], to=TensorProto.FLOAT),
            node("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0),
            node("Mul", ["mean", "gain"], ["scaled"]),
            node("Gather", ["table", "index"], ["row"]),
            node("Where", ["flag", "scaled", "row"], ["logits"]),
            node("ArgMax", ["logits"], ["class"], axis=1, keepdims=0),
        ],
        "several",
        [
            helper.make_tensor_value_info("image", TensorProto.UINT8, ("N", 6, 5, 3)),
            helper.make_tensor_value_info("gain", TensorProto.FLOAT, (1, 3)),
            helper.make_tensor_value_info("index", TensorProto.INT64, ("N",)),
            helper.make_tensor_value_info("flag", TensorProto.BOOL, ("N", 1)),
        ],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ("N", 3)),
            helper.make_tensor_value_info("class", TensorProto.INT64, ("N",)),
        ],
        [constant("axes", np.array([1, 2])), constant("table", np.arange(6.0).reshape(2, 3))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    made = simplify_file(save(tmp_path / "several.onnx", model))
    assert made.simplified.record.outputs == 2
    assert "Identity" not in operators(made.output)


def test_what_a_model_says_of_itself_stays(tmp_path: Path) -> None:
    model = wasteful()
    model.producer_name, model.doc_string, model.graph.name = "theirs", "Ours is the Earth", "backbone"
    model.metadata_props.add(key="names", value="{0: 'person'}")
    written = onnx.load(simplify_file(save(tmp_path / "net.onnx", model)).output)
    assert (written.producer_name, written.doc_string, written.graph.name) == (
        "theirs",
        "Ours is the Earth",
        "backbone",
    )
    assert [(entry.key, entry.value) for entry in written.metadata_props] == [("names", "{0: 'person'}")]


def test_weights_beside_the_file_come_into_the_simpler_one(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(wasteful(), path, save_as_external_data=True, location="net.data", size_threshold=0)
    made = simplify_file(path)
    (tmp_path / "net.data").unlink()
    session = onnxruntime.InferenceSession(made.output, providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.zeros((1, 3, 8, 8), np.float32)})[0].shape == (1, 4)


def refused(kind: type[EdgecnnError], *words: str, path: Path, **options: Any) -> EdgecnnError:
    before = sorted(path.parent.iterdir())
    with pytest.raises(kind) as caught:
        simplify_file(path, **options)
    for word in words:
        assert word in caught.value.message + caught.value.next_step
    assert sorted(path.parent.iterdir()) == before
    return caught.value


def test_a_size_that_may_vary_must_be_said(tmp_path: Path) -> None:
    path = save(tmp_path / "net.onnx", wasteful(inputs={"x": ("N", 3, "H", "W")}))
    refused(UsageError, "does not say how large it is", "--input-shape x:1x3xSIZExSIZE", path=path)
    made = simplify_file(path, shapes={"x": (2, 3, 20, 24)})
    assert made.simplified.record.n_runs == 12
    assert onnx.load(made.output).graph.input[0].type.tensor_type.shape.dim[2].dim_param == "H"


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"y": (1, 3, 8, 8)}, "has no input y; it has x"),
        ({"x": (1, 3, 8)}, "has 4 dimensions, --input-shape says 3"),
        ({"x": (1, 3, 9, 8)}, "--input-shape says [1, 3, 9, 8]"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(tmp_path: Path, shapes: dict[str, tuple[int, ...]], words: str) -> None:
    refused(UsageError, words, path=save(tmp_path / "net.onnx", wasteful()), shapes=shapes)


def test_an_output_that_exists_is_replaced_only_by_force(tmp_path: Path) -> None:
    path = save(tmp_path / "net.onnx", wasteful())
    output = tmp_path / "net-simplified.onnx"
    output.write_text("precious")
    refused(UsageError, "exists already", "--force", path=path)
    assert output.read_text() == "precious"
    simplify_file(path, force=True)
    assert operators(output)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    refused(ModelError, "found nothing", path=tmp_path / "gone.onnx")
    refused(ModelError, "found a folder", path=tmp_path)
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(small_cnn().SerializeToString()[:-50])
    refused(ModelError, "truncated", path=cut)


def test_an_operator_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    model = make_model([node("Magic", ["x"], ["y"], domain="com.acme")], {})
    model.opset_import.add(domain="com.acme", version=1)
    refused(ModelError, "Magic", path=save(tmp_path / "net.onnx", model))


def test_an_input_larger_than_any_image_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "net.onnx", wasteful(inputs={"x": ("N", 3, "H", "W")}))
    refused(ModelError, "is larger than", path=path, shapes={"x": (1, 3, 2**15, 2**15)})


def test_a_model_that_cannot_run_on_what_was_said_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "net.onnx", wasteful(inputs={"x": ("N", 3, "H", "W")}))
    refused(StageError, "failed while running it on {'x': [1, 3, 2, 2]}", path=path, shapes={"x": (1, 3, 2, 2)})


def test_a_simplifier_that_changes_an_answer_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(data: bytes, *_: object) -> bytes:
        model = ModelProto.FromString(data)
        weight = model.graph.initializer[0]
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.01), weight.name))
        return bytes(model.SerializeToString())

    monkeypatch.setattr(simplify_room, "run_onnxsim", spoil)
    path = save(tmp_path / "net.onnx", wasteful())
    refused(ParityError, "output 'y' by 1.0e-02", "the first layer that differs is Conv", path=path)


@pytest.mark.parametrize("text", ["1x3x8x8", "x:", "x:1x", "x:1xAx3", "x:0x3", ":1x3"])
def test_a_shape_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected NAME:1x3x224x224"):
        parse_input_shapes([text])


def test_an_input_may_have_a_colon_in_its_name() -> None:
    assert parse_input_shapes(["serving:0:1x3x8X8", "mask:4"]) == {"serving:0": (1, 3, 8, 8), "mask": (4,)}


def test_the_command_shows_counts_and_writes_one_json_object(tmp_path: Path) -> None:
    path = save(tmp_path / "net.onnx", wasteful())
    shown = program("simplify", str(path), "--bisect", cwd=tmp_path)
    assert shown.returncode == 0
    assert "Identity" in shown.stdout
    assert "layer by layer" in shown.stdout
    found = program("simplify", str(path), "--json", "--force", cwd=tmp_path)
    view = json.loads(found.stdout)
    assert (view["nodes_before"]["Identity"], view["verdict"]) == (1, "passed")
    assert sum(view["nodes_after"].values()) == 3
    assert view["parity"]["max_relative_difference"] < 1e-5


@pytest.mark.parametrize(
    "arguments", [["net.onnx", "--bundle", "b"], ["net.onnx", "--data", "digits"], ["--output", "o.onnx"]]
)
def test_options_of_the_other_kind_are_refused(arguments: list[str], tmp_path: Path) -> None:
    finished = program("simplify", *arguments, cwd=tmp_path)
    assert finished.returncode == 2
    assert "simplify: --" in finished.stderr


def test_it_is_part_of_the_python_api(tmp_path: Path) -> None:
    import edgecnn

    made = edgecnn.simplify_file(save(tmp_path / "net.onnx", wasteful()), limits=edgecnn.Limits(seconds=100))
    assert isinstance(made, SimplifiedFile)
