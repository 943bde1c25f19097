"""Peers that convert and quantize, and those that do not."""

from pathlib import Path

import numpy as np
import pytest

from scripts.peer_bench import entrants
from scripts.peer_bench.inputs import Inputs
from tests.peer_bench.made_up import prepared


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        ("raises", "ValueError: no such operator: Gizmo (code 1)"),
        ("dies", "SIGSEGV"),
        ("hangs", "no answer within 5 s"),
    ],
)
def test_a_peer_that_fails_says_why_and_does_not_stop_the_others(
    behaviour: str, why: str, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entrants, "PREPARE_LIMIT_S", 5.0)
    everyone = prepared([behaviour, "steady"], inputs, tmp_path)
    assert why in everyone.failures[behaviour.title()]
    assert [each.name for each in everyone.entrants] == ["Steady float", "Steady int8 twice"]
    assert everyone.versions == {"Steady": {"numpy": np.__version__}}
