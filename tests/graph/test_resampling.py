"""Which pixels a Resize reads, against what ONNX Runtime really reads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.graph.resampling import source_positions
from tests.graphs import evaluate, make_model, node

LENGTH = 8
#: Sizes whose coordinates are exact in float32, so that even a tie is decided in one way.
EXACT = (1, 2, 4, 8, 16)
MODES = st.fixed_dictionaries(
    {
        "mode": st.sampled_from(["nearest", "linear"]),
        "coordinate_transformation_mode": st.sampled_from(
            ["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"]
        ),
        "nearest_mode": st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
    }
)


@settings(max_examples=300)
@given(st.integers(1, 17), MODES)
def test_the_first_and_last_pixel_read_are_those_that_change_the_result(output: int, modes: dict[str, str]) -> None:
    resize = node("Resize", ["x", "", "", "sizes"], ["y"], **modes)
    model = make_model([resize], {"sizes": np.array([LENGTH, 1, 1, output])}, inputs={"x": (LENGTH, 1, 1, LENGTH)})
    (read,) = evaluate(model, {"x": np.eye(LENGTH, dtype=np.float32)[:, None, None, :]})
    changed = np.abs(read[:, 0, 0, :]) > 1e-4
    found = source_positions(resize, LENGTH, output, output / LENGTH)
    assert found is not None
    first, last = changed.argmax(0), LENGTH - 1 - changed[::-1].argmax(0)
    tolerance = int(modes["mode"] == "nearest" and output not in EXACT)
    np.testing.assert_allclose(found[0], first, rtol=0, atol=tolerance)
    np.testing.assert_allclose(found[1], last, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    "attributes",
    [
        {"mode": "cubic"},
        {"mode": "linear", "antialias": 1},
        {"coordinate_transformation_mode": "tf_crop_and_resize"},
        {"mode": "linear", "coordinate_transformation_mode": "half_pixel_symmetric"},
    ],
    ids=str,
)
def test_what_reads_more_or_elsewhere_is_not_guessed(attributes: dict[str, str | int]) -> None:
    assert source_positions(node("Resize", ["x", "", "", "s"], ["y"], **attributes), 8, 4, 0.5) is None


def test_antialiasing_matters_only_where_the_image_shrinks() -> None:
    resize = node("Resize", ["x", "", "", "s"], ["y"], mode="linear", antialias=1)
    assert source_positions(resize, 4, 8, 2.0) is not None
