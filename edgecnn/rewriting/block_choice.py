"""Which blocks to make of a convolution: those that fit ONNX Runtime's kernels and look cheapest.

ONNX Runtime's kernels for symmetric int8 convolutions want input channels in fours, and at least sixteen output
channels; without those each tap of each pixel is copied, three bytes at a time for a photo, and the last channels are
rounded one by one. With them nothing is copied: a step takes a pointer for each tap.
"""

from edgecnn.rewriting.blocks import Blocking, Convolution, blocking, padded_blocking

#: What the kernels want. x86 with AVX2 takes outputs in eights, with AVX-512 in fours.
INPUT_CHANNELS, OUTPUT_CHANNELS, LEAST_OUTPUTS = 4, 8, 16
#: Columns that may become channels.
COLUMNS = (1, 2, 4, 8)
#: About what things cost, fitted to kernels timed on a core with AVX512-VNNI. They only choose among forms: whether
#: the chosen one pays is measured by ``edgecnn tune``, and no figure that anyone sees is made of them.
NS_A_POINTER, NS_A_PRODUCT, NS_A_BYTE, NS_A_NODE = 0.9, 1 / 414, 0.05, 300.0
#: A convolution that fits the kernels already is blocked only if that is estimated to leave at most so much of it.
WORTHWHILE = 0.85


def fits_kernels(channels: int, outputs: int) -> bool:
    """Tell whether a convolution's channels are such that nothing is copied."""
    return channels % INPUT_CHANNELS == 0 and outputs % OUTPUT_CHANNELS == 0 and outputs >= LEAST_OUTPUTS


def choose_blocking(
    conv: Convolution, channels: int, outputs: int, pool: tuple[int, int], *, pad: bool
) -> Blocking | None:
    """Return the blocks that fit and are estimated to take least time; None if none fits or is worth it.

    Args:
        conv: the convolution's sizes.
        channels: it reads.
        outputs: channels it gives.
        pool: rows and columns of a pool behind it that could be folded in; (1, 1) for none.
        pad: whether the image may be padded first.
    """
    found = []
    for columns in COLUMNS:
        rows = pool[0] if columns % pool[1] == 0 else 1
        forms = [blocking(conv, rows, columns)] + ([padded_blocking(conv, rows, columns)] if pad else [])
        found += [one for one in forms if one and fits_kernels(one.width * channels, rows * columns * outputs)]
    best = min(found, key=lambda block: _blocked_ns(conv, block, channels, outputs), default=None)
    if best is None or not fits_kernels(channels, outputs):
        return best
    worthwhile = WORTHWHILE * _unblocked_ns(conv, channels, outputs)
    return best if _blocked_ns(conv, best, channels, outputs) <= worthwhile else None


def _unblocked_ns(conv: Convolution, channels: int, outputs: int) -> float:
    taps = conv.output[0] * conv.output[1] * conv.kernel[0] * conv.kernel[1]
    return NS_A_POINTER * taps + NS_A_PRODUCT * taps * channels * outputs


def _blocked_ns(conv: Convolution, block: Blocking, channels: int, outputs: int) -> float:
    taps = block.steps(conv) * block.kernel[0] * block.kernel[1]
    products = taps * block.width * channels * block.rows * block.columns * outputs
    copied = conv.input[0] * conv.input[1] * channels if any(block.margins) else 0
    return NS_A_POINTER * taps + NS_A_PRODUCT * products + (NS_A_NODE + NS_A_BYTE * copied if copied else 0)
