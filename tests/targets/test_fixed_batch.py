"""A batch that varies is made fixed; the model's function stays."""

import numpy as np
import onnx
import pytest

from edgecnn.targets.fixed_batch import fix_batch
from tests.graphs import evaluate, small_cnn

X = np.random.default_rng(0).random((2, 3, 8, 8), np.float32)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_batch_that_varies_is_fixed_and_the_answers_stay(batch: int) -> None:
    before = small_cnn()
    after = onnx.load_from_string(fix_batch(before.SerializeToString(), batch=batch))
    for value in (*after.graph.input, *after.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_value == batch
    assert [d.dim_value for d in after.graph.input[0].type.tensor_type.shape.dim[1:]] == [3, 8, 8]
    np.testing.assert_array_equal(evaluate(after, {"x": X[:batch]})[0], evaluate(before, {"x": X[:batch]})[0])
    onnx.checker.check_model(after, full_check=True)


def test_one_that_is_fixed_stays_as_it_is() -> None:
    after = onnx.load_from_string(fix_batch(small_cnn(batch=5).SerializeToString(), batch=1))
    assert after.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 5
