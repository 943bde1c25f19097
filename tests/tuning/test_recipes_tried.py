"""The recipes that tuning tries."""

from edgecnn.quantization.recipes import DEFAULT_RECIPE
from edgecnn.tuning.recipes_tried import recipes_tried


def test_the_default_comes_first_and_no_two_have_the_same_kernels() -> None:
    found = recipes_tried()
    assert found[0].name == DEFAULT_RECIPE
    kernels = {(one.activation, one.weight, one.per_channel, one.qoperator) for one in found}
    assert len(kernels) == len(found) >= 4
    assert any(one.qoperator for one in found)


def test_accuracy_that_is_judged_here_holds_on_every_cpu() -> None:
    assert all(one.exact_everywhere for one in recipes_tried())


def test_they_are_as_exact_as_they_can_be() -> None:
    assert all(one.equalize for one in recipes_tried())
    assert all(one.adaptive_rounding and one.correct_bias for one in recipes_tried() if not one.qoperator)
