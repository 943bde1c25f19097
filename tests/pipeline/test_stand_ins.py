"""Which chip 'all' means: another of its kind where one does not take the model, and never in place of one named."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgecnn.errors import ChipError, EdgecnnError, ExitCode, StageError, TargetError
from edgecnn.pipeline import answers, stand_ins
from edgecnn.pipeline.context import Options
from edgecnn.pipeline.validate import validate
from edgecnn.targets import TARGETS, Session, Target, running
from edgecnn.targets.choice import ALL
from tests.bundles import read_manifest

WHY = "float.onnx on old: no memory for it there."


class Listener:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def update(self, task: str, done: int, total: int, detail: str = "") -> None:
        pass


@pytest.fixture
def error() -> EdgecnnError:
    return ChipError(WHY, next_step="--provider new")


@pytest.fixture
def chips(monkeypatch: pytest.MonkeyPatch, error: EdgecnnError) -> None:
    """Make 'cpu', 'old', which fails, and 'new', which is this CPU and stands in for it, all that is ready."""
    row = TARGETS["cpu"]
    monkeypatch.setitem(TARGETS, "old", dataclasses.replace(row, instead="new"))
    monkeypatch.setitem(TARGETS, "new", dataclasses.replace(row, in_all=False))
    ready = [TARGETS[name] for name in ("cpu", "old", "new")]
    monkeypatch.setattr(Target, "why_not", lambda self: None if self in ready else "it is not here")

    @contextmanager
    def failing(
        name: str, model: bytes, *, model_name: str, threads: int = 1, allow_cpu_nodes: int = 0
    ) -> Iterator[Session]:
        if name == "old":
            raise error
        with running(name, model, model_name=model_name, threads=threads, allow_cpu_nodes=allow_cpu_nodes) as session:
            yield session

    monkeypatch.setattr(stand_ins, "running", failing)
    monkeypatch.setattr(answers, "running", failing)


def go(folder: Path, *targets: str) -> tuple[list[str], list[str], ExitCode, list[str]]:
    """Return who answered, who failed, the exit code and what was said."""
    listener = Listener()
    options = Options(bundle=folder, progress=listener)
    outcome, verdict = validate(targets=targets, n_images=40, options=options)
    return (
        [result.target for result in outcome.results],
        [failure.target for failure in verdict.failures],
        verdict.exit_code,
        listener.said,
    )


@pytest.mark.usefixtures("chips")
def test_all_asks_another_chip_where_one_does_not_take_the_model_and_says_why(bundle_copy: Path) -> None:
    answered, failed, code, said = go(bundle_copy, ALL)
    assert (answered, failed, code) == (["cpu", "new"], [], 0)
    assert f"{WHY} Of all targets, new is asked in its place." in said


@pytest.mark.usefixtures("chips")
def test_a_chip_that_was_named_is_never_replaced(bundle_copy: Path) -> None:
    for asked in (["cpu", "old"], [ALL, "old"]):
        answered, failed, code, _ = go(bundle_copy, *asked)
        assert (answered, failed, code) == (["cpu"], ["old"], 5)


@pytest.mark.usefixtures("chips")
def test_the_other_chip_answers_once_though_it_was_named_as_well(bundle_copy: Path) -> None:
    assert go(bundle_copy, ALL, "new")[0] == ["cpu", "new"]


@pytest.mark.usefixtures("chips")
def test_an_earlier_failure_of_the_chip_does_not_outlive_its_replacement(bundle_copy: Path) -> None:
    go(bundle_copy, "cpu", "old")
    assert [each.target for each in read_manifest(bundle_copy).validation_failures] == ["old"]
    go(bundle_copy, ALL)
    assert read_manifest(bundle_copy).validation_failures == ()


@pytest.mark.usefixtures("chips")
@pytest.mark.parametrize("error", [TargetError("broken.", next_step="x"), StageError("crashed.", next_step="x")])
def test_what_is_no_matter_of_the_chip_fails(bundle_copy: Path) -> None:
    answered, failed, code, _ = go(bundle_copy, ALL)
    assert (answered, failed) == (["cpu"], ["old"])
    assert code in (4, 5)


@pytest.mark.usefixtures("chips")
def test_a_chip_that_is_not_here_stands_in_for_none(bundle_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TARGETS, "new", dataclasses.replace(TARGETS["new"], provider="NoSuchExecutionProvider"))
    assert go(bundle_copy, ALL)[:3] == (["cpu"], ["old"], 5)


def test_what_stands_in_is_a_target_of_the_same_provider() -> None:
    pairs = {name: row.instead for name, row in TARGETS.items() if row.instead is not None}
    assert pairs == {"qnn": "qnn@sm8650"}
    for name, instead in pairs.items():
        assert TARGETS[instead].provider == TARGETS[name].provider
        assert TARGETS[instead].instead is None
