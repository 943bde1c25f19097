"""The table of commands: its order is that of the help, and each row arrives with a golden help."""

import ast
from pathlib import Path

import pytest
import typer.main

import edgecnn.cli
from edgecnn.cli.commands import COMMANDS, TARGETS_COMMANDS, app

ROOM = Path(edgecnn.cli.__file__).parent
GOLDEN = Path(__file__).parents[1] / "golden"


def test_the_help_lists_the_table_in_its_order() -> None:
    known = list(typer.main.get_group(app).commands)
    assert known == [*COMMANDS, "targets"]


def test_every_command_has_its_golden_help() -> None:
    below = [f"targets-{name}" for name in TARGETS_COMMANDS]
    expected = {f"help-{name}.txt" for name in (*COMMANDS, "targets", *below)}
    assert {path.name for path in GOLDEN.glob("help-*.txt")} == expected


@pytest.mark.parametrize("file", sorted(ROOM.glob("*.py")), ids=lambda file: file.stem)
def test_a_file_imports_only_what_is_light_before_a_command_is_called(file: Path) -> None:
    light = ("edgecnn.cli.", "edgecnn.console", "edgecnn.errors", "edgecnn.options", "edgecnn.version")
    tree = ast.parse(file.read_text())
    at_the_top = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    ours = [node.module for node in at_the_top if node.module and node.module.startswith("edgecnn")]
    assert [module for module in ours if not module.startswith(light)] == []
