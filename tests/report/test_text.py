"""Short tables for the terminal: the figures of the records, and nothing that could be taken for markup."""

import io

import pytest
from rich.console import Console

from edgecnn.bundle.manifest import Check
from edgecnn.report import text
from edgecnn.report.targets import comparison_table
from edgecnn.targets import TARGETS
from tests.bundles import emulated_result, fixed_manifest, saturation_record, validation_result
from tests.terminal import shown


def test_files_are_listed_with_size_and_hash() -> None:
    lines = shown(text.artifacts_table(fixed_manifest().artifacts)).splitlines()
    assert lines[0] == "Files"
    assert lines[1] == "file made by bytes SHA-256"
    assert lines[-1] == f"int8.onnx quantize 73,642 {'c' * 16}…"
    assert len(lines) == 3 + 3


def test_accuracy_is_shown_with_its_interval() -> None:
    lines = shown(text.validation_table([validation_result()])).splitlines()
    assert lines[1] == "target float int8 drop 95% interval p agree images"
    assert lines[-1] == "cpu 73.22% 73.10% +0.12 -0.23..+0.48 0.57 96.5% 8123"


def test_some_of_the_images_are_not_all() -> None:
    line = shown(text.validation_table([emulated_result()])).splitlines()[-1]
    assert line == "cpu@haswell 73.22% 73.10% +0.12 -0.23..+0.48 0.57 96.5% 8123/9001"


def test_the_longest_target_and_its_figures_fit_into_80_columns() -> None:
    results = [emulated_result().model_copy(update={"target": name}) for name in TARGETS]
    for table in (text.validation_table(results), comparison_table(results)):
        console = Console(file=io.StringIO(), width=80, markup=False, emoji=False, highlight=False)
        console.print(table)
        assert isinstance(console.file, io.StringIO)
        found = console.file.getvalue()
        assert "…" not in found
        assert all(name in found for name in TARGETS)


def test_a_table_by_class_is_not_repeated_for_a_cpu_that_answers_alike() -> None:
    (first,) = fixed_manifest().validation
    alike = first.model_copy(update={"target": "cpu@haswell"})
    other = first.model_copy(update={"target": "cpu@cortex-a53", "per_class": first.per_class[:1]})
    assert text.distinct([first, alike, other]) == [first, other]


def test_layers_that_can_saturate_are_listed() -> None:
    found = "\n".join(shown(item) for item in text.saturation_items(saturation_record()))
    assert "conv_2 64,771 32,767 5 of 18" in found
    assert "conv_1" not in found
    assert "sums of two products can exceed 16 bits in conv_2" in found


def test_no_layer_that_can_saturate_is_a_sentence() -> None:
    record = saturation_record(unsafe=0).model_copy(update={"unknown": {}})
    (verdict, exempt) = (shown(item) for item in text.saturation_items(record))
    assert "no dot product can saturate; the worst sum of two products is -32131" in verdict
    assert "conv_1|x" in verdict
    assert exempt == "Layers that cannot, whatever their weights: 1 (it is widened)."


def test_the_class_that_lost_most_comes_first() -> None:
    (result,) = fixed_manifest().validation
    lines = shown(text.class_table(result)).splitlines()
    assert lines[0] == "Drop by class on cpu"
    assert lines[-2:] == ["cat 4,061 71.72% 71.47% +0.25", "dog <b> 4,062 74.72% 74.84% -0.12"]


def test_a_class_may_be_called_anything() -> None:
    (result,) = fixed_manifest().validation
    names = ("[bold]cat[/]", "\x1b[31mdog\n")
    rows = [row.model_copy(update={"name": name}) for row, name in zip(result.per_class, names, strict=True)]
    found = shown(text.class_table(result.model_copy(update={"per_class": tuple(rows)})))
    assert "[bold]cat[/] 4,061" in found
    assert "[31mdog 4,062" in found
    assert "\x1b" not in found


def test_checks_show_what_was_measured_and_asked() -> None:
    checks = (
        Check(name="size of int8.onnx", measured=12_345_678, limit=1_048_576, unit="bytes, at most", passed=False),
        Check(name="accuracy drop on cpu", measured=0.27777777, limit=1.0, unit="points, at most", passed=True),
    )
    lines = shown(text.checks_table(checks)).splitlines()
    assert lines[-2:] == [
        "size of int8.onnx 12345678 1048576 bytes, at most FAILED",
        "accuracy drop on cpu 0.2778 1 points, at most passed",
    ]


@pytest.mark.parametrize(("passed", "word"), [(True, "PASSED"), (False, "FAILED")])
def test_the_last_line_says_the_verdict_and_where_the_report_is(passed: bool, word: str) -> None:
    assert text.verdict_line("models[v2]", passed).plain == f"{word}  report: models[v2]/report.md"


def checks(n: int, *, failed: int = 0) -> list[Check]:
    return [
        Check(name=f"gate {index}", measured=1, limit=2, unit="points", passed=index >= failed) for index in range(n)
    ]


@pytest.mark.parametrize("failed", [0, 3])
def test_eight_checks_are_all_shown(failed: int) -> None:
    (table,) = text.checks_items(checks(8, failed=failed))
    found = shown(table)
    assert [line for line in found.splitlines() if line.startswith("gate")] == [
        f"gate {index} 1 2 points {'FAILED' if index < failed else 'passed'}" for index in range(8)
    ]


def test_of_more_checks_those_that_failed_are_shown_and_the_others_counted() -> None:
    (told,) = text.checks_items(checks(9))
    assert shown(told) == "9 of 9 checks passed; the report lists each."
    table, told = text.checks_items(checks(9, failed=2))
    names = [line[:6] for line in shown(table).splitlines() if line.startswith("gate")]
    assert names == ["gate 0", "gate 1"]
    assert shown(told) == "7 of 9 checks passed; the report lists each."
