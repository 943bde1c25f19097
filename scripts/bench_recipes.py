"""Measure every recipe on a bundle's float model: accuracy, size, latency, and the same file on another CPU.

    .venv/bin/python scripts/bench_recipes.py [--bundle FOLDER] [--data SOURCE] [--images 2000]

Prints the table of docs/quantization.md. The other CPU is a Haswell (AVX2, no VNNI), emulated by Debian's
qemu-user-static; without qemu-x86_64-static on PATH its column says so.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

EMULATOR = "qemu-x86_64-static"
BATCH = 50


def main() -> None:
    """Quantize with each recipe, measure, and print a Markdown table."""
    arguments = _parse()
    if arguments.answer:
        _answer(Path(arguments.answer))
        return
    from edgecnn.bundle import Bundle
    from edgecnn.measure.latency import BenchSettings, compare_latency, pinned
    from edgecnn.pipeline.context import Options, choose_dataset, input_size
    from edgecnn.progress import SILENT
    from edgecnn.quantization import RECIPES
    from edgecnn.quantization.calibration import choose_calibration_images
    from edgecnn.quantization.static import quantize_model
    from edgecnn.stats import paired_drop
    from edgecnn.targets import reference_session

    bundle = Bundle.open(Path(arguments.bundle))
    model = bundle.read("float.onnx", next_step="edgecnn export")
    dataset = choose_dataset(Options(data=arguments.data), bundle.manifest, *input_size(bundle, "float.onnx"))
    calibration, _ = choose_calibration_images(dataset, 512, 0)
    step = max(1, len(dataset.test) // arguments.images)
    images = dataset.test.take(np.arange(0, len(dataset.test), step))
    models = {"float": model} | {
        name: quantize_model(model, calibration, recipe, name=name, threads=1, progress=SILENT)
        for name, recipe in RECIPES.items()
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        np.savez(folder / "pixels.npz", pixels=images.pixels)
        for name, data in models.items():
            (folder / f"{name}.onnx").write_bytes(data)
        here = _ask(folder, [])
        there = _ask(folder, [EMULATOR, "-cpu", "Haswell"]) if shutil.which(EMULATOR) else None
    right = {name: logits.argmax(1) == images.labels for name, logits in here.items()}
    print(f"{len(images)} test images, float {right['float'].mean():.2%}\n")
    print("| recipe | drop, points (95%) | on Haswell, points | flips on Haswell | float/int8 (95%) | bytes |")
    print("|---|---|---:|---:|---|---:|")
    for name, data in models.items():
        drop = paired_drop(right["float"], right[name])
        with pinned(1):
            float_session = partial(reference_session, model, model_name=name)
            int8_session = partial(reference_session, data, model_name=name)
            ratio = compare_latency(float_session, int8_session, images.pixels, BenchSettings(), SILENT).speedup
        row = [f"`{name}`", f"{100 * drop.delta:+.2f} ({100 * drop.low:+.2f} to {100 * drop.high:+.2f})"]
        if there is None:
            row += ["no emulator", ""]
        else:
            lost = paired_drop(right["float"], there[name].argmax(1) == images.labels)
            row += [f"{100 * lost.delta:+.2f}", str(int((there[name].argmax(1) != here[name].argmax(1)).sum()))]
        row += [f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})", f"{len(data):,}"]
        print(f"| {' | '.join(row)} |", flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="artifacts/simplecnn-cifar10")
    parser.add_argument("--data", default=None)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--answer", default=None, help=argparse.SUPPRESS)
    return parser.parse_args()


def _ask(folder: Path, prefix: list[str]) -> dict[str, np.ndarray]:
    """Run this script in a process of its own, under an emulator or not, and return its logits."""
    command = [*prefix, sys.executable, str(Path(__file__).resolve()), "--answer", str(folder)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    with np.load(folder / "logits.npz") as answers:
        return dict(answers)


def _answer(folder: Path) -> None:
    """Write the logits of every model in a folder; needs only numpy and onnxruntime."""
    import onnxruntime

    with np.load(folder / "pixels.npz") as archive:
        pixels = archive["pixels"].transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    logits = {}
    for path in sorted(folder.glob("*.onnx")):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        batches = [np.ascontiguousarray(pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH)]
        logits[path.stem] = np.concatenate([session.run(None, {"input": batch})[0] for batch in batches])
    np.savez(folder / "logits.npz", allow_pickle=False, **logits)


if __name__ == "__main__":
    main()
