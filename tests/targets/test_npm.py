"""npm packages by exact version and hash."""

import json
import re
from pathlib import Path

import pytest

from edgecnn.errors import ExitCode, TargetError
from edgecnn.targets import node_program, npm
from edgecnn.targets.npm import PACKAGES, WASM, XNNPACK, NpmPackage
from tests.web import fake_program

each_package = pytest.mark.parametrize("package", [WASM, XNNPACK], ids=lambda package: package.name)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECNN_CACHE", str(tmp_path / "cache"))
    node_program.node_version.cache_clear()


def only_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{folder}:/bin")
    monkeypatch.setattr("shutil.which", lambda name: str(folder / name) if (folder / name).exists() else None)
    return folder


def fake_npm(folder: Path, script: str) -> None:
    fake_program(folder, "node", "echo v20.0.0")
    fake_program(folder, "npm", script)


def place(package: NpmPackage) -> None:
    for name in package.kept:
        path = package.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@each_package
def test_every_package_of_a_lock_has_an_exact_version_and_a_hash_and_no_address(package: NpmPackage) -> None:
    lock = json.loads((PACKAGES / package.name / "package-lock.json").read_text())
    rows = {name: row for name, row in lock["packages"].items() if name}
    assert len(rows) > 10
    for name, row in rows.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", row["version"]), name
        assert row["integrity"].startswith("sha512-"), name
        assert "resolved" not in row, name


@each_package
def test_the_lock_holds_the_version_that_is_asked_for(package: NpmPackage) -> None:
    wanted = json.loads((PACKAGES / package.name / "package.json").read_text())["dependencies"]
    assert wanted == {package.package: package.version}
    assert npm.locked_version(package.name, package.package) == package.version


def test_the_two_versions_do_not_share_a_folder() -> None:
    assert WASM.folder != XNNPACK.folder


def test_what_is_missing_of_a_package_is_named() -> None:
    assert WASM.why_not() == "onnxruntime-web 1.30.0 is not set up"
    place(WASM)
    assert WASM.why_not() is None
    WASM.path(WASM.library).unlink()
    assert "is damaged" in str(WASM.why_not())
    assert str(WASM.path(WASM.library)) in str(WASM.why_not())


def test_without_an_npm_the_command_that_brings_one_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_path(tmp_path, monkeypatch)
    with pytest.raises(TargetError, match="npm is not on PATH with a Node that will do") as caught:
        WASM.fetch(tmp_path / "scratch", tmp_path / "root")
    assert "edgecnn targets install wasm" in caught.value.next_step
    assert caught.value.exit_code == ExitCode.TARGET_UNAVAILABLE


def test_npm_without_a_network_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_npm(tmp_path / "bin", "echo 'npm error code ENOTFOUND' >&2; exit 1")
    only_path(tmp_path / "bin", monkeypatch)
    with pytest.raises(TargetError, match=r"onnxruntime-web 1\.30\.0: npm failed \(npm error code ENOTFOUND\)") as e:
        WASM.fetch(tmp_path / "scratch", tmp_path / "root")
    assert "npm ping" in e.value.next_step


def test_only_what_is_needed_is_kept_and_no_script_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch, root = tmp_path / "scratch", tmp_path / "root"
    modules = scratch / "npm" / "node_modules"
    made = " ".join(f"$(dirname {modules / name})" for name in WASM.kept)
    files = " ".join(str(modules / name) for name in (*WASM.kept, "onnxruntime-web/dist/ort.all.js"))
    fake_npm(tmp_path / "bin", f'echo "$@" > {tmp_path}/words; /bin/mkdir -p {made}; /bin/touch {files}')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    WASM.fetch(scratch, root)
    kept = sorted(str(path.relative_to(root / "node_modules")) for path in root.rglob("*") if path.is_file())
    assert kept == sorted(WASM.kept)
    words = (tmp_path / "words").read_text().split()
    assert words[0] == "ci"
    assert "--ignore-scripts" in words


def test_a_package_without_what_is_needed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_npm(tmp_path / "bin", "exit 0")
    only_path(tmp_path / "bin", monkeypatch)
    with pytest.raises(TargetError, match=r"npm fetched no ort\.wasm\.min\.mjs"):
        WASM.fetch(tmp_path / "scratch", tmp_path / "root")
