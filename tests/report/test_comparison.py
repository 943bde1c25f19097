"""Two measurements side by side on the terminal."""

from edgecnn.bundle.comparison import ComparedPlace, ComparisonRecord, Figure, Ratio
from edgecnn.report.comparison import comparison_items
from tests.terminal import shown


def figure(name: str, model: str, unit: str, values: tuple[float, float], ratio: Ratio) -> Figure:
    return Figure(name=name, model=model, unit=unit, a=values[0], b=values[1], ratio=ratio)


RECORD = ComparisonRecord(
    a="old[v1]",
    b="new.json",
    places=(
        ComparedPlace(
            place="cpu, batch 1, 1 threads",
            figures=(
                figure("p50", "int8", "us", (38.14, 37.04), Ratio(median=0.971, low=0.96, high=0.98)),
                figure("size", "int8", "bytes", (73642, 7364), Ratio(median=0.1)),
                figure("throughput", "float", "images/s", (41234.5, 1e6), Ratio(median=24.25)),
                figure("top-1, full", "float", "fraction", (0.7245, 0.72), Ratio(median=0.9938)),
            ),
        ),
    ),
    only_a=("cpu, batch 8, 1 threads",),
    only_b=("xnnpack, batch 1, 1 threads\x1b[2J",),
    notes=("OTHER MACHINE: cpu x and y\x07",),
)


def test_every_figure_is_shown_with_its_ratio_and_interval() -> None:
    lines = [line for item in comparison_items(RECORD) for line in shown(item).splitlines()]
    assert lines[:4] == ["A: old[v1]", "B: new.json", "cpu, batch 1, 1 threads", "figure A B B / A 95% interval"]
    for row in (
        "int8 p50, us 38.1 37.0 0.971 0.960..0.980",
        "int8 size, bytes 73,642 7,364 0.100",
        "float throughput, images/s 41,234 1,000,000 24.250",
        "float top-1, full, fraction 0.7245 0.7200 0.994",
    ):
        assert row in lines


def test_what_is_not_compared_and_the_notes_come_after() -> None:
    lines = [line for item in comparison_items(RECORD) for line in shown(item).splitlines()]
    assert lines[-3:] == [
        "only in A: cpu, batch 8, 1 threads",
        "only in B: xnnpack, batch 1, 1 threads[2J",
        "OTHER MACHINE: cpu x and y",
    ]
