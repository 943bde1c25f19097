"""A network's layers and their times, for the terminal and as JSON."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgecnn.bundle.manifest import MachineRecord
from edgecnn.bundle.profile import LayerTiming, Timing
from edgecnn.graph.layers import Layer, Network
from edgecnn.graph.window import Window

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

Json = dict[str, Any]
_EIGHTHS = " ▏▎▍▌▋▊▉"
_BAR_WIDTH = 40


def network_items(name: str, network: Network, *, dense: bool) -> "list[RenderableType]":
    """Return what the terminal shows of a network: its layers, the arithmetic of their sizes, and sentences.

    Args:
        name: the file it was read from.
        network: what was read.
        dense: whether to show what fully connected layers would cost in the place of convolutions.
    """
    items: list[RenderableType] = [_layers_table(name, network)]
    if any(layer.window for layer in network.layers):
        items.append(_sizes_table(network.layers))
    items.append(_cost_table(network))
    if dense:
        items.append(_dense_table(network.layers))
        items.append(_plain(_neuron_sentence(network)))
    items.append(_plain(_peak_sentence(network)))
    items += [_plain(f"Not certain: {doubt}.", style="yellow") for doubt in _all_doubts(network)]
    return items


def network_view(path: str, network: Network, *, dense: bool) -> Json:
    """Return the object of ``edgecnn inspect --json``; see :func:`network_items`."""
    view: Json = {
        "model": path,
        "batch": network.batch,
        "input": list(network.image),
        "layers": [_layer_view(layer, dense=dense) for layer in network.layers],
        "totals": {
            "parameters": network.parameters,
            "macs": network.macs,
            "weight_bytes": network.weight_bytes,
            "activation_bytes": network.activation_bytes,
        },
        "peak_activation": {
            "bytes": network.peak.size_bytes,
            "layer": network.peak.node,
            "op": network.peak.op,
        },
        "doubts": list(network.doubts),
    }
    return view | ({"dense_neuron_weights": network.neuron_weights} if dense else {})


def profile_items(
    name: str, machine: MachineRecord, timings: Sequence[LayerTiming], *, max_dense_bytes: int
) -> "list[RenderableType]":
    """Return what the terminal shows of a profile: a table, a chart, and where it was measured."""
    table = _table(
        f"{_printable(name)}: microseconds a call, one image, one thread",
        ("conv", "IQR", "dense", "IQR", "dense/conv", "dense bytes", "layer"),
    )
    for row in timings:
        times = _times(row.dense) if row.dense else ("-", "-")
        ratio = "-" if row.ratio is None else f"{row.ratio:,.1f}"
        size = f"{row.layer.dense_bytes:,}"
        table.add_row(*_times(row.convolution), *times, ratio, size, _name(row.layer.name))
    items: list[RenderableType] = [table, _chart(timings)]
    if any(row.skipped for row in timings):
        items.append(
            _plain(f"'-': not made, its weights would take more than {max_dense_bytes:,} bytes (--max-memory).")
        )
    blocks = min(timing.blocks for row in timings for timing in (row.convolution, row.dense) if timing)
    versions = f"torch {machine.versions.get('torch', '?')}, float32"
    items.append(_plain(f"Medians of at least {blocks} blocks of calls each; {machine.cpu}, {versions}."))
    return items


def profile_view(path: str, machine: MachineRecord, timings: Sequence[LayerTiming], *, max_dense_bytes: int) -> Json:
    """Return the object of ``edgecnn profile --json``; times are in microseconds."""
    return {
        "model": path,
        "machine": machine.model_dump(mode="json"),
        "threads": 1,
        "max_dense_bytes": max_dense_bytes,
        "layers": [
            {
                "name": row.layer.name,
                "input": list(row.layer.source),
                "output": list(row.layer.output),
                "convolution": row.convolution.model_dump(),
                "dense": None if row.dense is None else row.dense.model_dump(),
                "ratio": row.ratio,
                "dense_weight_bytes": row.layer.dense_bytes,
                "skipped": row.skipped,
            }
            for row in timings
        ],
    }


def _layers_table(name: str, network: Network) -> "Table":
    table = _table(
        f"{_printable(name)}: input {_volume(network.image)}",
        ("#", "op", "in", "out", "bytes out", "sees", "layer"),
    )
    for number, layer in enumerate(network.layers, start=1):
        sizes = (_volumes(layer.inputs), _volumes(layer.outputs), f"{layer.activation_bytes:,}")
        table.add_row(str(number), layer.op, *sizes, _field(layer.receptive_field), _name(layer.name))
    table.add_section()
    table.add_row("", "total", "", "", f"{network.activation_bytes:,}", "", "")
    return table


def _sizes_table(layers: Sequence[Layer]) -> "Table":
    table = _table(
        "How each size follows: (W - F + 2P)/S + 1",
        ("#", "op", "kernel", "stride", "padding", "groups", "arithmetic"),
    )
    for number, layer in enumerate(layers, start=1):
        if (window := layer.window) is not None:
            kernel = _volume(window.kernel)
            if set(window.dilation) != {1}:
                kernel += f" spread {_same(window.dilation)}"
            sizes = (kernel, _same(window.stride), _padding(window), _count(window.groups))
            table.add_row(str(number), layer.op, *sizes, layer.arithmetic)
    return table


def _cost_table(network: Network) -> "Table":
    table = _table("What each layer costs", ("#", "op", "parameters", "MACs", "weight bytes", "layer"))
    for number, layer in enumerate(network.layers, start=1):
        if layer.parameters or layer.macs:
            figures = map(_count, (layer.parameters, layer.macs, layer.weight_bytes))
            table.add_row(str(number), layer.op, *figures, _name(layer.name))
    table.add_section()
    totals = (network.parameters, network.macs, network.weight_bytes)
    table.add_row("", "total", *(f"{total:,}" for total in totals), "")
    return table


def _dense_table(layers: Sequence[Layer]) -> "Table":
    table = _table(
        "A fully connected layer in the place of each convolution",
        ("#", "weights", "dense weights", "dense MACs", "dense bytes", "layer"),
    )
    for number, layer in enumerate(layers, start=1):
        if (dense := layer.dense) is not None:
            total = dense.weights + dense.biases
            figures = map(_count, (layer.parameters, total, dense.macs, dense.weight_bytes))
            table.add_row(str(number), *figures, _name(layer.name))
    return table


def _neuron_sentence(network: Network) -> str:
    return (
        f"One neuron of a fully connected layer that sees this whole {_volume(network.image)} input has "
        f"{network.neuron_weights:,} weights (on a 200x200x3 image: 120,000)."
    )


def _peak_sentence(network: Network) -> str:
    peak = network.peak
    where = "the input" if peak.op == "input" else f"{peak.op} {_printable(peak.node)}"
    return f"Peak activation memory: {peak.size_bytes:,} bytes, at {where}."


def _all_doubts(network: Network) -> list[str]:
    own = [f"{layer.op} {_printable(layer.name)}: {layer.doubt}" for layer in network.layers if layer.doubt]
    blind = [layer for layer in network.layers if layer.receptive_field is None]
    if blind:
        own.append(f"what is seen is not known from {blind[0].op} {_printable(blind[0].name)} on")
    return [_printable(doubt) for doubt in network.doubts] + own


def _layer_view(layer: Layer, *, dense: bool) -> Json:
    window, field = layer.window, layer.receptive_field
    view: Json = {
        "name": layer.name,
        "op": layer.op,
        "inputs": [list(shape) for shape in layer.inputs],
        "outputs": [list(shape) for shape in layer.outputs],
        "window": None if window is None else _window_view(window),
        "arithmetic": layer.arithmetic or None,
        "parameters": layer.parameters,
        "macs": layer.macs,
        "weight_bytes": layer.weight_bytes,
        "activation_bytes": layer.activation_bytes,
        "receptive_field": None if field is None else list(field),
        "doubt": layer.doubt or None,
    }
    if dense:
        twin = layer.dense
        view["dense"] = None if twin is None else vars(twin).copy()
    return view


def _window_view(window: Window) -> Json:
    return {
        "kernel": list(window.kernel),
        "stride": list(window.stride),
        "pads_before": list(window.pads_before),
        "pads_after": list(window.pads_after),
        "dilation": list(window.dilation),
        "groups": window.groups,
    }


def _chart(timings: Sequence[LayerTiming]) -> "Text":
    """Return two bars a layer, on one scale."""
    from rich.text import Text

    longest = max(max(row.convolution.median_us, row.dense.median_us if row.dense else 0) for row in timings)
    chart = Text()
    for row in timings:
        chart.append(f"{_printable(row.layer.name)}\n")
        bars = [("conv ", row.convolution, "green")] + ([("dense", row.dense, "red")] if row.dense else [])
        for word, timing, style in bars:
            chart.append(f"  {word} ").append(bar(timing.median_us / longest), style=style)
            chart.append(f" {timing.median_us:,.1f}\n")
    return chart


def bar(fraction: float, width: int = _BAR_WIDTH) -> str:
    """Return a bar as long as a fraction of the width, in eighths of a character; never quite nothing."""
    eighths = max(1, round(fraction * width * 8))
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _table(title: str, columns: Sequence[str]) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(title=_plain(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        wraps = column in ("layer", "arithmetic")  # what gives way on a narrow terminal
        left = wraps or column == "op"
        table.add_column(column, justify="left" if left else "right", overflow="fold", no_wrap=not wraps)
    return table


def _times(timing: Timing) -> tuple[str, str]:
    return f"{timing.median_us:,.1f}", f"{timing.iqr_us:,.1f}"


def _volume(shape: Sequence[int]) -> str:
    """Return a shape as people write it; one number is a vector's length."""
    return "x".join(map(str, shape)) or "1"


def _volumes(shapes: Sequence[Sequence[int]]) -> str:
    """Return the first of several shapes, and how many more there are."""
    more = f" +{len(shapes) - 1}" if len(shapes) > 1 else ""
    return (_volume(shapes[0]) if shapes else "-") + more


def _same(numbers: Sequence[int]) -> str:
    """Return one number if all axes have the same."""
    return str(numbers[0]) if len(set(numbers)) == 1 else _volume(numbers)


def _padding(window: Window) -> str:
    """Return one number if it is the same on all sides, else each axis, what is before and after it."""
    before, after = window.pads_before, window.pads_after
    if before == after:
        return _same(before)
    return ", ".join(f"{first}+{last}" for first, last in zip(before, after, strict=True))


def _field(field: tuple[int, ...] | None) -> str:
    return "?" if field is None else "x".join(map(str, field)) or "-"


def _count(number: int) -> str:
    return f"{number:,}" if number else "-"


def _printable(text: str) -> str:
    return "".join(character for character in text if character.isprintable())


def _name(text: str) -> "Text":
    """Return a layer's name, cut short where the terminal is narrow; the figures are not."""
    from rich.text import Text

    return Text(_printable(text), no_wrap=True, overflow="ellipsis")


def _plain(text: str, style: str = "") -> "Text":
    """Return text in which square brackets are not rich's markup."""
    from rich.text import Text

    return Text(text, style=style)
