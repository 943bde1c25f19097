"""The contract of every row of the table of peers."""

import subprocess
import sys

import pytest

from edgecnn.errors import UsageError
from scripts.peer_bench import table
from scripts.peer_bench.process import ROOT


def test_an_unknown_peer_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="unknown peer 'litrt'; known: onnxruntime, litert"):
        table.choose(["litrt"], [])
    assert list(table.choose(["mnn", "ncnn"], ["ncnn"])) == ["mnn"]
    assert list(table.choose([], ["mnn"])) == [name for name in table.PEERS if name != "mnn"]


@pytest.mark.parametrize("name", table.PEERS)
def test_each_peer_is_a_module_here_and_pins_every_package(name: str) -> None:
    peer = table.PEERS[name]
    assert (ROOT / f"{peer.module.replace('.', '/')}.py").is_file()
    assert all(package.count("==") == 1 for package in (*peer.packages, *peer.alone))


@pytest.mark.parametrize("name", [*table.PEERS, "serve", "ncnn_int8"])
def test_what_a_peer_runs_does_without_edgecnn(name: str) -> None:
    hidden = (
        "import sys; sys.modules['edgecnn'] = None; "
        f"import scripts.peers.{name}; assert not any(m.startswith('edgecnn.') for m in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", hidden], cwd=ROOT, check=True)
