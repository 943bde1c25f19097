"""Accuracy and latency of all who take part, and what becomes of them: a row each."""

import contextlib
from collections.abc import Container, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import EdgecnnError, StageError
from edgecnn.progress import Progress
from edgecnn.stats import median_ratio, paired_drop
from scripts.peer_bench.entrants import Entrant
from scripts.peer_bench.inputs import Inputs
from scripts.peer_bench.process import PeerProcess
from scripts.peer_bench.rows import Failed, Measured, Row
from scripts.peer_bench.timing import Times, TimingSettings, time_in_turns

OPEN_LIMIT_S = 120.0
ANSWER_LIMIT_S = 600.0
BLOCK_LIMIT_S = 60.0
#: A float form that answers less of the images as ours does is another network.
MIN_AGREEMENT = 0.99


class _Open:
    """One who takes part, with its process, what it was told, and what it answered."""

    def __init__(self, entrant: Entrant, process: PeerProcess, inputs: Inputs, scratch: Path) -> None:
        self.entrant, self._process, self._inputs = entrant, process, inputs
        self.input = self.reopen()
        logits = scratch / f"{entrant.name}.npy"
        process.ask({"do": "answer", "pixels": str(inputs.pixels), "logits": str(logits)}, limit_s=ANSWER_LIMIT_S)
        self.answers: NDArray[np.int64] = np.load(logits, allow_pickle=False).argmax(1)

    def reopen(self) -> str:
        """Open the model anew and return what its input is."""
        answer = self._process.ask({"do": "open", "file": str(self.entrant.file)}, limit_s=OPEN_LIMIT_S)
        return str(answer["input"])

    def time_block(self, warmup: int, calls: int) -> NDArray[np.float64]:
        """Return the microseconds of each call."""
        request = {"do": "time", "pixels": str(self._inputs.pixels), "warmup": warmup, "calls": calls}
        return np.array(self._process.ask(request, limit_s=BLOCK_LIMIT_S)["calls_us"])


def compete(
    entrants: Sequence[Entrant],
    inputs: Inputs,
    scratch: Path,
    settings: TimingSettings,
    reference: str,
    progress: Progress,
) -> list[Row]:
    """Measure everyone on the same images in the same rounds.

    Args:
        entrants: the first is float and ours: accuracy is compared with it.
        inputs: the images.
        scratch: a folder for what the processes write.
        settings: of the timing.
        reference: name of the entrant that the ratios are to.
        progress: told who is at work.

    Raises:
        StageError: the first entrant or the reference failed: there is nothing to compare with.
    """
    rows: dict[str, Row] = {}
    with contextlib.ExitStack() as processes:
        running: dict[str, _Open] = {}
        for done, entrant in enumerate(entrants, start=1):
            try:
                folder = scratch / f"run-{done}"
                folder.mkdir()
                process = processes.enter_context(PeerProcess(entrant.peer, entrant.python, folder))
                each = _Open(entrant, process, inputs, folder)
                _require_same_network(each, running.get(entrants[0].name))
                running[entrant.name] = each
            except EdgecnnError as error:
                rows[entrant.name] = Failed(name=entrant.name, reason=error.message)
            progress.update("answer", done, len(entrants))
        _require((entrants[0].name, reference), running, {name: _why(row) for name, row in rows.items()})
        times, failures = time_in_turns(running, settings, progress)
        _require((reference,), times, failures)
    rows |= {name: Failed(name=name, reason=why) for name, why in failures.items()}
    right = running[entrants[0].name].answers == inputs.labels
    for name in times:
        rows[name] = _measured(running[name], right, inputs.labels, times[name], times[reference])
    return [rows[entrant.name] for entrant in entrants]


def _require_same_network(each: _Open, ours: _Open | None) -> None:
    if ours is None or each.entrant.form == "int8":
        return
    agreement = float((each.answers == ours.answers).mean())
    if agreement < MIN_AGREEMENT:
        raise StageError(
            f"its float form answers {agreement:.1%} of the images as ours does: another network.",
            next_step="compare its logits with float.onnx's",
        )


def _require(names: Sequence[str], there: Container[str], why: dict[str, str]) -> None:
    for name in names:
        if name not in there:
            raise StageError(
                f"{name}: failed ({why.get(name, 'unknown')}); the others are compared with it.",
                next_step="name another one with --reference, or mend the file",
            )


def _why(row: Row) -> str:
    return row.reason if isinstance(row, Failed) else ""


def _measured(
    each: _Open, right_before: NDArray[np.bool_], labels: NDArray[np.int64], times: Times, reference: Times
) -> Measured:
    entrant, right = each.entrant, each.answers == labels
    p50, p90 = np.percentile(times.calls_us, [50, 90])
    return Measured(
        name=entrant.name,
        form=entrant.form,
        ours=entrant.ours,
        input=each.input,
        made_by=entrant.made_by,
        top1=float(right.mean()),
        drop=paired_drop(right_before, right),
        p50_us=float(p50),
        p90_us=float(p90),
        calls=times.calls_us.size,
        ratio=median_ratio(times.pair_medians_us, reference.pair_medians_us),
    )
