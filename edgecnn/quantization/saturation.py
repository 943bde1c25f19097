"""Which dot products of an int8 model saturate on x86 CPUs without VNNI, told from the file alone.

There ONNX Runtime multiplies u8 activations with s8 weights by VPMADDUBSW, which adds two products in 16 bits and
saturates (Intel, Software Developer's Manual, volume 2B). What MLAS does with a layer was found by running onnxruntime
1.32 on an emulated Haswell, and ``tests/quantization/test_saturation.py`` runs it again:

- The two products are those of weights 2j and 2j + 1 of an output, counted kernel row, kernel column, input channel
  within the group (a fully connected layer: along its inputs).
- In QDQ form s8 activations become u8 by adding 128 when the model is opened, so s8 with s8 saturates as well.
- What is widened to 16 bits before it is multiplied cannot saturate: u8 weights, depthwise convolutions, operators on
  integers that are given s8 activations, and ConvInteger.

CPUs with VNNI or AVX-VNNI sum in 32 bits throughout. Arm's without dot product instructions, and all of Arm's in a
depthwise convolution, sum two products in 16 bits after subtracting 128 from u8 activations: only -128 times -128,
twice, is too much, and wraps around. (Seen on an emulated Cortex-A53 and A76: weights k and k + 8 of each 16; counted
here in any order.) onnxruntime's quantizer gives no weight of -128 where weights are symmetric, other tools may.
"""

import numpy as np
from numpy.typing import NDArray

from edgecnn.bundle.manifest import LayerSaturation, SaturationRecord
from edgecnn.graph import onnx_file
from edgecnn.quantization.integers import IntegerLayer, integer_layers

_LIMITS = np.iinfo(np.int16)


def audit_saturation(data: bytes, *, name: str) -> SaturationRecord:
    """Find the dot products of which two products can exceed 16 bits, given weights and attainable activations.

    Args:
        data: a quantized ONNX file, in QDQ or QOperator form.
        name: what to call it in a message.

    Returns:
        Layers with their worst pair sums. A layer that ONNX Runtime leaves in float for another reason counts as if
        it were computed in integers.

    Raises:
        ModelError: it cannot be read.
    """
    layers: list[LayerSaturation] = []
    exempt: dict[str, str] = {}
    unknown: dict[str, str] = {}
    on_arm: dict[str, int] = {}
    for layer in integer_layers(onnx_file.parse(data, name)):
        if overflowing := _outputs_that_may_overflow_on_arm(layer):
            on_arm[layer.name] = overflowing
        if layer.weights is None:
            unknown[layer.name] = "its weights are not constant"
        elif layer.weights.dtype not in (np.int8, np.uint8):
            unknown[layer.name] = f"its weights are {layer.weights.dtype}"
        elif reason := _widened(layer, layer.weights.dtype):
            exempt[layer.name] = reason
        else:
            layers.append(_audit(layer, layer.weights.astype(np.int64)))
    return SaturationRecord(layers=tuple(layers), exempt=exempt, unknown=unknown, may_overflow_on_arm=on_arm)


def _widened(layer: IntegerLayer, dtype: np.dtype[np.generic]) -> str | None:
    """Return why a layer's products are widened before they are summed, or None if they are not."""
    if layer.activation[1] - layer.activation[0] > 255:
        return "activations of 16 bits are computed in float"
    if dtype == np.uint8:
        return "unsigned weights are widened"
    if layer.depthwise:
        return "depthwise convolutions are widened"
    if layer.op == "ConvInteger":
        return "ConvInteger is widened"
    if layer.signed_activation and not layer.qdq:
        return "signed activations of an operator on integers are widened"
    return None


def _outputs_that_may_overflow_on_arm(layer: IntegerLayer) -> int:
    """Count outputs with two weights of -128, where the activation that they meet can be -128, too."""
    if layer.weights is None or layer.weights.dtype != np.int8 or layer.op == "ConvInteger":
        return 0
    lowest = layer.activation[0] - (0 if layer.signed_activation else 128)
    return int(((layer.weights == -128).sum(axis=1) > 1).sum()) if lowest == -128 else 0


def _audit(layer: IntegerLayer, weights: NDArray[np.int64]) -> LayerSaturation:
    shift = 128 if layer.signed_activation else 0
    low, high = (value + shift for value in layer.activation)
    smallest, largest = np.minimum(weights * low, weights * high), np.maximum(weights * low, weights * high)
    pairs = _adjacent_sums(smallest), _adjacent_sums(largest)
    return LayerSaturation(
        layer=layer.name,
        op=layer.op,
        activation_low=low,
        activation_high=high,
        worst_pair_sum=_worst(*pairs),
        worst_pair_sum_any_order=_worst(-_two_largest_sum(-smallest), _two_largest_sum(largest)),
        outputs=len(weights),
        outputs_that_can_saturate=int(((pairs[0] < _LIMITS.min) | (pairs[1] > _LIMITS.max)).any(axis=1).sum()),
    )


def _adjacent_sums(products: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sum products 2j and 2j + 1 of each row; an odd one out is summed with nothing."""
    even = np.pad(products, ((0, 0), (0, products.shape[1] % 2)))
    sums: NDArray[np.int64] = even[:, 0::2] + even[:, 1::2]
    return sums


def _two_largest_sum(products: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sum the two largest products of each row, whatever their order; of a single one, itself."""
    sums: NDArray[np.int64] = np.sort(products, axis=1)[:, -2:].sum(axis=1, keepdims=True)
    return sums


def _worst(smallest: NDArray[np.int64], largest: NDArray[np.int64]) -> int:
    """Return the sum that comes nearest to the end of 16 bits, or goes farthest beyond."""
    low, high = int(smallest.min()), int(largest.max())
    return high if high - _LIMITS.max >= _LIMITS.min - low else low
