"""Time the ranges of a ResNet18 at 224x224 against onnxruntime's calibrators: a table of docs/quantization.md.

    .venv/bin/python scripts/bench_ranges.py [IMAGES]

Random weights, crops of photographs, one thread, one image at a time for onnxruntime as its readers give them. Each
method runs in a process of its own, so that its peak memory is its own; they take turns; ratios are within a turn.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

N_TURNS = 3
OURS = ("minmax", "average", "percentile", "entropy", "mse")
REFERENCE = "onnxruntime MinMax"
ORT = (REFERENCE, "onnxruntime Entropy", "onnxruntime Percentile")
#: onnxruntime's other calibrators keep every activation in memory, so they are given fewer images.
N_FEW = 16
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main() -> None:
    """Print the table, or, started by itself, one measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("n_images", nargs="?", type=int, default=1000, metavar="IMAGES")
    parser.add_argument("--measure", nargs=2, metavar=("METHOD", "MODEL"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(_measure(arguments.measure[0], arguments.measure[1], arguments.n_images)))
        return
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "resnet18.onnx")
        _export(model)
        _table(model, arguments.n_images)


def _export(path: Path) -> None:
    from edgecnn.data.photos import photo_crops
    from edgecnn.graph.deployed import Preprocessing
    from edgecnn.graph.export import export_network
    from edgecnn.models.foreign import random_network

    network = random_network("torchvision:resnet18")
    path.write_bytes(export_network(network.module, photo_crops(8, 224, 224), Preprocessing(mean=MEAN, std=STD)).data)


def _table(model: Path, n_images: int) -> None:
    print("| ranges | images | ms an image | of onnxruntime's MinMax | peak memory, MiB |")
    print("|---|---:|---:|---:|---:|", flush=True)
    turns = [{method: _ask(method, model, n_images) for method in (REFERENCE, *OURS)} for _ in range(N_TURNS)]
    for method in (REFERENCE, *OURS):
        ratios = [turn[method]["seconds"] / turn[REFERENCE]["seconds"] for turn in turns]
        best = min((turn[method] for turn in turns), key=lambda one: one["seconds"])
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"| {method} | {n_images} | {1000 * best['seconds'] / n_images:.1f} | {spread} | {best['mib']:.0f} |")
    for method, n in [("minmax", 100), ("mse", 100), *((method, N_FEW) for method in ORT[1:])]:
        one = _ask(method, model, n)
        print(f"| {method} | {n} | {1000 * one['seconds'] / n:.1f} | | {one['mib']:.0f} |", flush=True)


def _ask(method: str, model: Path, n_images: int) -> dict[str, float]:
    command = [sys.executable, __file__, str(n_images), "--measure", method, str(model)]
    finished = subprocess.run(command, check=True, capture_output=True, text=True)
    answer: dict[str, float] = json.loads(finished.stdout.splitlines()[-1])
    return answer


def _measure(method: str, path: str, n_images: int) -> dict[str, float]:
    """Return seconds, and how far the memory in use rose meanwhile at most."""
    from edgecnn.data.photos import photo_crops

    pixels = np.concatenate([photo_crops(8, 224, 224)] * -(-n_images // 8))[:n_images]
    run = _prepare_onnxruntime(method, path, pixels) if method in ORT else _prepare_ours(method, path, pixels)
    Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak so far
    before = _status("VmRSS")
    started = time.perf_counter()
    run()
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "mib": _status("VmHWM") - before}


def _status(field: str) -> float:
    """Return a figure of this process in MiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def _prepare_ours(method: str, path: str, pixels: NDArray[np.uint8]) -> Callable[[], object]:
    from edgecnn.data import Images
    from edgecnn.progress import SILENT
    from edgecnn.quantization import recipe
    from edgecnn.quantization.prepare import prepare, read_float_model

    model = read_float_model(Path(path).read_bytes(), path, needs_opset=13)
    labels = np.zeros(len(pixels), np.int64)
    images = Images(pixels=pixels, labels=labels, classes=("any",), split="train")
    chosen = recipe(f"u8s8-perchannel-{method}")
    return lambda: prepare(model, images, chosen, name=path, threads=1, progress=SILENT).ranges(chosen)


def _prepare_onnxruntime(method: str, path: str, pixels: NDArray[np.uint8]) -> Callable[[], object]:
    import onnxruntime
    from onnxruntime.quantization.calibrate import CalibrationDataReader, CalibrationMethod, create_calibrator

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime tells no types
        def __init__(self) -> None:
            self._left = iter(pixels)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            pixel = next(self._left, None)
            return None if pixel is None else {"input": pixel.transpose(2, 0, 1)[None].astype(np.float32) / 255}

    calibrator = create_calibrator(
        path, augmented_model_path=f"{path}.aug", calibrate_method=CalibrationMethod[method.split()[1]]
    )
    options = onnxruntime.SessionOptions()  # its own session has as many threads as there are cores
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    calibrator.infer_session = onnxruntime.InferenceSession(f"{path}.aug", options, ["CPUExecutionProvider"])

    def run() -> None:
        calibrator.collect_data(Reader())
        calibrator.compute_data()

    return run


if __name__ == "__main__":
    main()
