"""Simplify with onnxsim, and leave out what changes the answers.

The result is compared with what went in. Where it differs, the pass that did it is found by halving the list of
passes, left out from then on, and told.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from edgecnn.errors import ParityError
from edgecnn.graph import onnx_file
from edgecnn.graph.bisection import LayerLedger
from edgecnn.graph.onnxsim_process import Limits, passes, run_onnxsim
from edgecnn.progress import SILENT, Progress

NAME = "the simplified model"

Record = TypeVar("Record")


@dataclass(frozen=True, kw_only=True)
class Comparison(Generic[Record]):
    """How a simplified model is compared with the one before.

    Attributes:
        verify: returns a record of the comparison, or raises a ParityError.
        explain: compares the two layer by layer, after such an error or, with None, on demand.
    """

    verify: Callable[[bytes], Record]
    explain: Callable[[bytes, ParityError | None], LayerLedger]


@dataclass(frozen=True, kw_only=True)
class SkippedPass:
    """A pass of onnxsim that changed the answers: its name, and what it did."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Simplified(Generic[Record]):
    """A simplified model and how it compares with what went in.

    Attributes:
        data: the ONNX file.
        record: of the comparison.
        nodes_before: node counts by operator.
        nodes_after: node counts by operator.
        skipped: passes that were left out, for they changed the answers.
        layers: the comparison layer by layer, if it was asked for.
    """

    data: bytes
    record: Record
    nodes_before: dict[str, int]
    nodes_after: dict[str, int]
    skipped: tuple[SkippedPass, ...]
    layers: LayerLedger | None


def simplify_model(
    data: bytes,
    comparison: Comparison[Record],
    *,
    name: str,
    limits: Limits | None = None,
    bisect: bool = False,
    progress: Progress = SILENT,
) -> Simplified[Record]:
    """Simplify a float model and compare it with what it was.

    Args:
        data: the ONNX file.
        comparison: with the model before.
        name: what to call the model in a message.
        limits: of the process that simplifies.
        bisect: compare layer by layer even if the answers agree.
        progress: told what is looked for.

    Raises:
        ModelError: the model cannot be read.
        StageError: onnxsim failed, crashed or took too long.
        ParityError: the simplified graph gives other answers, whatever is left out.
    """
    before = onnx_file.parse(data, name)
    attempt = _Attempt(data, before.ir_version, limits or Limits())
    skipped: list[SkippedPass] = []
    while True:
        simplified = attempt.run([one.name for one in skipped])
        try:
            record = comparison.verify(simplified)
            break
        except ParityError as error:
            progress.say("simplify: the answers differ; looking for the layer and the pass")
            layers = comparison.explain(simplified, error)
            culprit = _find_pass(attempt, comparison, [one.name for one in skipped])
            if culprit is None:
                raise ParityError(
                    f"{error.message} No pass of onnxsim alone does it; {layers}.", next_step=error.next_step
                ) from error
            skipped.append(SkippedPass(name=culprit, reason=str(layers)))
            progress.say(f"simplify: onnxsim's {culprit} is left out: {layers}")
    after = onnx_file.read_self_contained(simplified, NAME)
    return Simplified(
        data=simplified,
        record=record,
        nodes_before=dict(Counter(node.op_type for node in before.graph.node)),
        nodes_after=dict(Counter(node.op_type for node in after.graph.node)),
        skipped=tuple(skipped),
        layers=comparison.explain(simplified, None) if bisect else None,
    )


class _Attempt:
    """Runs onnxsim on one model, each time without other passes."""

    def __init__(self, data: bytes, ir_version: int, limits: Limits) -> None:
        self._data, self._ir_version, self.limits = data, ir_version, limits

    def run(self, skipped: list[str]) -> bytes:
        """Return the model simplified without the passes, as bytes that do not tell when or where."""
        model = onnx_file.parse(run_onnxsim(self._data, skipped, self.limits), NAME)
        model.ir_version = self._ir_version
        return onnx_file.serialize(model)


def _find_pass(attempt: _Attempt, comparison: Comparison[Record], skipped: list[str]) -> str | None:
    """Return the pass without which, those before it left out as well, the answers agree; None if none helps."""

    def agrees_without(names: list[str]) -> bool:
        try:
            comparison.verify(attempt.run([*skipped, *names]))
        except ParityError:
            return False
        return True

    names = [name for name in passes(attempt.limits) if name not in skipped]
    if not agrees_without(names):
        return None
    low, high = 0, len(names)  # the answers differ without the first `low`, and agree without the first `high`
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if agrees_without(names[:middle]) else (middle, high)
    return names[high - 1]
