"""Setting up Node's packages and the browser that is driven."""

from collections.abc import Callable, Mapping
from pathlib import Path

from edgecnn.errors import TargetError
from edgecnn.progress import Progress
from edgecnn.targets.browser import (
    PACKAGE,
    REMEDY,
    Chromium,
    chromium_missing,
    driver_folder,
    driver_missing,
    fetch_driver,
    find_chromium,
)
from edgecnn.targets.building import build_beside
from edgecnn.targets.debian import install_package
from edgecnn.targets.node import NodeRuntime
from edgecnn.targets.node_program import provide_node
from edgecnn.targets.npm import NpmPackage
from edgecnn.targets.python_environment import write_record
from edgecnn.targets.runtime import Runtime
from edgecnn.targets.worker_process import WorkerProcess
from edgecnn.targets.worker_session import greet


def install_node(runtime: NodeRuntime, progress: Progress, force: bool) -> None:
    """Fetch a Node if there is none that will do, and a package for it, and start the worker with it once.

    Raises:
        TargetError: pip or npm does not reach its registry, or the worker does not start.
    """
    provide_node(progress, force=force)

    def prove(root: Path) -> None:
        start(runtime.command_in(root), runtime, runtime.environment())

    fetch(runtime.package, progress, force=force, prove=prove)


def install_chromium(runtime: Chromium, progress: Progress, force: bool) -> None:
    """Find or install a Chromium, fetch what drives it and what runs in it, and start it once.

    Raises:
        TargetError: there is none and this is not root, or npm, pip or apt-get fails, or it does not start.
    """
    if find_chromium() is None:
        install_package(PACKAGE, missing=str(chromium_missing()), remedy=REMEDY, progress=progress)
    if reason := chromium_missing():
        raise TargetError(f"{runtime.title}: {reason}.", next_step=REMEDY)
    provide_node(progress, force=force)
    fetch(runtime.package, progress, force=force)

    def build(root: Path, scratch: Path) -> None:
        progress.say("fetching playwright with pip")
        fetch_driver(root)
        write_record(root)
        prove(root)

    def prove(driver: Path) -> None:
        progress.say(f"starting {runtime.title}")
        start(runtime.command(), runtime, runtime.environment_in(driver))

    if force or driver_missing():
        build_beside(driver_folder(), build, whole=lambda: driver_missing() is None, force=force)
    else:
        prove(driver_folder())


def fetch(
    package: NpmPackage, progress: Progress, *, force: bool, prove: Callable[[Path], None] = lambda root: None
) -> None:
    """Fetch an npm package unless it is here, and try it before it takes its place."""

    def build(root: Path, scratch: Path) -> None:
        progress.say(f"fetching {package.package} {package.version} with npm")
        package.fetch(scratch, root)
        write_record(root)
        progress.say("starting it")
        prove(root)

    build_beside(package.folder, build, whole=lambda: package.why_not() is None, force=force)


def start(command: list[str], runtime: Runtime, environment: Mapping[str, str]) -> None:
    """Start a worker, which loads its library, and see that it is the one that was asked for."""
    worker = WorkerProcess(command, environment=environment, name=runtime.title)
    try:
        greet(worker, runtime, runtime.title)
    except TargetError as error:
        raise TargetError(error.message, next_step="the same command again; see what it says with --debug") from error
    finally:
        worker.close()
