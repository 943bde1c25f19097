"""One ``edgecnn validate`` on the terminal and as JSON: each part where there is something to say, the verdict last."""

import dataclasses

import pytest

from edgecnn.bundle.manifest import Check
from edgecnn.report.validation import ValidationFigures, validation_figures_items, validation_figures_view
from tests.bundles import (
    fusion_record,
    prediction_record,
    saturation_record,
    validation_failure,
    validation_result,
)
from tests.terminal import shown

CHECK = Check(name="accuracy drop on cpu", measured=0.4, limit=1, unit="points, at most", passed=True)
BARE = ValidationFigures(
    bundle="folder",
    results=[validation_result()],
    checks=[CHECK],
    failures=[],
    predictions=[],
    saturation=None,
    fusion=None,
    passed=True,
)
#: A part, and words that stand nowhere but in it.
PARTS = [
    ("saturation", saturation_record(), "x86 without VNNI"),
    ("fusion", fusion_record(), "graph optimizations change the class"),
    ("failures", [validation_failure()], "No figures"),
    ("predictions", [prediction_record()], "coreml"),
]


def text(found: ValidationFigures) -> str:
    return "\n".join(shown(item) for item in validation_figures_items(found))


@pytest.mark.parametrize(("name", "value", "words"), PARTS, ids=[name for name, _, _ in PARTS])
def test_a_part_is_shown_where_there_is_one(name: str, value: object, words: str) -> None:
    assert words not in text(BARE)
    assert words in text(dataclasses.replace(BARE, **{name: value}))  # type: ignore[arg-type]


def test_accuracy_stands_first_and_the_verdict_last() -> None:
    lines = text(BARE).splitlines()
    assert lines[0] == "Top-1 accuracy"
    assert CHECK.name in lines[-2]
    assert lines[-1] == "PASSED report: folder/report.md"
    assert text(dataclasses.replace(BARE, passed=False)).endswith("FAILED report: folder/report.md")


def test_passed_checks_beside_a_target_without_figures_are_no_riddle() -> None:
    lines = text(dataclasses.replace(BARE, failures=[validation_failure()], passed=False)).splitlines()
    assert lines[-2:] == [
        "Not passed, whatever the checks say: xnnpack gave no figures (above).",
        "FAILED report: folder/report.md",
    ]


def test_the_view_holds_each_result_beside_its_check() -> None:
    other = validation_result(target="qnn")
    failed = CHECK.model_copy(update={"name": "accuracy drop on qnn", "passed": False, "limit": 0.25})
    found = dataclasses.replace(BARE, results=[*BARE.results, other], checks=[CHECK, failed], passed=False)
    view = validation_figures_view(dataclasses.replace(found, failures=[validation_failure()]))
    assert [(row["target"], row["passed"], row["max_drop_pp"]) for row in view["results"]] == [
        ("cpu", True, 1.0),
        ("qnn", False, 0.25),
    ]
    assert view["verdict"] == "failed"
    assert [failure["target"] for failure in view["failures"]] == [validation_failure().target]
    assert validation_figures_view(BARE)["verdict"] == "passed"
