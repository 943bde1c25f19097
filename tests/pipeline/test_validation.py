"""What one ``edgecnn validate`` is asked, picked out of what the bundle holds."""

from pathlib import Path

import pytest

from edgecnn.errors import UsageError
from edgecnn.pipeline.context import Options
from edgecnn.pipeline.validation import Validated, take_validation
from edgecnn.pipeline.verdict import Gates
from tests.emulation import plant_target


def go(folder: Path, *targets: str) -> Validated:
    return take_validation(targets=targets, n_images=30, gates=Gates(max_drop_pp=100), options=Options(bundle=folder))


def test_only_the_targets_that_were_named_are_picked(
    bundle_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = plant_target(tmp_path / "bin", monkeypatch)
    both = go(bundle_copy, "cpu", name)
    assert [row.target for row in both.results] == ["cpu", name]
    assert len(both.verdict.checks) == 2
    one = go(bundle_copy, name)
    assert {row.target for row in one.outcome.manifest.validation} == {"cpu", name}, "the other's figures are kept"
    assert [row.target for row in one.results] == [name]
    assert [check.name for check in one.verdict.checks] == [f"accuracy drop on {name}"]


def test_predictions_belong_to_all(bundle_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgecnn.targets.choice._ready", lambda timed: ["cpu"])
    every = go(bundle_copy, "all")
    assert [row.target for row in every.results] == ["cpu"]
    assert {one.target for one in every.predictions} == {"coreml", "nnapi"}
    named = go(bundle_copy, "cpu")
    assert named.outcome.manifest.predictions, "they are in the bundle still"
    assert named.predictions == ()


def test_an_unknown_target_is_refused(bundle_copy: Path) -> None:
    with pytest.raises(UsageError, match="unknown provider 'gpu'"):
        go(bundle_copy, "gpu")
