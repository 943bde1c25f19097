"""Where sums may saturate on CPUs without VNNI, the order of weights matters, and rewriting changes it."""

import numpy as np
import pytest

from edgecnn.quantization.saturation import audit_saturation
from tests.qdq_nets import LARGEST_WEIGHT, QdqNet
from tests.rewrites import applied, apply

PASSES = pytest.mark.parametrize("name", ["blocked-conv", "padded-blocked-conv"])


def saturating(data: bytes) -> int:
    return sum(layer.outputs_that_can_saturate for layer in audit_saturation(data, name="ours").layers)


@PASSES
def test_weights_of_a_reduced_range_saturate_in_no_order(name: str) -> None:
    made = QdqNet((3, 12, 16), seed=1)
    made.conv(6, pads=(1, 1, 1, 1))
    made.pool()
    made.flatten()
    made.gemm(5)
    model = made.model()
    found = apply(model, "integer-chain", name, "flatten-order")
    assert {one for one, _ in applied(found)} == {"integer-chain", name, "flatten-order"}
    assert saturating(model.SerializeToString()) == saturating(found.data) == 0


@PASSES
@pytest.mark.parametrize(("largest", "saturates"), [(127, True), (LARGEST_WEIGHT, False)])
def test_weights_that_meet_their_opposites_may_meet_others_in_blocks_and_the_audit_tells(
    name: str, largest: int, saturates: bool
) -> None:
    """Pairs of a row of + - - + + - - + cancel; shifted by a column, that is by three channels, they do not."""
    made = QdqNet((3, 12, 16), seed=1)
    row = np.resize(np.array([1, -1, -1, 1], np.int8), 27) * np.int8(largest)  # kernel row, column, channel
    values = np.tile(row, 6).reshape(6, 3, 3, 3).transpose(0, 3, 1, 2)
    made.conv(6, pads=(1, 1, 1, 1), values=np.ascontiguousarray(values))
    model = made.model()
    found = apply(model, name)
    assert applied(found)
    assert saturating(model.SerializeToString()) == 0
    assert (saturating(found.data) > 0) is saturates
