"""The target of a package: what its models answer there, what it compiles, and how near a device must come."""

import platform as this_machine
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edgecnn.errors import ParityError
from edgecnn.packaging.acceptance import Vectors, answers, largest_difference
from edgecnn.packaging.ort_format import Platform
from edgecnn.pipeline.export import FLOAT_MODEL
from edgecnn.targets import Session, Target, running
from edgecnn.targets.placement import CPU_PROVIDER
from edgecnn.targets.worker_session import WorkerSession

#: Largest difference of a logit from this machine's CPU, as a fraction of the largest logit: (float, int8). Integer
#: kernels of these providers were bit-exact on x86 with VNNI, arm64 and wasm.
TOLERANCES = {"CPUExecutionProvider": (1e-4, 2e-3), "XnnpackExecutionProvider": (1e-4, 2e-3)}
#: The others requantize in their own ways: what one may differ at most; where it is here, what it does is measured.
OTHER_TOLERANCES = (1e-2, 5e-2)
#: By how much float differs between CPUs, as a fraction of the largest logit: no measured tolerance is below it.
SMALLEST_TOLERANCE = 1e-4
_ARM = ("aarch64", "arm64", "armv7l", "armv8l")
_FOR_PHONES = ("CoreMLExecutionProvider", "NnapiExecutionProvider", "XnnpackExecutionProvider", "QNNExecutionProvider")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was seen of one model on the target.

    Attributes:
        difference: of a logit from this machine's CPU on the acceptance vectors, the largest.
        tolerance: what a device may differ.
        context: what the provider compiled, an ONNX file that the target loads in place of the model; or None.
    """

    difference: float
    tolerance: float
    context: bytes | None


@dataclass(frozen=True, kw_only=True)
class Place:
    """The target, which may or may not be within reach."""

    name: str
    row: Target
    allow_cpu_nodes: int = 0

    @cached_property
    def ready(self) -> bool:
        """Whether the models can be run there."""
        return self.row.why_not() is None

    @property
    def measures_tolerance(self) -> bool:
        """Whether how near a device must come is what is measured there."""
        return self.ready and self.row.provider not in TOLERANCES

    @property
    def largest_tolerances(self) -> tuple[float, float]:
        """The largest difference of a logit, as a fraction of the largest logit: of float and of int8."""
        return TOLERANCES.get(self.row.provider, OTHER_TOLERANCES)

    def runs(self, name: str) -> bool:
        """Tell whether a file is run there.

        Of an .ort file ONNX Runtime does not tell which provider runs what, so it is run only where there is but one.
        """
        takes_ort = self.row.runtime_here is None and self.row.provider == CPU_PROVIDER
        return self.ready and (name.endswith(".onnx") or takes_ort)

    def platform(self, model: bytes) -> Platform:
        """Return whether it is an Arm or an x86 CPU; phones and NPUs are Arm, and a board out of reach most likely."""
        if self.row.remote and self.ready:
            with running(self.name, model, model_name=FLOAT_MODEL) as session:
                assert isinstance(session, WorkerSession)
                return _platform_of(session.machine.architecture)
        if self.row.emulated is not None:
            return _platform_of(self.row.emulated.architecture)
        if self.row.remote or self.row.provider in _FOR_PHONES:
            return "arm"
        return _platform_of(this_machine.machine())

    def look(self, name: str, model: bytes, vectors: Vectors, more: Vectors) -> Seen:
        """Run a model there, and have it compiled where the provider writes that.

        Args:
            name: of the model's file.
            model: as it is read there.
            vectors: the acceptance vectors.
            more: what the model answers to more images, from which the tolerance is measured.

        Raises:
            TargetError: the target does not take it.
            ParityError: it answers otherwise there, or when it is loaded from what was compiled.
            StageError: its process fails.
        """
        what = f"{name} on {self.name}"
        with running(self.name, model, model_name=name, allow_cpu_nodes=self.allow_cpu_nodes) as session:
            worst = largest_difference(session, vectors, what=what)
            tolerance = vectors.tolerance
            if self.measures_tolerance:
                widest = max(worst, largest_difference(session, more, what=what))
                tolerance = max(widest, float(np.float32(SMALLEST_TOLERANCE * np.abs(more.logits).max())))
            return Seen(difference=worst, tolerance=tolerance, context=self._compiled(session, vectors, what))

    def _compiled(self, session: Session, vectors: Vectors, what: str) -> bytes | None:
        """Return what the provider compiled, loaded again and held bit for bit against what it was compiled from."""
        whole = set(session.nodes_by_provider) == {self.row.provider}
        if not (self.row.writes_context and whole and isinstance(session, WorkerSession)):
            return None
        before = answers(session, vectors.images, vectors.batch)
        written = session.reopen_from_context()
        if not np.array_equal(answers(session, vectors.images, vectors.batch), before):
            raise ParityError(
                f"package: {what} answers otherwise when it is loaded from its context binary. Nothing was written.",
                next_step=f"report it with the model; edgecnn validate --provider {self.name} runs it without",
            )
        return written


def _platform_of(architecture: str) -> Platform:
    return "arm" if architecture in _ARM else "x86"
