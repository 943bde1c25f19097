"""What every peer's process does: answer requests, one line of JSON each, on stdin and stdout.

::

    {"do": "prepare", "inputs": FOLDER, "output": FOLDER}        {"variants": [...], "versions": {...}}
    {"do": "open", "file": PATH}                                 {"input": TEXT}
    {"do": "answer", "pixels": NPY, "logits": NPY}               {}
    {"do": "time", "pixels": NPY, "warmup": N, "calls": N}       {"calls_us": [...]}

What goes wrong ends the process with its traceback on stderr: the parent shows its last line. So does the end of
stdin: a process whose parent died does not stay.
"""

import gc
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A model that a peer made of the float network.

    Attributes:
        name: beside the peer's own name in the table; empty where there is one int8.
        form: float or int8.
        file: path of the model.
        made_by: how it was converted and calibrated, in words.
    """

    name: str
    form: Literal["float", "int8"]
    file: Path
    made_by: str


class Session(Protocol):
    """A model that is open."""

    @property
    def input(self) -> str:
        """Type and shape of what a call is given."""

    def feed(self, pixels: Pixels) -> Any:
        """Lay uint8 ``[1, H, W, 3]`` out as the model's input wants it; this is not timed."""

    def call(self, batch: Any) -> NDArray[np.generic]:
        """Hand the input over, run, and take the logits out; this is what is timed."""


#: Folder of inputs and folder of outputs to the models made; the inputs are those of scripts/peer_bench/inputs.py.
Prepare = Callable[[Path, Path], Sequence[Variant]]
OpenModel = Callable[[Path], Session]


def scaled(pixels: Pixels) -> NDArray[np.float32]:
    """Return uint8 ``[N, H, W, 3]`` as float32 ``[N, 3, H, W]`` in [0, 1], which the float network is given."""
    planes: NDArray[np.float32] = pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(planes)


def calibration(inputs: Path) -> NDArray[np.float32]:
    """Return the calibration images as float32 ``[N, 3, H, W]`` in [0, 1]."""
    return scaled(np.load(inputs / "calibration.npy", allow_pickle=False))


def serve(prepare: Prepare, open_model: OpenModel, packages: Sequence[str]) -> None:
    """Answer requests until stdin ends.

    Args:
        prepare: makes the models.
        open_model: opens one.
        packages: whose versions are told.
    """
    answers = _private_stdout()
    session: Session | None = None
    for line in sys.stdin:
        request = json.loads(line)
        reply: dict[str, Any] = {}
        match request["do"]:
            case "prepare":
                variants = prepare(Path(request["inputs"]), Path(request["output"]))
                versions = {name: importlib.metadata.version(name) for name in packages}
                reply = {"variants": [asdict(each) for each in variants], "versions": versions}
            case "open":
                session = None  # the one before goes first: two would not lie in memory as one does
                gc.collect()
                session = open_model(Path(request["file"]))
                reply = {"input": session.input}
            case "answer":
                assert session is not None
                np.save(request["logits"], _answer(session, np.load(request["pixels"], allow_pickle=False)))
            case "time":
                assert session is not None
                pixels = np.load(request["pixels"], allow_pickle=False)[:1]
                reply = {"calls_us": _time_block(session, pixels, request["warmup"], request["calls"])}
            case other:
                raise ValueError(f"expected prepare, open, answer or time, found {other!r}")
        answers.write(json.dumps(reply, default=str) + "\n")
        answers.flush()


def _private_stdout() -> IO[str]:
    """Keep the real stdout for answers, and send what a library prints there to stderr."""
    private = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return private


def _answer(session: Session, pixels: Pixels) -> NDArray[np.float32]:
    """Return the logits of images, one call an image: float32 ``[N, classes]``."""
    logits = [np.array(session.call(session.feed(pixels[i : i + 1])), np.float32).ravel() for i in range(len(pixels))]
    return np.stack(logits)


def _time_block(session: Session, pixels: Pixels, warmup: int, calls: int) -> list[float]:
    """Return the microseconds of each call, all on the same image."""
    batch, call, clock = session.feed(pixels), session.call, time.perf_counter_ns
    for _ in range(warmup):
        call(batch)
    times_ns = np.empty(calls, np.int64)
    gc.collect()
    gc.disable()
    for index in range(calls):
        started = clock()
        call(batch)
        times_ns[index] = clock() - started
    gc.enable()
    return [float(each) for each in times_ns / 1e3]
