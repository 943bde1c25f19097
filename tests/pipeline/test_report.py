"""Stage 7: ``report.md`` follows from the manifest alone."""

from pathlib import Path

import pytest

from edgecnn.bundle import Bundle
from edgecnn.errors import BundleError
from edgecnn.pipeline.context import Options
from edgecnn.pipeline.report import _without_report, write_report
from edgecnn.report import markdown
from tests.bundles import read_manifest, snapshot, times


def go(folder: Path) -> bool:
    return write_report(options=Options(bundle=folder)).unchanged


def test_a_report_is_written_once(bundle_copy: Path) -> None:
    before = snapshot(bundle_copy), times(bundle_copy)
    assert go(bundle_copy)
    assert (snapshot(bundle_copy), times(bundle_copy)) == before


@pytest.mark.parametrize("spoil", ["remove", "change"])
def test_a_report_that_was_lost_or_changed_is_made_again(bundle_copy: Path, spoil: str) -> None:
    report = bundle_copy / "report.md"
    before = report.read_bytes()
    if spoil == "remove":
        report.unlink()
    else:
        report.write_text("all is well")
    assert not go(bundle_copy)
    assert report.read_bytes() == before


def test_the_report_shows_the_manifest_without_itself(bundle_copy: Path) -> None:
    manifest = read_manifest(bundle_copy)
    expected = markdown.render(_without_report(manifest), title=bundle_copy.name)
    assert (bundle_copy / "report.md").read_bytes() == expected
    assert "report" in manifest.stages
    assert b"report.md" not in expected


def test_another_manifest_gives_another_report(bundle_copy: Path) -> None:
    before = (bundle_copy / "report.md").read_bytes()
    Bundle.open(bundle_copy).amend({"checks": ()})
    assert not go(bundle_copy)
    after = (bundle_copy / "report.md").read_text()
    assert after.encode() != before
    assert "No gate was asked for yet." in after


def test_a_bundle_with_nothing_measured_says_so(tmp_path: Path) -> None:
    Bundle.open_or_create(tmp_path).amend({"edgecnn_version": "0"})
    assert not go(tmp_path)
    assert (tmp_path / "report.md").read_text().count("Not measured.") == 2


def test_no_bundle_no_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match="artifacts/: expected a bundle, found none here") as caught:
        write_report()
    assert caught.value.next_step
    assert list(tmp_path.iterdir()) == []
