"""npm packages by exact version and SHA-512, and the Node that runs them."""

import functools
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from edgecnn.errors import TargetError
from edgecnn.targets.debian import call
from edgecnn.targets.python_environment import RECORD, changed
from edgecnn.targets.sysroot import targets_folder

#: The oldest Node that is tried: it has WebAssembly SIMD, and reads modules.
OLDEST_NODE = 20
NODE_REMEDY = f"install Node {OLDEST_NODE} or newer with npm, on Debian as root: apt-get install nodejs npm"
#: package.json and package-lock.json of each; a lock without addresses, npm finds the registry that is set up.
PACKAGES = Path(__file__).parent / "web" / "packages"


@dataclass(frozen=True, kw_only=True)
class NpmPackage:
    """One npm package, and what of it is needed to run models.

    Attributes:
        name: its folder under :data:`PACKAGES`.
        package: npm's name of it.
        version: the exact one.
        library: what is imported.
        kept: files and folders under ``node_modules``; the rest, nine tenths of it, is not kept.
    """

    name: str
    package: str
    version: str
    library: str
    kept: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where it is set up, or would be."""
        return targets_folder() / f"{self.package}-{self.version}"

    @property
    def dist(self) -> Path:
        """The folder of the library's own files."""
        return self.path(self.library).parent

    def path(self, name: str, root: Path | None = None) -> Path:
        """Return where one of its files is, in its place or in a folder where it is being made."""
        return (root or self.folder) / "node_modules" / name

    def why_not(self) -> str | None:
        """Return what is missing of it, or None."""
        if not self.folder.is_dir():
            return f"{self.package} {self.version} is not set up"
        if missing := [name for name in self.kept if not self.path(name).exists()]:
            return f"{self.package} {self.version} is damaged, {self.path(missing[0])} is gone"
        if (self.folder / RECORD).exists() and (reason := changed(self.folder)):
            return f"{self.package} {self.version} is damaged, {reason}"
        return None

    def fetch(self, scratch: Path, root: Path) -> None:
        """Fetch it with npm into ``scratch``, and what is kept of it into ``root``.

        Raises:
            TargetError: npm is not here, does not reach its registry, or what it found has another SHA-512.
        """
        if shutil.which("npm") is None:
            raise TargetError("npm is not on PATH.", next_step=NODE_REMEDY)
        project = scratch / "npm"
        shutil.copytree(PACKAGES / self.name, project)
        # No script of a package is run, and npm's own cache is not asked to trust anything.
        words = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", f"--prefix={project}"]
        call(
            words,
            what=f"{self.package} {self.version}",
            next_step="see whether npm ping reaches its registry here, then the same command again",
        )
        for name in self.kept:
            self._keep(project / "node_modules" / name, self.path(name, root))

    def _keep(self, source: Path, place: Path) -> None:
        if not source.exists():
            raise TargetError(f"{self.package} {self.version}: npm fetched no {source.name}.", next_step=NODE_REMEDY)
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, place)
        else:
            shutil.copy2(source, place)


def locked_version(name: str, package: str) -> str:
    """Return the version of a package that a lock in :data:`PACKAGES` holds."""
    lock = json.loads((PACKAGES / name / "package-lock.json").read_text())
    version: str = lock["packages"][f"node_modules/{package}"]["version"]
    return version


def node_missing() -> str | None:
    """Return why there is no Node to run models with, or None."""
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


@functools.cache
def node_version(program: str) -> str:
    """Return what ``node --version`` says, or why it says nothing."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=30)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stdout.strip()


WASM = NpmPackage(
    name="wasm",
    package="onnxruntime-web",
    version="1.30.0",
    library="onnxruntime-web/dist/ort.wasm.min.mjs",
    kept=(
        "onnxruntime-web/dist/ort.wasm.min.mjs",
        "onnxruntime-web/dist/ort-wasm-simd-threaded.mjs",
        "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm",
    ),
)
#: The last onnxruntime-web that was built with XNNPACK.
XNNPACK = NpmPackage(
    name="xnnpack",
    package="onnxruntime-web",
    version="1.16.3",
    library="onnxruntime-web/dist/ort-web.node.js",
    kept=(
        "onnxruntime-web/dist/ort-web.node.js",
        "onnxruntime-web/dist/ort-wasm-simd.wasm",
        "onnxruntime-web/package.json",
        "onnxruntime-common",
    ),
)
