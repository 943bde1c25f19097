"""What a target is measured by: its clock, or the instructions that an emulated CPU executes."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgecnn.bundle.manifest import MachineRecord
from edgecnn.errors import UsageError
from edgecnn.measure.machine import describe_machine
from edgecnn.pipeline.export import FLOAT_MODEL
from edgecnn.pipeline.tune_settings import TuneSettings
from edgecnn.progress import Progress
from edgecnn.targets import open_session, require, require_clock, target
from edgecnn.targets.instructions import InstructionCounter, require_counting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgecnn.tuning.meter import Meter


def require_measurable(settings: TuneSettings) -> None:
    """Refuse a target on which nothing can be measured.

    Raises:
        UsageError: there is no such target, its calls cannot be raced from here, or its instructions are to be counted
            with more than one thread.
        TargetError: it is not available here, or has neither a clock nor instructions that can be counted here.
    """
    row = target(settings.target)
    if row.emulated is None:
        require_clock(settings.target)
    if row.runtime_here is not None and row.emulated is None:
        raise UsageError(
            f"tune: {settings.target} runs outside this process, and a race from here would time the way there, too.",
            next_step=f"edgecnn tune, then edgecnn bench --provider {settings.target}; or tune on the machine itself",
        )
    require(settings.target)
    if row.emulated is None:
        return
    if settings.threads > 1:
        raise UsageError(
            f"tune: on {settings.target} instructions are counted, with one thread; found --threads "
            f"{settings.threads}.",
            next_step="--threads 1",
        )
    require_counting(settings.target)


@contextlib.contextmanager
def opened_meter(
    settings: TuneSettings, model: bytes, pixels: "NDArray[np.uint8]", progress: Progress
) -> "Iterator[tuple[Meter, MachineRecord]]":
    """Yield what measures on the target, and the machine that it is.

    Raises:
        TargetError: the target does not run the stock float model.
        UsageError: the model takes another, fixed batch.
    """
    from edgecnn.measure.turns import feed_batch
    from edgecnn.tuning.instruction_meter import InstructionMeter
    from edgecnn.tuning.meter import ClockMeter

    if require(settings.target).emulated is not None:
        with InstructionCounter(settings.target) as counter:
            yield InstructionMeter(counter=counter, pixels=pixels, progress=progress), counter.machine
        return
    session = open_session(settings.target, model, model_name=FLOAT_MODEL)
    feed_batch(session, pixels, len(pixels))
    yield (
        ClockMeter(
            target=settings.target,
            pixels=pixels,
            batch=settings.images_a_call,
            threads=settings.threads,
            seed=settings.seed,
            progress=progress,
        ),
        describe_machine(),
    )
