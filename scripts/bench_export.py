"""Export and simplify torchvision's classifiers with random weights: the table of docs/torchvision.md.

    .venv/bin/python scripts/bench_export.py [NAME ...]

Without names, every classifier of torchvision up to 30 million parameters. Each is compared with PyTorch at its
own size, at batch 1, 2 and 8, on photographs and on extreme images; one that cannot be exported is a row that says why.
"""

import argparse
import time

from torchvision import models

from edgecnn.data.photos import photo_crops
from edgecnn.errors import EdgecnnError
from edgecnn.graph.deployed import Preprocessing
from edgecnn.graph.export import export_network
from edgecnn.graph.image_comparison import compare_on_images
from edgecnn.graph.simplify import simplify_model
from edgecnn.models.foreign import random_network

MAX_PARAMETERS = 30_000_000
N_IMAGES = 8
IMAGENET = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
#: Sizes that differ from 224x224, from the networks' papers.
SIZES = {"inception_v3": 299}


def main() -> None:
    """Print a row for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    named = parser.parse_args().names
    names = named or models.list_models(module=models)
    print("| network | parameters | exporter | export differs by | nodes | simplified differs by | nodes | seconds |")
    print("|---|---:|---|---:|---:|---:|---:|---:|")
    for name in names:
        started = time.perf_counter()
        parameters = models.get_model_weights(name).DEFAULT.meta["num_params"]
        if parameters > MAX_PARAMETERS and not named:
            continue
        row = _row(name)
        print(f"| {name} | {parameters:,} | {' | '.join(row)} | {time.perf_counter() - started:.0f} |", flush=True)


def _row(name: str) -> list[str]:
    side = SIZES.get(name, 224)
    pixels = photo_crops(N_IMAGES, side, side)
    try:
        network = random_network(f"torchvision:{name}")
        exported = export_network(network.module, pixels, IMAGENET)
        comparison = compare_on_images(exported.data, pixels, name)
        simplified = simplify_model(exported.data, comparison, name=name)
    except EdgecnnError as error:
        return [f"failed: {error.message.splitlines()[0][:160]}", "", "", "", ""]
    before, after = sum(simplified.nodes_before.values()), sum(simplified.nodes_after.values())
    differences = [f"{parity.max_relative_difference:.0e}" for parity in (exported.parity, simplified.record)]
    return [exported.exporter, differences[0], str(before), differences[1], str(after)]


if __name__ == "__main__":
    main()
