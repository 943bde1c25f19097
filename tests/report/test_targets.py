"""Targets side by side."""

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from edgecnn.bundle.manifest import Difference, ValidationResult
from edgecnn.report.targets import (
    comparison_table,
    failure_items,
    fallback_sentences,
    placement,
    states_table,
    validation_items,
)
from edgecnn.report.text import model_sentences, validation_table
from edgecnn.targets import TARGETS
from tests.bundles import emulated_result, validation_failure, validation_result
from tests.terminal import shown

PORTABLE = "int8_portable.onnx"


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


# What ran as int8, and what the CPU ran in a provider's place.


def test_a_file_that_is_not_int8_onnx_is_named_with_its_targets() -> None:
    def ran(target: str, model: str) -> ValidationResult:
        return validation_result(target=target).model_copy(update={"int8_model": model})

    results = [
        ran("cpu", "int8.onnx"),
        ran("qnn", PORTABLE),
        ran("xnnpack", "int8-xnnpack.onnx"),
        ran("webgpu", PORTABLE),
    ]
    assert model_sentences(results) == [f"int8 is {PORTABLE} on qnn, webgpu; int8-xnnpack.onnx on xnnpack."]
    assert model_sentences(results[:1]) == []
    assert any(shown(item) == f"int8 is {PORTABLE} on qnn." for item in validation_items(results[:2]))


@given(on_cpu=st.tuples(st.integers(0, 9), st.integers(0, 9)), there=st.integers(1, 20))
def test_nodes_that_the_cpu_ran_are_counted_by_model(on_cpu: tuple[int, int], there: int) -> None:
    float_nodes, int8_nodes = ({"XnnpackExecutionProvider": there, "CPUExecutionProvider": n} for n in on_cpu)
    result = validation_result(target="xnnpack").model_copy(
        update={
            "provider": "XnnpackExecutionProvider",
            "float_nodes": float_nodes,
            "int8_nodes": int8_nodes,
            "int8_model": "int8-xnnpack.onnx",
        }
    )
    told = " ".join(fallback_sentences([result]))
    for n, model in zip(on_cpu, ("float.onnx", "int8-xnnpack.onnx"), strict=True):
        assert (f"{n} of {there + n} nodes of {model}" in told) is (n > 0)
    assert bool(told) is any(on_cpu)
    assert ("--allow-cpu-nodes 0 refuses that" in told) is any(on_cpu)


def test_a_target_that_is_a_cpu_leaves_nothing_to_the_cpu() -> None:
    assert fallback_sentences([emulated_result()]) == []
    assert fallback_sentences([validation_result()]) == [], "bundles of earlier versions do not say"


# The width of a terminal.

LONGEST = max(TARGETS, key=len)


def on_screen(item: RenderableType) -> list[str]:
    console = Console(file=io.StringIO(), width=80, markup=False, emoji=False, highlight=False)
    console.print(item)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def widest() -> ValidationResult:
    against = Difference(argmax_flips=1000, max_abs_logit_difference=1.2e-06, top1_change_pp=-12.34)
    return emulated_result().model_copy(
        update={
            "target": LONGEST,
            "drop_pp": 12.34,
            "drop_pp_low": -13.45,
            "drop_pp_high": 14.56,
            "n": 1000,
            "n_available": 10_000,
            "how": "simulated",
            "float_against_cpu": against,
            "int8_against_cpu": against,
        }
    )


def test_the_longest_name_of_a_target_and_its_figures_fit_a_screen_unbroken() -> None:
    (accuracy,) = (line for line in on_screen(validation_table([widest()])) if line.startswith(LONGEST))
    assert accuracy.split() == [
        LONGEST, "73.22%", "73.10%", "+12.34", "-13.45..+14.56", "0.57", "96.5%", "1000/10000",
    ]  # fmt: skip
    *_, of_float, of_int8, _ = on_screen(comparison_table([widest()]))
    assert of_float.split() == [LONGEST, "simulated", "float", "13+0", "73.22%", "-12.34", "1000", "1.2e-06"]
    assert of_int8.split() == ["int8", "37+0", "73.10%", "-12.34", "1000", "1.2e-06"]
