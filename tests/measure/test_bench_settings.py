"""Settings of a measurement: what measures nothing is refused by name."""

import math

import pytest

from edgecnn.bundle.latency import MAX_PAIRS
from edgecnn.errors import ExitCode, UsageError
from edgecnn.measure.bench_settings import BenchSettings, combinations, parse_through
from tests.affinity import Affinity


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("batch", 0),
        ("batch", -1),
        ("threads", 0),
        ("threads", 3),
        ("pairs", 5),
        ("rounds", 0),
        ("pairs", MAX_PAIRS + 1),
        ("max-seconds", 0),
        ("max-seconds", math.inf),
        ("seconds", 0),
        ("seconds", -1.0),
        ("seconds", math.nan),
        ("seconds", math.inf),
    ],
)
def test_a_setting_that_measures_nothing_is_refused_by_name(
    option: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    Affinity(monkeypatch, {0, 1})
    with pytest.raises(UsageError) as caught:
        BenchSettings(**{option.replace("-", "_"): value})  # type: ignore[arg-type]
    assert caught.value.exit_code == ExitCode.USAGE
    assert f"--{option}" in caught.value.message
    assert str(value) in caught.value.message
    assert caught.value.next_step.startswith(f"--{option} ")
    suggested = caught.value.next_step.split()[1]
    number = float(suggested) if option.endswith("seconds") else int(suggested)
    BenchSettings(**{option.replace("-", "_"): number})  # type: ignore[arg-type]


def test_as_many_threads_as_cpus_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    Affinity(monkeypatch, {0, 1, 2})
    assert BenchSettings(threads=3).threads == 3


@pytest.mark.parametrize("until", [0, -0.02, 1, 1.5, math.nan])
def test_a_precision_that_means_nothing_is_refused(until: float) -> None:
    with pytest.raises(UsageError, match=r"--until must be above 0% and below 100%") as caught:
        BenchSettings(until=until)
    assert caught.value.next_step == "--until 2%"


def test_a_way_of_calling_that_does_not_exist_is_refused() -> None:
    assert [parse_through("run"), parse_through("iobinding")] == ["run", "iobinding"]
    with pytest.raises(UsageError, match="--through must be run or iobinding, found 'dma'"):
        parse_through("dma")
    with pytest.raises(UsageError, match="found 'dma'"):
        BenchSettings(through="dma")  # type: ignore[arg-type]


def test_every_combination_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    Affinity(monkeypatch, {0, 1})
    found = combinations(BenchSettings(pairs=7), batches=[1, 8, 1], threads=[1, 2], through=["run", "iobinding"])
    assert [(each.threads, each.batch, each.through) for each in found] == [
        (1, 1, "run"), (1, 1, "iobinding"), (1, 8, "run"), (1, 8, "iobinding"),
        (2, 1, "run"), (2, 1, "iobinding"), (2, 8, "run"), (2, 8, "iobinding"),
    ]  # fmt: skip
    assert {each.pairs for each in found} == {7}


def test_a_combination_that_cannot_be_measured_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    Affinity(monkeypatch, {0, 1})
    with pytest.raises(UsageError, match="--threads 3 on a machine with 2 CPUs"):
        combinations(BenchSettings(), batches=[1], threads=[1, 3], through=["run"])
