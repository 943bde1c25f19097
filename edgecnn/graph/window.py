"""What slides over an image: kernel, stride, padding, dilation, and how the output's size follows from them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgecnn.errors import ModelError

if TYPE_CHECKING:
    from onnx import NodeProto

Shape = tuple[int, ...]
POOLS = ("MaxPool", "AveragePool", "LpPool")
#: Operators that slide, and which of their inputs is the kernel; a pool has none.
WINDOW_OPS: dict[str, int | None] = {
    "Conv": 1,
    "ConvInteger": 1,
    "QLinearConv": 3,
    "ConvTranspose": 1,
    **dict.fromkeys(POOLS, None),
}


@dataclass(frozen=True, kw_only=True)
class Window:
    """What slides over the image; each tuple has one entry an axis, height first.

    Attributes:
        kernel: its size.
        stride: its step.
        pads_before: zeros above and to the left.
        pads_after: zeros below and to the right.
        dilation: distance between neighbours of the kernel.
        groups: of a convolution; 1 for a pool.
        rounds_up: whether a last window may hang over the edge (``ceil_mode``).
        transposed: whether it runs backwards, from each input to many outputs.
        output_padding: what a transposed convolution adds below and to the right; zeros otherwise.
    """

    kernel: Shape
    stride: Shape
    pads_before: Shape
    pads_after: Shape
    dilation: Shape
    groups: int
    rounds_up: bool
    transposed: bool
    output_padding: Shape


def read_window(node: "NodeProto", source: Shape, output: Shape, weight: Shape | None, name: str) -> Window:
    """Return the window of a convolution or pool, with the operator's defaults filled in.

    Args:
        node: one of :data:`WINDOW_OPS`.
        source: shape of its input.
        output: shape of its output.
        weight: shape of its kernel; None for a pool.
        name: what to call the model in a message.

    Raises:
        ModelError: the kernel is not for an input of so many channels, or is of another size than stated, or a number
            is below 1.
    """
    axes = len(source) - 2
    attributes = {attribute.name: attribute for attribute in node.attribute}

    def numbers(attribute: str, default: Shape) -> Shape:
        return tuple(attributes[attribute].ints) if attribute in attributes else default

    groups = attributes["group"].i if "group" in attributes else 1
    kernel = numbers("kernel_shape", weight[2:] if weight else (1,) * axes)
    if weight is not None:
        _require_fit(node, name, source, weight, kernel, groups)
    stride, dilation = numbers("strides", (1,) * axes), numbers("dilations", (1,) * axes)
    if min(*kernel, *stride, *dilation) < 1:
        raise ModelError(
            f"{name}: {node.op_type} {node.name} has a kernel {list(kernel)}, strides {list(stride)} and dilations "
            f"{list(dilation)}; all must be at least 1.",
            next_step="export the model again",
        )
    pads, extra = numbers("pads", (0,) * (2 * axes)), numbers("output_padding", (0,) * axes)
    automatic = attributes["auto_pad"].s.decode(errors="replace") if "auto_pad" in attributes else "NOTSET"
    transposed = node.op_type == "ConvTranspose"
    if automatic in ("SAME_UPPER", "SAME_LOWER") and not transposed:
        pads = _same_pads(source[2:], output[2:], kernel, stride, dilation, upper=automatic == "SAME_UPPER")
    elif transposed and (automatic != "NOTSET" or "output_shape" in attributes):
        pads = _transposed_pads(
            source[2:], output[2:], kernel, stride, dilation, extra, upper=automatic == "SAME_UPPER"
        )
    return Window(
        kernel=kernel,
        stride=stride,
        pads_before=pads[:axes],
        pads_after=pads[axes:],
        dilation=dilation,
        groups=groups,
        rounds_up="ceil_mode" in attributes and attributes["ceil_mode"].i == 1,
        transposed=transposed,
        output_padding=extra,
    )


def pool_sizes(node: "NodeProto", source: Shape, inferred: Shape, name: str) -> Shape:
    """Return the shape that a pool gives, as ONNX Runtime and PyTorch do.

    With ``ceil_mode``, a last window that would begin beyond the image and its padding is left out (ONNX operators,
    MaxPool, since version 22); onnx's own inference counts it.
    """
    window = read_window(node, source, inferred, None, name)
    if not window.rounds_up or any(attribute.name == "auto_pad" for attribute in node.attribute):
        return inferred
    sizes = []
    for axis, size in enumerate(source[2:]):
        stride, before = window.stride[axis], window.pads_before[axis]
        span = size + before + window.pads_after[axis] - window.dilation[axis] * (window.kernel[axis] - 1) - 1
        count = -(-span // stride) + 1
        sizes.append(count - 1 if (count - 1) * stride >= size + before else count)
    return (*inferred[:2], *sizes)


def size_arithmetic(window: Window, source: Shape, output: Shape) -> tuple[str, str]:
    """Return (W - F + 2P)/S + 1 with its numbers, and a doubt where it does not give the graph's own size.

    Args:
        window: what slides.
        source: sizes of the input's axes, without batch and channels.
        output: those of the output, as the graph has them.
    """
    texts, doubts = [], []
    names = ("H", "W") if len(source) == 2 else tuple(f"axis {axis}" for axis in range(len(source)))
    for axis, letter in enumerate(names):
        text, size = _one_axis(window, axis, source[axis])
        if size != output[axis]:
            why = " (ceil_mode)" if window.rounds_up and size + 1 == output[axis] else ""
            text += f", in the graph {output[axis]}"
            doubts.append(f"{letter} is {output[axis]} in the graph, not {size}{why}")
        texts.append(text)
    if len(set(texts)) == 1:
        return texts[0], "; ".join(doubts)
    return "; ".join(f"{letter}: {text}" for letter, text in zip(names, texts, strict=True)), "; ".join(doubts)


def _one_axis(window: Window, axis: int, size: int) -> tuple[str, int]:
    """Return the arithmetic along one axis, and its result."""
    stride, dilation, kernel = window.stride[axis], window.dilation[axis], window.kernel[axis]
    before, after = window.pads_before[axis], window.pads_after[axis]
    reach = dilation * (kernel - 1) + 1
    reach_text = str(kernel) if dilation == 1 else f"({dilation}*({kernel} - 1) + 1)"
    if window.transposed:
        pads = f"2*{before}" if before == after else f"({before} + {after})"
        extra = window.output_padding[axis]
        result = (size - 1) * stride - before - after + reach + extra
        return f"({size} - 1)*{stride} - {pads} + {reach_text} + {extra} = {result}", result
    pads = f"2*{before}" if before == after else f"{before} + {after}"
    span = size - reach + before + after
    result = span // stride + 1
    text = f"({size} - {reach_text} + {pads})/{stride} + 1 = "
    if span % stride:
        return f"{text}{f'{span / stride + 1:.3f}'.rstrip('0')} → {result}", result
    return f"{text}{result}", result


def _require_fit(node: "NodeProto", name: str, source: Shape, weight: Shape, kernel: Shape, groups: int) -> None:
    """Refuse a kernel that no runtime would take; onnx infers a shape all the same."""
    channels = weight[0] if node.op_type == "ConvTranspose" else weight[1] * groups
    if channels != source[1] or weight[2:] != kernel:
        raise ModelError(
            f"{name}: {node.op_type} {node.name} has weights {list(weight)} in {groups} groups, which do not fit its "
            f"input of {source[1]} channels and its kernel {list(kernel)}.",
            next_step="export the model again",
        )


def _same_pads(
    source: Shape, output: Shape, kernel: Shape, stride: Shape, dilation: Shape, *, upper: bool
) -> tuple[int, ...]:
    """Return the pads that ``auto_pad`` stands for (ONNX operators, Conv)."""
    totals = [
        max(0, (output[axis] - 1) * stride[axis] + dilation[axis] * (kernel[axis] - 1) + 1 - source[axis])
        for axis in range(len(source))
    ]
    return _split(totals, upper=upper)


def _transposed_pads(
    source: Shape, output: Shape, kernel: Shape, stride: Shape, dilation: Shape, extra: Shape, *, upper: bool
) -> tuple[int, ...]:
    """Return the pads with which a transposed convolution gives the output's size (ONNX operators, ConvTranspose)."""
    totals = [
        stride[axis] * (source[axis] - 1) + extra[axis] + dilation[axis] * (kernel[axis] - 1) + 1 - output[axis]
        for axis in range(len(source))
    ]
    return _split(totals, upper=upper)


def _split(totals: list[int], *, upper: bool) -> tuple[int, ...]:
    """Return the pads before and after; the odd one goes after if ``upper``."""
    before = [total // 2 if upper else total - total // 2 for total in totals]
    return (*before, *(total - first for total, first in zip(totals, before, strict=True)))
