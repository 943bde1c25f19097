import inspect
import re

import pytest

from edgecnn import errors
from edgecnn.errors import EdgecnnError, ExitCode

EXIT_CODES = {
    "EdgecnnError": 4,
    "UsageError": 2,
    "InputError": 3,
    "DataError": 3,
    "CheckpointError": 3,
    "ModelError": 3,
    "BundleError": 3,
    "StageError": 4,
    "ParityError": 4,
    "StorageError": 4,
    "TargetError": 5,
    "ChipError": 5,
    "Interrupted": 130,
}
ROW = re.compile(r"^    (?P<branches>[│├└─ ]*)(?P<name>[A-Z]\w+) +(?P<code>\d+)?")


def classes() -> dict[str, type[EdgecnnError]]:
    members = inspect.getmembers(errors, inspect.isclass)
    return {name: member for name, member in members if issubclass(member, EdgecnnError)}


def drawn_tree() -> list[tuple[str, str | None, int | None]]:
    """Name, parent and exit code of each row drawn at the top of the module."""
    path: list[str] = []
    rows = []
    for line in (errors.__doc__ or "").splitlines():
        if match := ROW.match(line):
            depth = len(match["branches"]) // 4
            path = [*path[:depth], match["name"]]
            rows.append((match["name"], path[-2] if depth else None, int(match["code"]) if match["code"] else None))
    return rows


def test_every_class_is_drawn_once_under_its_parent() -> None:
    parents = {name: parent for name, parent, _ in drawn_tree()}
    assert len(drawn_tree()) == len(parents)
    assert parents == {
        name: None if error is EdgecnnError else error.__bases__[0].__name__ for name, error in classes().items()
    }


def test_every_drawn_exit_code_is_the_real_one_or_that_of_the_parent() -> None:
    codes: dict[str, int] = {}
    for name, parent, code in drawn_tree():
        codes[name] = codes[parent] if code is None and parent else code or 0
    assert codes == {name: int(error.exit_code) for name, error in classes().items()}


def test_exit_codes_are_those_that_scripts_rely_on() -> None:
    assert {name: int(error.exit_code) for name, error in classes().items()} == EXIT_CODES
    assert {code.name: int(code) for code in ExitCode} == {
        "PASSED": 0,
        "GATE_FAILED": 1,
        "USAGE": 2,
        "BAD_INPUT": 3,
        "STAGE_FAILED": 4,
        "TARGET_UNAVAILABLE": 5,
        "INTERRUPTED": 130,
    }


def test_no_error_means_that_all_went_well_or_that_a_gate_failed() -> None:
    assert not {error.exit_code for error in classes().values()} & {ExitCode.PASSED, ExitCode.GATE_FAILED}


@pytest.mark.parametrize("name", EXIT_CODES)
def test_an_error_says_what_is_wrong_and_what_to_do(name: str) -> None:
    error = classes()[name]("model.pt: expected a, found b.", next_step="edgecnn train")
    assert error.message == "model.pt: expected a, found b."
    assert error.next_step == "edgecnn train"
    assert str(error) == "model.pt: expected a, found b.\nNext: edgecnn train"


def test_an_error_without_a_next_step_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="next_step"):
        EdgecnnError("something is wrong")  # type: ignore[call-arg]
