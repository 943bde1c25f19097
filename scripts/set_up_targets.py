"""Set up the targets that tests run on, and print a line for each: set up, was there, or left out and why.

    .venv/bin/python -m scripts.set_up_targets FOLDER

``$EDGECNN_CACHE`` names another cache folder than FOLDER; where ``$EDGECNN_TEST_TARGETS`` names one, that is looked at
and nothing is installed. A target that cannot be had here fails nothing: its tests are skipped.
"""

import os
import sys
import time
from collections.abc import Iterator, MutableMapping
from pathlib import Path

from edgecnn.bundle.locate import CACHE_VARIABLE
from edgecnn.errors import EdgecnnError
from edgecnn.progress import SILENT
from edgecnn.targets import TARGETS
from edgecnn.targets.install import install_target
from edgecnn.targets.node_program import VERSION, fetch_node, own_node_missing
from edgecnn.targets.states import is_installable

TEST_VARIABLE = "EDGECNN_TEST_TARGETS"
#: After this long no other is begun: a slow network must not keep the tests waiting.
LIMIT_S = 600
NODE = f"node {VERSION}"


def main(folder: str) -> None:
    """Print a line for each target."""
    install = use_folder(os.environ, Path(folder))
    print(f"targets in {os.environ[CACHE_VARIABLE]}", flush=True)
    for name, state in set_up(install=install):
        print(f"  {name}: {state}", flush=True)


def use_folder(environment: MutableMapping[str, str], default: Path) -> bool:
    """Choose the cache folder; tell whether it is one to install into."""
    named = environment.get(TEST_VARIABLE)
    environment[CACHE_VARIABLE] = named or environment.get(CACHE_VARIABLE) or str(default)
    return not named


def set_up(*, install: bool) -> Iterator[tuple[str, str]]:
    """Yield each target, and the Node that edgecnn fetches, with what became of it.

    The tests use that Node also where the system's goes first.
    """
    started = time.monotonic()
    rows = [NODE, *(name for name, row in TARGETS.items() if row.in_all and row.runtime_here is not None)]
    for name in rows:
        begun = time.monotonic()
        late = f"{LIMIT_S} s were spent on the others" if begun - started > LIMIT_S else None
        before = _missing(name)
        if before is None:
            yield name, "was there"
        elif reason := late or (_install(name) if install else before):
            yield name, f"left out: {reason}"
        else:
            yield name, f"set up in {time.monotonic() - begun:.0f} s"


def _missing(name: str) -> str | None:
    return own_node_missing() if name == NODE else TARGETS[name].why_not()


def _install(name: str) -> str | None:
    """Install one; return why that cannot be done here, or None."""
    if name != NODE and not is_installable(name):
        return _missing(name)
    try:
        if name == NODE:
            fetch_node(SILENT, force=False)
        else:
            install_target(name, progress=SILENT)
    except EdgecnnError as error:
        return error.message
    return None


if __name__ == "__main__":
    main(*sys.argv[1:])
