"""Runs onnxsim between stdin and stdout; started by :mod:`edgecnn.graph.simplify` alone."""

import os
import sys

MEMORY_LIMIT_BYTES = 16 * 2**30


def main() -> None:
    """Read a model from stdin, simplify it, write it to stdout."""
    out = os.dup(1)
    os.dup2(2, 1)  # whatever onnxsim prints goes to stderr, never into the model
    if sys.platform != "win32":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = MEMORY_LIMIT_BYTES if hard == resource.RLIM_INFINITY else min(hard, MEMORY_LIMIT_BYTES)
        if sys.platform != "darwin":  # macOS has the limit's name, but refuses to set it
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    import onnx
    import onnxsim

    simplified, _ = onnxsim.simplify(onnx.load_model_from_string(sys.stdin.buffer.read()))
    with os.fdopen(out, "wb") as file:
        file.write(simplified.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
