"""What stays float, by reason."""

import io

from rich.console import Console

from edgecnn.bundle.manifest import UnfusedRecord
from edgecnn.report.fusion import floats_by_reason, fusion_items, fusion_sentence
from tests.bundles import fusion_record


def shown() -> list[list[str]]:
    console = Console(file=io.StringIO(), width=120)
    for item in fusion_items(fusion_record()):
        console.print(item)
    assert isinstance(console.file, io.StringIO)
    return [line.split() for line in console.file.getvalue().splitlines()]


def test_the_sentence_holds_the_figures() -> None:
    assert fusion_sentence(fusion_record()) == (
        "ONNX Runtime's graph optimizations change the class of 17 of 251 images, and no logit by more than 0.047."
    )


def test_layers_of_one_reason_stand_together_in_the_order_of_the_graph() -> None:
    assert floats_by_reason(fusion_record()) == [
        ("Mul", "left in float on purpose", "gate_1, gate, too"),
        ("Conv", "its input is float", "conv_1|x"),
    ]


def test_nodes_are_counted_whatever_their_names() -> None:
    rows = shown()
    assert ["Mul", "2", "left", "in", "float", "on", "purpose"] in rows
    assert ["Conv", "1", "its", "input", "is", "float"] in rows


def test_nothing_in_float_is_no_table() -> None:
    record = fusion_record().model_copy(update={"unfused": ()})
    assert fusion_items(record) == [fusion_sentence(record)]


def test_a_strangers_reason_is_no_markup() -> None:
    odd = UnfusedRecord(layer="x", op="[/x]", reason="[red]")
    console = Console(file=io.StringIO(), width=120, markup=True)
    for item in fusion_items(fusion_record().model_copy(update={"unfused": (odd,)})):
        console.print(item)
    assert isinstance(console.file, io.StringIO)
    assert "[/x]" in console.file.getvalue()
    assert "[red]" in console.file.getvalue()
