"""Peers made up for tests."""

from pathlib import Path

from edgecnn.progress import SILENT
from scripts.peer_bench.entrants import Field, prepare_peers
from scripts.peer_bench.inputs import Inputs
from scripts.peer_bench.table import Peer


def fake(title: str) -> Peer:
    return Peer(title=title, module="tests.fake_peer", packages=("fake==1",))


def prepared(names: list[str], inputs: Inputs, scratch: Path) -> Field:
    peers = {name: fake(name.title()) for name in names}
    return prepare_peers(peers, inputs, scratch / "environments", scratch, SILENT)
