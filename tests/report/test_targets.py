"""Targets side by side."""

from edgecnn.report.targets import comparison_table, failure_items, placement, states_table, validation_items
from tests.bundles import emulated_result, validation_failure, validation_result
from tests.terminal import shown


def test_both_models_of_each_target_are_held_against_this_cpu() -> None:
    lines = shown(comparison_table([validation_result(), emulated_result()])).splitlines()
    assert lines[0] == "Nodes there + on the CPU; against this CPU: points, flips, logits"
    assert lines[-2] == "cpu@haswell emulated float 13+0 73.22% -0.07 7 0.012"
    assert lines[-1] == "int8 37+0 73.10% +3.21 2763 1.2"


def test_nodes_are_counted_there_and_on_the_cpu() -> None:
    assert placement({"QNNExecutionProvider": 30, "CPUExecutionProvider": 4}, "QNNExecutionProvider") == "30+4"
    assert placement({"CPUExecutionProvider": 4}, "CPUExecutionProvider") == "4+0"
    assert placement({}, None) == "", "bundles of earlier versions do not say"


def test_of_many_targets_only_the_first_is_shown_by_class() -> None:
    results = [
        validation_result(target=name).model_copy(update={"per_class": validation_result().per_class[:n]})
        for n, name in enumerate(("a", "b", "c", "d"), start=1)
    ]

    def tables(n: int) -> int:
        return sum("Drop by class" in shown(item) for item in validation_items(results[:n]))

    assert (tables(1), tables(3), tables(4)) == (1, len({r.per_class for r in results[:3]}), 1)


def test_nothing_measured_is_nothing_shown() -> None:
    assert validation_items([]) == []
    assert failure_items([]) == []


def test_a_target_without_figures_says_why_and_what_to_do() -> None:
    (table,) = failure_items([validation_failure()])
    found = shown(table)
    assert "xnnpack xnnpack: its process failed: SIGSEGV (a|b). edgecnn targets" in found


def test_a_target_that_cannot_run_says_why_and_what_would_help() -> None:
    found = shown(
        states_table(
            [
                ("cpu", "this CPU", "ready", None, ""),
                ("qnn", "a phone", "installable", "not set up", "edgecnn targets install qnn"),
                ("coreml", "a Mac", "impossible", "no such provider", "buy one"),
            ]
        )
    )
    assert "cpu ready this CPU" in found
    assert "qnn installable: not set up; edgecnn targets install qnn a phone" in found
    assert "coreml not possible here: no such provider; buy one a Mac" in found
