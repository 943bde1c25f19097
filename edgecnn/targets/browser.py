"""onnxruntime-web in a real Chromium: Debian's, or one that is named, driven by playwright without a download."""

import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecnn.errors import EdgecnnError, TargetError
from edgecnn.targets.node_program import find_node, node_missing
from edgecnn.targets.npm import WASM, WEBGPU, NpmPackage
from edgecnn.targets.pip import install_into
from edgecnn.targets.python_environment import RECORD, changed
from edgecnn.targets.sysroot import targets_folder
from edgecnn.targets.webgpu_form import for_webgpu
from edgecnn.targets.worker import Header

WORKER = Path(__file__).parent / "web" / "chromium_worker.py"
#: Names a Chromium that is not on PATH, or another than the one that is.
VARIABLE = "EDGECNN_CHROMIUM"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: Debian's package.
PACKAGE = "chromium"
#: The oldest whose headless mode is the browser itself, not another one.
OLDEST_CHROMIUM = 112
REMEDY = f"as root: apt-get install {PACKAGE}; or name one: export {VARIABLE}=/path/to/chromium"
#: Calls that are timed as one; each counts as their mean.
BLOCK_CALLS = 50
_DRIVER = {"playwright": "1.65.2", "greenlet": "3.5.6"}
#: What a page's WebGPU calls the GPU in software that Chromium brings: ``GPUAdapterInfo.architecture``.
SOFTWARE_GPU = "swiftshader"
#: WebGPU on a machine without a GPU, and on every other the same: no driver of the machine's answers in its place.
_WEBGPU_FLAGS = ("--enable-unsafe-webgpu", f"--use-webgpu-adapter={SOFTWARE_GPU}")


def _unchanged(model: bytes) -> bytes:
    return model


def find_chromium() -> str | None:
    """Return the Chromium that is named, else the first on PATH, or None."""
    if named := os.environ.get(VARIABLE):
        return named
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


def chromium_missing() -> str | None:
    """Return why there is no Chromium to drive, or None."""
    program = find_chromium()
    if program is None:
        return f"no Chromium on PATH ({', '.join(_NAMES)})"
    if reason := _unfit(program):
        return f"{reason}; ${VARIABLE} names it: unset that, or name another" if os.environ.get(VARIABLE) else reason
    return None


def _unfit(program: str) -> str | None:
    said = _says(program)
    found = re.search(r"(?:Chromium|Chrome)\D*(\d+)\.\S*", said)
    if found is None:
        return f"{program} --version: expected a Chromium, found {said.partition(chr(10))[0][:80]!r}"
    if int(found[1]) < OLDEST_CHROMIUM:
        return f"expected Chromium {OLDEST_CHROMIUM} or newer, found {found[0]}"
    return None


@functools.cache
def _says(program: str) -> str:
    """Return what ``chromium --version`` says, or why it says nothing."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=60)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stdout.strip()


def driver_folder() -> Path:
    """Return where playwright is set up for this Python, or would be."""
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return targets_folder() / f"playwright-{_DRIVER['playwright']}-{python}"


def driver_missing() -> str | None:
    """Return what of playwright is missing, or None."""
    if not driver_folder().is_dir():
        return f"playwright {_DRIVER['playwright']} is not set up"
    if missing := [name for name in _DRIVER if not (driver_folder() / name).is_dir()]:
        return f"playwright {_DRIVER['playwright']} is damaged, {driver_folder() / missing[0]} is gone"
    if (driver_folder() / RECORD).exists() and (reason := changed(driver_folder())):
        return f"playwright {_DRIVER['playwright']} is damaged, {reason}"
    return None


def fetch_driver(root: Path) -> None:
    """Fetch playwright with pip, away from this environment's own packages; no browser is downloaded.

    Raises:
        TargetError: there is no pip, or it does not reach its index.
    """
    install_into(
        root,
        [f"{name}=={found}" for name, found in _DRIVER.items()],
        what=f"playwright {_DRIVER['playwright']}",
        next_step="see whether pip reaches its index here, then the same command again",
    )
    # 150 MB, and needs libatomic, which not every system has; the Node that runs models drives the browser, too.
    (root / "playwright" / "driver" / "node").unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class Chromium:
    """A Chromium and what it runs models with; see :class:`edgecnn.targets.runtime.Runtime`.

    Attributes:
        package: what runs the models.
        isolated: whether the page is isolated from other origins: its clock ticks at 5 us then, else at 100.
        flags: more for the command line.
        gpu: the architecture of the WebGPU adapter that its page must find, or None where the CPU runs the models.
        adaptation: the model as it is read there.
    """

    package: NpmPackage
    isolated: bool
    flags: tuple[str, ...] = ()
    gpu: str | None = None
    adaptation: Callable[[bytes], bytes] = _unchanged

    @property
    def title(self) -> str:
        """What people call it."""
        return f"{'WebGPU' if self.gpu else 'WebAssembly'} in Chromium, {self.isolation}"

    @property
    def isolation(self) -> str:
        """How its page is served, in words."""
        return "cross-origin isolated" if self.isolated else "not cross-origin isolated"

    @property
    def call_limit_s(self) -> float:
        """WebAssembly is compiled when a model is first opened; a loaded machine is slower."""
        return 300.0

    @property
    def folder(self) -> Path | None:
        """What drives it, in the cache."""
        return driver_folder()

    @property
    def program(self) -> str:
        """The browser's path, or its name where it is not found."""
        return find_chromium() or PACKAGE

    def why_not(self) -> str | None:
        """Return why it cannot run here, or None if it can."""
        return chromium_missing() or driver_missing() or self.package.why_not() or node_missing()

    def command(self) -> list[str]:
        """Return what starts the worker; call it only where :meth:`why_not` is None."""
        library = self.package.path(self.package.library)
        isolated = "isolated" if self.isolated else "plain"
        # -S: of packages it sees only what is set up for it
        return [
            sys.executable, "-S", str(WORKER), self.program, str(library.parent), library.name, isolated, *self.flags
        ]  # fmt: skip

    def environment(self) -> Mapping[str, str]:
        """Return the worker's environment: this process's, with playwright for its only package."""
        return self.environment_in(driver_folder())

    def environment_in(self, driver: Path) -> Mapping[str, str]:
        """Return the worker's environment, with playwright at another place: where it is being made."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "NODE_"))}
        told = {"PYTHONPATH": str(driver), "PYTHONDONTWRITEBYTECODE": "1"}
        return own | told | {"PLAYWRIGHT_NODEJS_PATH": find_node() or "node"}

    def differs(self, seen: Header) -> str | None:
        """Return how what the worker says of itself is not what was asked for, or None."""
        found = seen["versions"].get(self.package.package)
        if found != self.package.version:
            return f"expected {self.package.package} {self.package.version}, found {found}"
        if seen["isolated"] != self.isolated:
            return f"expected a page that is {self.isolation}, found one that is not so"
        return None if self.gpu is None else _differing_gpu(self.gpu, seen["gpu"])

    def cpu(self, seen: Header) -> str:
        """Return what runs the model, and, where its time means something, how it is timed."""
        if self.gpu is not None:
            return f"{seen['gpu']['architecture']}, a GPU in software, on {seen['cpu']}, {self.title}"
        return f"{seen['cpu']}, {self.title}, timed in blocks of {BLOCK_CALLS} calls"

    def explain(self, error: EdgecnnError) -> EdgecnnError:
        """Return what a failure means where a browser is between: one that does not start is named."""
        if "BrowserType.launch" not in error.message:
            return error
        return TargetError(
            f"{self.program} did not start: {error.message}",
            next_step=f"{self.program} --headless --no-sandbox --dump-dom about:blank, to see why; {REMEDY}",
        )

    def adapt(self, model: bytes) -> bytes:
        """Return the model as it runs there; the library reads what this onnxruntime writes."""
        return self.adaptation(model)


def _differing_gpu(expected: str, found: Mapping[str, Any] | None) -> str | None:
    """Return how a page's WebGPU adapter is not the one in software whose clock is known to mean nothing, or None."""
    if found is None:
        return f"Chromium found no WebGPU adapter, expected {expected}, which it brings as libvk_swiftshader.so"
    if found["architecture"] != expected or not found["software"]:
        seen = " ".join(filter(None, (found["vendor"], found["architecture"], found["description"])))
        return f"expected the WebGPU adapter {expected}, a GPU in software, found {seen or 'one that tells no name'}"
    return None


WASM_ISOLATED = Chromium(package=WASM, isolated=True)
WASM_PLAIN = Chromium(package=WASM, isolated=False)
WEBGPU_PAGE = Chromium(package=WEBGPU, isolated=True, flags=_WEBGPU_FLAGS, gpu=SOFTWARE_GPU, adaptation=for_webgpu)
