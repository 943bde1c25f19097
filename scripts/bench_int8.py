"""Accuracy of int8 on networks that the project trained, beside two other quantizers: a table of docs/quantization.md.

    .venv/bin/python scripts/bench_int8.py --data FOLDER [--images 10000] [--case NAME ...]

FOLDER holds CIFAR-10's pictures. Every tool is given the same float model and the same 512 training images. SimpleCNN
also runs on emulated CPUs, and with its channels scaled by random factors up to 16 and 64 either way, which the next
layer undoes.
"""

import argparse
import itertools
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxsim
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from edgecnn import data as data_room
from edgecnn.bundle import Bundle
from edgecnn.data import Images
from edgecnn.pipeline.sampling import choose_images
from edgecnn.progress import SILENT
from edgecnn.quantization import DEFAULT_RECIPE, recipe
from edgecnn.quantization.calibration import choose_calibration_images
from edgecnn.quantization.static import quantize_model
from edgecnn.stats import paired_drop
from edgecnn.targets import reference_session, running, target
from edgecnn.targets.session import feed

N_CALIBRATION = 512
BATCH_SIZE = 100
ARTIFACTS = Path("artifacts")
ALL_CPUS = ("cpu", "cpu@haswell", "cpu@cortex-a53", "cpu@cortex-a76")
PER_TENSOR = "u8s8-pertensor-minmax-reduced-equalized-rounded-corrected"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A float model, where it runs, what may be lost, and how it is quantized here."""

    name: str
    bundle: str
    allowed_pp: float
    targets: tuple[str, ...] = ("cpu",)
    recipe: str = DEFAULT_RECIPE
    scaled_by: int = 1
    seed: int = 0


CASES = (
    Case(name="SimpleCNN", bundle="simplecnn-cifar10", allowed_pp=0.15, targets=ALL_CPUS),
    Case(name="SimpleCNN, channels x16", bundle="simplecnn-cifar10", allowed_pp=0.3, scaled_by=16, seed=0),
    Case(
        name="SimpleCNN, channels x16, another seed", bundle="simplecnn-cifar10", allowed_pp=0.3, scaled_by=16, seed=1
    ),
    Case(name="SimpleCNN, channels x64", bundle="simplecnn-cifar10", allowed_pp=0.3, scaled_by=64, seed=0),
    Case(
        name="SimpleCNN, channels x64, another seed", bundle="simplecnn-cifar10", allowed_pp=0.3, scaled_by=64, seed=1
    ),
    Case(name="ResNet8", bundle="resnet8-cifar10", allowed_pp=0.3),
    Case(name="DS-CNN (depthwise, batch norm)", bundle="ds_cnn-cifar10", allowed_pp=0.5),
    Case(name="DS-CNN, per tensor", bundle="ds_cnn-cifar10", allowed_pp=1.5, recipe=PER_TENSOR),
    Case(name="MobileNetV3 (SE, hard-swish)", bundle="mobilenet_v3-cifar10", allowed_pp=0.5),
)


class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime tells no types
    """The calibration images, one at a time, as onnxruntime wants them."""

    def __init__(self, feeds: Iterator[dict[str, NDArray[np.float32]]]) -> None:
        self._feeds = feeds

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Return the next image, or None."""
        return next(self._feeds, None)


def feeds(model: bytes, images: Images) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Yield each image as the model's input."""
    spec = reference_session(model, model_name="float").input
    for index in range(len(images)):
        yield {spec.name: np.asarray(feed(images.pixels[index : index + 1], spec), np.float32)}


def ours(model: bytes, images: Images, name: str) -> bytes:
    """Quantize as edgecnn does."""
    return quantize_model(model, images, recipe(name), name="float.onnx", threads=1, progress=SILENT)


def stock(model: bytes, images: Images, *, per_channel: bool, activation: QuantType) -> bytes:
    """Quantize as onnxruntime's ``quantize_static`` does."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "int8.onnx")
        quantize_static(
            onnx.load_model_from_string(model),
            path,
            Reader(feeds(model, images)),
            per_channel=per_channel,
            activation_type=activation,
            weight_type=QuantType.QInt8,
        )
        return path.read_bytes()


def by_onnxsim(model: bytes, images: Images) -> bytes:
    """Quantize as onnxsim's ``quantize_static`` does."""
    made = onnxsim.quantize_static(onnx.load_model_from_string(model), list(feeds(model, images)))
    data: bytes = made.SerializeToString()
    return data


#: Title of a column, and how it quantizes.
OTHERS: dict[str, Callable[[bytes, Images], bytes]] = {
    "onnxruntime, defaults": lambda m, i: stock(m, i, per_channel=False, activation=QuantType.QInt8),
    "onnxruntime, U8S8 per channel": lambda m, i: stock(m, i, per_channel=True, activation=QuantType.QUInt8),
    "onnxsim": by_onnxsim,
}


def scale_channels(model: bytes, largest: int, seed: int) -> bytes:
    """Scale the channels between the layers of a plain chain by up to ``largest`` either way, and undo it behind.

    ReLU and max-pooling let a positive scale through, so the function is the same.
    """
    graph = onnx.load_model_from_string(model)
    random = np.random.default_rng(seed)
    tensors = {tensor.name: tensor for tensor in graph.graph.initializer}
    layers = [node for node in graph.graph.node if node.op_type in ("Conv", "Gemm")]
    for before, after in itertools.pairwise(layers):
        weight, bias, behind = (numpy_helper.to_array(tensors[name]) for name in (*before.input[1:3], after.input[1]))
        scale = (largest ** random.uniform(-1, 1, len(weight))).astype(np.float32)
        replace(tensors, before.input[1], weight * scale.reshape(-1, *[1] * (weight.ndim - 1)))
        replace(tensors, before.input[2], bias * scale)
        each = np.repeat(scale, behind.shape[1] // len(scale))
        replace(tensors, after.input[1], behind / each.reshape(1, -1, *[1] * (behind.ndim - 2)))
    data: bytes = ModelProto.SerializeToString(graph)
    return data


def replace(tensors: dict[str, onnx.TensorProto], name: str, values: NDArray[np.floating]) -> None:
    """Give an initializer other values."""
    tensors[name].CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))


def right(model: bytes, images: Images, where: str) -> NDArray[np.bool_]:
    """Return which images are classified rightly on a target."""
    with running(where, model, model_name="model") as session:
        answers = [
            session.run(feed(images.pixels[start : start + BATCH_SIZE], session.input)).argmax(1)
            for start in range(0, len(images), BATCH_SIZE)
        ]
    rightly: NDArray[np.bool_] = np.concatenate(answers) == images.labels
    return rightly


def measure(case: Case, dataset: data_room.Dataset, images: Images) -> None:
    """Print the rows of a case."""
    model = Bundle.open(ARTIFACTS / case.bundle).read("float.onnx", next_step="edgecnn export model.pt")
    if case.scaled_by > 1:
        model = scale_channels(model, case.scaled_by, case.seed)
    calibration, _ = choose_calibration_images(dataset, N_CALIBRATION, 0)
    started = time.perf_counter()
    quantized = {f"edgecnn {case.recipe}": ours(model, calibration, case.recipe)}
    seconds = time.perf_counter() - started
    quantized |= {title: make(model, calibration) for title, make in OTHERS.items()}
    before = right(model, images, "cpu")
    for where in case.targets:
        if reason := target(where).why_not():
            print(f"| {case.name} on {where} | not measured: {reason} |", flush=True)
            continue
        cells = []
        for data in quantized.values():
            drop = paired_drop(before, right(data, images, where))
            cells.append(f"{100 * drop.delta:+.2f} ({100 * drop.low:+.2f} to {100 * drop.high:+.2f})")
        place = f" on {where}" if len(case.targets) > 1 else ""
        row = [f"{case.name}{place}", f"{before.mean():.2%}", f"{case.allowed_pp:g}", *cells, f"{seconds:.1f}"]
        print(f"| {' | '.join(row)} |", flush=True)


def main() -> None:
    """Print the table asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--images", type=int)
    parser.add_argument("--case", action="append", help="begins with; may be given again")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)  # onnxruntime's advice to simplify first, which was done
    dataset = data_room.load(arguments.data or "cifar10", height=32, width=32, cache_folder=None)
    images = choose_images(dataset.test, arguments.images)
    print(f"{len(images)} test images; points of top-1 lost against float, with a 95% interval\n")
    print(f"| network | float | allowed | edgecnn | {' | '.join(OTHERS)} | edgecnn, s |")
    print(f"|---|---:|---:|{'---|' * (1 + len(OTHERS))}---:|", flush=True)
    for case in CASES:
        if not arguments.case or any(case.name.startswith(start) for start in arguments.case):
            measure(case, dataset, images)


if __name__ == "__main__":
    main()
