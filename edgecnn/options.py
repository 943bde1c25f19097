"""The options that commands share: each said once, with its help."""

from pathlib import Path
from typing import Annotated

import typer

Bundle = Annotated[
    Path | None, typer.Option("--bundle", help="The bundle's folder. Default: the newest under artifacts/.")
]
NewBundle = Annotated[Path | None, typer.Option("--bundle", help="The bundle's folder. Default: artifacts/<model>.")]
Data = Annotated[
    str | None,
    typer.Option("--data", help="digits, cifar10, an image folder or a .npz. Default: the bundle's, else digits."),
]
Cache = Annotated[
    Path | None, typer.Option("--cache", help="Folder of decoded images. Default: $EDGECNN_CACHE or ~/.cache/edgecnn.")
]
Force = Annotated[bool, typer.Option("--force", help="Do it again even if nothing changed.")]
Bisect = Annotated[bool, typer.Option("--bisect", help="Compare layer by layer even if the answers agree.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else.")]
Model = Annotated[str, typer.Option("--model", help="Name in the model table.")]
Network = Annotated[
    Path | None, typer.Argument(help="A checkpoint, an .onnx file, or a bundle's folder. Default: the bundle.")
]
Providers = Annotated[
    list[str] | None,
    typer.Option("--provider", help="Where to run; may be given again; all: each that is ready. See: edgecnn targets."),
]
AllowCpuNodes = Annotated[
    int | None,
    typer.Option(
        "--allow-cpu-nodes",
        help="Nodes that the CPU may run in place of the provider, in each model. Default: none; any number where "
        "'all' names a provider that never takes a whole network.",
    ),
]
MaxDrop = Annotated[float, typer.Option("--max-drop", help="Fail if int8 loses more top-1 than this, in points.")]
RequireSpeedup = Annotated[bool, typer.Option("--require-speedup", help="Fail unless int8 is faster than float.")]
Recipe = Annotated[
    str | None, typer.Option("--recipe", help="A recipe's name, or a .toml file; an unknown name lists them.")
]
FitFor = Annotated[
    list[str] | None,
    typer.Option("--for", help="Quantize for a target, or any; may be given again; an unknown name lists them."),
]
Int8Model = Annotated[
    str | None,
    typer.Option(
        "--model", help="The int8 model that every target runs, such as int8-qnn.onnx. Default: each target's own."
    ),
]
Images = Annotated[
    int | None, typer.Option("--images", help="Training images to calibrate on. Default: 512, or all of a smaller set.")
]
TestImages = Annotated[
    int | None,
    typer.Option(
        "--images",
        help="How many test images, chosen by seed. Default: all; 1000 on targets other than cpu, 200 on simulators.",
    ),
]
HeldOut = Annotated[
    int | None, typer.Option("--held-out", help="Other training images to judge on. Default: 5000, or what is left.")
]
Epochs = Annotated[int | None, typer.Option("--epochs", help="Passes over the training images.")]
LearningRate = Annotated[float | None, typer.Option("--learning-rate", help="Peak of the one-cycle schedule.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]
Batch = Annotated[int, typer.Option("--batch", help="Images a call.")]
Threads = Annotated[int, typer.Option("--threads", help="Threads; the process is pinned to as many CPUs.")]
Batches = Annotated[
    list[int] | None, typer.Option("--batch", help="Images a call; may be given again. Default: 1.", show_default=False)
]
ThreadCounts = Annotated[
    list[int] | None,
    typer.Option(
        "--threads",
        help="Threads; the process is pinned to as many CPUs; may be given again. Default: 1.",
        show_default=False,
    ),
]
Target = Annotated[str, typer.Option("--target", help="Where it is to be fast. See: edgecnn targets.")]
