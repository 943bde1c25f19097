"""How fast int8 is after tuning, against float and against stock onnxruntime: the table of docs/speed.md.

    .venv/bin/python -m scripts.bench_speed --data FOLDER [--seconds 60] [--only NAME]

Each case tunes a copy of a committed bundle with ``edgecnn.tune`` and then times, in the same rounds, everything that
it compares: one thread, pinned, ten fresh sessions each, in random order. Nothing is tuned for one network by name.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType

import edgecnn
from edgecnn import data as data_room
from edgecnn.bundle import Bundle
from edgecnn.console import Terminal
from edgecnn.data import Images
from edgecnn.errors import EdgecnnError
from edgecnn.measure.bench_settings import BenchSettings
from edgecnn.measure.cpus import no_garbage_collection, pinned
from edgecnn.measure.machine import describe_machine
from edgecnn.measure.turns import time_in_turns
from edgecnn.pipeline.context import Options, choose_dataset
from edgecnn.pipeline.export_settings import ExportSettings
from edgecnn.pipeline.tune_settings import TuneSettings
from edgecnn.quantization import recipe
from edgecnn.quantization.calibration import choose_calibration_images
from edgecnn.quantization.static import quantize_model
from edgecnn.rewriting import plans, rewrite
from edgecnn.stats import median_ratio
from edgecnn.targets import Session, open_session, reference_session
from scripts.bench_int8 import stock

ARTIFACTS = Path("artifacts")
N_CALIBRATION = 512
PLAIN = "u8s8-perchannel-minmax-reduced"


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A model and how it is opened."""

    model: bytes
    session: str = "default"

    def open(self) -> Session:
        """Open it on the CPU."""
        return open_session("cpu", self.model, model_name="model.onnx", options_name=self.session)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One ratio of the table.

    Attributes:
        what: is compared.
        of: contestant above the line.
        to: contestant below it.
        wanted: at most so much.
    """

    what: str
    of: str
    to: str
    wanted: float


@dataclass(frozen=True, kw_only=True)
class Case:
    """Contestants that are timed together, and the ratios that are taken.

    Attributes:
        name: to choose it by.
        prepare: makes the contestants, given the arguments and a scratch folder.
        lines: of the table.
        batch: images a call.
    """

    name: str
    prepare: Callable[[argparse.Namespace, Path], dict[str, Contestant]]
    lines: tuple[Line, ...]
    batch: int = 1


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the images that the bundles were trained on")
    parser.add_argument("--seconds", type=float, default=60.0, help="to tune for, each case")
    parser.add_argument("--only", choices=[case.name for case in CASES], action="append")
    arguments = parser.parse_args()
    print("| measure | wanted, at most | seen | 95% interval | p50, us |\n|---|---:|---:|---|---|", flush=True)
    for case in CASES:
        if arguments.only is None or case.name in arguments.only:
            with tempfile.TemporaryDirectory() as folder:
                contestants = case.prepare(arguments, Path(folder))
            for row in _rows(case, _times(contestants, case.batch)):
                print(row, flush=True)
    machine = describe_machine()
    print(
        f"\n{machine.cpu} ({', '.join(machine.cpu_features)}), load average {machine.load_average}; {machine.versions}"
    )


def _times(contestants: dict[str, Contestant], batch: int) -> dict[str, NDArray[np.float64]]:
    """Return one median a fresh session, microseconds, of each contestant, all from the same rounds."""
    settings = BenchSettings(batch=batch, seconds=2.0 * len(contestants))
    height, width = _image_size(next(iter(contestants.values())).model)
    pixels = np.random.default_rng(0).integers(0, 256, (batch, height, width, 3), np.uint8)
    order = np.random.default_rng(settings.seed)
    found: dict[str, list[float]] = {name: [] for name in contestants}
    with pinned(1), no_garbage_collection():
        for _ in range(settings.pairs):
            turns = time_in_turns([one.open for one in contestants.values()], pixels, settings, order)
            for name, turn in zip(contestants, turns, strict=True):
                found[name].append(turn.median_us)
    return {name: np.array(medians) for name, medians in found.items()}


def _image_size(model: bytes) -> tuple[int, int]:
    sizes = reference_session(model, model_name="model.onnx").input.shape[1:]
    height, width = sizes[:2] if sizes[-1] == 3 else sizes[1:]
    return int(height), int(width)


def _rows(case: Case, times: dict[str, NDArray[np.float64]]) -> Iterator[str]:
    for line in case.lines:
        ratio = median_ratio(times[line.of], times[line.to])
        verdict = "" if ratio.delta <= line.wanted else " (missed)"
        p50 = f"{np.median(times[line.of]):.1f} / {np.median(times[line.to]):.1f}"
        wanted = f"{line.wanted:g}"
        yield f"| {line.what} | {wanted} | {ratio.delta:.3f}{verdict} | {ratio.low:.3f} to {ratio.high:.3f} | {p50} |"


def _tuned(folder: Path, arguments: argparse.Namespace, **settings: object) -> dict[str, Contestant]:
    """Tune a bundle and return its float model, the best int8 and, where one was written, the tuned float."""
    options = Options(bundle=folder, data=arguments.data, progress=Terminal())
    edgecnn.tune(settings=TuneSettings(seconds=arguments.seconds, **settings), options=options)  # type: ignore[arg-type]
    best = Bundle.open(folder).manifest.recommendation
    if best is None:
        raise AssertionError("tune recommended nothing")
    print(f"<!-- {folder.name}: {best.model}, {best.configuration.name} -->", flush=True)
    session = best.configuration.session if best.model == "int8.onnx" else "default"
    return {
        "float": Contestant(model=(folder / "float.onnx").read_bytes()),
        "int8": Contestant(model=(folder / "int8.onnx").read_bytes(), session=session),
    }


def _copy(name: str, scratch: Path) -> Path:
    return Path(shutil.copytree(ARTIFACTS / name, scratch / name))


def _calibration(folder: Path, arguments: argparse.Namespace, height: int, width: int) -> Images:
    options = Options(bundle=folder, data=arguments.data)
    dataset = choose_dataset(options, Bundle.open(folder).manifest, height, width)
    return choose_calibration_images(dataset, N_CALIBRATION, 0)[0]


def _stock(model: bytes, images: Images) -> dict[str, Contestant]:
    return {
        "stock defaults": Contestant(model=stock(model, images, per_channel=False, activation=QuantType.QInt8)),
        "stock": Contestant(model=stock(model, images, per_channel=True, activation=QuantType.QUInt8)),
    }


def _committed(name: str, arguments: argparse.Namespace, scratch: Path) -> dict[str, Contestant]:
    """Return a committed bundle, tuned, beside stock int8 and its float model with each rewrite that applies."""
    folder = _copy(name, scratch)
    found = _tuned(folder, arguments)
    model = found["float"].model
    found |= _stock(model, _calibration(folder, arguments, *_image_size(model)))
    best = max(plans(model, form="float"), key=len)
    return found | {"float rewritten": Contestant(model=rewrite(model, best, name="float.onnx").data)}


def _bytes_in(arguments: argparse.Namespace, scratch: Path, *, batch: int) -> dict[str, Contestant]:
    """Return SimpleCNN exported to take uint8 pixels, channels last, tuned."""
    folder = scratch / "simplecnn-uint8"
    checkpoint = ARTIFACTS / "simplecnn-cifar10" / "model.pt"
    options = Options(bundle=folder, data=arguments.data)
    edgecnn.export(checkpoint, settings=ExportSettings(input_type="uint8", input_layout="nhwc"), options=options)
    edgecnn.simplify(options=options)
    objective = "latency" if batch == 1 else "throughput"
    return _tuned(folder, arguments, objective=objective, batch=batch)


def _resnet18(arguments: argparse.Namespace, scratch: Path) -> dict[str, Contestant]:
    """Return a ResNet18 at 224x224 with random weights: stock int8, and ours with the rewrites that apply."""
    folder = scratch / "resnet18"
    edgecnn.export("torchvision:resnet18", options=Options(bundle=folder))
    edgecnn.simplify(options=Options(bundle=folder))
    model = (folder / "float.onnx").read_bytes()
    dataset = data_room.load(arguments.data, height=224, width=224)
    images = choose_calibration_images(dataset, 16, 0)[0]
    ours = quantize_model(model, images, recipe(PLAIN), name="float.onnx", threads=1, progress=Terminal())
    rewritten = rewrite(ours, plans(ours, form="int8")[1], name="int8.onnx").data
    return {"float": Contestant(model=model), "int8": Contestant(model=rewritten), **_stock(model, images)}


def _ratio(what: str, wanted: float, *, of: str = "int8", to: str = "float") -> Line:
    return Line(what=what, of=of, to=to, wanted=wanted)


CASES: Sequence[Case] = (
    Case(
        name="simplecnn",
        prepare=partial(_committed, "simplecnn-cifar10"),
        lines=(
            _ratio("SimpleCNN, int8 to float, float32 NCHW in", 0.70),
            _ratio("SimpleCNN, int8 to stock int8 (U8S8 per channel)", 1.0, to="stock"),
            _ratio("SimpleCNN, float rewritten to float", 0.85, of="float rewritten"),
        ),
    ),
    Case(
        name="simplecnn-uint8",
        prepare=partial(_bytes_in, batch=1),
        lines=(_ratio("SimpleCNN, int8 to float, uint8 NHWC in", 0.60),),
    ),
    Case(
        name="simplecnn-throughput",
        prepare=partial(_bytes_in, batch=256),
        lines=(_ratio("SimpleCNN, batch 256, int8 to float, uint8 in (1/3.2)", 0.3125),),
        batch=256,
    ),
    Case(
        name="resnet8",
        prepare=partial(_committed, "resnet8-cifar10"),
        lines=(
            _ratio("ResNet8, int8 to stock int8 (U8S8 per channel)", 0.75, to="stock"),
            _ratio("ResNet8, int8 to stock int8 (defaults)", 0.75, to="stock defaults"),
            _ratio("ResNet8, int8 to float", 1.0),
        ),
    ),
    Case(
        name="ds_cnn",
        prepare=partial(_committed, "ds_cnn-cifar10"),
        lines=(_ratio("DS-CNN, int8 to stock int8", 1.0, to="stock"), _ratio("DS-CNN, int8 to float", 1.0)),
    ),
    Case(
        name="mobilenet_v3",
        prepare=partial(_committed, "mobilenet_v3-cifar10"),
        lines=(
            _ratio("MobileNetV3, int8 to stock int8", 1.0, to="stock"),
            _ratio("MobileNetV3, int8 to float", 1.0),
            _ratio("MobileNetV3, float rewritten to float", 1.0, of="float rewritten"),
        ),
    ),
    Case(
        name="resnet18",
        prepare=_resnet18,
        lines=(
            _ratio("ResNet18 at 224x224, int8 to stock int8", 1.0, to="stock"),
            _ratio("ResNet18 at 224x224, int8 to float", 1.0),
        ),
    ),
)


if __name__ == "__main__":
    try:
        main()
    except EdgecnnError as error:
        sys.exit(str(error))
