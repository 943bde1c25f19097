"""Setting up a Python environment: pinned packages, tried on a small model, whole or not at all."""

import sys
from pathlib import Path

from edgecnn.errors import StorageError, TargetError
from edgecnn.progress import Progress
from edgecnn.targets import TARGETS, Target
from edgecnn.targets.building import build_beside
from edgecnn.targets.debian import call
from edgecnn.targets.pip import require_pip
from edgecnn.targets.python_environment import PythonEnvironment, damaged, python_in, write_record
from edgecnn.targets.worker_session import WorkerSession

_STEPS = 3
_FULL = "No space left on device"


def install_environment(environment: PythonEnvironment, progress: Progress, force: bool) -> None:
    """Make an environment beside its place, open a small model in it, and only then rename it.

    Raises:
        TargetError: packages cannot be fetched, or the provider does not start; nothing was changed.
        BundleError: the cache folder cannot be written.
        StorageError: the disk is full.
    """
    if reason := environment.obstacle():
        raise TargetError(f"{environment.title}: {reason}.", next_step="edgecnn targets")
    require_pip()
    final = environment.folder
    build_beside(
        final,
        lambda root, scratch: _build(environment, root, progress),
        whole=lambda: final.is_dir() and damaged(final) is None,
        force=force,
    )


def _build(environment: PythonEnvironment, root: Path, progress: Progress) -> None:
    task = f"install {environment.name}"

    def begin(step: int, text: str) -> None:
        progress.say(f"{step + 1}/{_STEPS} {text}")
        progress.update(task, step, _STEPS)

    begin(0, f"making a Python environment for {environment.title}")
    venv = [sys.executable, "-m", "venv", "--without-pip", str(root)]
    call(venv, what=f"environment for {environment.title}", next_step="see whether this Python has the module venv")
    begin(1, f"fetching {', '.join(environment.wanted())}")
    _fetch(environment, root)
    write_record(root)
    begin(2, f"opening a small model on {environment.title}")
    for name, row in TARGETS.items():
        if row.runtime is environment:
            _prove(name, row, environment, root)
    progress.update(task, _STEPS, _STEPS)


def _fetch(environment: PythonEnvironment, root: Path) -> None:
    python = python_in(root)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-input"]
    how = ["--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--no-compile"]
    try:
        call(
            [*pip, *how, *environment.wanted()],
            what=f"packages for {environment.title}",
            next_step="see whether pip reaches its index here, and has these versions for this Python; then again",
        )
    except TargetError as error:
        if _FULL in error.message:
            raise StorageError(
                f"{root.parent.parent}: the disk is full; nothing was changed.",
                next_step="free some space, then run the same command again",
            ) from error
        raise


def _prove(name: str, row: Target, environment: PythonEnvironment, root: Path) -> None:
    """Open a model there, as the environment will be used."""
    import numpy as np

    with WorkerSession(
        small_model(),
        model_name="a small model",
        target=name,
        runtime=environment,
        clock=row.clock,
        provider=row.provider,
        provider_options=row.provider_options,
        plugin=row.plugin,
        command=environment.command_in(root),
    ) as session:
        session.run(np.zeros((1, 3, 4, 4), np.float32))


def small_model() -> bytes:
    """Return a model that every provider takes: the larger of an image and zero."""
    from onnx import TensorProto, helper

    shape = [1, 3, 4, 4]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="relu")], "small", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data
