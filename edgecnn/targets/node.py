"""onnxruntime-web in Node: WebAssembly as in a browser, without one."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgecnn.targets.lowered import lower
from edgecnn.targets.node_program import find_node, node_missing
from edgecnn.targets.npm import WASM, XNNPACK, NpmPackage
from edgecnn.targets.worker import Header

WORKER = Path(__file__).parent / "web" / "node_worker.mjs"


@dataclass(frozen=True, kw_only=True)
class NodeRuntime:
    """Node with one npm package; see :class:`edgecnn.targets.runtime.Runtime`.

    Attributes:
        package: what runs the models.
        title: what people call it.
        old: whether the package reads only older ONNX files, and is fed one image a call.
    """

    package: NpmPackage
    title: str
    old: bool = False

    @property
    def call_limit_s(self) -> float:
        """WebAssembly is compiled when a model is first opened; a loaded machine is slower."""
        return 300.0

    @property
    def folder(self) -> Path | None:
        """The package, in the cache."""
        return self.package.folder

    @property
    def program(self) -> str:
        """Node's path, or its name where there is none."""
        return find_node() or "node"

    def why_not(self) -> str | None:
        """Return why it cannot run here, or None if it can."""
        return node_missing() or self.package.why_not()

    def command(self) -> list[str]:
        """Return what starts the worker; call it only where :meth:`why_not` is None."""
        return self.command_in(self.package.folder)

    def command_in(self, root: Path) -> list[str]:
        """Return what starts the worker, with the package at another place: where it is being made."""
        library = self.package.path(self.package.library, root)
        how = ["single"] if self.old else []
        return [self.program, str(WORKER), str(library), *how]

    def environment(self) -> Mapping[str, str]:
        """Return the worker's environment: this process's, without what would change Node itself."""
        return {name: value for name, value in os.environ.items() if not name.startswith("NODE_")}

    def differs(self, seen: Header) -> str | None:
        """Return how what the worker says of itself is not what was asked for, or None."""
        found = seen["versions"].get(self.package.package)
        if found != self.package.version:
            return f"expected {self.package.package} {self.package.version}, found {found}"
        return None

    def cpu(self, seen: Header) -> str:
        """Return the CPU that Node sees."""
        return f"{seen['cpu']}, {self.title}"

    def adapt(self, model: bytes) -> bytes:
        """Return the model as the package reads it.

        Raises:
            TargetError: it is too new for the package.
        """
        return lower(model, runtime=f"{self.package.package} {self.package.version}") if self.old else model


NODE_WASM = NodeRuntime(package=WASM, title="WebAssembly in Node")
NODE_XNNPACK = NodeRuntime(package=XNNPACK, title="XNNPACK in WebAssembly in Node", old=True)
