import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edgecnn.bundle import Bundle, Manifest, atomic, folder
from edgecnn.bundle.atomic import TEMPORARY_PREFIX, sha256_bytes
from edgecnn.bundle.manifest import Artifact, Check, StageName, StageRecord
from edgecnn.errors import BundleError, EdgecnnError, StorageError
from edgecnn.version import __version__

STEP = "edgecnn quantize"


def add(bundle: Bundle, stage: StageName, files: dict[str, bytes], **changes: object) -> None:
    """Commit a stage that made these files."""
    artifacts = [
        (Artifact(stage=stage, path=name, sha256=sha256_bytes(data), size_bytes=len(data)), data)
        for name, data in files.items()
    ]
    record = StageRecord(
        inputs={},
        settings={},
        outputs={artifact.path: artifact.sha256 for artifact, _ in artifacts},
        finished_at=datetime(2026, 1, 1, tzinfo=UTC),
        seconds=0,
    )
    bundle.commit(stage, record, artifacts, changes)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """Return a bundle with every stage done."""
    made = Bundle.open_or_create(tmp_path / "bundle")
    add(made, "train", {"model.pt": b"weights"})
    add(made, "export", {"float.onnx": b"exported"})
    add(made, "simplify", {"float.onnx": b"simplified"})
    add(made, "quantize", {"int8.onnx": b"quantized"})
    add(made, "validate", {})
    add(made, "bench", {})
    add(made, "report", {"report.html": b"<html>"})
    return made


def files(bundle: Bundle) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in bundle.folder.iterdir() if path.name != "manifest.json"}


def refusal(error: pytest.ExceptionInfo[EdgecnnError]) -> str:
    assert error.value.exit_code == 3
    assert error.value.next_step
    return error.value.message


@contextmanager
def without_permission(path: Path) -> Iterator[None]:
    """Take every right on a folder away, also from root."""
    mode = path.stat().st_mode
    path.chmod(0)
    as_root = os.geteuid() == 0
    if as_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if as_root:
            os.seteuid(0)
        path.chmod(stat.S_IMODE(mode))


def test_a_bundle_begins_empty_in_a_folder_made_for_it(tmp_path: Path) -> None:
    bundle = Bundle.open_or_create(tmp_path / "new" / "bundle")
    assert bundle.folder.is_dir()
    assert bundle.manifest == Manifest(edgecnn_version=__version__)
    assert files(bundle) == {}


def test_an_existing_bundle_is_opened_with_what_it_claims(bundle: Bundle) -> None:
    assert Bundle.open(bundle.folder).manifest == bundle.manifest
    assert Bundle.open_or_create(bundle.folder).manifest == bundle.manifest
    assert set(bundle.manifest.stages) == {"train", "export", "simplify", "quantize", "validate", "bench", "report"}


@pytest.mark.parametrize("name", ["missing", "empty", "file"])
def test_what_is_not_a_bundle_is_not_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BundleError) as raised:
        Bundle.open(tmp_path / name)
    assert f"{tmp_path / name}: expected a bundle, found no manifest.json in it" in refusal(raised)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bundle").write_bytes(b"mine")
    with pytest.raises(BundleError) as raised:
        Bundle.open_or_create(tmp_path / "bundle")
    assert f"{tmp_path / 'bundle'}: expected a folder, found a file" in refusal(raised)
    assert (tmp_path / "bundle").read_bytes() == b"mine"


def test_a_file_among_the_parents_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(BundleError, match="could not be written"):
        Bundle.open_or_create(tmp_path / "file" / "bundle")


@pytest.mark.parametrize("open_bundle", [Bundle.open, Bundle.open_or_create])
def test_a_folder_one_may_not_search_is_refused(bundle: Bundle, open_bundle: Callable[[Path], Bundle]) -> None:
    with without_permission(bundle.folder), pytest.raises(BundleError) as raised:
        open_bundle(bundle.folder)
    assert f"{bundle.folder}: not readable (Permission denied)" in refusal(raised)


def test_a_manifest_larger_than_any_is_refused_unread(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "MAX_MANIFEST_BYTES", 100)
    with pytest.raises(BundleError) as raised:
        Bundle.open(bundle.folder)
    assert "manifest.json: larger than 100 bytes" in refusal(raised)


def test_a_file_is_read_when_it_is_what_the_manifest_says(bundle: Bundle) -> None:
    assert bundle.read("float.onnx", next_step=STEP) == b"simplified"


def test_a_tampered_file_is_detected(bundle: Bundle) -> None:
    bundle.path("int8.onnx").write_bytes(b"quantizeD")
    with pytest.raises(BundleError) as raised:
        bundle.read("int8.onnx", next_step=STEP)
    assert raised.value.next_step == STEP
    message = refusal(raised)
    assert f"{bundle.path('int8.onnx')}: expected SHA-256 {sha256_bytes(b'quantized')[:12]}" in message
    assert f"found {sha256_bytes(b'quantizeD')[:12]}" in message
    assert "changed after it was made" in message


def test_a_file_that_is_gone_is_named(bundle: Bundle) -> None:
    bundle.path("int8.onnx").unlink()
    with pytest.raises(BundleError, match=r"int8\.onnx: named by the manifest but not readable \(No such file"):
        bundle.read("int8.onnx", next_step=STEP)


def test_a_file_the_manifest_does_not_name_is_not_read(bundle: Bundle) -> None:
    bundle.path("stranger.onnx").write_bytes(b"x")
    with pytest.raises(BundleError) as raised:
        bundle.read("stranger.onnx", next_step=STEP)
    assert f"{bundle.folder}: the bundle has no stranger.onnx yet" in refusal(raised)
    assert raised.value.next_step == STEP


def test_holds_is_true_only_for_files_that_are_there_and_unchanged(bundle: Bundle) -> None:
    outputs = {"model.pt": sha256_bytes(b"weights"), "int8.onnx": sha256_bytes(b"quantized")}
    assert bundle.holds(outputs)
    assert bundle.holds({})
    assert not bundle.holds(outputs | {"gone.onnx": "0" * 64})
    bundle.path("int8.onnx").write_bytes(b"other")
    assert not bundle.holds(outputs)


def test_commit_writes_the_files_and_then_the_manifest(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[list[str]] = []

    def keep_order(contents: dict[Path, bytes]) -> None:
        written.append([path.name for path in contents])

    monkeypatch.setattr(atomic, "write_together", keep_order)
    add(bundle, "report", {"report.html": b"<html>", "report.md": b"#"})
    assert written == [["report.html", "report.md", "manifest.json"]]


def test_commit_records_the_fields_the_stage_sets(bundle: Bundle) -> None:
    check = Check(name="drop", measured=0, limit=1, unit="pp", passed=True)
    add(bundle, "validate", {}, checks=(check,))
    assert Bundle.open(bundle.folder).manifest.checks == (check,)


def test_commit_refuses_a_field_that_the_manifest_lacks(bundle: Bundle) -> None:
    before = bundle.path("manifest.json").read_bytes()
    with pytest.raises(ValueError, match="surprise"):
        add(bundle, "validate", {}, surprise=1)
    assert bundle.path("manifest.json").read_bytes() == before


def test_a_new_training_takes_everything_else_away(bundle: Bundle) -> None:
    add(bundle, "train", {"model.pt": b"other weights"})
    assert files(bundle) == {"model.pt": b"other weights"}
    assert set(Bundle.open(bundle.folder).manifest.stages) == {"train"}


def test_a_new_export_takes_away_what_followed_from_the_old_one(bundle: Bundle) -> None:
    add(bundle, "export", {"float.onnx": b"other"})
    assert files(bundle) == {"model.pt": b"weights", "float.onnx": b"other"}
    assert set(Bundle.open(bundle.folder).manifest.stages) == {"train", "export"}


def test_a_new_simplification_keeps_the_export(bundle: Bundle) -> None:
    add(bundle, "simplify", {"float.onnx": b"simpler"})
    assert files(bundle) == {"model.pt": b"weights", "float.onnx": b"simpler"}
    assert set(bundle.manifest.stages) == {"train", "export", "simplify"}


def test_a_new_quantization_ends_the_measurements_and_the_report(bundle: Bundle) -> None:
    add(bundle, "quantize", {"int8.onnx": b"other"})
    assert files(bundle) == {"model.pt": b"weights", "float.onnx": b"simplified", "int8.onnx": b"other"}
    assert set(bundle.manifest.stages) == {"train", "export", "simplify", "quantize"}


@pytest.mark.parametrize("stage", ["validate", "bench"])
def test_a_new_measurement_ends_the_report_only(bundle: Bundle, stage: StageName) -> None:
    add(bundle, stage, {})
    assert "report.html" not in files(bundle)
    assert set(bundle.manifest.stages) == {"train", "export", "simplify", "quantize", "validate", "bench"}


@pytest.mark.parametrize(
    ("stage", "output"),
    [("train", {"model.pt": b"weights"}), ("quantize", {"int8.onnx": b"quantized"})],
)
def test_the_same_output_again_keeps_all_that_follows(
    bundle: Bundle, stage: StageName, output: dict[str, bytes]
) -> None:
    before, stages = files(bundle), set(bundle.manifest.stages)
    add(bundle, stage, output)
    assert files(bundle) == before
    assert set(Bundle.open(bundle.folder).manifest.stages) == stages


def test_the_same_export_again_undoes_the_simplification(bundle: Bundle) -> None:
    add(bundle, "export", {"float.onnx": b"exported"})
    assert files(bundle) == {"model.pt": b"weights", "float.onnx": b"exported"}
    assert set(bundle.manifest.stages) == {"train", "export"}


def test_a_file_a_stage_no_longer_makes_is_deleted(bundle: Bundle) -> None:
    add(bundle, "report", {"report.html": b"<html>", "report.md": b"#"})
    add(bundle, "report", {"report.html": b"<html>"})
    assert "report.md" not in files(bundle)


def test_files_that_the_manifest_never_named_are_left_alone(bundle: Bundle) -> None:
    bundle.path("notes.txt").write_bytes(b"mine")
    add(bundle, "train", {"model.pt": b"other"})
    assert files(bundle)["notes.txt"] == b"mine"


def test_a_commit_that_cannot_be_written_changes_nothing(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    before, manifest = files(bundle), bundle.manifest

    def full(contents: dict[Path, bytes]) -> None:
        raise StorageError("the disk is full", next_step="free some space")

    monkeypatch.setattr(atomic, "write_together", full)
    with pytest.raises(StorageError):
        add(bundle, "train", {"model.pt": b"other"})
    assert files(bundle) == before
    assert bundle.manifest == manifest == Bundle.open(bundle.folder).manifest


def test_a_process_killed_between_file_and_manifest_leaves_a_bundle_that_says_so(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def die_at_the_manifest(self: Path, target: Path) -> Path:
        if target.name == "manifest.json":
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", die_at_the_manifest)
    with pytest.raises(KeyboardInterrupt):
        add(bundle, "quantize", {"int8.onnx": b"half a commit"})
    with pytest.raises(BundleError, match="changed after it was made"):
        Bundle.open(bundle.folder).read("int8.onnx", next_step=STEP)


def test_amend_changes_a_field_and_no_file(bundle: Bundle) -> None:
    before = files(bundle)
    check = Check(name="drop", measured=0, limit=1, unit="pp", passed=True)
    bundle.amend({"checks": (check,)})
    assert files(bundle) == before
    assert Bundle.open(bundle.folder).manifest.checks == (check,) == bundle.manifest.checks


def test_amend_writes_nothing_when_nothing_changes(bundle: Bundle) -> None:
    before = bundle.path("manifest.json").stat()
    bundle.amend({"checks": ()})
    assert bundle.path("manifest.json").stat().st_ino == before.st_ino


def test_require_writable_leaves_nothing_behind(bundle: Bundle) -> None:
    before = files(bundle)
    bundle.require_writable()
    assert files(bundle) == before


def test_require_writable_finds_a_folder_that_is_not(bundle: Bundle) -> None:
    with without_permission(bundle.folder), pytest.raises(BundleError) as raised:
        bundle.require_writable()
    assert f"{bundle.folder}: the folder cannot be written (Permission denied)" in refusal(raised)


def holder(bundle: Bundle) -> subprocess.Popen[bytes]:
    """Start a process that holds the bundle's lock until it dies."""
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom edgecnn.bundle import Bundle\n"
        "with Bundle.open(Path(sys.argv[1])).locked():\n    print('locked', flush=True)\n    time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, bundle.folder], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"locked\n"
    return process


def test_a_lock_keeps_a_second_process_out_until_the_first_is_killed(bundle: Bundle) -> None:
    with holder(bundle) as process:
        try:
            with pytest.raises(BundleError) as raised, bundle.locked():
                pytest.fail("both processes are in")
            assert f"{bundle.folder}: another edgecnn process is at work" in refusal(raised)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        with bundle.locked():
            pass


def test_a_lock_is_released_after_an_error(bundle: Bundle) -> None:
    with pytest.raises(RuntimeError, match="in the middle"), bundle.locked():
        raise RuntimeError("in the middle")
    with Bundle.open(bundle.folder).locked():
        pass


def test_reading_needs_no_lock(bundle: Bundle) -> None:
    with bundle.locked():
        assert Bundle.open(bundle.folder).read("model.pt", next_step=STEP) == b"weights"


def test_inside_the_lock_the_manifest_is_the_newest(bundle: Bundle) -> None:
    late = Bundle.open(bundle.folder)
    add(bundle, "train", {"model.pt": b"other"})
    assert set(late.manifest.stages) != {"train"}
    with late.locked():
        assert late.manifest == bundle.manifest


def test_what_a_killed_process_left_is_cleaned_up_inside_the_lock(bundle: Bundle) -> None:
    bundle.path(f"{TEMPORARY_PREFIX}torn").write_bytes(b"half")
    with bundle.locked():
        assert not bundle.path(f"{TEMPORARY_PREFIX}torn").exists()


def test_a_bundle_that_vanished_cannot_be_locked(tmp_path: Path) -> None:
    bundle = Bundle.open_or_create(tmp_path / "bundle")
    bundle.folder.rmdir()
    with pytest.raises(BundleError, match="could not be written"), bundle.locked():
        pytest.fail("locked nothing")
