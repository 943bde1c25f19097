"""``edgecnn inspect`` and ``edgecnn profile``: a network layer by layer."""

from typing import Annotated

import typer

from edgecnn.cli.output import terminal
from edgecnn.cli.settings import stage_options
from edgecnn.console import show_json
from edgecnn.options import Bundle, Json, Network

Int8 = Annotated[bool, typer.Option("--int8", help="Of a bundle, read int8.onnx instead of float.onnx.")]
Dense = Annotated[bool, typer.Option("--dense", help="Add what fully connected layers would cost.")]
Seconds = Annotated[float, typer.Option("--seconds", help="About how long each layer is timed.")]
MaxMemory = Annotated[
    str, typer.Option("--max-memory", help="Leave out fully connected layers whose weights take more.")
]


def inspect(
    model: Network = None, bundle: Bundle = None, int8: Int8 = False, dense: Dense = False, json: Json = False
) -> None:
    """Show what each layer costs and how its size follows."""
    from edgecnn.pipeline.inspect import inspect as inspect_model
    from edgecnn.report.network import network_items, network_view

    found = inspect_model(model, int8=int8, options=stage_options(bundle))
    if json:
        show_json(network_view(str(found.path), found.network, dense=dense))
    else:
        terminal.show(*network_items(str(found.path), found.network, dense=dense))


def profile(
    model: Network = None,
    bundle: Bundle = None,
    seconds: Seconds = 0.2,
    max_memory: MaxMemory = "1GiB",
    json: Json = False,
) -> None:
    """Time each convolution against a fully connected layer."""
    from edgecnn.pipeline.profile import parse_memory
    from edgecnn.pipeline.profile import profile as profile_model
    from edgecnn.report.network import profile_items, profile_view

    limit = parse_memory("--max-memory", max_memory)
    found = profile_model(model, seconds=seconds, max_dense_bytes=limit, options=stage_options(bundle))
    what = (str(found.path), found.machine, found.timings)
    if json:
        show_json(profile_view(*what, max_dense_bytes=found.max_dense_bytes))
    else:
        terminal.show(*profile_items(*what, max_dense_bytes=found.max_dense_bytes))
