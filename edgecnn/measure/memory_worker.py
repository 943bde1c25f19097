"""A process of its own that loads a model, runs it once, and tells the most memory it ever had.

Started by :mod:`edgecnn.measure.memory` with one argument: JSON with ``provider``, ``threads``, and, unless only the
runtime is asked for, ``model`` and ``batch``, paths of an ONNX file and of a ``.npy``. It imports nothing of edgecnn,
whose memory would be counted.
"""

import json
import sys
from pathlib import Path


def peak_bytes() -> int:
    """Return the largest resident size of this process so far.

    Not by ``ru_maxrss`` where there is ``VmHWM``: on Linux the former begins with what the parent had (execve(2) keeps
    the resource usage of the process that called it).
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def main(arguments: str) -> None:
    """Load and run what the arguments name, and print the bytes."""
    import numpy as np
    import onnxruntime

    wanted = json.loads(arguments)
    if "model" in wanted:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = wanted["threads"]
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(wanted["model"], options, providers=[wanted["provider"]])
        session.run(None, {session.get_inputs()[0].name: np.load(wanted["batch"])})
    print(peak_bytes())


if __name__ == "__main__":
    main(sys.argv[1])
