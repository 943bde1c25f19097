"""The peers, one row each: a new one is a module in ``scripts/peers`` and a row here."""

from dataclasses import dataclass
from typing import Literal

from edgecnn.errors import UsageError

TORCH = "torch==2.13.0"
NUMPY = "numpy==2.4.6"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A runtime that the same weights are run by.

    Attributes:
        title: what the table calls it.
        module: run by the Python of the peer's environment.
        packages: what pip installs there, exact versions.
        alone: packages installed without what they depend on.
        reads: the form of the network that it converts from.
    """

    title: str
    module: str
    packages: tuple[str, ...]
    alone: tuple[str, ...] = ()
    reads: Literal["onnx", "pt2"] = "onnx"


PEERS: dict[str, Peer] = {
    "onnxruntime": Peer(
        title="onnxruntime",
        module="scripts.peers.onnxruntime",
        packages=("onnxruntime==1.32.0", "onnx==1.23.2", "onnxsim==0.8.1", NUMPY),
    ),
    "litert": Peer(
        title="LiteRT XNNPACK",
        module="scripts.peers.litert",
        packages=("ai-edge-litert==2.3.0", "litert-torch==0.10.0", "ai-edge-quantizer==0.10.0", TORCH, NUMPY),
        reads="pt2",
    ),
    "executorch": Peer(
        title="ExecuTorch XNNPACK",
        module="scripts.peers.executorch",
        packages=("executorch==1.5.1", "torchao==0.18.0", TORCH, NUMPY),
        reads="pt2",
    ),
    "openvino": Peer(
        title="OpenVINO", module="scripts.peers.openvino", packages=("openvino==2026.4.1", "nncf==3.4.0", NUMPY)
    ),
    "mnn": Peer(title="MNN", module="scripts.peers.mnn", packages=("MNN==3.6.1", NUMPY)),
    # pnnx asks for torch, which its program has built in.
    "ncnn": Peer(
        title="ncnn", module="scripts.peers.ncnn", packages=("ncnn==1.0.20261020", NUMPY), alone=("pnnx==20261020",)
    ),
}
#: Whose environment runs the ONNX files that edgecnn made.
OURS = "onnxruntime"


def choose(only: list[str], skip: list[str]) -> dict[str, Peer]:
    """Return the rows asked for.

    Raises:
        UsageError: there is no such peer; the known ones are listed.
    """
    for name in (*only, *skip):
        if name not in PEERS:
            raise UsageError(
                f"unknown peer {name!r}; known: {', '.join(PEERS)}.", next_step=f"--only {next(iter(PEERS))}"
            )
    return {name: peer for name, peer in PEERS.items() if (not only or name in only) and name not in skip}
