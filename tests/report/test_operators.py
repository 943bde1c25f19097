"""A profile for the terminal: layers side by side, overhead by operator."""

from edgecnn.report.operators import SHOWN, operators_table, overhead_sentence, profile_items, slower_sentence
from tests.bundles import operator_profile
from tests.terminal import shown


def test_layers_are_shown_side_by_side_and_the_slower_ones_marked() -> None:
    found = "\n".join(shown(item) for item in profile_items([operator_profile()]))
    assert "Layers on cpu, batch 1, 1 threads, us" in found
    assert "medians over 1765 and 1987 runs, with about 1 us of the profiler's own in each." in found
    for row in ("conv_1|x Conv 12.3 21.4 SLOWER in int8", "fc Gemm 8.8 4.6", "lost Conv unknown unknown"):
        assert row in found.splitlines()


def test_the_slower_layers_are_named_in_a_sentence() -> None:
    assert slower_sentence(operator_profile()).plain == "Slower in int8 than in float: conv_1|x."
    none = operator_profile().model_copy(update={"layers": operator_profile().layers[1:]})
    assert slower_sentence(none).plain == "No layer is slower in int8 than in float."


def test_overhead_is_summed_by_operator() -> None:
    model = operator_profile().int8_model
    assert overhead_sentence("int8", model).plain == (
        "int8: 15% of 30.8 us only converts or rearranges: Transpose 2.5 us, QuantizeLinear 2.2 us."
    )
    twice = model.model_copy(update={"operators": (*model.operators, model.operators[2]), "overhead_us": 7.27})
    assert "Transpose 5.0 us" in overhead_sentence("int8", twice).plain
    bare = model.model_copy(update={"operators": model.operators[1:2], "overhead_us": 0.0})
    assert overhead_sentence("int8", bare).plain.endswith("rearranges: nothing.")


def test_the_longest_operators_come_first_and_not_all_of_a_hundred() -> None:
    model = operator_profile().float_model
    lines = shown(operators_table("float", model)).splitlines()
    assert lines[0] == "float: longest of 3 operators, us"
    assert lines[-3:] == [
        "relu_nchwc Conv conv_1|x 12.3 60.0%",
        "fused fc FusedGemm fc 8.8 30.0%",
        "ReorderOutput ReorderOutput 3.2 10.0%",
    ]
    many = model.model_copy(update={"operators": model.operators * 40})
    assert len(shown(operators_table("float", many)).splitlines()) == 3 + SHOWN
