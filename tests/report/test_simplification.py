"""What simplifying did, on a terminal and as JSON."""

import io

from rich.console import Console

from edgecnn.report.simplification import nodes_table, simplification_items, simplification_view
from tests.bundles import simplification_record


def lines(*items: object) -> list[list[str]]:
    console = Console(file=io.StringIO(), width=120)
    for item in items:
        console.print(item)
    assert isinstance(console.file, io.StringIO)
    return [line.split() for line in console.file.getvalue().splitlines()]


def test_nodes_are_counted_by_operator_and_in_all() -> None:
    rows = lines(nodes_table({"Conv": 5, "Identity": 9}, {"Conv": 5, "Relu": 2}))
    for row in (["Conv", "5", "5"], ["Identity", "9", "0"], ["Relu", "0", "2"], ["all", "14", "7"]):
        assert row in rows


def test_a_pass_that_was_left_out_is_named_with_the_reason() -> None:
    *_, last = simplification_items(simplification_record())
    assert last == "onnxsim's fuse_bn was left out, for it changed the answers: logits differ by 0.5"


def test_nothing_left_out_is_a_table_alone() -> None:
    record = simplification_record().model_copy(update={"skipped": ()})
    assert len(simplification_items(record)) == 1


def test_json_holds_the_record_or_nothing() -> None:
    assert simplification_view(None) == {}
    assert simplification_view(simplification_record()) == {
        "simplification": {
            "nodes_before": {"Conv": 5, "Identity": 9},
            "nodes_after": {"Conv": 5},
            "skipped": [{"name": "fuse_bn", "reason": "logits differ by 0.5"}],
        }
    }
