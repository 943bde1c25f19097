"""Who takes part: the models that the peers made, and ours."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edgecnn.bundle import Bundle
from edgecnn.errors import EdgecnnError
from edgecnn.progress import Progress
from edgecnn.targets.session_options import DEFAULT_SESSION, session_options
from scripts.peer_bench.environment import install
from scripts.peer_bench.inputs import Inputs
from scripts.peer_bench.process import PeerProcess
from scripts.peer_bench.table import OURS, PEERS, Peer

PREPARE_LIMIT_S = 900.0
INTEGER_OPERATORS = {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QGemm", "ConvInteger", "MatMulInteger"}


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """A model and the runtime that runs it.

    Attributes:
        name: in the table.
        peer: row of the runtime.
        python: of its environment.
        file: the model.
        form: float or int8.
        made_by: how it came to be.
        ours: whether edgecnn made it.
    """

    name: str
    peer: Peer
    python: Path
    file: Path
    form: Literal["float", "int8"]
    made_by: str
    ours: bool = False


@dataclass
class Field:
    """All who take part, and who could not: the reasons by name, and the versions by peer."""

    entrants: list[Entrant] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class OurModel:
    """An ONNX file of ours, and the row of the table of session options to open it with."""

    file: Path
    session: str = DEFAULT_SESSION


def recommended(folder: Path) -> OurModel:
    """Return int8 of a bundle, opened as its tuning recommends."""
    bundle = Bundle.open(folder)
    best = bundle.manifest.recommendation
    session = best.configuration.session if best is not None and best.model == "int8.onnx" else DEFAULT_SESSION
    return OurModel(file=bundle.path("int8.onnx"), session=session)


def our_entrants(models: dict[str, OurModel], environments: Path, scratch: Path, progress: Progress) -> list[Entrant]:
    """Return our ONNX files, run by stock onnxruntime, each copied with the session options beside it.

    Raises:
        TargetError: its environment cannot be made.
    """
    peer = PEERS[OURS]
    python = install(OURS, peer, environments, progress)
    scratch.mkdir()
    entrants = []
    for index, (name, model) in enumerate(models.items()):
        file = Path(shutil.copy(model.file, scratch / f"{index}.onnx"))
        file.with_suffix(".json").write_text(json.dumps(session_options(model.session).words()))
        how = "edgecnn" if model.session == DEFAULT_SESSION else f"edgecnn, session options {model.session}"
        entrants.append(
            Entrant(name=name, peer=peer, python=python, file=file, form=form_of(file), made_by=how, ours=True)
        )
    return entrants


def form_of(file: Path) -> Literal["float", "int8"]:
    """Tell whether an ONNX file computes with integers anywhere."""
    import onnx

    operators = {node.op_type for node in onnx.load(file).graph.node}
    return "int8" if operators & INTEGER_OPERATORS else "float"


def prepare_peers(
    peers: dict[str, Peer], inputs: Inputs, environments: Path, scratch: Path, progress: Progress
) -> Field:
    """Have every peer convert and quantize; one that fails does not stop the others."""
    everyone = Field()
    for name, peer in peers.items():
        try:
            _prepare(name, peer, inputs, environments, scratch / name, progress, everyone)
        except EdgecnnError as error:
            everyone.failures[peer.title] = error.message
            progress.say(f"{peer.title}: {error.message}")
    return everyone


def _prepare(
    name: str, peer: Peer, inputs: Inputs, environments: Path, output: Path, progress: Progress, everyone: Field
) -> None:
    python = install(name, peer, environments, progress)
    output.mkdir()
    progress.say(f"{peer.title}: converting and quantizing")
    with PeerProcess(peer, python, output) as process:
        request = {"do": "prepare", "inputs": str(inputs.folder), "output": str(output)}
        answer = process.ask(request, limit_s=PREPARE_LIMIT_S)
    everyone.versions[peer.title] = answer["versions"]
    for variant in answer["variants"]:
        words = (peer.title, variant["form"], variant["name"])
        everyone.entrants.append(
            Entrant(
                name=" ".join(word for word in words if word),
                peer=peer,
                python=python,
                file=Path(variant["file"]),
                form=variant["form"],
                made_by=variant["made_by"],
            )
        )
