"""The process that runs onnxsim: a model in, a model out, and nothing else on stdout."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgecnn.errors import StageError
from edgecnn.graph.onnxsim_process import WORKER, Limits, passes, run_onnxsim
from tests.graphs import make_model, node, small_cnn

MODEL = small_cnn().SerializeToString()
MEMORY_BYTES = 16 * 2**30


def work(
    data: bytes, *skipped: str, folder: Path | None = None, limit_kib: int = 0
) -> subprocess.CompletedProcess[bytes]:
    """Run the worker, with the modules of ``folder`` before the installed ones."""
    limited = ["sh", "-c", f'ulimit -v {limit_kib} && exec "$@"', "sh"] if limit_kib else []
    environment = {**os.environ, **({"PYTHONPATH": str(folder)} if folder else {})}
    return subprocess.run(
        [*limited, sys.executable, "-P", str(WORKER), "simplify", str(MEMORY_BYTES), *skipped],
        input=data,
        capture_output=True,
        env=environment,
        timeout=300,
        check=False,
    )


@pytest.fixture
def stand_in(tmp_path: Path) -> Callable[[str], Path]:
    """Return a maker of folders with an onnxsim whose ``simplify`` does as told."""

    def write(*lines: str) -> Path:
        body = "".join(f"    {line}\n" for line in lines)
        (tmp_path / "onnxsim.py").write_text(f"def simplify(model, **options):\n{body}    return model, True\n")
        return tmp_path

    return write


def test_a_model_goes_in_and_a_model_comes_out() -> None:
    finished = work(MODEL)
    assert (finished.returncode, finished.stderr) == (0, b"")
    model = onnx.load_model_from_string(finished.stdout)
    onnx.checker.check_model(model)
    assert model.SerializeToString(deterministic=True) == finished.stdout
    assert [item.op_type for item in model.graph.node] == ["Conv", "Relu", "MaxPool", "Flatten", "Gemm"]


def test_what_onnxsim_prints_does_not_get_into_the_model(stand_in: Callable[..., Path]) -> None:
    folder = stand_in("print('from Python')", "import os", "os.write(1, b'from C++')", "os.system('echo from a child')")
    finished = work(MODEL, folder=folder)
    assert finished.returncode == 0
    assert finished.stdout == MODEL
    for line in (b"from Python", b"from C++", b"from a child"):
        assert line in finished.stderr


def test_garbage_in_is_a_failure_and_no_model() -> None:
    finished = work(b"garbage")
    assert finished.returncode == 1
    assert finished.stdout == b""
    assert finished.stderr


def test_a_failure_of_onnxsim_writes_no_model(stand_in: Callable[..., Path]) -> None:
    finished = work(MODEL, folder=stand_in("raise RuntimeError('no such shape')"))
    assert (finished.returncode, finished.stdout) == (1, b"")
    assert finished.stderr.endswith(b"RuntimeError: no such shape\n")


def test_memory_is_limited_and_too_much_of_it_is_a_message(
    stand_in: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stand_in("import mmap", f"mmap.mmap(-1, {2**32 + 1})")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    with pytest.raises(StageError, match=r"ended with code 1 \(OSError: .*Cannot allocate memory"):
        run_onnxsim(MODEL, [], Limits(memory_bytes=2**32))


def test_a_tighter_limit_of_the_system_is_kept(stand_in: Callable[..., Path]) -> None:
    tighter = 8 * 2**30
    folder = stand_in("import resource, sys", "print(resource.getrlimit(resource.RLIMIT_AS))")
    finished = work(MODEL, folder=folder, limit_kib=tighter // 1024)
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr.decode().strip() == str((tighter, tighter))


def test_the_passes_have_names_and_none_has_two() -> None:
    names = passes(Limits())
    assert len(names) == len(set(names)) > 30
    assert {"fuse_bn_into_conv", "constant_folding", "shape_inference"} <= set(names)


def test_a_pass_that_is_skipped_is_told_to_onnxsim(stand_in: Callable[..., Path]) -> None:
    folder = stand_in("import sys", "print(sorted(options.items()), file=sys.stderr)")
    finished = work(MODEL, "fuse_bn_into_conv", "constant_folding", folder=folder)
    assert finished.stderr.decode().strip() == (
        "[('skip_constant_folding', True), ('skip_shape_inference', False), "
        "('skipped_optimizers', ['fuse_bn_into_conv'])]"
    )


@pytest.mark.parametrize(
    "skipped", [(), ("fuse_bn_into_conv",), ("constant_folding",), ("constant_folding", "fuse_bn_into_conv")]
)
def test_a_real_pass_can_be_skipped(skipped: tuple[str, ...]) -> None:
    model = make_model(
        [
            node("Conv", ["x", "w"], ["conv"]),
            node("BatchNormalization", ["conv", "ones", "ones", "ones", "ones"], ["norm"]),
            node("GlobalAveragePool", ["norm"], ["pooled"]),
            node("Flatten", ["pooled"], ["flat"]),
            node("Add", ["half", "half"], ["whole"]),
            node("Mul", ["flat", "whole"], ["y"]),
        ],
        {"w": np.ones((4, 3, 3, 3)), "ones": np.ones(4), "half": np.ones(4)},
    )
    finished = work(model.SerializeToString(), *skipped)
    left = {item.op_type for item in onnx.load_model_from_string(finished.stdout).graph.node}
    assert ("BatchNormalization" in left) == ("fuse_bn_into_conv" in skipped)
    assert ("Add" in left) == ("constant_folding" in skipped)
