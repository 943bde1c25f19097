"""The same trained weights in other runtimes, side by side: accuracy on the same images, latency in the same rounds.

    scripts/bench_peers [--bundle FOLDER] [--data SOURCE] [--ours NAME=FILE ...] [--only PEER ...] [--skip PEER ...]

Each peer is installed, converts and quantizes in a virtual environment of its own, in the folder ``peers`` of the
cache (``$EDGECNN_CACHE``, else the user's), about 6 GB in all. One that does not install or fails is a row that says
so. All run single-threaded on one CPU, in turns. Prints the table of docs/peers.md.
"""

import argparse
import contextlib
import json
import logging
import sys
import tempfile
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgecnn.bundle import Bundle
from edgecnn.bundle.manifest import MANIFEST
from edgecnn.console import show_error
from edgecnn.errors import EdgecnnError, Interrupted, UsageError
from edgecnn.measure.latency import pinned
from edgecnn.measure.machine import describe_machine
from edgecnn.pipeline.context import Options, choose_dataset, input_size
from edgecnn.pipeline.sampling import choose_images
from edgecnn.quantization.calibration import choose_calibration_images
from scripts.peer_bench.contest import compete
from scripts.peer_bench.entrants import OurModel, our_entrants, prepare_peers, recommended
from scripts.peer_bench.environment import environments_folder
from scripts.peer_bench.inputs import write_inputs
from scripts.peer_bench.rows import Failed, Row, as_json, as_table, put_between_marks
from scripts.peer_bench.table import PEERS, Peer, choose
from scripts.peer_bench.timing import TimingSettings

N_CALIBRATION = 512
OUR_FLOAT, OUR_INT8 = "edgecnn float", "edgecnn int8"


class Stderr:
    """Says what is done on stderr."""

    def say(self, text: str) -> None:
        """Tell one line."""
        print(text, file=sys.stderr, flush=True)

    def update(self, task: str, done: int, total: int, detail: str = "") -> None:
        """Tell how far it is."""
        print(f"{task} {done}/{total} {detail}".rstrip(), file=sys.stderr, flush=True)


def measure(arguments: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    """Return the rows, and what holds for all of them."""
    peers = choose(arguments.only, arguments.skip)
    settings = TimingSettings(pairs=arguments.pairs, rounds=arguments.rounds, block_ms=arguments.block_ms)
    bundle = Bundle.open(Path(arguments.bundle))
    own = {OUR_FLOAT: OurModel(file=bundle.path("float.onnx")), OUR_INT8: recommended(bundle.folder)}
    models = own | parse_ours(arguments.ours)
    reference = arguments.reference or list(models)[-1]
    require_possible(reference, models, peers.values())
    dataset = choose_dataset(Options(data=arguments.data), bundle.manifest, *input_size(bundle, "float.onnx"))
    calibration, _ = choose_calibration_images(dataset, N_CALIBRATION, 0)
    test = choose_images(dataset.test, arguments.images)
    progress, environments = Stderr(), environments_folder()
    with tempfile.TemporaryDirectory(prefix="bench-peers-") as temporary:
        scratch = Path(temporary)
        forms = {peer.reads for peer in peers.values()}
        inputs = write_inputs(bundle, calibration, test, scratch / "inputs", forms)
        ours = our_entrants(models, environments, scratch / "ours", progress)
        field = prepare_peers(peers, inputs, environments, scratch, progress)
        everyone = [*ours, *field.entrants]
        with pinned(1):
            rows = compete(everyone, inputs, scratch, settings, reference, progress)
    rows += [Failed(name=name, reason=why) for name, why in field.failures.items()]
    facts = {
        "bundle": bundle.folder.resolve().name,
        "test_images": len(test),
        "calibration_images": N_CALIBRATION,
        "data_sha256": dataset.sha256,
        "reference": reference,
        "timing": asdict(settings),
        "machine": describe_machine().model_dump(mode="json"),
        "versions": field.versions,
    }
    return rows, facts


def parse_ours(texts: list[str]) -> dict[str, OurModel]:
    """Return NAME=FILE of ONNX files, and NAME=FOLDER of bundles, as names and models.

    Raises:
        UsageError: it has no name, or names neither a file nor a bundle.
    """
    models = {}
    for text in texts:
        name, _, place = text.partition("=")
        if not name or not (Path(place).is_file() or Path(place, MANIFEST).is_file()):
            raise UsageError(
                f"--ours: expected NAME=FILE of an ONNX file, or NAME=FOLDER of a bundle, found {text!r}.",
                next_step="--ours a=b.onnx",
            )
        models[name] = OurModel(file=Path(place)) if Path(place).is_file() else recommended(Path(place))
    return models


def require_possible(reference: str, ours: Collection[str], peers: Collection[Peer]) -> None:
    """Find a misspelt reference before the work, not after it.

    Raises:
        UsageError: it is neither ours nor begins with a peer's title.
    """
    if reference not in ours and not reference.startswith(tuple(peer.title for peer in peers)):
        raise UsageError(
            f"--reference {reference!r} does not take part; ours are: {', '.join(ours)}.",
            next_step=f"--reference {OUR_INT8!r}",
        )


def describe(facts: dict[str, Any]) -> str:
    """Return the line under the table: what the figures are of."""
    machine, timing = facts["machine"], facts["timing"]
    versions = {name: version for each in facts["versions"].values() for name, version in each.items()}
    return (
        f"\n{facts['test_images']:,} test images, {facts['calibration_images']} calibration images; batch 1, "
        f"one thread on one CPU ({machine['cpu']}, {', '.join(machine['cpu_features'])}), {timing['pairs']} pairs of "
        f"{timing['rounds']} rounds, load average {machine['load_average']}. "
        f"{', '.join(f'{name} {version}' for name, version in sorted(versions.items()))}.\n"
    )


def main() -> int:
    """Print the table asked for and return the exit code."""
    arguments = parse()
    logging.disable(logging.WARNING)
    try:
        rows, facts = measure(arguments)
    except KeyboardInterrupt:
        stopped = Interrupted("bench_peers: stopped; nothing was written.", next_step="the same command again")
        show_error(stopped, as_json=False)
        return stopped.exit_code
    except EdgecnnError as error:
        show_error(error, as_json=False)
        return error.exit_code
    text = as_table(rows, facts["reference"]) + describe(facts)
    print(text)
    if arguments.markdown:
        put_between_marks(Path(arguments.markdown), facts["bundle"], text)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(as_json(rows, facts), indent=1) + "\n", encoding="utf-8")
    return 0


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--bundle", default="artifacts/simplecnn-cifar10")
    add("--data", help="where the bundle's images are; the default is the cache")
    add("--images", type=int, help="test images; the default is all")
    add(
        "--ours",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="an ONNX file, or a bundle, beside the bundle's two",
    )
    add("--reference", help="whom the ratios are to; the default is the last of ours")
    add("--only", action="append", default=[], metavar="PEER", help=f"one of {', '.join(PEERS)}; may be given again")
    add("--skip", action="append", default=[], metavar="PEER", help="may be given again")
    add("--pairs", type=int, default=TimingSettings.pairs)
    add("--rounds", type=int, default=TimingSettings.rounds)
    add("--block-ms", type=float, default=TimingSettings.block_ms)
    add("--markdown", metavar="FILE", help="a document whose table of this bundle is replaced")
    add("--json", metavar="FILE")
    return parser.parse_args()


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
