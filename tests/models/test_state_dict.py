from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgecnn.errors import CheckpointError
from edgecnn.models.state_dict import PREFIXES, WRAPPERS, count_classes, fill, mismatches, unwrap


def net() -> nn.Module:
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 2, 3), norm=nn.BatchNorm2d(2), fc=nn.Linear(2, 5)))


STATE: dict[str, Tensor] = dict(net().state_dict())
NAMES = set(STATE)


def test_a_plain_state_dict_is_taken_as_it_is() -> None:
    state, notes = unwrap(STATE, "x.pt", NAMES)
    assert (set(state), notes) == (NAMES, [])


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_every_wrapper_comes_off_and_is_told(wrapper: str) -> None:
    state, notes = unwrap({"epoch": 3, wrapper: STATE, "optimizer": {"lr": 0.1}}, "x.pt", NAMES)
    assert set(state) == NAMES
    assert notes == [f"took the weights from {wrapper!r}"]


def test_of_two_wrappers_the_first_is_taken_and_the_other_named() -> None:
    other = {name: value + 1 for name, value in STATE.items()}
    state, notes = unwrap({"ema": other, "state_dict": STATE}, "x.pt", NAMES)
    assert torch.equal(state["fc.bias"], STATE["fc.bias"])
    assert notes == ["took the weights from 'state_dict' (and not ema)"]


@pytest.mark.parametrize("prefix", [*PREFIXES, "module._orig_mod.", "_orig_mod.module."])
def test_every_prefix_comes_off_and_is_told(prefix: str) -> None:
    state, notes = unwrap({"model": {prefix + name: value for name, value in STATE.items()}}, "x.pt", NAMES)
    assert set(state) == NAMES
    assert len(notes) == 1 + prefix.count(".")
    assert all("took the prefix" in note for note in notes[1:])


def test_a_prefix_that_the_network_has_itself_stays() -> None:
    state, notes = unwrap({"module.weight": torch.zeros(1)}, "x.pt", {"module.weight"})
    assert (set(state), notes) == ({"module.weight"}, [])


def test_a_prefix_that_only_some_names_have_stays() -> None:
    mixed = {"module.conv.weight": STATE["conv.weight"], "fc.bias": STATE["fc.bias"]}
    assert set(unwrap(mixed, "x.pt", NAMES)[0]) == set(mixed)


@pytest.mark.parametrize(
    "content", [{}, {"epoch": 1}, [1, 2], 3, {"model": {"model": {"model": {"model": {"model": {}}}}}}]
)
def test_what_holds_no_weights_is_refused(content: Any) -> None:
    with pytest.raises(CheckpointError, match=r"x\.pt: expected a state_dict, found"):
        unwrap(content, "x.pt", NAMES)


def spoiled(**changes: Any) -> dict[str, Any]:
    state: dict[str, Any] = dict(STATE)
    for name, value in changes.items():
        key = name.replace("__", ".")
        state.pop(key, None)
        if value is not None:
            state[key] = value
    return state


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (spoiled(fc__bias=None), "fc.bias is missing"),
        (spoiled(head__bias=torch.zeros(5)), "head.bias is left over"),
        (spoiled(fc__bias=torch.zeros(6)), r"fc.bias is [6] instead of [5]"),
        (spoiled(fc__bias=torch.zeros(5).half()), "fc.bias is torch.float16 instead of torch.float32"),
        (spoiled(fc__bias=torch.full((5,), torch.nan)), "fc.bias holds NaN or infinite values"),
        (spoiled(fc__bias=torch.full((5,), torch.inf)), "fc.bias holds NaN or infinite values"),
        (spoiled(fc__bias=[1, 2]), "fc.bias is not a tensor"),
        (spoiled(fc__bias=torch.zeros(5, device="meta")), "fc.bias is not a dense tensor"),
    ],
)
def test_each_mismatch_is_named_and_nothing_is_loaded(state: dict[str, Any], words: str) -> None:
    assert mismatches(STATE, state) == [words]
    module = net()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        fill(module, state, "x.pt", "own:net")
    assert f"x.pt: the weights are not those of own:net: {words}." == caught.value.message
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_all_mismatches_are_listed() -> None:
    with pytest.raises(CheckpointError) as caught:
        fill(net(), {}, "x.pt", "own:net")
    assert all(f"{name} is missing" in caught.value.message for name in NAMES)


def test_the_weights_go_in() -> None:
    module = net()
    fill(module, STATE, "x.pt", "own:net")
    assert torch.equal(module.state_dict()["fc.weight"], STATE["fc.weight"])


@pytest.mark.parametrize(("state", "found"), [(STATE, 5), (spoiled(fc__bias=torch.zeros(8)), 8), ({}, None)])
def test_the_number_of_classes_is_read_off_the_last_bias(state: dict[str, Tensor], found: int | None) -> None:
    assert count_classes(net(), state) == found
