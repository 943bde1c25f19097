"""What one model answers on one target."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from edgecnn.bundle.manifest import MachineRecord
from edgecnn.data import Images
from edgecnn.measure.machine import describe_machine
from edgecnn.progress import Progress
from edgecnn.targets import Clock, running
from edgecnn.targets.worker_session import WorkerSession

if TYPE_CHECKING:
    from edgecnn.measure.accuracy import Accuracy

#: What the other targets are held against.
REFERENCE = "cpu"


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """A model's answers to some images on one target, and which provider ran how many of its nodes."""

    accuracy: "Accuracy"
    how: Clock
    nodes: dict[str, int]
    machine: MachineRecord
    measured_at: datetime


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What is asked of each target; this CPU is asked the same but once.

    Attributes:
        models: ONNX files by name.
        cpu_nodes: how many of a model's nodes the CPU may run in place of each target's provider.
        progress: told the images done.
        advice: what to do where a target refuses its int8 model, by target; of none, what the failure says itself.
    """

    models: Mapping[str, bytes]
    cpu_nodes: Mapping[str, int]
    progress: Progress
    advice: Mapping[str, str] = field(default_factory=dict)
    _references: dict[tuple[str, int], Answer] = field(default_factory=dict)

    def reference(self, name: str, images: Images) -> Answer:
        """Run a model on this CPU; images are told apart by how many they are."""
        key = (name, len(images))
        if key not in self._references:
            self._references[key] = self._run(REFERENCE, name, images)
        return self._references[key]

    def ask(self, target: str, name: str, images: Images) -> Answer:
        """Run a model on a target.

        Raises:
            TargetError: it is not available, or does not take every node.
            StageError: its process fails, or the model gives NaN or infinite logits.
        """
        return self.reference(name, images) if target == REFERENCE else self._run(target, name, images)

    def _run(self, target: str, name: str, images: Images) -> Answer:
        from edgecnn.measure.accuracy import top1

        title = name if target == REFERENCE else f"{name} on {target}"
        allowed = self.cpu_nodes.get(target, 0)
        with running(target, self.models[name], model_name=name, allow_cpu_nodes=allowed) as session:
            found = top1(session, images, name=title, progress=self.progress)
            return Answer(
                accuracy=found,
                how=session.clock,
                nodes=dict(session.nodes_by_provider),
                machine=session.machine if isinstance(session, WorkerSession) else describe_machine(),
                measured_at=datetime.now(UTC).replace(microsecond=0),
            )
