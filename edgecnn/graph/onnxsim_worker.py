"""Runs onnxsim between stdin and stdout; started by :mod:`edgecnn.graph.onnxsim_process` alone.

onnxsim_worker.py list                             print the names of its passes
onnxsim_worker.py simplify MEMORY_BYTES [PASS...]  simplify without these passes
"""

import os
import sys

#: Steps of onnxsim that are no optimizer passes, and are skipped in another way.
STEPS = ("constant_folding", "shape_inference")


def main() -> None:
    """Do what the command line says."""
    out = os.dup(1)
    os.dup2(2, 1)  # whatever onnxsim prints goes to stderr, never into the model
    command, *rest = sys.argv[1:]
    with os.fdopen(out, "wb") as file:
        file.write(_list() if command == "list" else _simplify(int(rest[0]), rest[1:]))


def _list() -> bytes:
    import onnxsim

    names = [*onnxsim.onnxsim_cpp2py_export._list_optimizers(), *STEPS]
    return "\n".join(names).encode()


def _simplify(memory_bytes: int, skipped: list[str]) -> bytes:
    _limit_memory(memory_bytes)
    import onnx
    import onnxsim

    simplified, _ = onnxsim.simplify(
        onnx.load_model_from_string(sys.stdin.buffer.read()),
        skipped_optimizers=[name for name in skipped if name not in STEPS],
        skip_constant_folding="constant_folding" in skipped,
        skip_shape_inference="shape_inference" in skipped,
    )
    data: bytes = simplified.SerializeToString(deterministic=True)
    return data


def _limit_memory(memory_bytes: int) -> None:
    if sys.platform == "win32" or sys.platform == "darwin":  # macOS has the limit's name, but refuses to set it
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = memory_bytes if hard == resource.RLIM_INFINITY else min(hard, memory_bytes)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    main()
