"""Run the models of this folder and hold their answers against the expected ones.

    python accept.py [FOLDER] [MODEL ...]

Needs numpy and onnxruntime alone. Exits 0 if every model passes, 1 if one fails, 2 if something is missing.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime


def answers(session: Any, entry: dict[str, Any], images: Any) -> Any:
    """Return the logits of all images, float32 ``[N, classes]``, in calls of the model's batch."""
    size = entry["batch"]
    calls = [images[start : start + size] for start in range(0, len(images), size)]
    return np.concatenate([session.run([entry["output"]], {entry["input"]: batch})[0] for batch in calls])


def read(path: Path, dtype: str, shape: list[int]) -> Any:
    """Return the values of a file: little-endian, in order, and nothing else."""
    return np.frombuffer(path.read_bytes(), np.dtype(dtype).newbyteorder("<")).reshape(shape)


def difference(folder: Path, entry: dict[str, Any], provider: str) -> float:
    """Return the largest difference of a logit from the expected one; infinite if any is not finite."""
    data = (folder / entry["file"]).read_bytes()
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        print(f"{entry['file']}: is not the file that was packed")
        return float("inf")
    options = onnxruntime.SessionOptions()
    if provider != "CPUExecutionProvider":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    session = onnxruntime.InferenceSession(data, options, providers=[provider])
    if session.get_providers()[0] != provider:
        raise SystemExit(f"this onnxruntime has no {provider}")
    found = answers(session, entry, read(folder / entry["images"], entry["input_type"], entry["input_shape"]))
    expected = read(folder / entry["logits"], "float32", entry["output_shape"])
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - expected).max())


def main(arguments: list[str]) -> int:
    """Check every model, or those that are named."""
    folder = Path(arguments[0]) if arguments else Path(__file__).resolve().parent
    told = json.loads((folder / "acceptance.json").read_text())
    print(f"onnxruntime {onnxruntime.__version__}; the expected answers are of {told['onnxruntime']}")
    chosen = [entry for entry in told["models"] if not arguments[1:] or entry["file"] in arguments[1:]]
    if not chosen:
        print("no such model")
        return 2
    failed = 0
    for entry in chosen:
        worst = difference(folder, entry, told["provider"])
        passed = worst <= entry["tolerance"]
        failed += not passed
        print(
            f"{'passed' if passed else 'FAILED'}  {entry['file']}: "
            f"largest difference {worst:.3g}, allowed {entry['tolerance']:.3g}"
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
