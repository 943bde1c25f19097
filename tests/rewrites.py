"""What every test of a rewrite asks: did it apply, why not, and are the answers the same."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from edgecnn.graph import onnx_file
from edgecnn.rewriting import Rewritten, rewrite
from tests.qdq_nets import QdqNet, answers

Array = NDArray[Any]


def apply(model: ModelProto, *names: str) -> Rewritten:
    """Rewrite a model, check that what comes out is one, and that it comes out so again."""
    data = bytes(model.SerializeToString())
    found = rewrite(data, names, name="ours.onnx")
    assert found == rewrite(data, names, name="ours.onnx")
    onnx_file.parse(found.data, "rewritten")
    onnx.shape_inference.infer_shapes(onnx.load_model_from_string(found.data), strict_mode=True, data_prop=True)
    assert any(site.applied for site in found.sites) == (found.data != data)
    return found


def applied(found: Rewritten) -> list[tuple[str, str]]:
    """Return which pass applied at which node."""
    return [(site.rewrite, site.node) for site in found.sites if site.applied]


def refusals(found: Rewritten) -> list[str]:
    """Return why passes did not apply."""
    return [site.reason for site in found.sites if not site.applied]


def ops(data: bytes) -> list[str]:
    """Return the operators of a model, in order."""
    return [node.op_type for node in onnx.load_model_from_string(data).graph.node]


def assert_same_answers(net: QdqNet, *names: str, batch: int | str = "N", count: int = 3) -> Rewritten:
    """Rewrite a network and require its answers to the last bit; return what was done."""
    model = net.model(batch=batch)
    images = net.images(batch if isinstance(batch, int) else count)
    found = apply(model, *names)
    given = answers(model.SerializeToString(), images)
    np.testing.assert_array_equal(answers(found.data, images), given)
    return found
