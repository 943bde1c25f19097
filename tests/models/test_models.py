import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from edgecnn.errors import UsageError
from edgecnn.models import MODELS, ModelSpec, model_spec

EVERY_ROW = pytest.mark.parametrize("row", MODELS.values(), ids=MODELS)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks wait for their threads more than they use them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pictures(row: ModelSpec, n: int) -> torch.Tensor:
    return torch.randn((n, *row.input_shape), generator=torch.Generator().manual_seed(0))


@EVERY_ROW
@pytest.mark.parametrize("num_classes", [2, 10])
def test_a_model_gives_one_finite_logit_a_class(row: ModelSpec, num_classes: int) -> None:
    module = row.build(num_classes)
    assert module.training
    logits = module.eval()(pictures(row, 3))
    assert logits.shape == (3, num_classes)
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()


@EVERY_ROW
def test_a_model_looks_at_each_picture_by_itself(row: ModelSpec) -> None:
    module, batch = row.build(10), pictures(row, 4)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # one batch sets the statistics; the initial ones mute a deep network
    module(batch)
    module.eval()
    alone = torch.cat([module(picture[None]) for picture in batch])
    torch.testing.assert_close(module(batch), alone, rtol=1e-4, atol=1e-5)
    assert (alone.std(0) > 0).all()


@EVERY_ROW
def test_every_weight_learns(row: ModelSpec) -> None:
    module = row.build(10)
    torch.nn.functional.cross_entropy(module(pictures(row, 4)), torch.arange(4)).backward()  # type: ignore[no-untyped-call]
    silent = [name for name, weight in module.named_parameters() if weight.grad is None]
    assert silent == []


@EVERY_ROW
def test_the_same_seed_builds_the_same_weights_and_another_seed_others(row: ModelSpec) -> None:
    def weights(seed: int) -> torch.Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return torch.cat([weight.detach().flatten() for weight in row.build(10).parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@EVERY_ROW
def test_a_row_describes_itself_for_the_help(row: ModelSpec) -> None:
    assert row.summary
    assert "\n" not in row.summary
    assert row.input_shape[0] == 3


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_found_by_its_exact_name(name: str) -> None:
    assert model_spec(name) is MODELS[name]
    with pytest.raises(UsageError):
        model_spec(name.upper())


def test_an_unknown_model_lists_the_known_ones() -> None:
    with pytest.raises(UsageError) as raised:
        model_spec("resnet50")
    assert "unknown model 'resnet50'" in raised.value.message
    assert all(name in raised.value.message for name in MODELS)
    assert raised.value.next_step
    assert raised.value.exit_code == 2


def test_the_table_is_there_without_torch() -> None:
    script = "import sys, edgecnn.models; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
