"""What QNN's own words of failure mean, and what to do then: one row a failure that was seen.

Seen with onnxruntime-qnn 2.7.0 on the simulator; the words are those of its messages (``QnnCommon.h`` of Qualcomm's SDK
has the names of its codes).
"""

from collections.abc import Callable
from dataclasses import dataclass

from edgecnn.errors import ChipError, EdgecnnError, StageError, TargetError


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A failure of QNN's.

    Attributes:
        words: what its message contains.
        meaning: what it says, in words that follow the model's name; ``{chip}`` is the chip's.
        next_step: what helps; ``{elsewhere}`` names another target that runs more.
        of_chip: whether it is the chip that does not take the model, so that another may.
    """

    words: str
    meaning: str
    next_step: str
    of_chip: bool = False


FAILURES = (
    Failure(
        words="QNN_COMMON_ERROR_MEM_ALLOC",
        meaning="QNN cannot compile the model for {chip}: it finds no memory for it there "
        "(QNN_COMMON_ERROR_MEM_ALLOC, code 1002)",
        next_step="--provider {elsewhere} (package: --for {elsewhere}): a chip that takes more; or a smaller network",
        of_chip=True,
    ),
    Failure(
        words="was inserted using the NHWC format as requested by QNNExecutionProvider",
        meaning="QNN asked for a layer in another layout and then does not take it on {chip}, so the model cannot be "
        "opened there, not even in part",
        next_step="edgecnn quantize --for qnn writes int8-qnn.onnx, whose layers QNN takes; validate --model "
        "int8-qnn.onnx",
    ),
)


def explaining(*, chip: str, elsewhere: str) -> Callable[[StageError], EdgecnnError]:
    """Return what says a failure of QNN's in words; one that is not known stays as it is.

    Args:
        chip: what the model was compiled for.
        elsewhere: the target to try in its place.
    """

    def explain(error: StageError) -> EdgecnnError:
        for failure in FAILURES:
            if failure.words in error.message:
                subject = error.message.partition(":")[0]  # NAME on TARGET, as WorkerSession begins
                kind = ChipError if failure.of_chip else TargetError
                return kind(
                    f"{subject}: {failure.meaning.format(chip=chip)}.",
                    next_step=failure.next_step.format(elsewhere=elsewhere),
                )
        return error

    return explain
