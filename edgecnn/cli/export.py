"""``edgecnn export``."""

from pathlib import Path
from typing import Annotated

import typer

from edgecnn.cli.output import show_made
from edgecnn.cli.settings import stage_options
from edgecnn.options import Bisect, Cache, Data, Force, Json, NewBundle

Exported = Annotated[str, typer.Argument(help="A checkpoint, state_dict, .pt2, TorchScript, or torchvision:NAME.")]
Architecture = Annotated[
    str | None, typer.Option("--arch", help="Of a state_dict: a model, torchvision:NAME or package.module:factory.")
]
AllowPickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Open a file that can run any program when it is read.")
]
FixedBatch = Annotated[int | None, typer.Option("--batch", help="Fix the batch size. Default: it may vary.")]
Opset = Annotated[int | None, typer.Option("--opset", help="Of the ONNX file. Default: 18.")]
InputType = Annotated[str, typer.Option("--input-type", help="float32 in [0, 1], or uint8.")]
InputLayout = Annotated[str, typer.Option("--input-layout", help="nchw or nhwc.")]
InputSize = Annotated[
    str | None, typer.Option("--input-size", help="HEIGHTxWIDTH that is fed. Default: the network's.")
]
Resize = Annotated[str | None, typer.Option("--resize", help="HEIGHTxWIDTH that the network wants, if another is fed.")]
Mean = Annotated[str | None, typer.Option("--mean", help="Of each channel after scaling. Default: 0.")]
Std = Annotated[str | None, typer.Option("--std", help="Of each channel after scaling. Default: 1.")]
Scale = Annotated[float | None, typer.Option("--scale", help="Of a pixel 0 to 255. Default: 1/255.")]
Channels = Annotated[str | None, typer.Option("--channels", help="The network's order: rgb or bgr.")]
Labels = Annotated[Path | None, typer.Option("--labels", help="Text file of class names, one a line.")]


def export(
    network: Exported = "model.pt",
    bundle: NewBundle = None,
    data: Data = None,
    arch: Architecture = None,
    allow_pickle: AllowPickle = False,
    batch: FixedBatch = None,
    opset: Opset = None,
    input_type: InputType = "float32",
    input_layout: InputLayout = "nchw",
    input_size: InputSize = None,
    resize: Resize = None,
    mean: Mean = None,
    std: Std = None,
    scale: Scale = None,
    channels: Channels = None,
    labels: Labels = None,
    bisect: Bisect = False,
    cache: Cache = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Export a network to float.onnx, checked against PyTorch on real images."""
    from edgecnn.pipeline import export_settings as parse
    from edgecnn.pipeline.export import export as export_model

    settings = parse.ExportSettings(
        architecture=arch,
        allow_pickle=allow_pickle,
        batch=batch,
        opset=opset,
        input_type=parse.parse_type(input_type),
        input_layout=parse.parse_layout(input_layout),
        input_size=parse.parse_image_size("--input-size", input_size),
        resize=parse.parse_image_size("--resize", resize),
        mean=parse.parse_triple("--mean", mean),
        std=parse.parse_triple("--std", std),
        scale=scale,
        channels=parse.parse_channels(channels),
        labels=parse.read_labels(labels),
    )
    options = stage_options(bundle, data, cache, force)
    show_made(export_model(network, settings=settings, options=options, bisect=bisect), json)
