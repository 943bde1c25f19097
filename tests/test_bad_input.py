"""Everything bad that can be given: one clear message, the right exit code, and nothing touched."""

import contextlib
import importlib.util
import io
import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgecnn.cli import _main
from edgecnn.errors import ExitCode
from edgecnn.models import checkpoint
from tests.bundles import missing_target, snapshot


@dataclass(frozen=True)
class Failure:
    code: int
    message: str
    next_step: str


Fail = Callable[..., Failure]


@pytest.fixture
def fail(capfd: pytest.CaptureFixture[str]) -> Iterator[Fail]:
    """Return a way to run a command that must end in one error: nothing on stdout, no traceback."""

    def run(*arguments: object) -> Failure:
        capfd.readouterr()
        code = _main([str(argument) for argument in arguments])
        found = capfd.readouterr()
        assert found.out == ""
        assert "Traceback" not in found.err
        *notes, error, remedy = found.err.splitlines()
        assert error.startswith("edgecnn: ")
        assert remedy.startswith("Next: ")
        assert len(remedy) > len("Next: ")
        assert not [note for note in notes if note.startswith(("edgecnn:", "Next:"))], "one error, not two"
        return Failure(code=code, message=error, next_step=remedy)

    handler = signal.getsignal(signal.SIGTERM)
    yield run
    signal.signal(signal.SIGTERM, handler)


# A checkpoint.

CHECKPOINTS: dict[str, tuple[Callable[[Path], bytes | None], tuple[str, ...]]] = {
    "missing": (lambda good: None, ("expected a checkpoint file, found nothing",)),
    "empty": (lambda good: b"", ("found an empty file",)),
    "truncated": (lambda good: good.read_bytes()[:100_000], ("truncated or not one",)),
    "text": (lambda good: b"weights, honestly", ("truncated or not one",)),
    "archive-of-something-else": (lambda good: zipped({"readme.txt": b"hello"}), ("torch cannot read",)),
    "pickle": (lambda good: pickle.dumps({"weights": [1, 2]}), ("a bare pickle", "was not opened")),
    "old-pickle": (lambda good: pickle.dumps({"weights": [1, 2]}, protocol=0), ("truncated or not one",)),
    "code": (lambda good: saved({"info": Evil()}), ("holds pickled code", "was not opened")),
    "another-architecture": (lambda good: renamed(good, "lenet5"), ("of the architecture 'lenet5'", "simplecnn")),
    "other-weights": (
        lambda good: reshaped(good),
        ("fc3.weight is [10, 85] instead of [10, 84]", "conv1.bias is missing"),
    ),
    "nan-weights": (lambda good: spoiled(good, float("nan")), ("conv2.weight holds NaN or infinite values",)),
    "infinite-weights": (lambda good: spoiled(good, float("inf")), ("conv2.weight holds NaN or infinite values",)),
}


class Evil:
    """What a stranger could put in a pickle."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return (os.system, ("touch owned",))


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def renamed(good: Path, model: str) -> bytes:
    content = torch.load(good, weights_only=True)
    content["info"]["model"] = model
    return saved(content)


def reshaped(good: Path) -> bytes:
    content = torch.load(good, weights_only=True)
    content["state_dict"]["fc3.weight"] = torch.zeros(10, 85)
    del content["state_dict"]["conv1.bias"]
    return saved(content)


def spoiled(good: Path, value: float) -> bytes:
    info, module = checkpoint.load(good)
    with torch.no_grad():
        module.get_parameter("conv2.weight")[3, 2, 1, 0] = value
    return checkpoint.pack(info, module)


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_a_bad_checkpoint_is_refused(
    fail: Fail, finished_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make, words = CHECKPOINTS[kind]
    data = make(finished_bundle / "model.pt")
    if data is not None:
        Path("model.pt").write_bytes(data)
    before = snapshot(tmp_path)
    found = fail("export", "model.pt")
    assert found.code == 3
    assert found.message.startswith("edgecnn: model.pt: ")
    for word in words:
        assert word in found.message
    assert snapshot(tmp_path) == before


def test_the_good_checkpoint_of_these_tests_is_good(finished_bundle: Path) -> None:
    checkpoint.load(finished_bundle / "model.pt")


# Images.


def picture(path: Path, *, size: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size, size, 3), 128, np.uint8)).save(path)


def strange_class(root: Path) -> tuple[str, ...]:
    picture(root / "test" / "zebra" / "1.png")
    return ("images/test", "zebra", "images/train lacks")


def garbage(root: Path) -> tuple[str, ...]:
    (root / "train" / "cat" / "2.jpg").write_bytes(b"not a picture")
    return ("images/train/cat/2.jpg", "not a readable JPEG or PNG image")


def half_a_picture(root: Path) -> tuple[str, ...]:
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(whole, "PNG")
    (root / "test" / "cat" / "2.png").write_bytes(whole.getvalue()[:4000])
    return ("images/test/cat/2.png", "not a readable JPEG or PNG image")


def nothing_in_train(root: Path) -> tuple[str, ...]:
    shutil.rmtree(root / "train" / "cat")
    (root / "train" / "cat").mkdir()
    return ("images/train", "expected JPEG or PNG images, found none")


def no_test(root: Path) -> tuple[str, ...]:
    shutil.rmtree(root / "test")
    return ("images/test", "expected a folder of classes, found none")


def empty_folder(root: Path) -> tuple[str, ...]:
    shutil.rmtree(root)
    root.mkdir()
    return ("images/train", "expected a folder of classes, found none")


def no_folder(root: Path) -> tuple[str, ...]:
    shutil.rmtree(root)
    return ("images", "found nothing at that path")


@pytest.mark.parametrize("command", ["train", "run"])
@pytest.mark.parametrize(
    "spoil", [strange_class, garbage, half_a_picture, nothing_in_train, no_test, empty_folder, no_folder]
)
def test_bad_images_are_refused(
    fail: Fail,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path], tuple[str, ...]],
    command: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for split in ("train", "test"):
        picture(tmp_path / "images" / split / "cat" / "1.png")
    words = spoil(tmp_path / "images")
    before = snapshot(tmp_path)
    found = fail(command, "--data", "images", "--epochs", "1")
    assert found.code == 3
    for word in words:
        assert word in found.message
    assert snapshot(tmp_path) == before


def test_a_file_that_is_no_archive_is_refused(fail: Fail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("images.npz").write_bytes(b"PK\3\4 torn")
    Path("images.csv").write_text("1,2")
    before = snapshot(tmp_path)
    found = fail("train", "--data", "images.npz")
    assert (found.code, "images.npz: not a readable .npz archive" in found.message) == (3, True)
    found = fail("train", "--data", "images.csv")
    assert (found.code, "found a file that is not .npz" in found.message) == (3, True)
    assert snapshot(tmp_path) == before


# A bundle.


def torn(manifest: str) -> str:
    return manifest[: len(manifest) // 2]


def newer(manifest: str) -> str:
    return json.dumps({**json.loads(manifest), "schema_version": 2})


def unknown_key(manifest: str) -> str:
    return json.dumps({**json.loads(manifest), "mood": "good"})


def outside(manifest: str) -> str:
    content = json.loads(manifest)
    content["artifacts"][-1]["path"] = "../../outside"
    return json.dumps(content)


@pytest.mark.parametrize("command", ["run", "quantize", "validate", "bench", "report", "simplify"])
@pytest.mark.parametrize(
    ("spoil", "words"),
    [(torn, "the file"), (newer, "schema_version"), (unknown_key, "mood"), (outside, "artifacts")],
)
def test_a_bad_manifest_is_refused(
    fail: Fail, bundle_copy: Path, spoil: Callable[[str], str], words: str, command: str
) -> None:
    path = bundle_copy / "manifest.json"
    path.write_text(spoil(path.read_text()))
    before = snapshot(bundle_copy)
    found = fail(command, "--bundle", bundle_copy)
    assert found.code == 3
    assert f"{path}: expected a bundle manifest of version 1, found a problem at {words}" in found.message
    assert snapshot(bundle_copy) == before


@pytest.mark.parametrize("command", ["quantize", "validate", "bench", "report", "simplify"])
@pytest.mark.parametrize("kind", ["nothing", "folder", "file"])
def test_what_is_no_bundle_is_refused(fail: Fail, tmp_path: Path, kind: str, command: str) -> None:
    target = tmp_path / "bundle"
    if kind == "folder":
        target.mkdir()
    elif kind == "file":
        target.write_text("bundle")
    before = snapshot(tmp_path)
    found = fail(command, "--bundle", target)
    assert found.code == 3
    assert f"{target}: expected a bundle" in found.message
    assert snapshot(tmp_path) == before


def test_a_file_where_a_bundle_should_be_made_is_refused(fail: Fail, tmp_path: Path) -> None:
    (tmp_path / "bundle").write_text("a file")
    for target in (tmp_path / "bundle", tmp_path / "bundle" / "below"):
        found = fail("train", "--data", "digits", "--epochs", "1", "--bundle", target)
        assert found.code == 3
        assert str(tmp_path / "bundle") in found.message
    assert snapshot(tmp_path).keys() == {"bundle"}


def test_a_quantized_model_is_not_quantized_again(fail: Fail, finished_bundle: Path, tmp_path: Path) -> None:
    shutil.copy(finished_bundle / "int8.onnx", tmp_path / "mine.onnx")
    before = snapshot(tmp_path)
    found = fail("quantize", tmp_path / "mine.onnx", "--data", "digits", "--bundle", tmp_path / "bundle")
    assert found.code == 3
    assert "mine.onnx: is quantized already; expected a float model" in found.message
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("command", ["run", "validate", "bench"])
def test_a_provider_that_does_not_exist_or_is_not_here(fail: Fail, bundle_copy: Path, command: str) -> None:
    before = snapshot(bundle_copy)
    found = fail(command, "--bundle", bundle_copy, "--provider", "warp")
    assert (found.code, "unknown provider 'warp'; known: cpu" in found.message) == (2, True)
    found = fail(command, "--bundle", bundle_copy, "--provider", missing_target())
    assert (found.code, f"{missing_target()}: not available here" in found.message) == (5, True)
    assert snapshot(bundle_copy) == before


# A bundle that someone else is at work in.

HOLD = """
import sys
from pathlib import Path
from edgecnn.pipeline.context import working_on
with working_on(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""
OTHER = "u8s8-pertensor-minmax"
WRITERS = {
    "run": ("run", "--data", "digits", "--tune-seconds", "0"),
    "train": ("train", "--epochs", "9"),
    "export": ("export", "--force"),
    "simplify": ("simplify", "--force"),
    "quantize": ("quantize", "--recipe", OTHER),
    "validate": ("validate",),
    "bench": ("bench",),
    "report": ("report",),
}


def test_two_processes_do_not_work_in_one_bundle(fail: Fail, bundle_copy: Path) -> None:
    before = snapshot(bundle_copy)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(bundle_copy)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        for arguments in WRITERS.values():
            found = fail(*arguments, "--bundle", bundle_copy)
            assert found.code == 3
            assert f"{bundle_copy}: another edgecnn process is at work in this bundle" in found.message
        other.communicate("")
    assert snapshot(bundle_copy) == before
    assert _main(["report", "--bundle", str(bundle_copy)]) == 0


# A disk that takes no more.


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Return a way to mount a file system of a few kB; undone afterwards."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(size_kb: int) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_kb}k", "tmpfs", str(place)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            pytest.skip(f"no mount on this machine ({error})")
        if done.returncode:
            pytest.skip(f"mounting a tmpfs is not permitted here ({done.stderr.strip()})")
        return place

    yield mount
    subprocess.run(["umount", str(place)], capture_output=True, check=False)


def size_kb(folder: Path) -> int:
    """Return how many kB the files of a folder need in pages of 4 kB."""
    return sum(-(-path.stat().st_size // 4096) * 4 for path in folder.iterdir())


def test_a_full_disk_is_said_and_the_bundle_is_as_before(
    fail: Fail, finished_bundle: Path, tiny_disk: Callable[[int], Path]
) -> None:
    # room for the probe and half of an int8.onnx
    folder = tiny_disk(size_kb(finished_bundle) + 48) / "bundle"
    shutil.copytree(finished_bundle, folder)
    before = snapshot(folder)
    found = fail("quantize", "--bundle", folder, "--recipe", OTHER)
    assert found.code == 4
    assert f"{folder / 'int8.onnx'}: the disk is full (No space left on device); nothing was changed" in found.message
    assert "free some space" in found.next_step
    assert snapshot(folder) == before


def test_a_disk_without_any_room_is_met_before_the_work(
    fail: Fail, finished_bundle: Path, tiny_disk: Callable[[int], Path]
) -> None:
    folder = tiny_disk(size_kb(finished_bundle) + 48) / "bundle"
    shutil.copytree(finished_bundle, folder)
    with contextlib.suppress(OSError), (folder.parent / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(b"\0" * 1024)
    before = snapshot(folder)
    for arguments in WRITERS.values():
        found = fail(*arguments, "--bundle", folder)
        assert found.code == 4
        assert "the disk is full" in found.message
    assert snapshot(folder) == before


def test_training_on_a_full_disk_leaves_nothing(fail: Fail, tiny_disk: Callable[[int], Path]) -> None:
    place = tiny_disk(200)
    found = fail("train", "--data", "digits", "--epochs", "1", "--bundle", place / "bundle")
    assert found.code == 4
    assert "training.pt: the disk is full" in found.message
    assert list(place.iterdir()) == []


@contextlib.contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """Let the system refuse larger files to this process, as a quota would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("export", "float.onnx: the disk is full (File too large); nothing was changed"),
        ("quantize", "could not write to the temporary folder"),
    ],
)
def test_a_quota_is_said_and_the_bundle_is_as_before(fail: Fail, bundle_copy: Path, command: str, words: str) -> None:
    before = snapshot(bundle_copy)
    with largest_file(90_000):
        found = fail(*WRITERS[command], "--bundle", bundle_copy)
    assert found.code == 4
    assert words in found.message
    assert "free some space" in found.next_step
    assert snapshot(bundle_copy) == before


@pytest.fixture
def read_only(finished_bundle: Path, tiny_disk: Callable[[int], Path], tmp_path: Path) -> Iterator[Path]:
    """Return a bundle that cannot be written: by its mode, or for root by its file system."""
    if os.geteuid() != 0:
        folder = Path(shutil.copytree(finished_bundle, tmp_path / "bundle"))
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)
        return
    place = tiny_disk(4096)
    folder = Path(shutil.copytree(finished_bundle, place / "bundle"))
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    yield folder


@pytest.mark.parametrize("command", WRITERS)
def test_a_folder_that_cannot_be_written_is_said_before_the_work(fail: Fail, read_only: Path, command: str) -> None:
    before = snapshot(read_only)
    found = fail(*WRITERS[command], "--bundle", read_only)
    assert found.code == 3
    assert f"{read_only}: the folder cannot be written" in found.message
    assert "nothing was changed" in found.message
    assert "--bundle" in found.next_step
    assert snapshot(read_only) == before


@pytest.mark.parametrize("command", [("train",), ("export", "model.pt", "--force"), ("run", "--force")])
def test_without_pytorch_what_needs_it_says_so(
    command: tuple[str, ...], bundle_copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "torch" else find(name, *rest))
    before = snapshot(bundle_copy)
    assert _main([*command, "--bundle", str(bundle_copy)]) == ExitCode.USAGE
    told = capsys.readouterr().err
    assert "needs PyTorch, which is not installed here" in told
    assert "pip install 'edgecnn[torch]'" in told
    assert snapshot(bundle_copy) == before
