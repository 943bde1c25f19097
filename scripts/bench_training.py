"""Train with several settings and measure each on training images held back: the table of docs/training.md.

    .venv/bin/python scripts/bench_training.py --data FOLDER [--model simplecnn] EPOCHS:RATE:DECAY:CROP ...

Every tenth training image is held back; the test images are not looked at, so that the defaults chosen here
owe them nothing.
"""

import argparse
import time
from dataclasses import replace

import numpy as np
import torch

from edgecnn import data
from edgecnn.data import Dataset, Images
from edgecnn.models import model_spec
from edgecnn.progress import SILENT
from edgecnn.training import TrainingSettings
from edgecnn.training.loop import train_network

HOLD_BACK_EVERY = 10


def main() -> None:
    """Train with each setting and print a Markdown row for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default="simplecnn")
    parser.add_argument("settings", nargs="+", metavar="EPOCHS:RATE:DECAY:CROP")
    arguments = parser.parse_args()
    _, height, width = model_spec(arguments.model).input_shape
    dataset = data.load(arguments.data, height=height, width=width)
    held_back = np.arange(len(dataset.train)) % HOLD_BACK_EVERY == HOLD_BACK_EVERY - 1
    training = replace(dataset, train=dataset.train.take(np.flatnonzero(~held_back)))
    validation = dataset.train.take(np.flatnonzero(held_back))
    print(f"{arguments.model}, {torch.get_num_threads()} threads, {len(validation)} images held back\n")
    print("| epochs | learning rate | weight decay | crop, pixels | top-1 held back | seconds |")
    print("|---:|---:|---:|---:|---:|---:|")
    for text in arguments.settings:
        epochs, rate, decay, crop = text.split(":")
        settings = TrainingSettings(
            epochs=int(epochs), learning_rate=float(rate), weight_decay=float(decay), crop_pixels=int(crop)
        )
        top1, seconds = _measure(arguments.model, training, validation, settings)
        print(f"| {epochs} | {rate} | {decay} | {crop} | {top1:.2%} | {seconds:.0f} |", flush=True)


def _measure(model: str, training: Dataset, validation: Images, settings: TrainingSettings) -> tuple[float, float]:
    """Return top-1 on the images held back, and the seconds of training."""
    started = time.perf_counter()
    info, module = train_network(
        model,
        training,
        settings,
        flip=data.SOURCES[training.source].mirrors,
        key="",
        resume_from=None,
        save_state=lambda state: None,
        progress=SILENT,
    )
    seconds = time.perf_counter() - started
    pixels = torch.from_numpy(validation.pixels).permute(0, 3, 1, 2).float() / 255
    normalized = (pixels - torch.tensor(info.mean).view(1, 3, 1, 1)) / torch.tensor(info.std).view(1, 3, 1, 1)
    with torch.inference_mode():
        predictions = torch.cat([module(piece).argmax(1) for piece in torch.split(normalized, 500)])
    return float((predictions.numpy() == validation.labels).mean()), seconds


if __name__ == "__main__":
    main()
