"""Setting up Node's packages and the browser that is driven."""

from pathlib import Path

from edgecnn.errors import TargetError
from edgecnn.progress import Progress
from edgecnn.targets.building import build_beside
from edgecnn.targets.node import NodeRuntime
from edgecnn.targets.npm import NODE_REMEDY, node_missing
from edgecnn.targets.worker_process import WorkerProcess
from edgecnn.targets.worker_session import greet


def install_node(runtime: NodeRuntime, progress: Progress, force: bool) -> None:
    """Fetch a package for Node and start the worker with it once.

    Raises:
        TargetError: Node or npm is missing or too old, npm does not reach its registry, or the worker does not start.
    """
    if reason := node_missing():
        raise TargetError(f"{runtime.title}: {reason}.", next_step=NODE_REMEDY)
    package = runtime.package

    def build(root: Path, scratch: Path) -> None:
        progress.say(f"1/2 fetching {package.package} {package.version} with npm")
        package.fetch(scratch, root)
        progress.say(f"2/2 starting {runtime.title}")
        prove(runtime.command_in(root), runtime)

    build_beside(package.folder, build, whole=lambda: package.why_not() is None, force=force)


def prove(command: list[str], runtime: NodeRuntime) -> None:
    """Start a worker, which loads its library, and see that it is the one that was asked for."""
    worker = WorkerProcess(command, environment=runtime.environment(), name=runtime.title)
    try:
        greet(worker, runtime, runtime.title)
    except TargetError as error:
        raise TargetError(error.message, next_step="the same command again; see what it says with --debug") from error
    finally:
        worker.close()
