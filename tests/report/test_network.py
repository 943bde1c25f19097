"""A network's layers and times in the terminal and as JSON: golden texts, and names that are no markup."""

import io
import json

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper
from rich.console import Console, RenderableType

from edgecnn.bundle.profile import Convolution, LayerTiming, Timing
from edgecnn.graph.layers import Network, read_network
from edgecnn.report.network import bar, network_items, network_view, profile_items, profile_view
from tests.bundles import MACHINE
from tests.graphs import make_model, node, small_cnn


def lines(items: list[RenderableType], width: int = 140) -> list[str]:
    """Return what a terminal without colours shows, each line without what pads it; no rules."""
    console = Console(file=io.StringIO(), width=width, markup=False, emoji=False, highlight=False)
    for item in items:
        console.print(item)
    assert isinstance(console.file, io.StringIO)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines() if line.strip(" ─")]


def network(model: ModelProto | None = None) -> Network:
    return read_network(model or small_cnn(), "net.onnx")


def test_a_network_is_shown_as_a_table_with_its_arithmetic_and_its_cost() -> None:
    assert lines(network_items("net.onnx", network(), dense=False)) == [
        "net.onnx: input 3x8x8",
        "# op in out bytes out sees layer",
        "1 Conv 3x8x8 4x6x6 576 3x3 conv",
        "2 Relu 4x6x6 4x6x6 576 3x3 relu",
        "3 MaxPool 4x6x6 4x3x3 144 4x4 pool",
        "4 Flatten 4x3x3 36 144 4x4 flatten",
        "5 Gemm 36 3 12 8x8 fc",
        "total 1,452",
        "How each size follows: (W - F + 2P)/S + 1",
        "# op kernel stride padding groups arithmetic",
        "1 Conv 3x3 1 0 1 (8 - 3 + 2*0)/1 + 1 = 6",
        "3 MaxPool 2x2 2 0 1 (6 - 2 + 2*0)/2 + 1 = 3",
        "What each layer costs",
        "# op parameters MACs weight bytes layer",
        "1 Conv 112 3,888 448 conv",
        "5 Gemm 111 108 444 fc",
        "total 223 3,996 892",
        "Peak activation memory: 1,344 bytes, at Conv conv.",
    ]


def test_dense_adds_what_would_stand_in_a_convolutions_place() -> None:
    found = lines(network_items("net.onnx", network(), dense=True))
    added = [line for line in found if line not in lines(network_items("net.onnx", network(), dense=False))]
    assert added == [
        "A fully connected layer in the place of each convolution",
        "# weights dense weights dense MACs dense bytes layer",
        "1 112 27,792 27,648 111,168 conv",
        "One neuron of a fully connected layer that sees this whole 3x8x8 input has 192 weights "
        "(on a 200x200x3 image: 120,000).",
    ]


def strange() -> ModelProto:
    pool = node("MaxPool", ["x"], ["p"], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, name="[red]pool\x1b[1m")
    nodes = [
        pool,
        node("Wavelet", ["p"], ["w"], domain="theirs", name="wave"),
        node("Conv", ["w", "c"], ["y"], dilations=[1, 2], pads=[0, 2, 1, 2], strides=[1, 2], name="last"),
    ]
    model = make_model(nodes, {"c": np.zeros((2, 3, 2, 3), np.float32)})
    model.opset_import.append(helper.make_opsetid("theirs", 1))
    model.graph.value_info.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, ("N", 3, 4, 4)))
    return model


def test_what_is_not_certain_is_said_last() -> None:
    found = lines(network_items("net.onnx", network(strange()), dense=False), width=200)
    assert found[-4:] == [
        "Not certain: the multiplications of Wavelet are not known here, and not in the totals.",
        "Not certain: MaxPool [red]pool[1m: H is 4 in the graph, not 3 (ceil_mode); "
        "W is 4 in the graph, not 3 (ceil_mode).",
        "Not certain: Wavelet wave: its multiplications are not counted; its size is what the file says, not derived.",
        "Not certain: what is seen is not known from Wavelet wave on.",
    ]
    assert "2 Wavelet 3x4x4 3x4x4 192 ? wave" in found
    assert "3 Conv 2x3 spread 1x2 1x2 0+1, 2+2 1 H: (4 - 2 + 0 + 1)/1 + 1 = 4; " in "\n".join(found) + " "


@pytest.mark.parametrize("width", [60, 80, 100])
def test_on_a_narrow_terminal_names_give_way_and_figures_do_not(width: int) -> None:
    model = small_cnn()
    for one in model.graph.node:
        one.name = f"/features/features.0/block/block.{one.name}/" * 3
    found = network_items("net.onnx", network(model), dense=True)
    for line in lines(found, width=width):
        assert len(line) <= width
    text = "\n".join(lines(found, width=width))
    for figures in ("4x6x6 4x3x3 144 4x4", "112 3,888 448", "112 27,792 27,648 111,168", "/fea"):
        assert figures in text


def test_the_object_has_every_figure() -> None:
    view = network_view("net.onnx", network(), dense=False)
    assert json.loads(json.dumps(view, allow_nan=False)) == view
    assert view.keys() == {
        "model", "batch", "input", "layers", "totals", "peak_activation", "doubts",
    }  # fmt: skip
    assert view["layers"][0] == {
        "name": "conv",
        "op": "Conv",
        "inputs": [[3, 8, 8]],
        "outputs": [[4, 6, 6]],
        "window": {
            "kernel": [3, 3], "stride": [1, 1], "pads_before": [0, 0], "pads_after": [0, 0], "dilation": [1, 1],
            "groups": 1,
        },
        "arithmetic": "(8 - 3 + 2*0)/1 + 1 = 6",
        "parameters": 112,
        "macs": 3888,
        "weight_bytes": 448,
        "activation_bytes": 576,
        "receptive_field": [3, 3],
        "doubt": None,
    }  # fmt: skip
    assert view["layers"][1]["window"] is view["layers"][1]["arithmetic"] is None
    assert view["totals"] == {"parameters": 223, "macs": 3996, "weight_bytes": 892, "activation_bytes": 1452}
    assert view["peak_activation"] == {"bytes": 1344, "layer": "conv", "op": "Conv"}


def test_the_object_has_the_dense_figures_only_if_asked() -> None:
    view = network_view("net.onnx", network(), dense=True)
    assert view["dense_neuron_weights"] == 192
    assert [layer["dense"] for layer in view["layers"]] == [
        {"weights": 27648, "biases": 144, "macs": 27648, "weight_bytes": 111168}, None, None, None, None,
    ]  # fmt: skip


def test_the_object_says_what_is_unknown() -> None:
    view = network_view("net.onnx", network(strange()), dense=False)
    assert [layer["receptive_field"] for layer in view["layers"]] == [[3, 3], None, None]
    assert view["layers"][1]["doubt"].startswith("its multiplications are not counted")
    assert len(view["doubts"]) == 1


def test_a_network_without_an_image_or_a_window_is_shown_too() -> None:
    plain = make_model([node("Gemm", ["x", "w"], ["y"])], {"w": np.zeros((5, 2), np.float32)}, inputs={"x": ("N", 5)})
    found = lines(network_items("mlp.onnx", network(plain), dense=True))
    assert "1 Gemm 5 2 8 - make_y" in found
    assert not any("How each size follows" in line for line in found)


# Times.


def convolution(name: str, side: int) -> Convolution:
    pair = (1, 1)
    return Convolution(
        name=name, batch=1, source=(3, side, side), output=(2, side, side), kernel=pair, stride=pair,
        pads_before=(0, 0), pads_after=(0, 0), dilation=pair, groups=1, bias=True,
    )  # fmt: skip


TIMINGS = [
    LayerTiming(
        layer=convolution("[b]first", 10),
        convolution=Timing(median_us=12.34, iqr_us=0.56, blocks=11, calls=1100),
        dense=Timing(median_us=1234.5, iqr_us=67.8, blocks=10, calls=10),
        skipped=None,
    ),
    LayerTiming(
        layer=convolution("second", 100),
        convolution=Timing(median_us=617.25, iqr_us=1.0, blocks=20, calls=20),
        dense=None,
        skipped="its weights take 2400080000 bytes, above 1000",
    ),
]


def test_times_are_shown_with_a_chart_and_where_they_were_measured() -> None:
    assert lines(profile_items("net.onnx", MACHINE, TIMINGS, max_dense_bytes=1000)) == [
        "net.onnx: microseconds a call, one image, one thread",
        "conv IQR dense IQR dense/conv dense bytes layer",
        "12.3 0.6 1,234.5 67.8 100.0 240,800 [b]first",
        "617.2 1.0 - - - 2,400,080,000 second",
        "[b]first",
        "conv ▍ 12.3",
        f"dense {'█' * 40} 1,234.5",
        "second",
        f"conv {'█' * 20} 617.2",
        "'-': not made, its weights would take more than 1,000 bytes (--max-memory).",
        f"Medians of at least 10 blocks of calls each; {MACHINE.cpu}, torch ?, float32.",
    ]


def test_nothing_is_said_of_memory_if_all_fits() -> None:
    assert not any(
        "--max-memory" in line for line in lines(profile_items("n", MACHINE, TIMINGS[:1], max_dense_bytes=1))
    )


def test_times_as_an_object() -> None:
    view = profile_view("net.onnx", MACHINE, TIMINGS, max_dense_bytes=1000)
    assert json.loads(json.dumps(view, allow_nan=False)) == view
    assert (view["model"], view["threads"], view["max_dense_bytes"]) == ("net.onnx", 1, 1000)
    assert view["machine"] == MACHINE.model_dump(mode="json")
    assert view["layers"] == [
        {
            "name": "[b]first",
            "input": [3, 10, 10],
            "output": [2, 10, 10],
            "convolution": {"median_us": 12.34, "iqr_us": 0.56, "blocks": 11, "calls": 1100},
            "dense": {"median_us": 1234.5, "iqr_us": 67.8, "blocks": 10, "calls": 10},
            "ratio": 1234.5 / 12.34,
            "dense_weight_bytes": 240_800,
            "skipped": None,
        },
        {
            "name": "second",
            "input": [3, 100, 100],
            "output": [2, 100, 100],
            "convolution": {"median_us": 617.25, "iqr_us": 1.0, "blocks": 20, "calls": 20},
            "dense": None,
            "ratio": None,
            "dense_weight_bytes": 2_400_080_000,
            "skipped": "its weights take 2400080000 bytes, above 1000",
        },
    ]


@pytest.mark.parametrize(
    ("fraction", "expected"), [(1.0, "████"), (0.5, "██"), (0.53, "██▏"), (0.0, "▏"), (0.99, "████"), (0.97, "███▉")]
)
def test_a_bar_grows_by_eighths_and_is_never_nothing(fraction: float, expected: str) -> None:
    assert bar(fraction, width=4) == expected
