"""PyTorch to ONNX: the same logits from plain pixels, the same bytes from anywhere, or an error and nothing else."""

import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from google.protobuf.message import Message
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, numpy_helper
from torch import Tensor, nn

from edgecnn.errors import CheckpointError, EdgecnnError, ExitCode, ParityError, StageError
from edgecnn.graph import export, onnx_file
from edgecnn.graph.deployed import Deployed, InputLayout, InputType, Preprocessing
from edgecnn.graph.export import Exported, export_network
from edgecnn.graph.exporters import EXPORTERS, Exporter
from edgecnn.graph.parity import BATCH_SIZES, with_extremes
from edgecnn.models.simplecnn import SimpleCNN
from edgecnn.targets import reference_session
from edgecnn.targets.session import feed
from tests.graphs import copy, weights
from tests.support import make_images

PIXELS = make_images(24).pixels
N_COMPARED = len(with_extremes(PIXELS))
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)
USUAL = Preprocessing(mean=MEAN, std=STD)
Pixels = NDArray[np.uint8]
Logits = NDArray[np.float32]


class Tiny(nn.Module):
    """Convolution, batch normalization, dropout and one fully connected layer."""

    def __init__(self, padding: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, stride=4, padding=padding)
        self.norm = nn.BatchNorm2d(4)
        self.norm.running_mean = torch.tensor([0.1, 0.2, 0.3, 0.4])
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(4 * 8 * 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(torch.flatten(self.drop(torch.relu(self.norm(self.conv(x)))), 1))
        return logits


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Keep PyTorch from waiting for cores that other tests are using."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def simplecnn() -> SimpleCNN:
    torch.manual_seed(0)
    return SimpleCNN(10)


def by_torch(network: nn.Module, pixels: Pixels) -> Logits:
    """Normalize in NumPy and run the network: what the exported model must give."""
    unit = pixels.astype(np.float64) / 255
    normal = ((unit - np.array(MEAN)) / np.array(STD)).transpose(0, 3, 1, 2).astype(np.float32)
    with torch.inference_mode():
        logits: Logits = network.eval()(torch.from_numpy(np.ascontiguousarray(normal))).numpy()
        return logits


def by_onnx(data: bytes, pixels: Pixels) -> Logits:
    session = reference_session(data, model_name="exported")
    return session.run(feed(pixels, session.input))


def close(found: Logits, expected: Logits) -> None:
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def tiny(network: nn.Module | None = None, pixels: Pixels = PIXELS, **settings: Any) -> Exported:
    graph = {name: settings.pop(name) for name in ("batch", "opset") if name in settings}
    return export_network(network or Tiny(), pixels, Preprocessing(mean=MEAN, std=STD, **settings), **graph)


def only(monkeypatch: pytest.MonkeyPatch, **exporters: Exporter) -> None:
    """Let these be the only exporters."""
    monkeypatch.setattr(export, "EXPORTERS", exporters)


@pytest.fixture(scope="module")
def raw_and_exported() -> tuple[ModelProto, Exported]:
    """Return SimpleCNN as the exporter wrote it, and as edgecnn did."""
    raw: list[ModelProto] = []

    def spy(*args: Any) -> ModelProto:
        model = EXPORTERS["torch.export"](*args)
        raw.append(copy(model))
        return model

    with pytest.MonkeyPatch.context() as patch:
        only(patch, spied=spy)
        exported = export_network(simplecnn(), PIXELS, USUAL)
    return raw[0], exported


@pytest.fixture(scope="module")
def exported(raw_and_exported: tuple[ModelProto, Exported]) -> Exported:
    return raw_and_exported[1]


@pytest.fixture
def model(exported: Exported) -> ModelProto:
    return onnx_file.parse(exported.data, "exported")


def messages(message: Message) -> Iterator[Message]:
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if field.is_repeated else (value,):
                yield from messages(inner)


def strings(message: Message) -> Iterator[str]:
    for inner in messages(message):
        for _, value in inner.ListFields():
            values = [value] if isinstance(value, str) else value if not isinstance(value, (bytes, int, float)) else []
            if not isinstance(values, Message):
                yield from (item for item in values if isinstance(item, str))


@pytest.mark.parametrize("batch", [1, 3, 8, 24])
def test_simplecnn_gives_pytorchs_logits_at_any_batch(exported: Exported, batch: int) -> None:
    close(by_onnx(exported.data, PIXELS[:batch]), by_torch(simplecnn(), PIXELS[:batch]))


def test_the_input_takes_plain_pixels_and_any_batch(exported: Exported) -> None:
    session = reference_session(exported.data, model_name="exported")
    assert (session.input.name, session.input.dtype, session.output.name) == ("input", "float32", "logits")
    assert session.input.shape[1:] == (3, 32, 32)
    assert isinstance(session.input.shape[0], str)
    assert session.output.shape[1:] == (10,)


def test_the_record_says_what_was_compared(exported: Exported) -> None:
    parity = exported.parity
    assert (parity.stage, parity.reference, parity.n, parity.batch_sizes) == (
        "export",
        "PyTorch",
        N_COMPARED,
        BATCH_SIZES,
    )
    assert 0 < parity.max_relative_difference < 1e-5


def test_the_normalization_is_in_the_first_convolution(exported: Exported, model: ModelProto) -> None:
    assert exported.folded
    assert model.graph.node[0].op_type == "Conv"
    assert not {"Sub", "Div", "Mul", "Add"} & {item.op_type for item in model.graph.node}


def test_the_file_is_of_opset_18_and_ir_8_and_complete_in_itself(model: ModelProto) -> None:
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    assert model.ir_version == 8
    tensors = [message for message in messages(model) if isinstance(message, TensorProto)]
    assert len(tensors) > 10
    assert not any(tensor.external_data for tensor in tensors)


def test_the_file_says_nothing_of_where_it_was_made(exported: Exported, model: ModelProto) -> None:
    found = set(strings(model))
    assert "logits" in found
    assert not [text for text in found if "/" in text or ".py" in text]
    for trace in (b"stack_trace", b"site-packages", b"torch", Path.cwd().as_posix().encode()):
        assert trace not in exported.data


def test_the_raw_export_does_leave_traces(raw_and_exported: tuple[ModelProto, Exported]) -> None:
    assert b"stack_trace" in raw_and_exported[0].SerializeToString()  # else the test above tests nothing


def test_another_process_in_another_folder_writes_the_same_bytes(exported: Exported, tmp_path: Path) -> None:
    script = f"""
import hashlib, torch
from edgecnn.graph.deployed import Preprocessing
from edgecnn.graph.export import export_network
from edgecnn.models.simplecnn import SimpleCNN
import numpy as np
torch.set_num_threads(1)
torch.manual_seed(0)
pixels = np.random.default_rng(1).integers(0, 256, (8, 32, 32, 3), np.uint8)
data = export_network(SimpleCNN(10), pixels, Preprocessing(mean={MEAN}, std={STD})).data
print(hashlib.sha256(data).hexdigest())
"""
    (tmp_path / "elsewhere.py").write_text(script)
    finished = subprocess.run(
        [sys.executable, "elsewhere.py"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=300
    )
    assert finished.stdout.strip() == hashlib.sha256(exported.data).hexdigest()
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere.py"]


@pytest.mark.parametrize("input_type", ["float32", "uint8"])
@pytest.mark.parametrize("input_layout", ["nchw", "nhwc"])
def test_every_input_type_and_layout_gives_the_same_logits(input_type: InputType, input_layout: InputLayout) -> None:
    exported = tiny(input_type=input_type, input_layout=input_layout)
    spec = reference_session(exported.data, model_name="exported").input
    assert spec.dtype == input_type
    assert spec.shape[1:] == ((3, 32, 32) if input_layout == "nchw" else (32, 32, 3))
    assert exported.folded
    close(by_onnx(exported.data, PIXELS), by_torch(Tiny(), PIXELS))


def test_the_same_network_gives_the_same_bytes_again() -> None:
    assert tiny().data == tiny(pixels=PIXELS[::-1]).data


def test_a_network_handed_over_in_training_mode_is_exported_for_evaluation() -> None:
    network = Tiny().train()
    close(by_onnx(tiny(network).data, PIXELS), by_torch(Tiny(), PIXELS))
    assert not network.training


@pytest.mark.parametrize("batch", [1, 5, 40])
def test_a_fixed_batch_is_fixed_and_compared_even_if_there_are_fewer_images(batch: int) -> None:
    exported = tiny(batch=batch)
    session = reference_session(exported.data, model_name="exported")
    assert (session.input.shape[0], session.output.shape[0]) == (batch, batch)
    assert (exported.parity.batch_sizes, exported.parity.n) == ((batch,), N_COMPARED)
    pixels = PIXELS[np.arange(batch) % 24]
    close(by_onnx(exported.data, pixels), by_torch(Tiny(), pixels))
    with pytest.raises(StageError, match="exported"):
        by_onnx(exported.data, PIXELS[: batch - 1] if batch > 1 else PIXELS[:2])


def test_fewer_images_than_a_batch_are_enough() -> None:
    assert tiny(pixels=PIXELS[:3]).parity.n == len(with_extremes(PIXELS[:3]))


def test_a_padded_first_convolution_keeps_the_normalization_in_front() -> None:
    exported = tiny(Tiny(padding=1))
    assert not exported.folded
    close(by_onnx(exported.data, PIXELS), by_torch(Tiny(padding=1), PIXELS))


def swapped_rows(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(values[::-1])


def turned(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(values.swapaxes(-1, -2))


def one_percent_more(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values * np.float32(1.01)


@pytest.mark.parametrize(
    ("tensor", "scramble"),
    [
        ("mean", swapped_rows),
        ("std", one_percent_more),
        ("network.conv1.weight", turned),
        ("network.conv2.weight", swapped_rows),
        ("network.fc1.bias", swapped_rows),
        ("network.fc3.weight", one_percent_more),
        ("network.fc3.bias", swapped_rows),
    ],
)
def test_scrambled_weights_are_found_and_nothing_is_returned(
    raw_and_exported: tuple[ModelProto, Exported],
    monkeypatch: pytest.MonkeyPatch,
    tensor: str,
    scramble: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> None:
    scrambled = copy(raw_and_exported[0])
    values = weights(scrambled)[tensor]
    values = scramble(values.reshape(3, 1, 1) if tensor in ("mean", "std") else values)
    (target,) = (item for item in scrambled.graph.initializer if item.name == tensor)
    shape = list(target.dims)
    target.CopyFrom(numpy_helper.from_array(values.reshape(shape), tensor))
    only(monkeypatch, scrambling=lambda *args: copy(scrambled))
    with pytest.raises(ParityError, match="the exported model and PyTorch differ") as caught:
        export_network(simplecnn(), PIXELS, USUAL)
    assert caught.value.exit_code == ExitCode.STAGE_FAILED
    assert "Nothing was written" in caught.value.message


class NotANumber(Tiny):
    def forward(self, x: Tensor) -> Tensor:
        return torch.log(-torch.abs(super().forward(x)))


class Branching(Tiny):
    def forward(self, x: Tensor) -> Tensor:
        print("forward was here")
        return super().forward(x) if x.max() > -1e9 else super().forward(-x)


class Raising(Tiny):
    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("no such layer")


@pytest.mark.parametrize(
    ("network", "error", "words"),
    [
        (NotANumber, ParityError, ["PyTorch gives NaN or infinite logits"]),
        (Branching, StageError, ["could not export the network", "data-dependent"]),
    ],
)
def test_a_network_that_cannot_be_deployed_is_refused_in_words_alone(
    network: type[nn.Module], error: type[EdgecnnError], words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(error) as caught:
        tiny(network())
    assert type(caught.value) is error
    assert caught.value.exit_code == ExitCode.STAGE_FAILED
    for word in words:
        assert word in caught.value.message
    for exporter in EXPORTERS:
        assert f"{exporter}: " in caught.value.message
    assert caught.value.next_step
    assert capfd.readouterr() == ("", "")


# More than one exporter


def refuses(*args: Any) -> ModelProto:
    raise StageError("export: no such operator.", next_step="write it yourself")


def test_an_exporter_that_refuses_is_passed_over_and_that_is_told(
    raw_and_exported: tuple[ModelProto, Exported], monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, first=refuses, second=lambda *args: copy(raw_and_exported[0]))
    exported = export_network(simplecnn(), PIXELS, USUAL)
    assert (exported.exporter, exported.refused) == ("second", ("first: export: no such operator.",))
    assert exported.data == raw_and_exported[1].data


def test_an_exporter_whose_graph_is_wrong_is_passed_over_and_that_is_told(
    raw_and_exported: tuple[ModelProto, Exported], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = copy(raw_and_exported[0])
    wrong.graph.initializer[0].raw_data = bytes(len(wrong.graph.initializer[0].raw_data))
    only(monkeypatch, first=lambda *args: wrong, second=lambda *args: copy(raw_and_exported[0]))
    exported = export_network(simplecnn(), PIXELS, USUAL)
    assert exported.exporter == "second"
    assert "first: export: the exported model and PyTorch differ" in exported.refused[0]


def test_a_network_that_nobody_can_export_is_refused_for_every_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, first=refuses, second=refuses)
    with pytest.raises(StageError) as caught:
        tiny()
    assert caught.value.message == "first: export: no such operator.\nsecond: export: no such operator."
    assert caught.value.next_step == "write it yourself"


@pytest.mark.parametrize("name", EXPORTERS)
@pytest.mark.parametrize("batch", [None, 3])
def test_every_exporter_gives_pytorchs_logits(name: str, batch: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, chosen=EXPORTERS[name])
    exported = tiny(batch=batch)
    assert exported.folded
    for size in (1, 3, 8) if batch is None else (3,):
        close(by_onnx(exported.data, PIXELS[:size]), by_torch(Tiny(), PIXELS[:size]))


@pytest.mark.parametrize("name", EXPORTERS)
@pytest.mark.parametrize("network", [Branching, Raising])
def test_every_exporter_refuses_what_it_cannot_follow(
    name: str, network: type[nn.Module], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StageError) as caught:
        EXPORTERS[name](Deployed(network().eval(), USUAL).eval(), torch.zeros(2, 3, 32, 32), False, export.OPSET)
    assert type(caught.value) is StageError
    assert capfd.readouterr() == ("", "")


def test_a_network_that_fails_by_itself_is_not_given_to_an_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, never=lambda *args: pytest.fail("exported"))
    with pytest.raises(CheckpointError, match=r"the network itself fails .* \(KeyError: 'no such layer'\)"):
        tiny(Raising())


class PooledToPoints(nn.Module):
    """A convolution, the mean over all pixels and one fully connected layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.pool, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.pool(torch.relu(self.conv(x))).flatten(1))
        return logits


def test_pictures_in_another_layout_cost_one_transpose_and_no_arithmetic_on_shapes() -> None:
    fed_as_is = export_network(PooledToPoints(), PIXELS, USUAL).data
    fed_otherwise = export_network(
        PooledToPoints(), PIXELS, Preprocessing(mean=MEAN, std=STD, input_layout="nhwc")
    ).data
    graphs = [onnx_file.parse(data, "exported").graph for data in (fed_as_is, fed_otherwise)]
    before, after = (sorted(node.op_type for node in graph.node) for graph in graphs)
    assert after == sorted([*before, "Transpose"])
