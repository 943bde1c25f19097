"""A quantized convolution of few channels becomes one of more channels and fewer columns.

    source -> DQ -> Conv -> Q [-> MaxPool] -> result

becomes, where ``T`` transposes to channels last and back, and cancels against its neighbours:

    source -> T -> Reshape -> T -> DQ -> Conv' -> Q -> T -> Reshape -> T [-> MaxPool' -> T -> Reshape -> T] -> result

ONNX Runtime's kernels for symmetric int8 convolutions want input channels in fours, and at least sixteen output
channels; without those they copy each tap of each pixel, three bytes at a time for a photo. With them nothing is
copied, and the multiplications with zero that the blocks add cost less than the copies did.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.rewriting.attributes import attribute
from edgecnn.rewriting.blocks import Blocking, Convolution, blocked_weight, blocking, for_each_output, multiplications
from edgecnn.rewriting.editor import Editor
from edgecnn.rewriting.quantized import QuantizedConstant, QuantizedLayer, add_quantized_constant, quantized_layer
from edgecnn.rewriting.site import Site

if TYPE_CHECKING:
    from onnx import NodeProto

NAME = "blocked-conv"
#: What the kernels want: input channels in fours (eights keep both kinds of x86 and Arm content), outputs at least 16.
INPUT_CHANNELS, OUTPUT_CHANNELS, LEAST_OUTPUTS = 4, 8, 16
#: Columns that may become channels.
COLUMNS = (1, 2, 4, 8)
TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


def block_convolutions(editor: Editor) -> list[Site]:
    """Block each quantized convolution whose channels do not fit the kernels and whose sizes divide."""
    sites = []
    for node in editor.nodes:
        if node.op_type == "Conv":
            site = _block(editor, node)
            if site is not None:
                sites.append(site)
    return sites


def _block(editor: Editor, node: "NodeProto") -> Site | None:
    weight_sizes = editor.sizes(node.input[1])
    layer = quantized_layer(editor, node)
    if layer is None or weight_sizes is None or layer.weight.values.ndim != 4:
        return None
    outputs, channels, *_ = layer.weight.values.shape
    if attribute(node, "group", 1) != 1 or fits_kernels(channels, outputs):
        return None

    def left(reason: str) -> Site:
        return Site(rewrite=NAME, node=node.name, applied=False, reason=reason)

    conv = convolution(editor, layer)
    if isinstance(conv, str):
        return left(conv)
    pool = foldable_pool(editor, layer, conv)
    chosen = choose(conv, channels, outputs, pool)
    if chosen is None:
        return left(f"its sizes ({conv.input[1]} columns in, {conv.output[1]} out) do not divide into blocks that fit")
    emit(editor, layer, conv, chosen, pool)
    folded = f", the pool {pool.name} folded in" if pool is not None and chosen.rows > 1 else ""
    return Site(
        rewrite=NAME,
        node=node.name,
        applied=True,
        reason=f"{chosen.width} columns as {chosen.width * channels} channels, "
        f"{chosen.rows}x{chosen.columns} outputs as {chosen.rows * chosen.columns * outputs}{folded}",
    )


def fits_kernels(channels: int, outputs: int) -> bool:
    """Tell whether a convolution's channels are such that nothing is copied."""
    return channels % INPUT_CHANNELS == 0 and outputs % OUTPUT_CHANNELS == 0 and outputs >= LEAST_OUTPUTS


def convolution(editor: Editor, layer: QuantizedLayer) -> Convolution | str:
    """Return the sizes of a convolution, or why it cannot be blocked."""
    node = layer.node
    read, made = editor.sizes(node.input[0]), editor.sizes(node.output[0])
    if read is None or made is None or None in read[1:] or None in made[1:]:
        return "the image's size may vary"
    if attribute(node, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        return "its padding is not written out"
    if tuple(attribute(node, "dilations", (1, 1))) != (1, 1):
        return "it is dilated"
    _, _, height, width = (int(size or 0) for size in read)
    _, _, out_height, out_width = (int(size or 0) for size in made)
    top, left, bottom, right = attribute(node, "pads", (0, 0, 0, 0))
    down, across = attribute(node, "strides", (1, 1))
    kernel_height, kernel_width = layer.weight.values.shape[2:]
    return Convolution(
        input=(height, width),
        output=(out_height, out_width),
        kernel=(kernel_height, kernel_width),
        strides=(down, across),
        pads=(top, left, bottom, right),
    )


def foldable_pool(editor: Editor, layer: QuantizedLayer, conv: Convolution) -> "NodeProto | None":
    """Return a max pool on integers behind a layer whose windows are apart and cover all; None if there is none."""
    pool = editor.only_reader(layer.result)
    if pool is None or pool.op_type != "MaxPool" or len(pool.output) > 1:
        return None
    kernel = tuple(attribute(pool, "kernel_shape", ()))
    strides, pads = tuple(attribute(pool, "strides", (1, 1))), tuple(attribute(pool, "pads", (0, 0, 0, 0)))
    if len(kernel) != 2 or strides != kernel or any(pads) or attribute(pool, "ceil_mode", 0):
        return None
    if tuple(attribute(pool, "dilations", (1, 1))) != (1, 1) or attribute(pool, "auto_pad", b"NOTSET") != b"NOTSET":
        return None
    return pool if conv.output[0] % kernel[0] == 0 and conv.output[1] % kernel[1] == 0 else None


def choose(conv: Convolution, channels: int, outputs: int, pool: "NodeProto | None") -> Blocking | None:
    """Return the blocks that fit with the fewest multiplications; None if none fits."""
    pool_rows, pool_columns = attribute(pool, "kernel_shape", (1, 1)) if pool is not None else (1, 1)
    found = []
    for columns in COLUMNS:
        rows = pool_rows if columns % pool_columns == 0 else 1
        block = blocking(conv, rows, columns)
        if block is not None and fits_kernels(block.width * channels, rows * columns * outputs):
            found.append(block)
    return min(found, key=lambda block: multiplications(conv, block, channels, outputs), default=None)


def emit(editor: Editor, layer: QuantizedLayer, conv: Convolution, block: Blocking, pool: "NodeProto | None") -> None:
    """Put the blocked form into the graph in place of a layer, and of the pool behind it where that is folded."""
    outputs, channels = layer.weight.values.shape[:2]
    stem = f"{layer.result}.blocked"
    pool_rows, pool_columns = attribute(pool, "kernel_shape", (1, 1)) if pool is not None else (1, 1)
    folds = pool is not None and block.rows == pool_rows and block.columns % pool_columns == 0
    viewed = view(editor, layer.source, (conv.input[0], conv.input[1] // block.width, block.width * channels), stem)
    inputs = [editor.add("DequantizeLinear", [viewed, *layer.source_parameters], f"{stem}_source")]
    weight = blocked_weight(layer.weight.values, conv, block, pool_columns=pool_columns if folds else 1)
    inputs.append(add_quantized_constant(editor, f"{stem}_weight", _spread(layer.weight, weight, block)))
    if layer.bias is not None:
        bias = _spread(layer.bias, for_each_output(layer.bias.values, block), block)
        inputs.append(add_quantized_constant(editor, f"{stem}_bias", bias))
    window = {"kernel_shape": block.kernel, "strides": block.strides, "pads": block.pads}
    made = editor.add("Conv", inputs, f"{stem}_conv", window)
    made = editor.add("QuantizeLinear", [made, *layer.quantize.input[1:]], f"{stem}_quantized")
    height, width = conv.output[0] // block.rows, conv.output[1] // block.columns
    if not folds:
        editor.redirect(layer.result, view(editor, made, (height, conv.output[1], outputs), stem))
        return
    assert pool is not None  # folds says so
    taken, apart = pool_rows * pool_columns, block.columns // pool_columns
    made = view(editor, made, (height * width, taken, apart * outputs), stem)
    made = editor.add("MaxPool", [made], f"{stem}_pool", {"kernel_shape": (1, taken), "strides": (1, taken)})
    editor.redirect(pool.output[0], view(editor, made, (height, width * apart, outputs), stem))


def view(editor: Editor, tensor: str, sizes: tuple[int, int, int], stem: str) -> str:
    """View ``[N, C, H, W]`` as an image of other sizes (height, width, channels) in the same channels-last memory."""
    last = editor.add("Transpose", [tensor], f"{stem}_last", {"perm": TO_LAST})
    shape = editor.add_constant(f"{stem}_sizes", np.array((-1, *sizes), np.int64))
    reshaped = editor.add("Reshape", [last, shape], f"{stem}_view")
    return editor.add("Transpose", [reshaped], f"{stem}_first", {"perm": TO_FIRST})


def _spread(constant: QuantizedConstant, values: NDArray[Any], block: Blocking) -> QuantizedConstant:
    """Return blocked values with the scale and zero point that each of them had."""

    def spread(parameter: NDArray[Any]) -> NDArray[Any]:
        return parameter if parameter.size == 1 else for_each_output(parameter, block)

    zero_point = None if constant.zero_point is None else spread(constant.zero_point)
    return QuantizedConstant(values=values, scale=spread(constant.scale), zero_point=zero_point)
