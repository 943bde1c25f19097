"""What both models answer on one target."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from edgecnn.bundle.manifest import MachineRecord
from edgecnn.data import Images
from edgecnn.errors import UsageError
from edgecnn.measure.machine import describe_machine
from edgecnn.progress import Progress
from edgecnn.targets import Clock, running
from edgecnn.targets.worker_session import WorkerSession

if TYPE_CHECKING:
    from edgecnn.measure.accuracy import Accuracy

#: What the other targets are held against.
REFERENCE = "cpu"


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """Both models' answers to the same images on one target, and which provider ran how many of their nodes."""

    of_float: "Accuracy"
    of_int8: "Accuracy"
    how: Clock
    float_nodes: dict[str, int]
    int8_nodes: dict[str, int]
    machine: MachineRecord
    measured_at: datetime


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What is asked of each target.

    Attributes:
        models: the float model and the int8 one, by name in this order.
        allow_cpu_nodes: how many of a model's nodes the CPU may run in place of the provider.
        progress: told the images done.
    """

    models: Mapping[str, bytes]
    progress: Progress
    allow_cpu_nodes: int = 0

    def ask(self, target: str, images: Images) -> Answers:
        """Run both models on a target.

        Raises:
            TargetError: it is not available, or does not take every node.
            StageError: its process fails, or a model gives NaN or infinite logits.
        """
        float_model, int8_model = self.models
        of_float, nodes_of_float, _, _ = self._ask(target, float_model, images)
        of_int8, nodes_of_int8, how, machine = self._ask(target, int8_model, images)
        return Answers(
            of_float=of_float,
            of_int8=of_int8,
            how=how,
            float_nodes=nodes_of_float,
            int8_nodes=nodes_of_int8,
            machine=machine,
            measured_at=datetime.now(UTC).replace(microsecond=0),
        )

    def _ask(self, target: str, name: str, images: Images) -> "tuple[Accuracy, dict[str, int], Clock, MachineRecord]":
        from edgecnn.measure.accuracy import top1

        title = name if target == REFERENCE else f"{name} on {target}"
        model = self.models[name]
        with running(target, model, model_name=name, allow_cpu_nodes=self.allow_cpu_nodes) as session:
            found = top1(session, images, name=title, progress=self.progress)
            machine = session.machine if isinstance(session, WorkerSession) else describe_machine()
            return found, dict(session.nodes_by_provider), session.clock, machine


def require_count(allow_cpu_nodes: int) -> None:
    """Refuse to allow fewer nodes than none.

    Raises:
        UsageError: it is negative.
    """
    if allow_cpu_nodes < 0:
        raise UsageError(
            f"--allow-cpu-nodes must not be below 0, found {allow_cpu_nodes}.", next_step="--allow-cpu-nodes 0"
        )
