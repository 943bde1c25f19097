"""Virtual environments, from wheels made here."""

import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from edgecnn.errors import TargetError
from edgecnn.progress import SILENT
from scripts.peer_bench import environment
from scripts.peer_bench.entrants import prepare_peers
from scripts.peer_bench.inputs import Inputs
from scripts.peer_bench.table import Peer
from tests.peer_bench.made_up import fake


def wheel(folder: Path, name: str) -> None:
    """Write a wheel that holds one empty module."""
    folder.mkdir()
    with zipfile.ZipFile(folder / f"{name}-1-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.py", "")
        info = f"{name}-1.dist-info"
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def pip_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel(tmp_path / "wheels", "tinypeer")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


@pytest.mark.usefixtures("pip_offline")
def test_an_environment_is_made_once_for_the_same_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Peer(title="Tiny", module="x", packages=("tinypeer==1",))
    python = environment.install("tiny", peer, tmp_path / "peers", SILENT)
    subprocess.run([python, "-c", "import tinypeer"], check=True)

    def never(*_: object) -> None:
        raise AssertionError("installed again")

    monkeypatch.setattr(environment, "_call", never)
    assert environment.install("tiny", peer, tmp_path / "peers", SILENT) == python
    newer = Peer(title="Tiny", module="x", packages=("tinypeer==2",))
    with pytest.raises(AssertionError, match="installed again"):
        environment.install("tiny", newer, tmp_path / "peers", SILENT)


@pytest.mark.usefixtures("pip_offline")
def test_a_peer_that_does_not_install_gives_pips_first_error(inputs: Inputs, tmp_path: Path) -> None:
    peers = {"gone": Peer(title="Gone", module="x", packages=("no-such-peer==1.2.3",))}
    everyone = prepare_peers(peers, inputs, tmp_path / "peers", tmp_path, SILENT)
    assert everyone.failures["Gone"].startswith("does not install: Could not find a version that satisfies")
    assert "no-such-peer==1.2.3" in everyone.failures["Gone"]
    assert not (tmp_path / "peers" / "gone" / environment.STAMP).exists()


def test_an_installation_that_takes_too_long_is_ended() -> None:
    began = time.monotonic()
    with pytest.raises(TargetError, match=r"does not install: not done within 0\.2 s"):
        environment._call([sys.executable, "-c", "import time; time.sleep(60)"], fake("Slow"), limit_s=0.2)
    assert time.monotonic() - began < 30
