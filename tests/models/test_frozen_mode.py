"""Graphs that were recorded in training mode are found, and only those."""

import io
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgecnn.models.frozen_mode import in_training_mode
from tests.bad_nets import Net

X = torch.rand(2, 3, 8, 8)
Record = Callable[[nn.Module], nn.Module]


def exported(network: nn.Module) -> nn.Module:
    return torch.export.export(network, (X,)).module()


def traced(network: nn.Module) -> nn.Module:
    return _reloaded(lambda: torch.jit.trace(network, X, check_trace=False))  # type: ignore[no-untyped-call]


def scripted(network: nn.Module) -> nn.Module:
    return _reloaded(lambda: torch.jit.script(network))


def _reloaded(make: Callable[[], object]) -> nn.Module:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(make(), buffer)
        buffer.seek(0)
        module: nn.Module = torch.jit.load(buffer).eval()  # type: ignore[no-untyped-call]
    return module


class Dropping(nn.Module):
    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(x.flatten(1), self.p, training=True)


@pytest.mark.parametrize("record", [exported, traced])
def test_dropout_and_batch_norm_of_a_network_in_training_are_found(record: Record) -> None:
    assert set(in_training_mode(record(Net().train()))) == {"batch_norm", "dropout"}


@pytest.mark.parametrize("record", [exported, traced])
@pytest.mark.parametrize("layer", [nn.Dropout2d(0.3), nn.AlphaDropout(0.3), nn.FeatureAlphaDropout(0.3), Dropping()])
def test_every_kind_of_dropout_is_found(record: Record, layer: nn.Module) -> None:
    assert in_training_mode(record(nn.Sequential(layer)))


@pytest.mark.parametrize("record", [exported, traced])
def test_a_network_in_evaluation_is_not_suspected(record: Record) -> None:
    assert in_training_mode(record(Net().eval())) == ()


@pytest.mark.parametrize("record", [exported, traced])
def test_what_is_the_same_in_both_modes_is_not_suspected(record: Record) -> None:
    without_statistics = nn.BatchNorm2d(3, track_running_stats=False)
    assert in_training_mode(record(nn.Sequential(without_statistics, nn.InstanceNorm2d(3)).train())) == ()


def test_dropout_that_drops_nothing_is_not_suspected() -> None:
    assert in_training_mode(exported(Dropping(0.0))) == ()


def test_a_script_follows_eval_and_is_not_suspected() -> None:
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
    assert in_training_mode(scripted(layers.train())) == ()


def test_a_script_that_always_drops_is_found() -> None:
    assert "dropout" in in_training_mode(scripted(Dropping()))


def test_a_module_of_python_is_never_suspected() -> None:
    assert in_training_mode(Net().train()) == ()
