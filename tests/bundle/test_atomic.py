import errno
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgecnn.bundle import atomic
from edgecnn.errors import BundleError, StorageError

TINY_DISK_BYTES = 64 * 1024


def mounted(folder: Path, options: str) -> None:
    if sys.platform != "linux":
        pytest.skip("a tiny disk is made with Linux's tmpfs")
    folder.mkdir(exist_ok=True)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"mounting is not permitted here: {made.stderr.decode().strip()}")


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    mounted(folder, f"size={TINY_DISK_BYTES}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def hang_in(function: str, folder: Path, *, at_call: int) -> subprocess.Popen[bytes]:
    """Start a process that rewrites a.bin and b.bin and stops for good inside the n-th call of a function."""
    script = f"""
import os, time
from pathlib import Path
from edgecnn.bundle import atomic
real, calls = {function}, 0
def hang(*arguments):
    global calls
    calls += 1
    if calls == {at_call}:
        print("hanging", flush=True)
        time.sleep(600)
    return real(*arguments)
{function} = hang
atomic.write_together({{Path("a.bin"): b"new a" * 9999, Path("b.bin"): b"new b" * 9999}})
"""
    process = subprocess.Popen([sys.executable, "-c", script], cwd=folder, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"hanging\n"
    return process


def killed_in(function: str, folder: Path, *, at_call: int) -> None:
    with hang_in(function, folder, at_call=at_call) as process:
        process.send_signal(signal.SIGKILL)


def test_files_are_written_replaced_and_readable_by_everyone(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"old")
    atomic.write_together({tmp_path / "a.bin": b"new", tmp_path / "b.bin": b""})
    atomic.write_atomically(tmp_path / "c.bin", b"c")
    assert contents(tmp_path) == {"a.bin": b"new", "b.bin": b"", "c.bin": b"c"}
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o644}


def test_every_file_is_flushed_before_the_first_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def flush(descriptor: int) -> None:
        happened.append("flush")
        fsync(descriptor)

    def rename(self: Path, target: Path) -> Path:
        happened.append(f"rename {target.name}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(Path, "replace", rename)
    atomic.write_together({tmp_path / "b": b"1", tmp_path / "a": b"2"})
    assert happened == ["flush", "flush", "rename b", "rename a"]


def test_a_full_disk_leaves_every_file_old_and_nothing_else(tiny_disk: Path) -> None:
    before = {"first.bin": b"old first", "second.bin": b"old second"}
    for name, data in before.items():
        (tiny_disk / name).write_bytes(data)
    with pytest.raises(StorageError) as raised:
        atomic.write_together(
            {
                tiny_disk / "first.bin": b"fits",
                tiny_disk / "second.bin": b"x" * 2 * TINY_DISK_BYTES,
                tiny_disk / "manifest.json": b"never reached",
            }
        )
    assert contents(tiny_disk) == before
    assert raised.value.exit_code == 4
    assert "second.bin: the disk is full" in raised.value.message
    assert "nothing was changed" in raised.value.message
    assert "free some space" in raised.value.next_step
    assert isinstance(raised.value.__cause__, OSError)
    assert raised.value.__cause__.errno == errno.ENOSPC


def test_after_a_full_disk_there_is_room_as_before(tiny_disk: Path) -> None:
    with pytest.raises(StorageError):
        atomic.write_atomically(tiny_disk / "large.bin", b"x" * 2 * TINY_DISK_BYTES)
    atomic.write_atomically(tiny_disk / "small.bin", b"x" * (TINY_DISK_BYTES // 2))
    assert contents(tiny_disk) == {"small.bin": b"x" * (TINY_DISK_BYTES // 2)}


def test_a_read_only_disk_is_a_bundle_error(tiny_disk: Path) -> None:
    (tiny_disk / "a.bin").write_bytes(b"old")
    subprocess.run(["mount", "-o", "remount,ro", tiny_disk], check=True)
    with pytest.raises(BundleError) as raised:
        atomic.write_atomically(tiny_disk / "a.bin", b"new")
    assert raised.value.exit_code == 3
    assert f"{tiny_disk}: the folder cannot be written (Read-only file system)" in raised.value.message
    assert "--bundle" in raised.value.next_step
    assert contents(tiny_disk) == {"a.bin": b"old"}


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOSPC, StorageError, "the disk is full"),
        (errno.EDQUOT, StorageError, "the disk is full"),
        (errno.EFBIG, StorageError, "the disk is full"),
        (errno.EROFS, BundleError, "cannot be written"),
        (errno.EACCES, BundleError, "cannot be written"),
        (errno.EPERM, BundleError, "cannot be written"),
        (errno.EIO, BundleError, "could not be written"),
    ],
)
def test_what_the_system_says_is_translated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception], words: str
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(kind, match=words) as raised:
        atomic.write_atomically(tmp_path / "a.bin", b"new")
    assert type(raised.value) is kind
    assert os.strerror(number) in str(raised.value)
    assert "\nNext: " in str(raised.value)
    assert contents(tmp_path) == {}


def test_a_missing_folder_is_a_bundle_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"gone/a\.bin: could not be written \(No such file or directory\)"):
        atomic.write_atomically(tmp_path / "gone" / "a.bin", b"new")


def test_a_folder_in_the_place_of_a_file_is_a_bundle_error(tmp_path: Path) -> None:
    (tmp_path / "a.bin").mkdir()
    with pytest.raises(BundleError, match=r"a\.bin: could not be written \(Is a directory\)"):
        atomic.write_atomically(tmp_path / "a.bin", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_a_writer_killed_while_writing_leaves_the_old_files(tmp_path: Path) -> None:
    old = {"a.bin": b"old a", "b.bin": b"old b"}
    for name, data in old.items():
        (tmp_path / name).write_bytes(data)
    killed_in("os.fsync", tmp_path, at_call=2)
    leftovers = [name for name in contents(tmp_path) if name.startswith(atomic.TEMPORARY_PREFIX)]
    assert len(leftovers) == 2
    atomic.remove_leftovers(tmp_path)
    assert contents(tmp_path) == old


def test_a_writer_killed_between_two_renames_leaves_whole_files(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"old a")
    (tmp_path / "b.bin").write_bytes(b"old b")
    killed_in("Path.replace", tmp_path, at_call=2)
    atomic.remove_leftovers(tmp_path)
    assert contents(tmp_path) == {"a.bin": b"new a" * 9999, "b.bin": b"old b"}


def test_only_leftovers_are_removed(tmp_path: Path) -> None:
    for name in (f"{atomic.TEMPORARY_PREFIX}abc", "model.pt", ".hidden", "edgecnn-tmp-mine"):
        (tmp_path / name).write_bytes(b"")
    atomic.remove_leftovers(tmp_path)
    assert sorted(contents(tmp_path)) == [".hidden", "edgecnn-tmp-mine", "model.pt"]


def test_hashes_are_sha256(tmp_path: Path) -> None:
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert atomic.sha256_bytes(b"abc") == abc
    data = os.urandom(3_000_000)
    (tmp_path / "large").write_bytes(data)
    assert atomic.sha256_file(tmp_path / "large") == hashlib.sha256(data).hexdigest()
