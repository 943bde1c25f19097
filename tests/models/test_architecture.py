import sys
from pathlib import Path

import pytest
import torch

from edgecnn.errors import CheckpointError, UsageError
from edgecnn.models import MODELS
from edgecnn.models.architecture import build


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(
        "from torch import nn\n"
        "def plain(): return nn.Linear(4, 2)\n"
        "def sized(num_classes=5): return nn.Linear(4, num_classes)\n"
        "def broken(): raise OSError('no disk')\n"
        "def number(): return 3\n"
        "class Net(nn.Linear):\n    def __init__(self): super().__init__(4, 7)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    return name


@pytest.mark.parametrize("name", MODELS)
def test_every_row_of_the_table_is_an_architecture(name: str) -> None:
    module = build(name, 4).eval()
    assert module(torch.zeros(1, *MODELS[name].input_shape)).shape == (1, 4)


@pytest.mark.parametrize(("classes", "found"), [(None, 1000), (6, 6)])
def test_torchvision_builds_by_name(classes: int | None, found: int) -> None:
    module = build("torchvision:squeezenet1_1", classes).eval()
    assert module(torch.zeros(1, 3, 64, 64)).shape == (1, found)


def test_an_unknown_torchvision_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"no classifier 'resnet5'; it has .*mobilenet_v3_small.*resnet18"):
        build("torchvision:resnet5")


def test_a_name_without_a_colon_that_is_no_row_says_what_is_expected() -> None:
    with pytest.raises(UsageError, match=r"unknown architecture 'lenet'; expected simplecnn, .*package.module:factory"):
        build("lenet")


@pytest.mark.parametrize(("factory", "classes", "found"), [("plain", 9, 2), ("sized", 9, 9), ("sized", None, 5)])
def test_a_factory_of_ones_own_is_called(own_module: str, factory: str, classes: int | None, found: int) -> None:
    assert build(f"{own_module}:{factory}", classes)(torch.zeros(1, 4)).shape == (1, found)


def test_a_class_is_a_factory(own_module: str) -> None:
    assert build(f"{own_module}:Net")(torch.zeros(1, 4)).shape == (1, 7)


@pytest.mark.parametrize("architecture", ["no_such_module_here:net", "{own}:missing"])
def test_what_cannot_be_imported_is_named(own_module: str, architecture: str) -> None:
    with pytest.raises(UsageError, match="cannot be imported"):
        build(architecture.format(own=own_module))


@pytest.mark.parametrize(
    ("factory", "words"),
    [("broken", r"raised OSError \(no disk\)"), ("number", "expected a torch.nn.Module, found int")],
)
def test_a_factory_that_gives_no_network_is_an_error(own_module: str, factory: str, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        build(f"{own_module}:{factory}")
