"""npm packages by exact version and SHA-512."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from edgecnn.errors import TargetError
from edgecnn.targets.debian import call
from edgecnn.targets.node_program import NODE_REMEDY, find_npm
from edgecnn.targets.python_environment import RECORD, changed
from edgecnn.targets.sysroot import targets_folder

#: package.json and package-lock.json of each; a lock without addresses, npm finds the registry that is set up.
PACKAGES = Path(__file__).parent / "web" / "packages"
_AGAIN = "see whether npm ping reaches its registry here, then the same command again"


@dataclass(frozen=True, kw_only=True)
class NpmPackage:
    """One npm package, and what of it is needed to run models.

    Attributes:
        name: its folder under :data:`PACKAGES`.
        package: npm's name of it.
        version: the exact one.
        library: what is imported.
        kept: files and folders under ``node_modules``; the rest, nine tenths of it, is not kept.
        part: what sets its folder apart from that of another part of the same package.
    """

    name: str
    package: str
    version: str
    library: str
    kept: tuple[str, ...]
    part: str = ""

    @property
    def folder(self) -> Path:
        """Where it is set up, or would be."""
        return targets_folder() / "-".join(filter(None, (self.package, self.version, self.part)))

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
        npm = find_npm()
        if npm is None:
            raise TargetError("npm is not on PATH with a Node that will do.", next_step=NODE_REMEDY)
        project = scratch / "npm"
        shutil.copytree(PACKAGES / self.name, project)
        # No script of a package is run, and npm's own cache is not asked to trust anything.
        words = [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", f"--prefix={project}"]
        call(
            words,
            what=f"{self.package} {self.version}",
            next_step=_AGAIN,
        )
        for name in self.kept:
            self._keep(project / "node_modules" / name, self.path(name, root))

    def _keep(self, source: Path, place: Path) -> None:
        if not source.exists():
            raise TargetError(f"{self.package} {self.version}: npm fetched no {source.name}.", next_step=_AGAIN)
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
#: The same release as it is imported by "onnxruntime-web/webgpu": the WebGPU provider that is also the native one.
WEBGPU = NpmPackage(
    name="wasm",
    package="onnxruntime-web",
    version="1.30.0",
    part="webgpu",
    library="onnxruntime-web/dist/ort.webgpu.min.mjs",
    kept=(
        "onnxruntime-web/dist/ort.webgpu.min.mjs",
        "onnxruntime-web/dist/ort-wasm-simd-threaded.asyncify.mjs",
        "onnxruntime-web/dist/ort-wasm-simd-threaded.asyncify.wasm",
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
