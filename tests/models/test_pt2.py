import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from edgecnn.errors import CheckpointError
from edgecnn.models import pt2, pt2_vetting
from edgecnn.models.simplecnn import SimpleCNN

PATH = Path("net.pt2")


@pytest.fixture(scope="module")
def archive() -> bytes:
    exported = torch.export.export(
        SimpleCNN().eval(), (torch.zeros(2, 3, 32, 32),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    buffer = io.BytesIO()
    torch.export.save(exported, buffer)
    return buffer.getvalue()


def changed(archive: bytes, ending: str, change: Callable[[bytes], bytes]) -> bytes:
    """Return the archive with one member changed."""
    buffer, touched = io.BytesIO(), 0
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith(ending):
                content, touched = change(content), touched + 1
            new.writestr(name, content)
    assert touched == 1
    return buffer.getvalue()


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def test_an_archive_is_told_from_other_zips(archive: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(archive)) as members:
        assert pt2.is_pt2(members.namelist())
    assert not pt2.is_pt2(["net/data.pkl", "net/version"])


def test_an_archive_gives_its_network(archive: bytes) -> None:
    module = pt2.load(PATH, archive, allow_pickle=False)
    assert module(torch.zeros(5, 3, 32, 32)).shape == (5, 10)


def test_sample_inputs_that_run_a_program_are_never_unpickled(archive: bytes, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    buffer = io.BytesIO()
    torch.save(((Bomb(proof),), {}), buffer)
    hostile = changed(archive, "sample_inputs/model.pt", lambda _: buffer.getvalue())
    with pytest.raises(CheckpointError, match=r"its sample inputs hold pickled code.*not opened") as caught:
        pt2.load(PATH, hostile, allow_pickle=False)
    assert not proof.exists()
    assert "--allow-pickle" in caught.value.next_step
    buffer.seek(0)
    torch.load(buffer, weights_only=False)
    assert proof.exists()  # else the bomb was a dud


@pytest.mark.parametrize("member", ["model_weights_config.json", "model_constants_config.json"])
@pytest.mark.parametrize("trick", [{"use_pickle": True}, {"path_name": "custom_obj_0"}, {"path_name": "opaque_obj_0"}])
def test_weights_stored_as_pickles_are_refused(archive: bytes, member: str, trick: dict[str, object]) -> None:
    def spoil(content: bytes) -> bytes:
        config = json.loads(content)
        config.setdefault("config", {}).setdefault("evil", {"path_name": "weight_0"}).update(trick)
        return json.dumps(config).encode()

    with pytest.raises(CheckpointError, match="evil is stored as a pickle"):
        pt2.load(PATH, changed(archive, member, spoil), allow_pickle=False)


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')",
        "Symbol('s77', positive=__import__('os'))",
        "exec(chr(49))",
        "Symbol('s77').__class__",
        "lambda: 0",
        "Symbol('x' + 's')",
    ],
)
def test_a_size_expression_that_is_more_than_arithmetic_is_refused(archive: bytes, expression: str) -> None:
    def spoil(content: bytes) -> bytes:
        model = json.loads(content)
        model["evil"] = [{"as_expr": {"expr_str": expression}}]
        return json.dumps(model).encode()

    with pytest.raises(CheckpointError, match="is more than arithmetic"):
        pt2.load(PATH, changed(archive, "models/model.json", spoil), allow_pickle=False)


@pytest.mark.parametrize("expression", ["s0", "2*s77 + 1", "Max(1, s0)", "Symbol('s77', positive=True, integer=True)"])
def test_arithmetic_is_no_threat(expression: str) -> None:
    pt2_vetting.refuse_expressions(PATH, {"expr_str": expression})


def test_a_broken_archive_is_an_error(archive: bytes) -> None:
    with pytest.raises(CheckpointError, match=r"net\.pt2: torch\.export cannot read it"):
        pt2.load(PATH, changed(archive, "models/model.json", lambda _: b"{}"), allow_pickle=False)
