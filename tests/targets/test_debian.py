"""apt with a state of its own: what it is told, what it may not touch, and how it fails. A fake apt stands in."""

import json
import sys
from pathlib import Path

import pytest

from edgecnn.errors import ExitCode, TargetError
from edgecnn.targets.debian import ForeignPackages, call

#: Writes down each call; downloads two packages, and unpacks a file that is named after the archive.
FAKE = f"""#!{sys.executable}
import json, os, pathlib, sys
log = pathlib.Path({{log!r}})
with log.open("a") as file:
    print(json.dumps([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]), file=file)
options = dict(word.split("=", 1) for word in sys.argv if "=" in word)
if "depends" in sys.argv:
    print(os.environ.get("FAKE_DEPENDS", "python3-minimal\\n  PreDepends: python3.13-minimal"))
if "--download-only" in sys.argv:
    for name in ("a.deb", "b.deb"):
        pathlib.Path(options["Dir::Cache"], "archives", name).write_text(name)
if "--extract" in sys.argv:
    root = pathlib.Path(sys.argv[-1])
    for folder in ("usr/lib", "usr/share/doc", "etc"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "usr" / "lib" / pathlib.Path(sys.argv[-2]).stem).touch()
if os.environ.get("FAKE_FAIL") in sys.argv:
    sys.exit("E: Unable to reach anything\\nE: the last line")
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put fakes of apt and dpkg on an otherwise empty PATH, and return where they write down their calls."""
    programs, log = tmp_path / "bin", tmp_path / "log"
    programs.mkdir()
    for name in ("apt-get", "apt-cache", "dpkg-deb"):
        (programs / name).write_text(FAKE.replace("{log!r}", repr(str(log))))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    return log


def packages(tmp_path: Path) -> ForeignPackages:
    return ForeignPackages("arm64", tmp_path / "scratch")


def test_packages_are_fetched_and_unpacked_without_what_is_not_needed(tmp_path: Path, log: Path) -> None:
    found = packages(tmp_path)
    found.update()
    assert found.python_version() == "3.13"
    root = tmp_path / "root"
    root.mkdir()
    found.unpack(["python3.13-minimal"], root)
    assert sorted(path.name for path in (root / "usr" / "lib").iterdir()) == ["a", "b"]
    assert sorted(path.name for path in root.iterdir()) == ["lib", "usr"]
    assert (root / "lib" / "a").exists(), "where packages hold nothing but /usr, /lib leads there"
    assert not (root / "usr" / "share").exists()


def test_apt_keeps_everything_in_the_scratch_folder_and_changes_no_architecture(tmp_path: Path, log: Path) -> None:
    found = packages(tmp_path)
    found.update()
    found.python_version()
    (tmp_path / "root").mkdir()
    found.unpack(["x"], tmp_path / "root")
    calls = [json.loads(line) for line in log.read_text().splitlines()]
    apt = [words for words in calls if words[0].startswith("apt")]
    assert len(apt) == 3
    scratch = str(tmp_path / "scratch")
    for words in apt:
        options = dict(word.split("=", 1) for word in words if "=" in word)
        assert options["APT::Architectures"] == options["APT::Architecture"] == "arm64"
        for place in ("Dir::State", "Dir::State::status", "Dir::Cache"):
            assert options[place].startswith(scratch), "the system's own is not touched"
    assert (tmp_path / "scratch" / "status").read_bytes() == b"", "no package counts as installed"
    assert {words[0] for words in calls} == {"apt-get", "apt-cache", "dpkg-deb"}
    assert all("--download-only" in words for words in apt if "install" in words)


def test_a_system_without_apt_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TargetError, match="found no apt-get, apt-cache, dpkg-deb on PATH") as caught:
        packages(tmp_path)
    assert caught.value.exit_code == ExitCode.TARGET_UNAVAILABLE


@pytest.mark.parametrize("step", ["update", "--download-only", "--extract"])
def test_what_apt_said_last_is_passed_on(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    monkeypatch.setenv("FAKE_FAIL", step)
    (tmp_path / "root").mkdir()
    found = packages(tmp_path)

    def go() -> None:
        found.update()
        found.unpack(["x"], tmp_path / "root")

    with pytest.raises(TargetError, match=r"failed \(E: the last line\)") as caught:
        go()
    assert caught.value.next_step


def test_sources_without_the_architecture_are_named(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_DEPENDS", "python3-minimal")
    with pytest.raises(TargetError, match="no Python for arm64") as caught:
        packages(tmp_path).python_version()
    assert "arm64" in caught.value.next_step


def test_a_program_that_does_not_start_is_named() -> None:
    with pytest.raises(TargetError, match="what: /no/such/program did not run") as caught:
        call(["/no/such/program"], what="what", next_step="next")
    assert caught.value.next_step == "next"


def test_a_program_that_says_nothing_is_quoted_with_its_code() -> None:
    with pytest.raises(TargetError, match=r"failed \(code 7\)"):
        call([sys.executable, "-c", "raise SystemExit(7)"], what="what", next_step="next")


def test_a_program_gets_no_terminal_and_answers_in_english() -> None:
    code = "import os, sys; print(os.environ['LC_ALL'], os.environ['DEBIAN_FRONTEND'], sys.stdin.read() == '')"
    assert call([sys.executable, "-c", code], what="what", next_step="next") == "C noninteractive True\n"
