import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgecnn.errors import CheckpointError, UsageError
from edgecnn.models.foreign import load_network, random_network
from edgecnn.models.simplecnn import SimpleCNN

PIXELS = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def network() -> SimpleCNN:
    torch.manual_seed(0)
    return SimpleCNN(7).eval()


def save(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def scripted(path: Path, network: nn.Module) -> Path:
    torch.jit.script(network).save(str(path))  # type: ignore[no-untyped-call]
    return path


def exported(path: Path, network: nn.Module) -> Path:
    shapes = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(network, (PIXELS[:2],), dynamic_shapes=shapes), path)
    return path


FORMS: dict[str, Callable[[Path, nn.Module], Path]] = {
    "state_dict": lambda path, network: save(path, network.state_dict()),
    "pt2": exported,
    "torchscript": scripted,
    "pickle": save,
}


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning", "ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("kind", FORMS)
def test_every_form_gives_the_same_network(kind: str, network: SimpleCNN, tmp_path: Path) -> None:
    path = FORMS[kind](tmp_path / "mine.pt", network)
    architecture = "simplecnn" if kind == "state_dict" else None
    loaded = load_network(path, architecture=architecture, allow_pickle=kind == "pickle")
    assert (loaded.kind, loaded.info) == (kind, None)
    assert loaded.name == ("simplecnn" if architecture else "mine")
    with torch.inference_mode():
        torch.testing.assert_close(loaded.module(PIXELS), network(PIXELS), rtol=1e-5, atol=1e-6)


def test_the_classes_are_read_off_the_weights_and_told(network: SimpleCNN, tmp_path: Path) -> None:
    loaded = load_network(save(tmp_path / "mine.pt", network.state_dict()), architecture="simplecnn")
    assert "the weights are for 7 classes" in loaded.notes


class Bomb(nn.Linear):
    """A module whose pickle touches a file."""

    proof: Path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.proof,))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_opened_only_when_asked_for_by_name(zipped: bool, tmp_path: Path) -> None:
    bomb = Bomb(2, 2)
    bomb.proof = tmp_path / "proof"
    path = tmp_path / "mine.pt"
    torch.save(bomb, path, _use_new_zipfile_serialization=zipped)
    for architecture in (None, "simplecnn"):
        with pytest.raises(CheckpointError, match="which can run any program when it is read"):
            load_network(path, architecture=architecture)
    assert not bomb.proof.exists()
    with pytest.raises(CheckpointError, match=r"expected a pickled torch.nn.Module, found"):
        load_network(path, allow_pickle=True)
    assert bomb.proof.exists()


def test_a_module_saved_in_training_mode_is_put_into_evaluation_mode(network: SimpleCNN, tmp_path: Path) -> None:
    module = SimpleCNN().train()
    loaded = load_network(save(tmp_path / "mine.pt", module), allow_pickle=True)
    assert not loaded.module.training
    assert any("training mode" in note for note in loaded.notes)


def test_weights_of_another_width_are_listed(network: SimpleCNN, tmp_path: Path) -> None:
    state: dict[str, Tensor] = dict(network.state_dict())
    state["conv1.weight"] = torch.zeros(8, 3, 5, 5)
    with pytest.raises(CheckpointError, match=r"conv1.weight is \[8, 3, 5, 5\] instead of \[6, 3, 5, 5\]"):
        load_network(save(tmp_path / "mine.pt", state), architecture="simplecnn")


def test_a_state_dict_without_its_architecture_says_what_to_name(network: SimpleCNN, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_network(save(tmp_path / "mine.pt", network.state_dict()))
    assert "--arch" in caught.value.next_step


def test_a_damaged_torchscript_archive_is_an_error(network: SimpleCNN, tmp_path: Path) -> None:

    with zipfile.ZipFile(tmp_path / "mine.pt", "w") as archive:
        archive.writestr("mine/constants.pkl", b"nothing")
    with pytest.raises(CheckpointError, match=r"torch.jit cannot read it"):
        load_network(tmp_path / "mine.pt")


def test_random_weights_are_seeded_and_said() -> None:
    first, second = random_network("simplecnn"), random_network("simplecnn")
    assert torch.equal(first.module(PIXELS), second.module(PIXELS))
    assert "its answers mean nothing" in first.notes[0]
    assert random_network("torchvision:squeezenet1_1", 3).name == "squeezenet1_1"


def test_random_weights_leave_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    random_network("simplecnn")
    assert torch.equal(torch.rand(3), expected)


def test_an_unknown_architecture_is_a_usage_error(network: SimpleCNN, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(network.state_dict(), buffer)
    (tmp_path / "mine.pt").write_bytes(buffer.getvalue())
    with pytest.raises(UsageError, match="unknown architecture 'lenet'"):
        load_network(tmp_path / "mine.pt", architecture="lenet")


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning", "ignore:.torch.jit:DeprecationWarning")
def test_torchscript_that_writes_files_is_not_opened_unasked(tmp_path: Path, network: SimpleCNN) -> None:
    harmless = scripted(tmp_path / "mine.ts", network).read_bytes()
    buffer = io.BytesIO(harmless)
    with zipfile.ZipFile(buffer, "a") as archive:
        root = archive.namelist()[0].split("/")[0]
        archive.writestr(f"{root}/code/evil.py", 'def f(x: Tensor):\n  torch.save (x, "owned")\n')
    (tmp_path / "evil.ts").write_bytes(buffer.getvalue())
    with pytest.raises(CheckpointError, match=r"evil\.ts: calls 'torch\.save', which reads or writes files") as caught:
        load_network(tmp_path / "evil.ts")
    assert "--allow-pickle" in caught.value.next_step
    assert load_network(tmp_path / "mine.ts").kind == "torchscript"
