"""The table of session options: each row changes how a model is opened, and none what it answers."""

import numpy as np
import onnxruntime
import pytest

from edgecnn.errors import UsageError
from edgecnn.targets import open_session
from edgecnn.targets.session_options import SESSION_OPTIONS, SessionOptions, session_options
from tests.graphs import small_cnn

MODEL = small_cnn().SerializeToString()
X = np.random.default_rng(0).random((4, 3, 8, 8), np.float32)


@pytest.mark.parametrize("name", SESSION_OPTIONS)
def test_no_row_changes_the_answers(name: str) -> None:
    plain = open_session("cpu", MODEL, model_name="m").run(X)
    opened = open_session("cpu", MODEL, model_name="m", options_name=name, threads=2)
    np.testing.assert_allclose(opened.run(X), plain, rtol=1e-5, atol=1e-6)


def test_the_default_says_nothing_that_onnxruntime_would_not_do_by_itself() -> None:
    told, untold = onnxruntime.SessionOptions(), onnxruntime.SessionOptions()
    SESSION_OPTIONS["default"].apply(told)
    for name in ("graph_optimization_level", "enable_cpu_mem_arena", "enable_mem_pattern"):
        assert getattr(told, name) == getattr(untold, name)


def test_every_other_row_says_something_of_its_own() -> None:
    said = [(row.level, tuple(row.entries.items()), tuple(row.attributes.items())) for row in SESSION_OPTIONS.values()]
    assert len(set(said)) == len(said)
    assert next(iter(SESSION_OPTIONS)) == "default"


def test_level_entries_and_attributes_reach_onnxruntime() -> None:
    row = SessionOptions(
        summary="", level="ORT_ENABLE_BASIC", entries={"session.set_denormal_as_zero": "1"},
        attributes={"enable_mem_pattern": False},
    )  # fmt: skip
    options = onnxruntime.SessionOptions()
    row.apply(options)
    assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    assert options.get_session_config_entry("session.set_denormal_as_zero") == "1"
    assert options.enable_mem_pattern is False
    assert row.words() == {
        "level": "ORT_ENABLE_BASIC", "entries": {"session.set_denormal_as_zero": "1"},
        "attributes": {"enable_mem_pattern": False},
    }  # fmt: skip


def test_an_unknown_row_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="unknown session options 'fast'; known: default, extended"):
        session_options("fast")
    with pytest.raises(UsageError, match="unknown session options 'fast'"):
        open_session("cpu", MODEL, model_name="m", options_name="fast")
