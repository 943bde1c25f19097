"""A peer for tests: its name, the name of the folder it is to write in, says how it behaves."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.peers.serve import Pixels, Variant, serve

PACKAGES = ("numpy",)


def prepare(inputs: Path, output: Path) -> list[Variant]:
    """Write models that hold how they behave."""
    behaviour = output.name
    if behaviour == "raises":
        raise ValueError("no such operator: Gizmo\nand more lines")
    if behaviour == "dies":
        os.kill(os.getpid(), signal.SIGSEGV)
    if behaviour == "hangs":
        time.sleep(600)
    print("a library's chatter on stdout")
    assert (inputs / "calibration.npy").is_file()
    for form in ("float", "int8"):
        (output / form).write_text(behaviour)
    return [
        Variant(name="", form="float", file=output / "float", made_by="by hand"),
        Variant(name="twice", form="int8", file=output / "int8", made_by="a | b"),
    ]


class Model:
    """Answers with the class that the first byte of an image names."""

    def __init__(self, path: Path) -> None:
        self._behaviour = path.read_text()
        self._int8 = path.name == "int8"
        self.input = "bytes"

    def feed(self, pixels: Pixels) -> Any:
        """As it is."""
        return pixels

    def call(self, batch: Any) -> NDArray[np.generic]:
        """One class more where the network is another one, or for each eighth image of int8."""
        first = int(batch[0, 0, 0, 0])
        if self._behaviour == "dies when timed" and sys._getframe(1).f_code.co_name == "_time_block":
            os.kill(os.getpid(), signal.SIGKILL)
        wrong = self._behaviour == "another network" or (self._int8 and first % 8 == 0)
        logits = np.zeros(10, np.float32)
        logits[(first + wrong) % 10] = 1
        return logits


if __name__ == "__main__":
    serve(prepare, Model, PACKAGES)
